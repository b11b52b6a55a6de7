"""Report: all that is known, as one page of HTML and of Markdown, with its figures beside it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from lookalike import __version__
from lookalike.atomic import atomic_writer
from lookalike.evaluation.protocol import LSH_HITS
from reproduction.confs import OTHER, PAPER, PLANS, RELATED, ROWS, Settings
from reproduction.figures import CAPTIONS
from reproduction.results import Results
from reproduction.tables import (
    best_table,
    feedback_table,
    growth_table,
    misses,
    quality_table,
    robustness_table,
    timing_table,
)

TITLE = "The paper's evaluation, regenerated"
# Cells break between a number and its bracket where a table would be wider than the window.
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem;
  box-sizing: border-box; color: #181d26; background: #fff }
table { border-collapse: collapse; font-size: 13px; line-height: 1.3 }
td, th { padding: .3rem .4rem; border-bottom: 1px solid #e2e6ec; text-align: left;
  font-variant-numeric: tabular-nums }
img { max-width: 100%; border: 1px solid #e2e6ec }
@media (max-width: 60rem) { table { display: block; overflow-x: auto } }
"""
JUDGED = (
    "The ranking of SVM active learning contains the images that the person judged, those judged "
    "irrelevant at its end: its numbers count answers that no other row was given."
)


def write_report(results: Results, names: Sequence[str], out: Path, settings: Settings) -> Path:
    """OUT/report.html and OUT/report.md of what the results hold of these sets, with the figures
    that exist in OUT/figures; returns the path of the former. Takes milliseconds, so it can be
    called after each row.
    """
    figures = out / "figures"
    parts = [f"# {TITLE}", _summary(names, settings)]
    for name in names:
        parts += _section(f"{name}: failures first", _figures(figures, name, ["failures"]))
    for name in names:
        parts += _tables(results, name)
        others = [key for key in CAPTIONS if key != "failures"]
        parts += _section(f"{name}: figures", _figures(figures, name, others))
    seeds = {name: results.get(name, "timing", "about", "seed") for name in names}
    splits = ", ".join(f"{name} {seed}" for name, seed in seeds.items() if seed is not None)
    rounds = settings.budget.rounds
    parts += _section(
        "Table 3: retrieval time",
        "CPU seconds for all queries of a split, one query a call, one thread, all rows in one "
        f"process, {f'mean ± standard deviation over {rounds} rounds' if rounds > 1 else '1 round'}"
        ". Search: from features to the first 30. End to end: from the file on; in brackets the "
        "paper's, on its machine. Cold: the first query, with the network to open. Split seed: "
        f"{splits}.",
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
        f"<title>{TITLE}</title><style>{STYLE}</style>{_unbroken(page)}</html>",
    )
    return out / "report.html"


def _summary(names: Sequence[str], settings: Settings) -> str:
    """What was run, and how its tables are read."""
    about = (
        f"lookalike {__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} processors."
    )
    plans = {name: settings.plan(name) for name in names}
    one = all(len(plan.seeds) == 1 for plan in plans.values())
    lines = [about]
    if settings.quick:
        budget = settings.budget
        sets = "; ".join(
            f"{name}: {plan.epochs} epochs instead of {PLANS.get(name, OTHER).epochs}, "
            f"{len(plan.seeds)} split{'s' * (len(plan.seeds) > 1)} instead of "
            f"{len(PLANS.get(name, OTHER).seeds)}"
            for name, plan in plans.items()
        )
        others = ", ".join(f"{trunk} {budget.epochs[trunk]}" for trunk in ("lenet5", "vgg16-bn"))
        lines.append(
            f"**A quick run, to see that everything works; its numbers are not for reporting.** "
            f"{sets} ({others} epochs); one vocabulary for SIFT, fewer levels of robustness, no "
            "growth."
        )
    values = (
        "One split, so there is no deviation."
        if one
        else ("Mean ± standard deviation over the split seeds; without ± it is a single split.")
    )
    lines.append(
        f"{values} In brackets the paper's own number, with ▼ where ours is below it. The last "
        "columns: the paired difference in mAP to [19]"
        f"{'' if one else ' with its 95 % interval (Student)'}, and the seeds of the splits."
    )
    return "\n\n".join(lines)


def _tables(results: Results, name: str) -> list[str]:
    related = set(RELATED) & (results.get(name, "paper") or {}).keys()
    return [
        *_section(
            f"{name}: the paper's tables",
            JUDGED if results.get(name, "paper", "svm") else "",
            quality_table(results, name),
        ),
        *_section(f"{name}: whole networks fine-tuned", best_table(results, name)),
        *_section(
            f"{name}: related work, same protocol",
            quality_table(results, name, rows=("cnn-lsh", *RELATED)) if related else "",
        ),
        *_section(
            f"{name}: unseen categories",
            "Trained on half of the classes, retrieved among the other half.",
            quality_table(results, name, "unseen", ROWS),
        ),
        *_section(f"{name}: relevance feedback", feedback_table(results, name)),
        *_section(
            f"{name}: robustness",
            "P@10 of altered queries, as difference to that of the same queries unaltered. Meant "
            "to fall by at most 0.02 up to 15°, down to 70 %, and with brightness within 30 %.",
            robustness_table(results, name),
        ),
        *_section(
            f"{name}: growth by augmentation",
            "CPU time of one query, one thread: median and quartiles. Quality is exhaustive / LSH: "
            f"mAP@{LSH_HITS} and P@30 only see what the index returned.",
            growth_table(results, name),
        ),
    ]


def _figures(folder: Path, name: str, keys: Sequence[str]) -> str:
    there = (key for key in keys if (folder / f"{name}-{key}.png").exists())
    shown = (f"![{CAPTIONS[k]}]({folder.name}/{name}-{k}.png)\n\n{CAPTIONS[k]}" for k in there)
    return "\n\n".join(shown)


def _section(title: str, *parts: str) -> list[str]:
    """With its heading; nothing if its last part, a table or figures, is empty."""
    return [f"## {title}", *parts] if parts[-1] else []


def _unbroken(page: str) -> str:
    """In cells of tables, deviations stay with their ±, and brackets are not broken."""

    def cell(match: re.Match[str]) -> str:
        text = match[0]
        for joined in ("± ", " ▼", " ms", ", +", ", -", " to "):
            text = text.replace(joined, joined.replace(" ", "\u00a0"))
        return text

    return re.sub("<td>[^<]*[0-9][^<]*</td>", cell, page)


def _write(path: Path, text: str) -> None:
    with atomic_writer(path) as file:
        file.write(text.encode())
