"""The tables as Markdown, from the results alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeVar

from scipy.stats import t

from lookalike.evaluation.metrics import spread
from reproduction.confs import BEST, PAPER, RELATED, ROBUST, ROWS, TABLES
from reproduction.results import Results

REFERENCE = "cnn-lsh", "[19]"
"""The row that the others are compared with, paired by split, and its name in the heading."""
TABLE_1 = ("mAP", "recall@m", "P@5", "P@10", "P@20", "P@30")
FEW = ("mAP", "P@10", "P@20")
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
"""Kind and level of `confs.DISTORTIONS`, and what the table calls it."""
GROWN = ("mAP", "mAP@100", "P@30")
NOTHING = "-"


def quality_table(
    results: Results,
    name: str,
    protocol: str = "paper",
    rows: Iterable[str] = TABLES,
    metrics: Sequence[str] = TABLE_1,
    against: tuple[str, str] = REFERENCE,
) -> str:
    """Mean ± standard deviation over the splits; in brackets the paper's number, with ▼ where ours
    is below it; then the paired difference in mAP to the row `against` with its 95 % interval, and
    the seeds.

    Rows without a result are left out.
    """
    printed = PAPER.get(name, {}) if protocol == "paper" else {}
    reference = _values(results, name, protocol, against[0], "mAP")
    lines = []
    for row in rows:
        own = _values(results, name, protocol, row, "mAP")
        if not own:
            continue
        cells = []
        for metric in metrics:
            values = list(_values(results, name, protocol, row, metric).values())
            theirs = printed.get(row, {}).get(metric)
            cell = str(spread(values)) if values else NOTHING
            if values and theirs is not None:
                cell += f" ({theirs:.4f}{' ▼' if spread(values).mean < theirs else ''})"
            cells.append(cell)
        difference = paired_difference(own, reference) if row != against[0] else None
        lines.append([_title(results, name, row), *cells, difference or NOTHING, _seeds(own)])
    return _table(["method", *metrics, f"mAP difference to {against[1]}", "seeds"], lines)


def best_table(results: Results, name: str) -> str:
    """Rows of networks that are fine-tuned on an accelerator, beside ours; empty without any."""
    if not BEST.keys() & (results.get(name, "paper") or {}).keys():
        return ""
    return quality_table(results, name, rows=("ours", *BEST), against=("ours", "ours"))


def attention_table(results: Results, name: str) -> str:
    """The row with CBAM after every stage beside the one that differs from it in that alone."""
    return quality_table(
        results,
        name,
        rows=("tuned", "tuned-cbam"),
        metrics=FEW,
        against=("tuned", "no attention"),
    )


def timing_table(results: Results, names: Sequence[str] = ("corel1k", "corel5k")) -> str:
    """Table 3: seconds for all queries of a split, mean ± standard deviation over the rounds; in
    brackets the paper's on its machine.
    """
    heads = [f"{name}, {what}" for name in names for what in ("search", "end to end", "cold")]
    lines = []
    for row in TABLES:
        cells: list[str] = []
        for name in names:
            times = results.get(name, "timing", "rows", row)
            if times is None:
                cells += [NOTHING] * 3
                continue
            theirs = PAPER.get(name, {}).get(row, {}).get("seconds")
            cold = [1000 * seconds for seconds in times["cold"]]
            cells += [
                f"{spread(times['search'])} s",
                f"{spread(times['end to end']).rounded(2)} s"
                + (f" ({theirs:g})" if theirs else ""),
                f"{spread(cold).rounded(0)} ms",
            ]
        if any(cell != NOTHING for cell in cells):
            titles = (results.get(name, "titles", row) for name in names)
            lines.append([next(filter(None, titles), row), *cells])
    return _table(["method", *heads], lines)


def growth_table(results: Results, name: str) -> str:
    """One query by the size of the grown gallery: the median of its microseconds, in brackets the
    quartiles, and quality, exhaustive / LSH. Of the first split seed that was measured.
    """
    lines = []
    for size, each in growth(results, name).items():
        times = [each["exhaustive"], each["lsh"]]
        lines.append(
            [
                f"{size:,}",
                *(f"{middle:,.0f} µs ({low:,.0f} to {high:,.0f})" for low, middle, high in times),
                f"{times[0][1] / times[1][1]:.1f}",
                *(f"{each[f'{m} exhaustive']:.4f} / {each[f'{m} lsh']:.4f}" for m in GROWN),
                f"{each['recall@30']:.4f}",
            ]
        )
    return _table(["images", "exhaustive", "LSH", "ratio", *GROWN, "recall@30"], lines)


def growth(results: Results, name: str) -> dict[int, dict[str, Any]]:
    """By rising size what was measured of the first split seed; empty if nothing was."""
    first: dict[str, Any] = next((value for _, value in results.seeds(name, "growth")), {})
    return {int(size): first[size] for size in sorted(first, key=int)}


def feedback_table(results: Results, name: str) -> str:
    """By round of 20 judged images: with the judged ones in the ranking, and without them; over the
    splits that have a value.
    """
    splits = [value for _, value in results.seeds(name, "feedback")]
    if not splits:
        return ""
    rounds = range(len(splits[0]["mAP ranking"]))
    lines = []
    for metric in ("mAP", "P@20"):
        for kind, label in (("ranking", "all"), ("residual", "not judged")):
            cells = []
            for number in rounds:
                values = [each[f"{metric} {kind}"][number] for each in splits]
                known = [value for value in values if value is not None]
                cells.append(str(spread(known)) if known else NOTHING)
            lines.append([f"{metric}, {label}", *cells])
    return _table(["SVM active learning", *(f"round {number}" for number in rounds)], lines)


def robustness_table(results: Results, name: str) -> str:
    """P@10 of altered queries, as difference to that of the same queries unaltered: mean ± standard
    deviation over the splits.
    """
    lines = []
    for row in ROBUST:
        splits = altered(results, name, row)
        if not splits:
            continue
        plain = [each["P@10"]["rotation"]["0"] for each in splits.values()]
        changes = [
            [
                each["P@10"][kind][level] - at
                for each, at in zip(splits.values(), plain, strict=True)
            ]
            for kind, level, _ in ALTERED
        ]
        cells = (spread(change).rounded(3, sign="+") for change in changes)
        lines.append(
            [_title(results, name, row), str(spread(plain)), *cells, _seeds(splits)],
        )
    return _table(["method", "unaltered", *(title for _, _, title in ALTERED), "seeds"], lines)


def altered(results: Results, name: str, row: str) -> dict[int, dict[str, Any]]:
    """Metric -> kind -> level -> value by split seed, of those splits that have all kinds."""
    kinds = {kind for kind, _, _ in ALTERED}
    return {
        seed: value
        for seed, value in results.seeds(name, "robustness", row)
        if all(kinds <= each.keys() for each in value.values())
    }


def misses() -> str:
    """What misses the paper's numbers, and why: the explanations that were tested, as Markdown."""
    return Path(__file__).with_name("misses.md").read_text(encoding="utf-8").strip()


