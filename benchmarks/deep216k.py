"""Two sets of real vectors for the search benchmarks, made from Corel-1k and Corel-5k and cached.

    python benchmarks/deep216k.py FOLDER [--cache cache]

FOLDER holds the folders corel1k and corel5k; needs the extra ``train`` and takes minutes.

``deep216k``: EfficientNet-Lite0 feature maps before pooling of all 5,999 images in sorted order
at 192 x 192 (stretched bilinearly, normalised by the mean and deviation of ImageNet): 6 x 6
positions each, 215,964 x 1,280 in all. PCA to 256 axes fitted on 20,000 of them (seed 0), unit
length; 1,000 of them (seed 1) are taken out as queries. Neighbouring positions and images of a
class look alike, and a fifth of the variance lies in one direction: a hard set.

``corel5k``: the same maps averaged over positions, one vector of 1,280 per image of Corel-5k, as
an index of images holds them; unit length, 500 of 4,999 (seed 1) are taken out as queries.

Beside each set lie the exact 100 nearest items of every query by cosine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["SETS", "VectorSet", "exact_nearest", "load", "recall", "store", "unit"]

SETS = ("deep216k", "corel5k")
FOLDERS = ("corel1k", "corel5k")
SIZE = 192
POSITIONS = 36
CHANNELS = 1280
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
PCA_SAMPLE = 20_000
PCA_AXES = 256
QUERIES = {"deep216k": 1000, "corel5k": 500}
DEPTH = 100
BATCH = 50
ROWS_AT_ONCE = 50_000

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class VectorSet(NamedTuple):
    """``items`` (n, dim) and ``queries`` (q, dim) of unit length, and ``exact`` (q, 100): the
    items nearest to each query, nearest first.
    """

    items: Floats
    queries: Floats
    exact: Ids


def unit(vectors: Floats) -> Floats:
    """Rows scaled to unit length."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def exact_nearest(items: Floats, queries: Floats, depth: int = DEPTH) -> Ids:
    """The ``depth`` items with the largest inner product with each query: (q, depth), in order."""
    ids = np.empty((len(queries), 0), np.int64)
    products = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(items), ROWS_AT_ONCE):
        found = queries @ items[start : start + ROWS_AT_ONCE].T
        few = min(depth, found.shape[1])
        at = np.argpartition(found, found.shape[1] - few, axis=1)[:, -few:]
        ids = np.concatenate([ids, at + start], axis=1)
        products = np.concatenate([products, np.take_along_axis(found, at, axis=1)], axis=1)
        order = np.argsort(-products, axis=1, kind="stable")[:, :depth]
        ids = np.take_along_axis(ids, order, axis=1)
        products = np.take_along_axis(products, order, axis=1)
    return ids


def recall(found: Ids, exact: Ids) -> float:
    """Mean share of each row of ``exact`` (q, k) that is in the same row of ``found`` (q, k')."""
    hits = sum(np.isin(row, own).sum() for row, own in zip(exact, found, strict=True))
    return float(hits / exact.size)


def images(folder: Path) -> list[Path]:
    """The JPEG files below ``folder``, sorted by path."""
    return sorted(folder.rglob("*.jpg"), key=str)


def feature_maps(paths: list[Path]) -> Iterator[Floats]:
    """Maps (b, 36, 1280) of the images, batch after batch."""
    import torch

    from lookalike.models.trunks import make_trunk

    trunk = make_trunk("efficientnet-lite0", "imagenet").eval()
    for start in range(0, len(paths), BATCH):
        batch = [_pixels(path) for path in paths[start : start + BATCH]]
        inputs = torch.from_numpy(np.ascontiguousarray(np.stack(batch).transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            maps = trunk(inputs)
        yield maps.permute(0, 2, 3, 1).reshape(len(batch), POSITIONS, CHANNELS).numpy()


def _pixels(path: Path) -> Floats:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray((np.asarray(small, np.float32) / 255 - MEAN) / DEVIATION, np.float32)


def reduce(maps: Floats) -> Floats:
    """(n, 1280) -> (n, 256) unit rows: PCA fitted on a sample."""
    sample = maps[np.random.default_rng(0).choice(len(maps), PCA_SAMPLE, replace=False)]
    mean = sample.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(sample.T.astype(np.float64)))
    leading = axes[:, ::-1][:, :PCA_AXES].astype(np.float32)
    return unit((maps - mean) @ leading)


def hold_out(vectors: Floats, count: int) -> tuple[Floats, Floats]:
    """Items and ``count`` random queries (seed 1); the items stay in order."""
    chosen = np.random.default_rng(1).choice(len(vectors), count, replace=False)
    kept = np.ones(len(vectors), np.bool_)
    kept[chosen] = False
    return vectors[kept], vectors[chosen]


def store(cache: Path, name: str, items: Floats, queries: Floats) -> None:
    """Write a set and its exact neighbours."""
    cache.mkdir(parents=True, exist_ok=True)
    arrays = VectorSet(items, queries, exact_nearest(items, queries))
    for part, array in arrays._asdict().items():
        np.save(cache / f"{name}-{part}.npy", array)


def load(cache: Path, name: str) -> VectorSet:
    """A set that was stored; SystemExit names the command that makes it if it was not."""
    paths = [cache / f"{name}-{part}.npy" for part in VectorSet._fields]
    for path in paths:
        if not path.exists():
            raise SystemExit(f"{path} is missing: make it with `python benchmarks/deep216k.py`")
    return VectorSet(*(np.load(path) for path in paths))


def build(folder: Path, cache: Path) -> None:
    """Compute both sets from the images in ``folder`` and store them."""
    groups = [images(folder / name) for name in FOLDERS]
    paths = [path for group in groups for path in group]
    if not all(groups):
        raise SystemExit(f"{folder} must hold images in {' and '.join(FOLDERS)}")
    maps = np.empty((len(paths), POSITIONS, CHANNELS), np.float32)
    done = 0
    for batch in feature_maps(paths):
        maps[done : done + len(batch)] = batch
        done += len(batch)
        print(f"\r{done:,} of {len(paths):,} images", end="", flush=True)
    print()
    pooled = unit(maps[len(groups[0]) :].mean(axis=1))
    store(cache, "corel5k", *hold_out(pooled, QUERIES["corel5k"]))
    reduced = reduce(maps.reshape(-1, CHANNELS))
    store(cache, "deep216k", *hold_out(reduced, QUERIES["deep216k"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="holds corel1k and corel5k")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    options = parser.parse_args()
    build(options.folder, options.cache)


if __name__ == "__main__":
    main()
