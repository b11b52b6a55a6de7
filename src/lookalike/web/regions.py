"""Which parts of two pictures look alike: the embeddings of overlapping tiles, compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookalike.web.crop import cut, squeeze

__all__ = ["GRID", "compare", "tiles"]

GRID = 4
SIDE = 0.4
"""Of a tile, as a share of the picture's; GRID of them, half overlapping, cover it."""
PAIRS = 8


def tiles(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """uint8 (GRID^2, size, size, 3), row by row. Works with any model: it sees only pictures."""
    starts = np.linspace(0, 1 - SIDE, GRID).tolist()
    return np.stack([squeeze(cut(image, (x, y, SIDE, SIDE)), size) for y in starts for x in starts])


def compare(query: NDArray[np.float32], hit: NDArray[np.float32]) -> dict[str, Any]:
    """Unit rows of the tiles, (GRID^2, dim) each -> as `Regions`.

    A cell's value is the best cosine of its tile to any tile of the other picture. The pairs are
    the best that use no tile twice, best first.
    """
    cosines = np.clip(query.astype(np.float64) @ hit.T.astype(np.float64), -1, 1)
    return {
        "query": _grid(cosines.max(axis=1)),
        "hit": _grid(cosines.max(axis=0)),
        "pairs": _pairs(cosines),
    }


def _grid(values: NDArray[np.float64]) -> dict[str, Any]:
    cells = np.round(values.reshape(GRID, GRID), 4).tolist()
    return {"rows": GRID, "columns": GRID, "values": cells}


def _pairs(cosines: NDArray[np.float64]) -> list[dict[str, Any]]:
    left = cosines.copy()
    found = []
    for _ in range(PAIRS):
        a, b = divmod(int(left.argmax()), left.shape[1])
        found.append(
            {
                "query": list(divmod(a, GRID)),
                "hit": list(divmod(b, GRID)),
                "cosine": round(float(cosines[a, b]), 4),
            }
        )
        left[a, :] = left[:, b] = -np.inf
    return found
