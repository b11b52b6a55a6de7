"""Table 3: how long the search of all queries takes, all rows in one process, one thread each.

Times are CPU time: with one thread it equals wall time on an idle machine, and other programs do
not distort it.
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

import torch
from threadpoolctl import threadpool_limits

from lookalike.errors import LookalikeError
from reproduction.collection import Pixels, Positions, read_pixels
from reproduction.methods import Method
from reproduction.study import Parts, RowError, Study, oracle_of

K = 30
"""The largest of the paper's Top-n."""


@dataclass(frozen=True, eq=False)
class _Row:
    method: Method
    parts: Parts

    def read(self, position: int) -> Pixels:
        """The query's file, decoded as the collection was."""
        queries = self.parts.queries
        return read_pixels(queries.collection.images.paths[queries.rows[position]])

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
        features = [self.method.describe(image) for image in self.parts.queries]
        search = _seconds(self.match, positions, features)
        return {"search": search, "end to end": _seconds(self.whole, positions), "cold": cold}


def time_rows(study: Study, rows: Sequence[str], seed: int = 0) -> None:
    """Seconds for all queries of the split, into the results as "timing", a list of rounds each.

    "search" is `match` alone, one query a call, "end to end" includes reading the file, "cold" is
    one query end to end with the network's session still to be opened. The rows take turns in the
    rounds, with one thread each. Rows that the results already have are timed again with the new
    ones, so that all are comparable.

    LookalikeError, at the end, that names the rows which cannot be measured.
    """
    known = study.known("timing", "rows") or {}
    wanted = [*rows, *(row for row in known if row not in rows)]
    one_core = replace(study, settings=replace(study.settings, threads=1))
    parts = study.split("paper", seed)
    fitted, errors = {}, []
    for row in wanted:
        try:
            fitted[row] = _Row(one_core.fitted("paper", row, seed)[0], parts)
        except RowError as error:
            errors.append(str(error))
    times: dict[str, dict[str, list[float]]] = {row: {} for row in fitted}
    with one_thread():
        for one in fitted.values():
            one.method.install()
        for _ in range(study.settings.budget.rounds):
            for row, one in fitted.items():
                for what, seconds in one.times().items():
                    times[row].setdefault(what, []).append(seconds)
    if times:
        about = {
            "seed": seed,
            "queries": len(parts.queries),
            "k": min(K, len(parts.gallery)),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        }
        study.note({"about": about, "rows": times}, "timing")
    for row, each in times.items():
        study.report(
            f"{study.name}, {row}: {len(parts.queries)} queries in {mean(each['search']):.3f} s, "
            f"{mean(each['end to end']):.2f} s end to end"
        )
    if errors:
        raise LookalikeError("; ".join(errors))


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS, OpenMP, PyTorch and OpenCV with one thread each."""
    import cv2
    import sklearn.svm  # noqa: F401  brings a BLAS and an OpenMP of its own, to be limited as well

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
