"""`python -m reproduction VERB`: the paper's evaluation, step by step or everything.

Each verb does what the verbs before it have left undone. What exists is skipped, so an interrupted
run is resumed by the same command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lookalike.cli import run_command
from lookalike.cli.output import FOUND_NOTHING, number, require_current_folder, say, shown
from lookalike.errors import extra_needed
from reproduction.confs import PARTS, Settings


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


VERBS = {
    "train": "Train the networks that the parts need.",
    "rank": "Rank the gallery for each query, by every row of the parts.",
    "score": "Measure: metrics of the rankings, times, feedback, robustness, growth.",
    "figures": "Draw the figures of what is measured.",
    "report": "Write report.html and report.md of what is measured, with the figures there are.",
    "run": "All of these; the report is written after each row, the figures at the end.",
    "best": """Fine-tune whole networks on an accelerator: the rows "ours, best", attention on and
    off.

    Corel-5k takes five minutes on an H200. Files of embeddings in --work may come from another
    machine.
    """,
}


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


def _option(name: str, metavar: str, text: str, **settings: Any) -> click.Option:
    return click.Option([name], metavar=metavar, help=text, **settings)


_COUNT = click.IntRange(1)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_DATA = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_PER_CLASS = {"type": _COUNT, "default": Settings.queries_per_class, "show_default": True}
_SHARED: tuple[click.Parameter, ...] = (
    _option(
        "--data",
        "DIR",
        "Holds corel1k and corel5k, see docs/datasets.md; or is a folder of class folders.",
        type=_DATA,
        required=True,
    ),
    _option(
        "--out",
        "DIR",
        "Report, figures, and all files.  [default: reproduced, or reproduced-quick]",
        type=_FOLDER,
    ),
    _option("--results", "DIR", "The numbers.  [default: OUT/results]", type=_FOLDER),
    _option(
        "--work",
        "DIR",
        "Networks, maps and rankings, some gigabytes.  [default: OUT/work]",
        type=_FOLDER,
    ),
    _option(
        "--seeds",
        "N,N",
        "Of the splits.  [default: 0 to 4; for corel5k 0 to 2, best: 0 to 4]",
        callback=_seeds,
    ),
    _option("--queries-per-class", "N", "Held out of the gallery.", **_PER_CLASS),
)
_OWN: tuple[click.Parameter, ...] = (
    click.Argument(["parts"], nargs=-1, metavar="[PART]...", type=click.Choice(["all", *PARTS])),
    click.Option(
        ["--quick"],
        is_flag=True,
        help="One split, few epochs, one set (corel1k if it is there): a quarter of an hour.",
    ),
    _option(
        "--epochs",
        "N",
        "Of the networks with a trained trunk.  [default: 6; for corel5k 8]",
        type=_COUNT,
    ),
    click.Option(["--row", "rows"], multiple=True, metavar="ROW", help="Only these rows."),
    _option(
        "--vgg-weights",
        "FILE",
        "ImageNet weights of torchvision's VGG16. Default: trained on the set from scratch.",
        type=_FILE,
    ),
    _option("--threads", "N", "Of a query's network.", type=_COUNT),
)
_DEVICE = click.Option(
    ["--device"],
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    show_default=True,
    help="To train on, where a split's embeddings are not in --work.",
)


def _run(
    verb: str,
    data: Path,
    out: Path | None,
    results: Path | None,
    work: Path | None,
    parts: tuple[str, ...] = (),
    rows: tuple[str, ...] = (),
    device: str = "cuda",
    **options: Any,
) -> None:
    require_current_folder()
    with extra_needed("paper"):
        from reproduction.figures import draw_figures
        from reproduction.finetune import best
        from reproduction.parts import check_rows, run_tasks, tasks_of
        from reproduction.report import write_report
        from reproduction.results import Results
        from reproduction.study import Study, folders_of, working_in
        from reproduction.tables import best_table
    settings = Settings(rows=rows or None, **options)
    out = out or Path("reproduced-quick" if settings.quick else "reproduced")
    store, work = Results(results or out / "results"), work or out / "work"
    names = tuple(PARTS) if not parts or "all" in parts else tuple(dict.fromkeys(parts))
    check_rows(names, settings)
    folders = folders_of(data, settings)
    studies = [Study.open(folder, work, store, settings, say) for folder in folders]

    def report() -> Path:
        out.mkdir(parents=True, exist_ok=True)
        return write_report(store, [study.name for study in studies], out, settings)

    left_out: list[str] = []
    with working_in(work):
        if verb == "best":
            for study in studies:
                best(study, settings.seeds or tuple(range(5)), device)
                say(best_table(store, study.name))
        elif verb not in ("figures", "report"):
            tasks = tasks_of(studies, names, "score" if verb == "run" else verb)
            left_out = run_tasks(tasks, say, report if verb == "run" else lambda: None)
        if verb in ("figures", "run"):
            for study in studies:
                draw_figures(study, out / "figures")
            drawn = len(list((out / "figures").glob("*.png")))
            say(f"{number(drawn, 'figure')} of what is measured in {shown(out / 'figures')}")
        if verb in ("report", "run"):
            say(f"wrote {shown(report())}")
    if left_out:
        say(f"{number(len(left_out), 'measurement')} left out, for the reasons above:")
        for name in left_out:
            say(f"  {name}")
        raise click.exceptions.Exit(FOUND_NOTHING)


for _verb, _text in VERBS.items():
    _params = [*_SHARED, _DEVICE] if _verb == "best" else [*_OWN, *_SHARED]

    def _command(verb: str = _verb, **options: Any) -> None:
        _run(verb, **options)

    commands.add_command(click.Command(_verb, callback=_command, params=_params, help=_text))


if __name__ == "__main__":
    run_command(commands)
