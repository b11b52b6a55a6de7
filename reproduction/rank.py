"""Rank: the whole gallery for each query, kept in a file for each row, split and configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.atomic import atomic_writer
from reproduction.collection import Pixels, Positions, digest
from reproduction.methods import Method
from reproduction.study import Parts, Study, oracle_of


def rank(study: Study, protocol: str, row: str, seed: int) -> Positions:
    """Gallery positions for each query of the split, best first, int64 (q, g); from the file if it
    exists.
    """
    path = ranking_path(study, protocol, row, seed)
    if path.exists():
        stored: Positions = np.load(path).astype(np.int64)
        return stored
    method, parts = study.fitted(protocol, row, seed)
    order = rankings(method, parts, parts.queries)
    with atomic_writer(path) as file:
        np.save(file, order.astype(np.uint16 if order.shape[1] < 2**16 else np.uint32))
    return order


def ranking_path(study: Study, protocol: str, row: str, seed: int) -> Path:
    """SET-PROTOCOL-ROW-seedN-KEY.npy in the study's directory for work; the key stands for the
    images and settings.
    """
    key = digest([study.about, study.method(row, seed).made_of()], 6)
    return study.networks.directory / f"{study.name}-{protocol}-{row}-seed{seed}-{key}.npy"


def rankings(method: Method, parts: Parts, images: Iterable[Pixels]) -> Positions:
    """The whole gallery for each query of the split, shown as `images`: int64 (q, g)."""
    orders = [
        method.search(image, len(parts.gallery), oracle_of(parts.gallery, label))
        for image, label in zip(images, parts.queries.labels.tolist(), strict=True)
    ]
    return np.stack(orders)


def relevance(parts: Parts, order: Positions) -> NDArray[np.bool_]:
    """Whether each image of a ranking (q, g) is of its query's class."""
    same: NDArray[np.bool_] = parts.gallery.labels[order] == parts.queries.labels[:, None]
    return same
