"""The tables as Markdown, from the results alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lookalike.evaluation.spread import paired_difference, spread
from reproduction.results import Results
from reproduction.titles import PAPER, RELATED, ROBUST, TABLES

__all__ = [
    "TABLE_MAKERS",
    "altered",
    "feedback_table",
    "growth",
    "growth_table",
    "misses",
    "quality_table",
    "robustness_table",
    "timing_table",
]

REFERENCE = "cnn-lsh"
"""The row, [19], that the others are compared with, paired by split."""
TABLE_1 = ("mAP", "recall@m", "P@5", "P@10", "P@20", "P@30")
MISSED = "▼"
ALTERED = (
    ("rotation", "15", "turned by 15°"),
    ("crop", "70", "cropped to 70 %"),
    ("brightness", "0.7", "brightness 0.7"),
    ("brightness", "1.3", "brightness 1.3"),
    ("noise", "20", "noise 20"),
    ("blur", "1", "blur 1"),
    ("jpeg", "10", "JPEG 10"),
    ("scale", "25", "scale 25 %"),
    ("rotation", "90", "turned by 90°"),
)
"""Of `reproduction.distortions`: kind, level, and what the table calls it."""
GROWN = ("mAP", "mAP@100", "P@30")
NOTHING = "-"


def quality_table(
    results: Results,
    name: str,
    protocol: str = "paper",
    rows: Sequence[str] = TABLES,
    metrics: Sequence[str] = TABLE_1,
) -> str:
    """Mean ± standard deviation over the splits; in brackets the paper's number, with ▼ where
    ours is below it; the last column is the paired difference in mAP from [19], 95 % interval.

    Rows without a result are left out.
    """
    printed = PAPER.get(name, {}) if protocol == "paper" else {}
    reference = _values(results, name, protocol, REFERENCE, "mAP")
    lines = [_header("method", *metrics, "mAP less that of [19]", "seeds")]
    for row in rows:
        cells = []
        for metric in metrics:
            values = _values(results, name, protocol, row, metric)
            if not values:
                cells.append(NOTHING)
                continue
            found = spread(list(values.values()))
            theirs = printed.get(row, {}).get(metric)
            cells.append(str(found) + _beside(found.mean, theirs))
        own = _values(results, name, protocol, row, "mAP")
        if not own:
            continue
        difference = paired_difference(own, reference) if row != REFERENCE else None
        lines.append(
            _line(
                results.get(name, "titles", row),
                *cells,
                str(difference or NOTHING),
                ", ".join(map(str, own)),
            )
        )
    return "\n".join(lines) if len(lines) > 1 else ""


def timing_table(results: Results, names: Sequence[str] = ("corel1k", "corel5k")) -> str:
    """Table 3: seconds for all queries of a split, mean ± standard deviation over the rounds; in
    brackets the paper's on its machine.
    """
    heads = [f"{name}, {what}" for name in names for what in ("search", "end to end", "cold")]
    lines = [_header("method", *heads)]
    for row in TABLES:
        cells = []
        for name in names:
            found = results.get(name, "timing", "rows", row)
            if found is None:
                cells += [NOTHING] * 3
                continue
            theirs = PAPER.get(name, {}).get(row, {}).get("seconds")
            beside = "" if theirs is None else f" ({theirs:g})"
            cells.append(f"{spread(found['search'])} s")
            cells.append(f"{spread(found['end to end']).told(2)} s{beside}")
            cold = [1000 * seconds for seconds in found["cold"]]
            cells.append(f"{spread(cold).told(0)} ms")
        if any(cell != NOTHING for cell in cells):
            titles = [results.get(name, "titles", row) for name in names]
            lines.append(_line(next(filter(None, titles), row), *cells))
    return "\n".join(lines) if len(lines) > 1 else ""


def growth_table(results: Results, name: str) -> str:
    """One query by the size of the grown gallery: the median of its microseconds, in brackets the
    quartiles, and quality, exhaustive / LSH. Of the first split seed that was measured.
    """
    found = growth(results, name)
    lines = [_header("images", "exhaustive", "LSH", "ratio", *GROWN, "recall@30")]
    for size, each in found.items():
        lines.append(
            _line(
                f"{size:,}",
                *(_quartiles(*each[which]) for which in ("exhaustive", "lsh")),
                f"{each['exhaustive'][1] / each['lsh'][1]:.1f}",
                *(f"{each[f'{m} exhaustive']:.4f} / {each[f'{m} lsh']:.4f}" for m in GROWN),
                f"{each['recall@30']:.4f}",
            )
        )
    return "\n".join(lines) if found else ""


def growth(results: Results, name: str) -> dict[int, dict[str, Any]]:
    """By rising size what was measured of the first split seed; empty if nothing was."""
    found: dict[str, Any] = next((value for _, value in results.seeds(name, "growth")), {})
    return {int(size): found[size] for size in sorted(found, key=int)}


def feedback_table(results: Results, name: str) -> str:
    """By round of 20 judged pictures: with the judged ones in the ranking, and without them; over
    the splits that have a value.
    """
    found = [value for _, value in results.seeds(name, "feedback")]
    if not found:
        return ""
    rounds = range(len(found[0]["mAP ranking"]))
    lines = [_header("SVM active learning", *(f"round {number}" for number in rounds))]
    for metric in ("mAP", "P@20"):
        for kind, told in (("ranking", "all"), ("residual", "not judged")):
            curves = [each[f"{metric} {kind}"] for each in found]
            lines.append(_line(f"{metric}, {told}", *(_over(curves, r) for r in rounds)))
    return "\n".join(lines)


def robustness_table(results: Results, name: str, metric: str = "P@10") -> str:
    """P@10 of altered queries, less that of the same queries as they are: mean ± standard deviation
    over the splits.
    """
    lines = [_header("method", "as they are", *(title for _, _, title in ALTERED), "seeds")]
    for row in ROBUST:
        found = altered(results, name, row)
        if not found:
            continue
        plain = [each[metric]["rotation"]["0"] for each in found.values()]
        falls = [
            [each[metric][kind][level] - at for each, at in zip(found.values(), plain, strict=True)]
            for kind, level, _ in ALTERED
        ]
        lines.append(
            _line(
                results.get(name, "titles", row),
                str(spread(plain)),
                *(spread(fall).told(3, sign="+") for fall in falls),
                ", ".join(map(str, found)),
            )
        )
    return "\n".join(lines) if len(lines) > 1 else ""


def altered(results: Results, name: str, row: str) -> dict[int, dict[str, Any]]:
    """Metric -> kind -> level -> value by split seed, of those splits that have all kinds."""
    kinds = {kind for kind, _, _ in ALTERED}
    return {
        seed: value
        for seed, value in results.seeds(name, "robustness", row)
        if all(kinds <= each.keys() for each in value.values())
    }


def _over(curves: Sequence[Sequence[float | None]], number: int) -> str:
    """Spread of what is known of that round."""
    known = [value for curve in curves if (value := curve[number]) is not None]
    return str(spread(known)) if known else NOTHING


def _values(results: Results, name: str, protocol: str, row: str, metric: str) -> dict[int, float]:
    return {
        seed: value[metric] for seed, value in results.seeds(name, protocol, row) if metric in value
    }


def _beside(ours: float, theirs: float | None) -> str:
    if theirs is None:
        return ""
    return f" ({theirs:.4f}{' ' + MISSED if ours < theirs else ''})"


def _quartiles(first: float, middle: float, third: float) -> str:
    return f"{middle:,.0f} µs ({first:,.0f} to {third:,.0f})"


def _header(*names: str) -> str:
    return _line(*names) + "\n" + "|" + "---|" * len(names)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def misses() -> str:
    """What misses the paper's numbers, and why: the explanations that were tested, as Markdown."""
    return Path(__file__).with_name("misses.md").read_text(encoding="utf-8").strip()


TABLE_MAKERS: dict[str, Callable[[Results], str]] = {
    "table 1": lambda results: quality_table(results, "corel1k"),
    "table 2": lambda results: quality_table(results, "corel5k"),
    "table 3": timing_table,
    "related work": lambda results: quality_table(
        results, "corel1k", rows=(REFERENCE, *RELATED), metrics=("mAP", "P@10", "P@20")
    ),
    "unseen corel1k": lambda results: quality_table(
        results, "corel1k", "unseen", (*TABLES, *RELATED), ("mAP", "P@10", "P@20")
    ),
    "growth": lambda results: growth_table(results, "corel5k"),
    "robustness": lambda results: robustness_table(results, "corel1k"),
    "feedback": lambda results: feedback_table(results, "corel1k"),
    "misses": lambda _: misses(),
}
"""What stands between <!-- NAME --> and <!-- end NAME --> in the documents."""
