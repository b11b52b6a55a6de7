"""Table 3: how long the search of all queries takes, all rows in one process, one thread each.

Times are CPU time, which with one thread is what a clock shows when nothing else runs, and what
other programs do not spoil.
"""

from __future__ import annotations

import os
import platform
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
from reproduction.collection import LONGEST_SIDE, Picture, Positions
from reproduction.method import Method
from reproduction.study import Parts, Study, oracle_of

__all__ = ["one_thread", "time_rows"]

K = 30
"""The largest of the paper's Top-n."""


@dataclass(frozen=True, eq=False)
class _Row:
    method: Method
    parts: Parts

    def read(self, position: int) -> Picture:
        """The query's file, decoded as the collection was."""
        path = self.parts.queries.collection.images.paths[self.parts.queries.rows[position]]
        return np.asarray(read_rgb(path, longest_side=LONGEST_SIDE))

    def match(self, position: int, features: Any) -> Positions:
        oracle = oracle_of(self.parts.gallery, int(self.parts.queries.labels[position]))
        return self.method.match(features, min(K, len(self.parts.gallery)), oracle)

    def whole(self, position: int) -> Positions:
        return self.match(position, self.method.describe(self.read(position)))

    def times(self) -> dict[str, float]:
        """Of one round."""
        positions = range(len(self.parts.queries))
        self.method.close()
        cold = _seconds(self.whole, [0])
        features = [self.method.describe(picture) for picture in self.parts.queries]
        search = _seconds(self.match, positions, features)
        return {"search": search, "end to end": _seconds(self.whole, positions), "cold": cold}


def time_rows(study: Study, rows: Sequence[str], seed: int = 0) -> None:
    """Seconds for all queries of the split, into the results as "timing", a list of rounds each.

    "search" is `match` alone, one query a call, "end to end" from the file on, "cold" one query end
    to end with the network's session still to be opened. The rows take turns in the study's rounds,
    with one thread each. So that all stand side by side, rows that the results have already are
    timed again with the new ones.
    """
    name, study = study.collection.name, replace(study, threads=1)
    known = study.known("timing", "rows") or {}
    wanted = [*rows, *(row for row in known if row not in rows)]
    parts = study.split("paper", seed)
    fitted = {row: _Row(study.fitted("paper", row, seed)[0], parts) for row in wanted}
    found: dict[str, dict[str, list[float]]] = {row: {} for row in wanted}
    with one_thread():
        for one in fitted.values():
            one.method.install()
        for _ in range(study.effort.rounds):
            for row, one in fitted.items():
                for what, seconds in one.times().items():
                    found[row].setdefault(what, []).append(seconds)
    about = {
        "seed": seed,
        "queries": len(parts.queries),
        "k": min(K, len(parts.gallery)),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
    }
    study.note({"about": about, "rows": found}, "timing")
    for row, one in fitted.items():
        times = found[row]
        study.tell(
            f"{name}, {one.method.title}: {len(parts.queries)} queries in "
            f"{mean(times['search']):.3f} s, {mean(times['end to end']):.2f} s end to end"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS, OpenMP, PyTorch and OpenCV with one thread each."""
    import cv2
    import sklearn.svm  # noqa: F401  brings a BLAS and an OpenMP of its own, to be limited, too

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
