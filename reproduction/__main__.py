"""`python -m reproduction`: the command."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.cli import run_command
from lookalike.cli.extras import extra_needed
from lookalike.cli.output import (
    FOUND_NOTHING,
    duration,
    number,
    require_current_folder,
    say,
    shown,
)
from reproduction.titles import PARTS, RELATED, TABLES

__all__ = ["commands"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """The paper's evaluation, regenerated: every method that it names, its tables and figures."""


def _seeds(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        seeds = tuple(int(part) for part in value.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise click.BadParameter(f"give different integers from 0, such as 0,1,2, not {value!r}")
    return seeds


@commands.command()
@click.argument("parts", nargs=-1, metavar="[PART]...", type=click.Choice(["all", *PARTS]))
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Holds corel1k and corel5k, see docs/datasets.md; or is itself a folder of class folders.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="One seed, few epochs, one set (corel1k if it is there): to see in a quarter of an hour "
    "that all works.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The report, its pictures, and all that was worked out.  [default: reproduced, with "
    "--quick reproduced-quick]",
)
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the numbers go.  [default: OUT/results]",
)
@click.option(
    "--work",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where networks and maps go, some gigabytes.  [default: OUT/work]",
)
@click.option(
    "--seeds",
    callback=_seeds,
    metavar="N,N",
    help="Of the splits.  [default: 0 to 4; for corel5k 0 to 2]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    help="Of the networks with a trained trunk.  [default: 6; for corel5k 8]",
)
@click.option(
    "--row", "rows", multiple=True, type=click.Choice([*TABLES, *RELATED]), help="Only these rows."
)
@click.option(
    "--vgg-weights",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="ImageNet weights of torchvision's VGG16. Default: trained on the set from nothing.",
)
@click.option(
    "--queries-per-class",
    type=click.IntRange(1),
    metavar="N",
    default=10,
    help="Held out of the gallery.  [default: 10]",
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Of a query's network.")
def run(
    parts: tuple[str, ...],
    data: Path,
    quick: bool,
    out: Path | None,
    results: Path | None,
    work: Path | None,
    seeds: tuple[int, ...] | None,
    epochs: int | None,
    rows: tuple[str, ...],
    vgg_weights: Path | None,
    queries_per_class: int,
    threads: int | None,
) -> None:
    """Regenerate the paper's tables and figures, all methods side by side, and write one report.

    PARTs are table1, table2, table3, related, unseen, feedback, robustness and growth; without one,
    or with all: everything, which takes many hours on two cores. Interrupt it at any moment and
    give the same command again: it goes on. Each call writes the report, OUT/report.html and
    OUT/report.md, of what is known. A row that cannot be measured on these images is told and left
    out, and the exit status is 1.
    """
    require_current_folder()
    with extra_needed("paper"):
        from reproduction.opening import open_study, working_in
        from reproduction.parts import check_asked, tasks_of
        from reproduction.plan import ReproduceSettings, folders_of
        from reproduction.report import write_report
        from reproduction.results import Results
        from reproduction.tasks import LeftOut, Progress, carry_out
    settings = ReproduceSettings(
        seeds, epochs, rows or None, vgg_weights, threads, queries_per_class, quick
    )
    out = out or Path("reproduced-quick" if quick else "reproduced")
    store = Results(results or out / "results")
    names = PARTS if not parts or "all" in parts else tuple(dict.fromkeys(parts))
    check_asked(names, settings)

    def tell(progress: Progress) -> None:
        left = duration(progress.seconds_left)
        say(f"{progress.number} of {progress.total}: {progress.name}; about {left} left")

    def miss(task: LeftOut) -> None:
        say(f"left out {task.name}: {task.reason}")

    work = work or out / "work"
    folders = folders_of(data, settings)
    studies = [open_study(each, work, store, settings, say) for each in folders]
    with working_in(work):
        missed = carry_out(tasks_of(studies, names, settings), tell, miss=miss)
        report = write_report(studies, out, settings)
    say(f"wrote {shown(report)}")
    if missed:
        say(f"{number(len(missed), 'measurement')} left out, for the reasons above:")
        for task in missed:
            say(f"  {task.name}")
        raise click.exceptions.Exit(FOUND_NOTHING)


if __name__ == "__main__":
    run_command(commands)
