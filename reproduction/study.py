"""Every row on every split: the numbers of Tables 1 and 2, and of unseen categories."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError
from lookalike.evaluation.protocol import METRICS
from lookalike.evaluation.splits import Split, class_split, query_split
from reproduction.collection import Collection, Picture, Positions, Sample
from reproduction.effort import WHOLE, Effort
from reproduction.method import Method, Oracle
from reproduction.methods.svm_active import SvmActive
from reproduction.networks import Networks
from reproduction.results import Results
from reproduction.rows import ROWS, Workshop

__all__ = ["UNSEEN_CLASSES", "RowError", "Study", "oracle_of", "rankings"]

FEEDBACK_ROUNDS = 6
UNSEEN_CLASSES = 4
"""That the protocol of unseen categories needs: with a single class on a side nothing is learnt
there, or every answer is right."""


class RowError(LookalikeError):
    """A row that cannot be measured on these images; the others may be."""

    def __init__(self, row: str, reason: str) -> None:
        super().__init__(f"{row} {reason}")
        self.row = row


@dataclass(frozen=True, eq=False)
class Parts:
    """Of one split: what a method learns from, searches in, and is asked about."""

    training: Sample
    gallery: Sample
    queries: Sample


@dataclass(frozen=True, eq=False)
class Study:
    """A collection, and all that its numbers depend on.

    Attributes:
        epochs: of the networks on the shared trunk; None: the recipe's.
        queries_per_class: held out.
        threads: of a query's network.
        effort: how much is spent on a number.
        changed: what else numbers of this study must share, by name; see `Results.begin`.
    """

    collection: Collection
    networks: Networks
    results: Results
    epochs: int | None = None
    vgg_weights: Path | None = None
    queries_per_class: int = 10
    threads: int | None = None
    effort: Effort = WHOLE
    changed: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        about = {"images": len(self.collection), "digest": self.collection.digest, **self.changed}
        self.results.begin(self.collection.name, about)

    def known(self, *keys: str) -> Any:
        """A number of this collection in the results, or a part of them; None if not measured."""
        return self.results.get(self.collection.name, *keys)

    def note(self, value: Any, *keys: str) -> None:
        """Write what `known` is to give."""
        self.results.put(value, self.collection.name, *keys)

    def measure(self, protocol: str, row: str, seed: int) -> None:
        """METRICS of a row on a split, into the results at (protocol, row, seed)."""
        began = time.perf_counter()
        method, parts = self.fitted(protocol, row, seed)
        found = rankings(method, parts.queries, parts.queries.labels, parts.gallery)
        relevance = parts.gallery.labels[found] == parts.queries.labels[:, None]
        values = {
            name: float(np.nanmean(metric(relevance)))
            for name, metric in METRICS.items()
            if name[:2] != "P@" or int(name[2:]) <= len(parts.gallery)
        }
        self.note(values, protocol, row, str(seed))
        told = ", ".join(f"{name} {values[name]:.4f}" for name in ("mAP", "P@10") if name in values)
        seconds = time.perf_counter() - began
        self.tell(
            f"{self.collection.name}, {protocol}, seed {seed}, {method.title}: {told} "
            f"({seconds:.0f} s)"
        )

    def feedback(self, seed: int) -> None:
        """mAP and P@20 after each round of the SVM row, with and without what was judged.

        Each is a mean over the queries that have a value, None where no query has one: without what
        was judged there is no mAP once nothing relevant is left, and no P@20 once nothing is.
        """
        parts = self.split("paper", seed)
        method = ROWS["svm"](self.workshop(seed))
        assert isinstance(method, SvmActive)
        method.fit(parts.gallery)
        found: dict[str, list[list[float]]] = {}
        for picture, label in zip(parts.queries, parts.queries.labels, strict=True):
            rounds = method.curve(
                method.describe(picture), oracle_of(parts.gallery, label), FEEDBACK_ROUNDS
            )
            for kind in ("ranking", "residual"):
                relevance = [parts.gallery.labels[getattr(each, kind)] == label for each in rounds]
                for metric in ("mAP", "P@20"):
                    values = [_value(metric, each) for each in relevance]
                    found.setdefault(f"{metric} {kind}", []).append(values)
        means = {key: list(map(_mean, *values)) for key, values in found.items()}
        self.note(means, "feedback", str(seed))

    def workshop(self, seed: int) -> Workshop:
        return Workshop(
            self.networks, seed, self.epochs, self.vgg_weights, self.threads, self.effort
        )

    def split(self, protocol: str, seed: int) -> Parts:
        """By protocol "paper" the gallery is the training set; by "unseen" it has no class of it.

        ValueError for a class without an image left for the gallery; LookalikeError for too few
        classes to learn from some and to tell others apart.
        """
        labels, sample = self.collection.labels, self.collection.sample
        if protocol == "paper":
            split = query_split(labels, seed, self.queries_per_class)
            return Parts(sample(split.gallery), sample(split.gallery), sample(split.queries))
        count = len(np.unique(labels))
        if count < UNSEEN_CLASSES:
            raise LookalikeError(
                f"{count} classes are too few for unseen categories: add some, so that there are "
                f"{UNSEEN_CLASSES}, two to learn from and two to tell apart"
            )
        seen, unseen = class_split(labels, seed, count // 2)
        there = np.flatnonzero(np.isin(labels, unseen))
        inner = query_split(labels[there], seed, self.queries_per_class)
        split = Split(there[inner.queries], there[inner.gallery])
        training = np.flatnonzero(np.isin(labels, seen))
        return Parts(sample(training), sample(split.gallery), sample(split.queries))

    def fitted(self, protocol: str, row: str, seed: int) -> tuple[Method, Parts]:
        """A method that has learnt and indexed its part of the split.

        RowError if it cannot do so with so few images or classes.
        """
        parts = self.split(protocol, seed)
        method = ROWS[row](self.workshop(seed))
        try:
            method.learn(parts.training)
            method.index(parts.gallery)
        except (ValueError, LookalikeError) as error:
            classes = len(np.unique(parts.training.labels))
            raise RowError(
                row, f"cannot learn from {len(parts.training)} images of {classes} classes: {error}"
            ) from error
        self.note(method.title, "titles", row)
        self.note(method.made_of(), "made", row)
        return method, parts

    def check(self, row: str) -> None:
        """LookalikeError if the results hold numbers of a row that were made in another way than
        they would be now.
        """
        known, now = self.known("made", row), ROWS[row](self.workshop(0)).made_of()
        if known not in (None, now):
            raise LookalikeError(
                f"{self.results.directory / self.collection.name}.json holds numbers of the row "
                f"{row} that were got with other settings or weights ({known}, now {now}): give "
                "another directory for results, or delete that file"
            )


def _value(metric: str, relevance: NDArray[np.bool_]) -> float:
    """Of one ranking; NaN if it is empty."""
    return float(METRICS[metric](relevance[None])[0]) if len(relevance) else math.nan


def _mean(*values: float) -> float | None:
    """Of those that are not NaN; None if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else None


def oracle_of(gallery: Sample, label: int) -> Oracle:
    """Answers by class, as the experiment's person."""
    return lambda positions: gallery.labels[positions] == label


def rankings(
    method: Method, queries: Iterable[Picture], labels: Positions, gallery: Sample
) -> Positions:
    """The whole gallery for each query of these classes, best first: int64 (q, g)."""
    found = [
        method.search(picture, len(gallery), oracle_of(gallery, label))
        for picture, label in zip(queries, labels.tolist(), strict=True)
    ]
    return np.stack(found)
