"""Vectors as the parts of a job, and the servers that they are loaded into: for the benchmarks of
the cluster.

The servers are those of the tests: real ones, six processes on the loopback address.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.job.descriptor import Chunk
from lookalike.cluster.job.parts import Job, Parts, Rows
from lookalike.encoder import ModelInfo
from lookalike.gallery.store import ImageRow
from lookalike.lsh import LSHIndex, LSHSettings, SearchSettings
from lookalike.lsh.hashing import Hasher

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "cluster"))
from servers import Servers

__all__ = ["SETTINGS", "Servers", "image", "local_index", "make_parts", "options_of", "tell"]

CHUNK = 4096
Floats = NDArray[np.float32]


def paper(dim: int, key_bits: int) -> LSHSettings:
    """Hyperplanes from the seed alone, eight tables; visits some 16,000 items."""
    return replace(LSHSettings.paper(dim, key_bits=key_bits), search=SearchSettings(2000, 200))


def learned(dim: int, key_bits: int) -> LSHSettings:
    """Voronoi cells of one table, fitted on a sample; visits some 4,000 items."""
    return LSHSettings(dim, key_bits=key_bits, search=SearchSettings(4000, 200))


SETTINGS = {"paper": paper, "learned": learned}


def make_parts(where: Path, vectors: Floats, settings: LSHSettings) -> Parts:
    """A job whose images are these vectors (n, dim), with ids from 1 on."""
    model = ModelInfo("vectors", "1", "0" * 64, 1, (0.0,) * 3, (1.0,) * 3, settings.dim)
    hasher = Hasher.fit(settings, vectors)
    key_bits = settings.key_bits or 0
    starts = range(0, len(vectors), CHUNK)
    names = [f"{number // 1000:04}/{number:07}.jpg" for number in range(len(vectors))]
    chunks = (
        Chunk(number, start + 1, "files", tuple(names[start : start + CHUNK]))
        for number, start in enumerate(starts)
    )
    job = Job(model, settings, key_bits, "/pictures", CHUNK, source="/pictures")
    parts = Parts.create(str(where), job, hasher, chunks)
    for start in starts:
        kept = vectors[start : start + CHUNK].astype(np.float16)
        keys, codes, corrections = hasher.hash(kept.astype(np.float32), key_bits)
        numbers = range(start, start + len(kept))
        images = [image(number + 1, names[number]) for number in numbers]
        ids = np.arange(start + 1, start + 1 + len(kept))
        parts.write(start + 1, Rows(ids, kept, codes, corrections, keys, images, []))
    return parts


def image(number: int, name: str) -> ImageRow:
    """The row of an image of this id, with a content of its own."""
    digest = number.to_bytes(8, "big") * 2
    return ImageRow(number, name.encode(), 40_000, 1, digest, 640, 480, "JPEG")


def options_of(what: str | None) -> argparse.Namespace:
    """``set``, ``items``, ``cache``, ``out`` of the command line; ``what``: the benchmark does."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--set", default="deep216k")
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def tell(results: dict[str, Any], out: Path | None) -> None:
    """Print the results, and write them to ``out`` if it is given."""
    text = json.dumps(results, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n")


def local_index(vectors: Floats, settings: LSHSettings) -> LSHIndex:
    """The same items in the embedded engine, in one segment."""
    index = LSHIndex(settings=settings)
    index.add(np.arange(1, len(vectors) + 1), vectors)
    index.compact()
    return index
