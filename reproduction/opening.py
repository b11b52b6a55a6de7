"""A set and a folder to work in, opened for a reproduction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lookalike.errors import LookalikeError
from lookalike.evaluation.splits import check_class_sizes
from lookalike.lock import exclusive
from reproduction.collection import Collection
from reproduction.networks import Networks
from reproduction.plan import ReproduceSettings, plan_of
from reproduction.results import Results
from reproduction.study import Study

__all__ = ["open_study", "working_in"]


def working_in(work: Path) -> AbstractContextManager[None]:
    """Nobody else makes networks and maps in the directory meanwhile, for they are written in
    place. LookalikeError if somebody does.
    """
    work.mkdir(parents=True, exist_ok=True)

    def refusal(holder: str) -> LookalikeError:
        return LookalikeError(
            f"{work} is in use by process {holder}: wait until it is done, or give another one, "
            "--work DIRECTORY; --results may be the same"
        )

    return exclusive(work / ".lock", refusal)


def open_study(
    folder: Path,
    work: Path,
    results: Results,
    settings: ReproduceSettings,
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """Read a set; what is worked out goes to `work` (networks, maps) and `results` (numbers).

    TrainingError if the folder is no folder of class folders; LookalikeError if a class has no more
    images than queries, or if the results hold numbers that were got in another way.
    """
    collection = Collection.read(folder)
    for file in collection.skipped:
        tell(f"skipped {file.path}: {file.reason}")
    skipped = [(file.path, file.reason) for file in collection.skipped]
    classes, labels = collection.images.classes, collection.labels
    try:
        check_class_sizes(classes, labels, settings.queries_per_class, skipped)
    except LookalikeError as error:
        raise LookalikeError(f"{folder}: {error}") from error
    return Study(
        collection,
        Networks(work, tell),
        results,
        plan_of(collection.name, settings).epochs,
        settings.vgg_weights,
        settings.queries_per_class,
        settings.threads,
        settings.effort,
        settings.changed(),
        tell,
    )
