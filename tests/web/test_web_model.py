"""The model behind the server: what it gives, and how many runs of it there are at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import SIZE
from numpy.typing import NDArray

from lookalike.encoder import Encoder
from lookalike.gallery import Gallery
from lookalike.web.metrics import Metrics
from lookalike.web.model import Model
from lookalike.web.workers import WorkerPool


@pytest.fixture
def served_model(served: Gallery) -> Iterator[Model]:
    """Of a machine with two cores."""
    pool = WorkerPool("the model", 2, 8, 30.0)
    yield Model(served, pool, Metrics())
    pool.close(wait=True)


async def embed(model: Model, served: Gallery, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return await model.embed(await model.encoder(served.reader().now()), pixels)


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_images_shared_among_cores_get_their_own_embeddings(
    served_model: Model, served: Gallery, model: Path, count: int
) -> None:
    embeddings = asyncio.run(embed(served_model, served, noise(count)))
    expected = Encoder.open(model).embed(noise(count))
    assert embeddings == pytest.approx(expected, abs=1e-5)  # batches of other sizes, other rounding
