"""The report: all that is known, in one page of HTML and of Markdown, pictures beside it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from lookalike import __version__
from lookalike.atomic import atomic_writer
from lookalike.evaluation.hashed import LSH_HITS
from reproduction.illustrate import Figure, draw_collection, draw_numbers
from reproduction.plan import ReproduceSettings, plan_of
from reproduction.results import Results
from reproduction.study import Study
from reproduction.tables import (
    feedback_table,
    growth_table,
    misses,
    quality_table,
    robustness_table,
    timing_table,
)
from reproduction.titles import PAPER, RELATED, TABLES

__all__ = ["write_report"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #181d26; background: #fff }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 14px }
td, th { padding: .3rem .7rem; border-bottom: 1px solid #e2e6ec; text-align: left;
  white-space: nowrap; font-variant-numeric: tabular-nums }
img { max-width: 100%; border: 1px solid #e2e6ec }
"""
LEGEND = (
    "Mean ± standard deviation over the split seeds. In brackets the paper's own number, with ▼ "
    "where ours is below it. The last columns: the paired difference in mAP from [19] with its "
    "95 % interval (Student), and the seeds of the splits."
)
JUDGED = (
    "The ranking of SVM active learning contains the pictures that the person judged, those judged "
    "irrelevant at its end: its numbers count answers that no other row was given."
)


def write_report(studies: Sequence[Study], out: Path, settings: ReproduceSettings) -> Path:
    """OUT/report.html and OUT/report.md of what the results hold; gives the former.

    Pictures of the sets go to OUT/pictures: they are the reader's own and not for passing on.
    """
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [
        "# The paper's evaluation, regenerated",
        f"lookalike {__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} processors. {LEGEND}",
    ]
    names = [study.collection.name for study in studies]
    results = studies[0].results
    drawn = {study.collection.name: _drawn(study, settings, pictures) for study in studies}
    failures = {
        name: [figure for figure in figures if figure.file.endswith("failures.png")]
        for name, figures in drawn.items()
    }
    for name in names:
        parts += _section(f"{name}: failures first", *map(_shown, failures[name]))
    for name in names:
        parts += _tables(results, name)
        figures = (*draw_numbers(results, name, pictures), *drawn[name])
        others = [figure for figure in figures if figure not in failures[name]]
        parts += _section(f"{name}: figures", *map(_shown, others))
    parts += _section(
        "Table 3: retrieval time",
        "CPU seconds for all queries of a split, one query a call, one thread, all rows in one "
        "process, mean ± standard deviation over the rounds. Search: from features to the first "
        "30. End to end: from the file on; in brackets the paper's, on its machine. Cold: the "
        f"first query, with the network to open. {_timed_splits(results, names)}",
        timing_table(results, names),
    )
    if not settings.quick and set(names) <= PAPER.keys():
        parts += _section("What misses the paper's numbers, and why", misses())
    text = "\n\n".join(part for part in parts if part) + "\n"
    page = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    _write(out / "report.md", text)
    _write(
        out / "report.html",
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>The paper's evaluation, regenerated</title><style>{STYLE}</style>{page}</html>",
    )
    return out / "report.html"


def _drawn(study: Study, settings: ReproduceSettings, pictures: Path) -> list[Figure]:
    """The figures of our method on the first split, if it was measured there."""
    name = study.collection.name
    seed = plan_of(name, settings).seeds[0]
    if study.results.get(name, "paper", "ours", str(seed)) is None:
        return []
    return draw_collection(study, seed, pictures)


def _timed_splits(results: Results, names: Sequence[str]) -> str:
    """Whose queries the times are of."""
    seeds = {name: results.get(name, "timing", "about", "seed") for name in names}
    told = (f"{name} {seed}" for name, seed in seeds.items() if seed is not None)
    return f"Split seed: {', '.join(told)}."


def _tables(results: Results, name: str) -> list[str]:
    related = set(RELATED) & (results.get(name, "paper") or {}).keys()
    return [
        *_section(
            f"{name}: the paper's tables",
            JUDGED if results.get(name, "paper", "svm") else "",
            quality_table(results, name),
        ),
        *_section(
            f"{name}: related work, same protocol",
            quality_table(results, name, rows=("cnn-lsh", *RELATED)) if related else "",
        ),
        *_section(
            f"{name}: unseen categories",
            "Trained on half of the classes, retrieved among the other half.",
            quality_table(results, name, "unseen", (*TABLES, *RELATED)),
        ),
        *_section(f"{name}: relevance feedback", feedback_table(results, name)),
        *_section(
            f"{name}: robustness",
            "P@10 of altered queries, less that of the same queries as they are; mean ± standard "
            "deviation over the splits. Meant to fall by at most 0.02 up to 15°, down to 70 %, and "
            "with brightness within 30 %.",
            robustness_table(results, name),
        ),
        *_section(
            f"{name}: growth by augmentation",
            "CPU time of one query, one thread: median and quartiles. Quality is exhaustive / LSH: "
            f"mAP@{LSH_HITS} and P@30 see what the index returned, and nothing else.",
            growth_table(results, name),
        ),
    ]


def _section(title: str, *parts: str) -> list[str]:
    """With its heading; nothing if its last part, a table or figures, is empty."""
    if not parts or not parts[-1]:
        return []
    return [f"## {title}", *parts]


def _shown(figure: Figure) -> str:
    return f"![{figure.caption}](pictures/{figure.file})\n\n{figure.caption}"


def _write(path: Path, text: str) -> None:
    with atomic_writer(path) as file:
        file.write(text.encode())
