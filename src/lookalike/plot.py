"""Line charts as SVG files, which need no library and are not images that `index` would take in."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike.atomic import atomic_writer
from lookalike.lsh.tuning import Trial

WIDTH, HEIGHT = 560, 360
LEFT, TOP, RIGHT, BOTTOM = 64, 56, 24, 52
INK, SOFT, GRID = "#181d26", "#5c6574", "#e2e6ec"
BLUE, ORANGE, GREEN, VIOLET, PALE = "#2c5cc5", "#d66e14", "#1a7f37", "#7d3caa", "#a0b4dc"


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, which differ, with a tick at each of `ticks`."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """0 at `low`, 1 at `high`."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Line:
    """Points (x, y), all finite; `joined`: also the line between them."""

    label: str
    colour: str
    points: Sequence[tuple[float, float]]
    joined: bool = True


@dataclass(frozen=True)
class Panel:
    """A chart of some lines; `marker` is a dashed vertical at that x."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    marker: float | None = None


def write_svg(panels: Sequence[Panel], path: Path) -> None:
    """The panels beside each other; the file is replaced in one go."""
    size = f'width="{len(panels) * WIDTH}" height="{HEIGHT}"'
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n'
        + "".join(
            f'<g transform="translate({number * WIDTH} 0)">\n{_panel(panel)}</g>\n'
            for number, panel in enumerate(panels)
        )
        + "</svg>\n"
    )
    with atomic_writer(path) as file:
        file.write(text.encode())


def _panel(panel: Panel) -> str:
    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + panel.x.share(x) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - panel.y.share(y) * (HEIGHT - TOP - BOTTOM)

    foot, head = HEIGHT - BOTTOM, TOP
    parts = [_text(LEFT, 22, panel.title, INK, "start", size=17)]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, panel.x.label, SOFT, "middle"))
    parts.append(_text(LEFT - 8, TOP - 12, panel.y.label, SOFT, "start"))
    for tick in panel.y.ticks:
        _, y = place(panel.x.low, tick)
        parts.append(_stroke([(LEFT, y), (WIDTH - RIGHT, y)], GRID))
        number = f"{tick:,.0f}" if tick >= 100 else f"{tick:.3g}"
        parts.append(_text(LEFT - 8, y + 4, number, SOFT, "end"))
    for tick in panel.x.ticks:
        x, _ = place(tick, panel.y.low)
        parts.append(_stroke([(x, foot), (x, foot + 4)], SOFT))
        parts.append(_text(x, foot + 18, f"{tick:.3g}", SOFT, "middle"))
    if panel.marker is not None:
        x, _ = place(panel.marker, panel.y.low)
        parts.append(_stroke([(x, head), (x, foot)], SOFT, dashes="5 5"))
    at = WIDTH - RIGHT
    for line in reversed(panel.lines):
        if line.points:
            parts.append(_text(at, 22, line.label, line.colour, "end"))
            at -= 9 * len(line.label) + 14
    for line in panel.lines:
        points = [place(x, y) for x, y in line.points]
        if line.joined and points:
            parts.append(_stroke(points, line.colour, width=2))
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>\n' for x, y in points
        ]
    return "".join(parts)


def _text(x: float, y: float, text: str, colour: str, anchor: str, size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">'
        f"{html.escape(text)}</text>\n"
    )


def _stroke(
    points: Sequence[tuple[float, float]], colour: str, width: int = 1, dashes: str = ""
) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    line = f'stroke="{colour}" stroke-width="{width}"{dashed}'
    return f'<polyline points="{path}" fill="none" {line}/>\n'


# ---- recall against speed ------------------------------------------------------------------------


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in both recall and time, by rising recall."""
    best: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (-t.recall, t.seconds)):
        if not best or trial.seconds < best[-1].seconds:
            best.append(trial)
    return best[::-1]


def draw_recall_curve(trials: Sequence[Trial], target: float, path: Path, *, title: str) -> None:
    """Recall across, microseconds per query upwards (logarithmic); the frontier as a line."""
    times = [1e6 * trial.seconds for trial in trials]
    low = 10 ** math.floor(math.log10(min(times)))
    high = 10 ** math.ceil(math.log10(max(times) * 1.001))
    first = max(0.0, math.floor(10 * min(trial.recall for trial in trials)) / 10 - 0.1)
    decades = range(round(math.log10(low)), round(math.log10(high)) + 1)
    ticks = [10**power * step for power in decades for step in (1, 2, 5)]
    panel = Panel(
        title,
        Axis("recall", first, 1, [tenth / 10 for tenth in range(round(10 * first), 11)]),
        Axis("microseconds per query", low, high, [t for t in ticks if t <= high], True),
        [
            Line("tried", PALE, [(t.recall, 1e6 * t.seconds) for t in trials], joined=False),
            Line("best", BLUE, [(t.recall, 1e6 * t.seconds) for t in frontier(trials)]),
        ],
        marker=target,
    )
    write_svg([panel], path)
