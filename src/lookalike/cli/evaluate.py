"""``lookalike evaluate`` and ``lookalike data``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.options import COUNT, ENCODING, JSON, argument, command, option
from lookalike.cli.output import (
    leave,
    number,
    print_json,
    print_lines,
    say,
    shown,
    visible,
)
from lookalike.cli.progress import progress_shown

if TYPE_CHECKING:
    from lookalike.encoder import ModelInfo
    from lookalike.evaluation.folder import ClassScore, FolderReport, WorstQuery
    from lookalike.evaluation.metrics import Spread

WORST_CLASSES = 5


@command()
def evaluate(
    folder: Path = argument(),
    queries_per_class: int = option(
        "Random images of each class to search with; all others are searched.",
        type=COUNT,
        default=10,
    ),
    seeds: int = option("How many random splits to measure.", type=COUNT, default=5),
    worst: int = option(
        "Also list the N queries of lowest P@10, and what each returned.",
        metavar="N",
        type=click.IntRange(0),
        default=0,
    ),
    encoding: dict[str, Any] = ENCODING,
    as_json: bool = JSON,
) -> None:
    """Measure how well a model finds the images of your classes.

    FOLDER holds one folder of images for each class. Each image is encoded once. Then, in every
    split, random images of each class are searched for among all others, exactly and through the
    hash tables. An image counts as found if it is of the query's class. A line for each metric:
    mean and standard deviation over the splits, exact, hashed, and what hashing loses.

    P@n: share of the first n that is of the class. recall@m: the same for n = m, the number of
    images to find. mAP: mean average precision of the whole ranking.
    """
    from lookalike.encoder import Encoder
    from lookalike.evaluation.folder import evaluate_images
    from lookalike.images.decoder import Limits
    from lookalike.models.data import class_folders

    images, passed_over = class_folders(folder)
    encoder = Encoder.open(encoding["model"], encoding["encoder_settings"])
    say(f"evaluating {visible(os.path.abspath(folder))}")
    with progress_shown() as show:
        report = evaluate_images(
            images.classes,
            images.paths,
            images.labels,
            encoder,
            queries_per_class,
            seeds,
            limits=Limits(encoding["max_pixels"], encoding["max_seconds"]),
            progress=show,
        )
    skipped = [(file.path, file.reason) for file in passed_over]
    skipped += [(failed.item, str(failed.error)) for failed in report.skipped]
    for path, reason in skipped:
        say(f"skipped {visible(os.fspath(path))}: {reason}")
    fewest = report.relevant[0]
    if fewest < 30:
        say(
            f"a query of the smallest class has {number(fewest, 'image')} to find, so its P@n "
            f"cannot reach 1 for n above {fewest}"
        )
    searches = report.worst_queries(worst)
    if as_json:
        values = _as_dict(report, encoder.info, skipped, searches)
        print_json({"queries_per_class": queries_per_class, **values})
    else:
        _print(report, encoder.info, len(skipped), searches)
    if skipped:
        leave()


def _print(
    report: FolderReport, model: ModelInfo, skipped: int, searches: list[WorstQuery]
) -> None:
    split = report.splits[0]
    click.echo(
        f"images  {len(report.paths):,} in {len(report.classes)} classes, {skipped:,} skipped"
    )
    click.echo(f"model   {visible(f'{model.name} {model.version}')}")
    click.echo(
        f"splits  {len(report.splits)}, each with {len(split.queries):,} queries"
        f" among {len(split.gallery):,} images"
    )
    ways = report.summary()
    click.echo("\n" + f"{'':10}{'exact':18}{'hashed':18}{'lost by hashing'}")
    for metric in ways["exact"]:
        cells = [_cell(ways[way][metric]) for way in ("exact", "hashed", "loss")]
        click.echo(f"{metric:8}" + "".join(f"{cell:18}" for cell in cells).rstrip())
    click.echo("\nclasses of lowest P@10, hashed")
    for score in report.classes[:WORST_CLASSES]:
        click.echo(f"{score.precision_10:7.3f}  {visible(score.name)}")
    if searches:
        click.echo("\nqueries of lowest P@10, hashed, and what they returned, best first")
    for search in searches:
        click.echo(f"{search.precision_10:7.3f}  {shown(search.path)}  (seed {search.seed})")
        for path in search.returned:
            click.echo(f"{'':9}  {shown(path)}")


def _cell(value: Spread) -> str:
    mean = 0.0 if abs(value.mean) < 5e-4 else value.mean  # no "-0.000"
    return f"{mean:6.3f}" + (f" +- {value.deviation:.3f}" if value.count > 1 else "")


def _numbers(value: Spread) -> dict[str, float | None]:
    return {"mean": value.mean, "deviation": value.deviation if value.count > 1 else None}


def _named(value: ClassScore | WorstQuery) -> dict[str, Any]:
    return {name.replace("precision_10", "P@10"): each for name, each in vars(value).items()}


def _as_dict(
    report: FolderReport,
    model: ModelInfo,
    skipped: list[tuple[Path, str]],
    searches: list[WorstQuery],
) -> dict[str, Any]:
    def means(values: dict[str, Any]) -> dict[str, float]:
        return {metric: float(each.mean()) for metric, each in values.items()}

    return {
        "images": len(report.paths),
        "model": model.as_dict(),
        **{
            way: {metric: _numbers(value) for metric, value in values.items()}
            for way, values in report.summary().items()
        },
        "splits": [
            {
                "seed": split.seed,
                "queries": len(split.queries),
                "gallery": len(split.gallery),
                "exact": means(split.exact),
                "hashed": means(split.hashed),
            }
            for split in report.splits
        ],
        "classes": list(map(_named, report.classes)),
        "worst": list(map(_named, searches)),
        "skipped": [{"path": os.fspath(path), "reason": reason} for path, reason in skipped],
    }


@command()
def data(
    name: str = argument(metavar="corel1k|corel5k", type=click.Choice(["corel1k", "corel5k"])),
    folder: Path = option(
        "Your copy: a folder for each class, or one of all files in the original numbering.",
        "--from",
        metavar="DIR",
        required=True,
    ),
    out: Path | None = option(
        "A new folder to lay the images out in, as DIR/CLASS/IMAGE. Without it, only a check.",
        metavar="DIR",
    ),
) -> None:
    """Check your copy of a dataset of the paper, and lay it out for evaluate, train and index.

    Nothing is downloaded, and the copy is not changed: images are linked, or copied where links
    cannot be. Interrupt it at any moment and run it again. Exit status 1: something is missing, or
    is not exactly what this project's numbers were made with. docs/datasets.md says where to get
    the images.
    """
    from lookalike.evaluation.datasets import DATASETS, check, lay_out

    dataset = DATASETS[name]
    copy = check(dataset, folder)
    remarks = copy.remarks()
    for remark in remarks:
        say(visible(remark))
    wanted = dataset.images()
    have = len(wanted) - len(copy.missing)
    lines = {
        "dataset": f"{name}, {len(dataset.classes)} classes",
        "images": f"{have:,} of {len(wanted):,}",
        "content": "verified: the exact files this project's numbers were made with"
        if copy.verified
        else f"of {len(dataset.classes)} classes, {len(copy.differing)} differ",
    }
    if out is not None:
        made = lay_out(copy, out)
        lines["laid out"] = (
            f"{shown(out)}: {made.linked:,} linked, {made.copied:,} copied, "
            f"{made.kept:,} there already"
        )
    print_lines(lines)
    if remarks:
        leave()