def _values(results: Results, name: str, protocol: str, row: str, metric: str) -> dict[int, float]:
    splits = results.seeds(name, protocol, row)
    return {seed: value[metric] for seed, value in splits if metric in value}


def _title(results: Results, name: str, row: str) -> str:
    return results.get(name, "titles", row) or ROWS[row].title


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Empty without lines."""
    if not lines:
        return ""
    rows = [" | ".join(map(str, cells)) for cells in (head, *lines)]
    return "\n".join([f"| {rows[0]} |", "|" + "---|" * len(head), *(f"| {r} |" for r in rows[1:])])


TABLE_MAKERS: dict[str, Callable[[Results], str]] = {
    "table 1": lambda results: quality_table(results, "corel1k"),
    "table 2": lambda results: quality_table(results, "corel5k"),
    "table 3": timing_table,
    "related work": lambda results: quality_table(
        results, "corel1k", rows=(REFERENCE[0], *RELATED), metrics=FEW
    ),
    "unseen corel1k": lambda results: quality_table(results, "corel1k", "unseen", ROWS, FEW),
    "growth": lambda results: growth_table(results, "corel5k"),
    "robustness": lambda results: robustness_table(results, "corel1k"),
    "feedback": lambda results: feedback_table(results, "corel1k"),
    "best corel1k": lambda results: best_table(results, "corel1k"),
    "best corel5k": lambda results: best_table(results, "corel5k"),
    "attention corel1k": lambda results: attention_table(results, "corel1k"),
    "attention corel5k": lambda results: attention_table(results, "corel5k"),
    "misses": lambda _: misses(),
}
"""What stands between <!-- table: NAME --> and <!-- end of table --> in the documents."""


# ---- paired differences, with Student's 95 % intervals -------------------------------------------


Key = TypeVar("Key")


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its 95 % interval, NaN for a single pair."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count < 2:
            return f"{self.mean:+.4f}"
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def half_width(deltas: Sequence[float]) -> float:
    """Of the 95 % interval of the mean of some differences; NaN for fewer than two."""
    if len(deltas) < 2:
        return math.nan
    return float(t.ppf(0.975, len(deltas) - 1)) * stdev(deltas) / math.sqrt(len(deltas))


def paired_difference(first: Mapping[Key, float], second: Mapping[Key, float]) -> Difference | None:
    """`first` minus `second` over the splits that both have; None if they share none."""
    deltas = [first[key] - second[key] for key in first.keys() & second.keys()]
    if not deltas:
        return None
    middle, half = mean(deltas), half_width(deltas)
    return Difference(middle, middle - half, middle + half, len(deltas))
