"""Every row on every split: the numbers of Tables 1 and 2, and of unseen categories."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike.evaluation.protocol import METRICS
from lookalike.evaluation.splits import Split, class_split, query_split
from lookalike.paper.collection import Collection, Positions, Sample
from lookalike.paper.method import Method, Oracle
from lookalike.paper.methods.svm_active import SvmActive
from lookalike.paper.networks import Networks
from lookalike.paper.results import Results
from lookalike.paper.rows import ROWS, Workshop

__all__ = ["Study", "oracle_of", "rankings"]

FEEDBACK_ROUNDS = 6


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
    """

    collection: Collection
    networks: Networks
    results: Results
    epochs: int | None = None
    vgg_weights: Path | None = None
    queries_per_class: int = 10
    threads: int | None = None
    tell: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        about = {"images": len(self.collection), "digest": self.collection.digest}
        self.results.begin(self.collection.name, about)

    def measure(self, protocol: str, rows: Sequence[str], seeds: Iterable[int]) -> None:
        """Whatever is not known yet, written after each row."""
        name = self.collection.name
        for seed in seeds:
            for row in rows:
                if self.results.get(name, protocol, row, str(seed)) is not None:
                    continue
                self.results.put(
                    self._measured(protocol, row, seed), name, protocol, row, str(seed)
                )

    def feedback(self, seeds: Iterable[int]) -> None:
        """mAP and P@20 after each round of the SVM row, with and without what was judged."""
        name = self.collection.name
        for seed in seeds:
            if self.results.get(name, "feedback", str(seed)) is not None:
                continue
            parts = self.split("paper", seed)
            method = SvmActive()
            method.fit(parts.gallery)
            found: dict[str, list[list[float]]] = {}
            for picture, label in zip(parts.queries, parts.queries.labels, strict=True):
                rounds = method.curve(
                    method.describe(picture), oracle_of(parts.gallery, label), FEEDBACK_ROUNDS
                )
                for kind in ("ranking", "residual"):
                    relevance = [
                        parts.gallery.labels[getattr(each, kind)] == label for each in rounds
                    ]
                    for metric in ("mAP", "P@20"):
                        values = [float(METRICS[metric](r[None])[0]) for r in relevance]
                        found.setdefault(f"{metric} {kind}", []).append(values)
            means = {key: np.nanmean(values, axis=0).tolist() for key, values in found.items()}
            self.results.put(means, name, "feedback", str(seed))

    def workshop(self, seed: int) -> Workshop:
        return Workshop(self.networks, seed, self.epochs, self.vgg_weights, self.threads)

    def split(self, protocol: str, seed: int) -> Parts:
        """By protocol "paper" the gallery is the training set; by "unseen" it has no class of it.

        ValueError for a class without an image left for the gallery."""
        labels, sample = self.collection.labels, self.collection.sample
        if protocol == "paper":
            split = query_split(labels, seed, self.queries_per_class)
            return Parts(sample(split.gallery), sample(split.gallery), sample(split.queries))
        seen, unseen = class_split(labels, seed, len(np.unique(labels)) // 2)
        there = np.flatnonzero(np.isin(labels, unseen))
        inner = query_split(labels[there], seed, self.queries_per_class)
        split = Split(there[inner.queries], there[inner.gallery])
        training = np.flatnonzero(np.isin(labels, seen))
        return Parts(sample(training), sample(split.gallery), sample(split.queries))

    def fitted(self, protocol: str, row: str, seed: int) -> tuple[Method, Parts]:
        """A method that has learnt and indexed its part of the split."""
        parts = self.split(protocol, seed)
        method = ROWS[row](self.workshop(seed))
        method.learn(parts.training)
        method.index(parts.gallery)
        self.results.put(method.title, self.collection.name, "titles", row)
        return method, parts

    def _measured(self, protocol: str, row: str, seed: int) -> dict[str, float]:
        began = time.perf_counter()
        method, parts = self.fitted(protocol, row, seed)
        found = rankings(method, parts.queries, parts.gallery)
        relevance = parts.gallery.labels[found] == parts.queries.labels[:, None]
        values = {
            name: float(np.nanmean(metric(relevance)))
            for name, metric in METRICS.items()
            if name[:2] != "P@" or int(name[2:]) <= len(parts.gallery)
        }
        told = ", ".join(f"{name} {values[name]:.4f}" for name in ("mAP", "P@10"))
        seconds = time.perf_counter() - began
        self.tell(
            f"{self.collection.name}, {protocol}, seed {seed}, {method.title}: {told} "
            f"({seconds:.0f} s)"
        )
        return values


def oracle_of(gallery: Sample, label: int) -> Oracle:
    """Answers by class, as the experiment's person."""
    return lambda positions: gallery.labels[positions] == label


def rankings(method: Method, queries: Sample, gallery: Sample) -> Positions:
    """The whole gallery for each query, best first: int64 (q, g)."""
    found = [
        method.search(picture, len(gallery), oracle_of(gallery, label))
        for picture, label in zip(queries, queries.labels.tolist(), strict=True)
    ]
    return np.stack(found)
