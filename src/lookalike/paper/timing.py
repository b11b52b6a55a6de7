"""Table 3: how long the search of all queries takes, all rows in one process, one thread each.

Times are CPU time, which with one thread is what a clock shows when nothing else runs, and what
other programs do not spoil.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from lookalike.images import read_rgb
from lookalike.paper.collection import LONGEST_SIDE, Picture, Positions
from lookalike.paper.method import Method
from lookalike.paper.study import Parts, Study, oracle_of

__all__ = ["one_thread", "time_rows"]

K = 30
"""The largest of the paper's Top-n."""


@dataclass(eq=False)
class _Row:
    method: Method
    parts: Parts
    cold: float = 0.0

    def read(self, position: int) -> Picture:
        """The query's file, decoded as the collection was."""
        path = self.parts.queries.collection.images.paths[self.parts.queries.rows[position]]
        return np.asarray(read_rgb(path, longest_side=LONGEST_SIDE))

    def match(self, position: int, features: Any) -> Positions:
        oracle = oracle_of(self.parts.gallery, int(self.parts.queries.labels[position]))
        return self.method.match(features, min(K, len(self.parts.gallery)), oracle)

    def whole(self, position: int) -> Positions:
        return self.match(position, self.method.describe(self.read(position)))


def time_rows(study: Study, rows: Sequence[str], seed: int = 0) -> None:
    """Seconds for all queries of the split, into the results as "timing".

    "search" is `match` alone, one query a call, "end to end" from the file on, both a list of
    the study's rounds, in which the rows take turns. "cold" is the very
    first query, end to end, with the network's session still to be opened. Everything has one
    thread.
    """
    name, study = study.collection.name, replace(study, threads=1)
    with one_thread():
        parts = study.split("paper", seed)
        fitted = {row: _Row(study.fitted("paper", row, seed)[0], parts) for row in rows}
        for one in fitted.values():
            one.cold = _seconds(one.whole, [0])
        positions, depth = range(len(parts.queries)), min(K, len(parts.gallery))
        searches: dict[str, list[float]] = {row: [] for row in rows}
        wholes: dict[str, list[float]] = {row: [] for row in rows}
        for _ in range(study.effort.rounds):
            for row, one in fitted.items():
                features = [one.method.describe(picture) for picture in one.parts.queries]
                searches[row].append(_seconds(one.match, positions, features))
                wholes[row].append(_seconds(one.whole, positions))
    for row, one in fitted.items():
        told = {"search": searches[row], "end to end": wholes[row], "cold": one.cold}
        about = {"seed": seed, "queries": len(positions), "k": depth}
        study.note({**told, **about}, "timing", row)
        study.tell(
            f"{name}, {one.method.title}: {len(positions)} queries in {mean(searches[row]):.3f} s, "
            f"{mean(wholes[row]):.2f} s end to end"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS, OpenMP, PyTorch and OpenCV with one thread each."""
    import cv2

    own, theirs = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(own)
        cv2.setNumThreads(theirs)


def _seconds(function: Callable[..., Any], *arguments: Sequence[Any]) -> float:
    """CPU time of function(a[i], b[i], ...) for all i."""
    began = time.process_time()
    for each in zip(*arguments, strict=True):
        function(*each)
    return time.process_time() - began
