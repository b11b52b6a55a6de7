"""A set with all that its numbers depend on: splits, methods, settings, results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.errors import LookalikeError
from lookalike.evaluation.protocol import Split, check_class_sizes, query_split
from lookalike.feedback import FeedbackSettings
from lookalike.gallery.lock import exclusive
from reproduction.collection import Collection, Positions, Sample
from reproduction.confs import NETWORKS, PLANS, ROWS, SHARED_TRUNK, Plan, Recipe, Settings
from reproduction.methods import Method, Oracle, network_method
from reproduction.results import Results
from reproduction.sift import Sift
from reproduction.svm_active import SvmActive
from reproduction.train import Networks

UNSEEN_CLASSES = 4
"""That the protocol of unseen categories needs: with a single class on a side nothing is learnt
there, or every answer is right."""


class RowError(LookalikeError):
    """A row that cannot be measured on these images; others may be."""

    def __init__(self, row: str, reason: str) -> None:
        super().__init__(f"{row} {reason}")
        self.row = row


@dataclass(frozen=True, eq=False)
class Parts:
    """Of one split: what a method learns from, searches in, and is queried with."""

    training: Sample
    gallery: Sample
    queries: Sample


@dataclass(frozen=True, eq=False)
class Study:
    """A collection to be evaluated; networks and rankings go to files, numbers to the results.

    LookalikeError if the results hold numbers of other images or settings.
    """

    collection: Collection
    networks: Networks
    results: Results
    settings: Settings = field(default_factory=Settings)
    report: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.results.begin(self.name, self.about)

    @classmethod
    def open(
        cls,
        folder: Path,
        work: Path,
        results: Results,
        settings: Settings,
        report: Callable[[str], None] = lambda _: None,
    ) -> Study:
        """Read a set. TrainingError if the folder does not hold class folders; LookalikeError if a
        class has no more images than queries, or the results were computed in another way.
        """
        collection = Collection.read(folder)
        skipped = [(file.path, file.reason) for file in collection.skipped]
        for path, reason in skipped:
            report(f"skipped {path}: {reason}")
        classes, labels = collection.images.classes, collection.labels
        try:
            check_class_sizes(classes, labels, settings.queries_per_class, skipped)
        except LookalikeError as error:
            raise LookalikeError(f"{folder}: {error}") from error
        return cls(collection, Networks(work, report), results, settings, report)

    @property
    def name(self) -> str:
        return self.collection.name

    @property
    def about(self) -> dict[str, Any]:
        """What all numbers of the set share."""
        digest = self.collection.digest
        return {"images": len(self.collection), "digest": digest, **self.settings.changed()}

    @property
    def plan(self) -> Plan:
        return self.settings.plan(self.name)

    def known(self, *keys: str) -> Any:
        """A number of this set in the results, or a part of them; None if not measured."""
        return self.results.get(self.name, *keys)

    def note(self, value: Any, *keys: str) -> None:
        """Write what `known` is to return."""
        self.results.put(value, self.name, *keys)

    @property
    def has_unseen(self) -> bool:
        """Whether there are enough classes for the protocol "unseen"."""
        return len(np.unique(self.collection.labels)) >= UNSEEN_CLASSES

    def recipe(self, network: str, seed: int) -> Recipe:
        """The network's recipe with the seed and the epochs of this study."""
        recipe, settings = NETWORKS[network], self.settings
        trunk = recipe.embedder.trunk
        epochs = settings.budget.epochs.get(trunk, recipe.training.epochs)
        recipe = recipe.but(seed=seed, epochs=self.plan.epochs if trunk == SHARED_TRUNK else epochs)
        if network == "vgg" and settings.vgg_weights is not None:
            # fine-tuned at 224 pixels, the last stage alone, without the batch norm they lack
            weights = str(settings.vgg_weights)
            recipe = recipe.but(trunk="vgg16", weights=weights, input_size=224, freeze=-2)
        return recipe

    def method(self, row: str, seed: int) -> Method:
        """Of a row, before it has learnt."""
        budget, conf = self.settings.budget, ROWS[row]
        if row == "sift":
            return Sift(seed, budget.words, budget.pyramids)
        if row == "svm":
            return SvmActive(settings=FeedbackSettings(seed=seed))
        if row == "vgg" and self.settings.vgg_weights is not None:
            conf = replace(conf, title="VGG-N [18], given weights")
        recipe = self.recipe(conf.network, seed)
        return network_method(conf, self.networks, recipe, self.settings.threads)

    def split(self, protocol: str, seed: int) -> Parts:
        """In the protocol "paper" the gallery is the training set; in "unseen" they share no class.

        LookalikeError for too few classes to learn from some and to test on others.
        """
        labels, sample = self.collection.labels, self.collection.sample
        per_class = self.settings.queries_per_class
        if protocol == "paper":
            split = query_split(labels, seed, per_class)
            return Parts(sample(split.gallery), sample(split.gallery), sample(split.queries))
        count = len(np.unique(labels))
        if not self.has_unseen:
            raise LookalikeError(
                f"{count} classes are too few for unseen categories: add some, so that there are "
                f"{UNSEEN_CLASSES}, two to learn from and two to test on"
            )
        seen, unseen = class_split(labels, seed, count // 2)
        there = np.flatnonzero(np.isin(labels, unseen))
        inner = query_split(labels[there], seed, per_class)
        split = Split(there[inner.queries], there[inner.gallery])
        training = np.flatnonzero(np.isin(labels, seen))
        return Parts(sample(training), sample(split.gallery), sample(split.queries))

    def fitted(self, protocol: str, row: str, seed: int) -> tuple[Method, Parts]:
        """A method that has learnt and indexed its part of the split.

        RowError if it cannot with so few images or classes.
        """
        parts = self.split(protocol, seed)
        method = self.method(row, seed)
        try:
            method.learn(parts.training)
            method.index(parts.gallery)
        except (ValueError, LookalikeError) as error:
            classes = len(np.unique(parts.training.labels))
            raise RowError(
                row, f"cannot learn from {len(parts.training)} images of {classes} classes: {error}"
            ) from error
        self.describe(row, method.title, method.made_of())
        return method, parts

    def describe(self, row: str, title: str, made_of: str) -> None:
        """Note what the row is called, and what its numbers depend on."""
        for key, value in (("titles", title), ("made", made_of)):
            if self.known(key, row) != value:
                self.note(value, key, row)

    def check(self, row: str, made_of: str) -> None:
        """LookalikeError if the results hold numbers of a row that were computed in another way
        than they would be now.
        """
        known = self.known("made", row)
        if known not in (None, made_of):
            raise LookalikeError(
                f"{self.results.directory / self.name}.json holds numbers of the row {row} that "
                f"were computed with other settings or weights ({known}, now {made_of}): give "
                "another directory for results, or delete that file"
            )


def class_split(labels: Positions, seed: int, unseen: int = 10) -> tuple[Positions, Positions]:
    """Labels, ascending, of the classes to train on and of `unseen` random ones to test on, at
    least one each."""
    classes = np.unique(labels)
    held = np.sort(np.random.default_rng(seed).choice(classes, unseen, replace=False))
    return np.setdiff1d(classes, held).astype(np.int64), held.astype(np.int64)


def folders_of(data: Path, settings: Settings) -> list[Path]:
    """The folders of sets: those of PLANS that are in `data`, only the first for a quick run;
    without any, `data` itself is a set.
    """
    found = [data / name for name in PLANS if (data / name).is_dir()]
    return (found[:1] if settings.quick else found) or [data]


def oracle_of(gallery: Sample, label: int) -> Oracle:
    """Answers by class, as the person of the experiment does."""
    return lambda positions: gallery.labels[positions] == label


def working_in(work: Path) -> AbstractContextManager[None]:
    """Locks the directory, since networks and maps are written in place. LookalikeError if another
    process holds it.
    """
    work.mkdir(parents=True, exist_ok=True)

    def refusal(holder: str) -> LookalikeError:
        return LookalikeError(
            f"{work} is in use by process {holder}: wait until it is done, or give another one, "
            "--work DIRECTORY; --results may be the same"
        )

    return exclusive(work / ".lock", refusal)
