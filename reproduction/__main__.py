"""`python -m reproduction VERB`: the paper's evaluation, step by step or everything.

Each verb does what the verbs before it have left undone. What exists is skipped, so an interrupted
run is resumed by the same command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lookalike.cli import run_command
from lookalike.cli.output import FOUND_NOTHING, number, require_current_folder, say, shown
from lookalike.errors import extra_needed

PARTS = (
    "table1",
    "table2",
    "table3",
    "related",
    "unseen",
    "feedback",
    "robustness",
    "growth",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """The paper's evaluation: every method that it names, its tables and figures.

    \b
    python -m reproduction run --data DIR --quick      does it work? minutes
    python -m reproduction run --data DIR              everything: hours
    python -m reproduction run table1 --data DIR --row ours --row sift

    PARTs are table1, table2, table3, related, unseen, feedback, robustness and growth; all without
    one. Interrupt any verb and give the same command again to resume. A row that cannot be measured
    on these images is reported and left out, and the exit status is 1.
    """


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


_FOLDER = click.Path(path_type=Path, file_okay=False)
_SHARED = (
    click.option(
        "--data",
        required=True,
        metavar="DIR",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Holds corel1k and corel5k, see docs/datasets.md; or is a folder of class folders.",
    ),
    click.option(
        "--out",
        metavar="DIR",
        type=_FOLDER,
        help="Report, figures, and all files.  [default: reproduced, or reproduced-quick]",
    ),
    click.option(
        "--results", metavar="DIR", type=_FOLDER, help="The numbers.  [default: OUT/results]"
    ),
    click.option(
        "--work",
        metavar="DIR",
        type=_FOLDER,
        help="Networks, maps and rankings, some gigabytes.  [default: OUT/work]",
    ),
    click.option(
        "--seeds",
        callback=_seeds,
        metavar="N,N",
        help="Of the splits.  [default: 0 to 4; for corel5k 0 to 2, best: 0 to 4]",
    ),
    click.option(
        "--queries-per-class",
        type=click.IntRange(1),
        metavar="N",
        default=10,
        help="Held out of the gallery.  [default: 10]",
    ),
)
_OPTIONS = (
    click.argument("parts", nargs=-1, metavar="[PART]...", type=click.Choice(["all", *PARTS])),
    click.option(
        "--quick",
        is_flag=True,
        help="One split, few epochs, one set (corel1k if it is there): a quarter of an hour.",
    ),
    *_SHARED,
    click.option(
        "--epochs",
        type=click.IntRange(1),
        metavar="N",
        help="Of the networks with a trained trunk.  [default: 6; for corel5k 8]",
    ),
    click.option("--row", "rows", multiple=True, metavar="ROW", help="Only these rows."),
    click.option(
        "--vgg-weights",
        metavar="FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="ImageNet weights of torchvision's VGG16. Default: trained on the set from scratch.",
    ),
    click.option("--threads", type=click.IntRange(1), metavar="N", help="Of a query's network."),
)


def _verb(name: str, text: str) -> None:
    """Add a command with all options."""

    def command(**options: Any) -> None:
        _run(name, **options)

    for option in reversed(_OPTIONS):
        command = option(command)
    command.__doc__ = text
    commands.command(name)(command)


_verb("train", "Train the networks that the parts need.")
_verb("rank", "Rank the gallery for each query, by every row of the parts.")
_verb("score", "Measure: metrics of the rankings, times, feedback, robustness, growth.")
_verb("figures", "Draw the figures of what is measured.")
_verb("report", "Write report.html and report.md of what is measured, with the figures there are.")
_verb("run", "All of these; the report is written after each row, the figures at the end.")


def _best(
    data: Path,
    out: Path | None,
    results: Path | None,
    work: Path | None,
    seeds: tuple[int, ...] | None,
    device: str,
    **options: Any,
) -> None:
    """Fine-tune whole networks on an accelerator: the rows "ours, best", attention on and off.

    Corel-5k takes five minutes on an H200. Files of embeddings in --work
    may come from another machine.
    """
    require_current_folder()
    with extra_needed("paper"):
        from reproduction.finetune import best
        from reproduction.results import Results
        from reproduction.study import Settings, Study, folders_of, working_in
        from reproduction.tables import best_table
    settings, out = Settings(**options), out or Path("reproduced")
    store, work = Results(results or out / "results"), work or out / "work"
    with working_in(work):
        for folder in folders_of(data, settings):
            study = Study.open(folder, work, store, settings, say)
            best(study, seeds or tuple(range(5)), device)
            say(best_table(store, study.name))


_DEVICE = click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    show_default=True,
    help="To train on, where a split's embeddings are not in --work.",
)
for _option in reversed((*_SHARED, _DEVICE)):
    _best = _option(_best)
commands.command("best")(_best)


def _run(
    verb: str,
    parts: tuple[str, ...],
    data: Path,
    out: Path | None,
    results: Path | None,
    work: Path | None,
    rows: tuple[str, ...],
    **options: Any,
) -> None:
    require_current_folder()
    with extra_needed("paper"):
        from reproduction.figures import draw_figures
        from reproduction.parts import check_rows, run_tasks, tasks_of
        from reproduction.report import write_report
        from reproduction.results import Results
        from reproduction.study import Settings, Study, folders_of, working_in
    settings = Settings(rows=rows or None, **options)
    out = out or Path("reproduced-quick" if settings.quick else "reproduced")
    store, work = Results(results or out / "results"), work or out / "work"
    names = PARTS if not parts or "all" in parts else tuple(dict.fromkeys(parts))
    check_rows(names, settings)
    folders = folders_of(data, settings)
    studies = [Study.open(folder, work, store, settings, say) for folder in folders]
    sets = [study.name for study in studies]

    def report() -> Path:
        out.mkdir(parents=True, exist_ok=True)
        return write_report(store, sets, out, settings)

    left_out: list[str] = []
    after: Callable[[], object] = report if verb == "run" else lambda: None
    with working_in(work):
        if verb not in ("figures", "report"):
            tasks = tasks_of(studies, names, "score" if verb == "run" else verb)
            left_out = run_tasks(tasks, say, after)
        if verb in ("figures", "run"):
            for study in studies:
                draw_figures(study, out / "figures")
        if verb in ("report", "run"):
            say(f"wrote {shown(report())}")
    if left_out:
        say(f"{number(len(left_out), 'measurement')} left out, for the reasons above:")
        for name in left_out:
            say(f"  {name}")
        raise click.exceptions.Exit(FOUND_NOTHING)


if __name__ == "__main__":
    run_command(commands)
