"""The recall-speed curve of an index as a PNG, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lookalike.atomic import atomic_writer
from lookalike.lsh.tuning import Trial
from lookalike.mark import marked

__all__ = ["draw_recall_curve", "frontier"]

SCALE = 2  # drawn larger and shrunk, for smooth lines
SIZE = 720, 460
LEFT, TOP, RIGHT, BOTTOM = 76, 60, 24, 56
PAGE, GRID, INK, SOFT = (255, 255, 255), (226, 230, 236), (24, 29, 38), (92, 101, 116)
DOT, LINE, TARGET = (160, 180, 220), (44, 92, 197), (214, 110, 20)


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
    width, height = SIZE

    def place(recall: float, microseconds: float) -> tuple[float, float]:
        across = (recall - first) / (1 - first)
        up = math.log(microseconds / low) / math.log(high / low)
        x = LEFT + across * (width - LEFT - RIGHT)
        return x * SCALE, (height - BOTTOM - up * (height - TOP - BOTTOM)) * SCALE

    page = Image.new("RGB", (width * SCALE, height * SCALE), PAGE)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(13 * SCALE)
    for tenth in range(round(10 * first), 11):
        x, y = place(tenth / 10, low)
        draw.line([(x, y), place(tenth / 10, high)], GRID, SCALE)
        draw.text((x, y + 8 * SCALE), f"{tenth / 10:.1f}", SOFT, font, anchor="mt")
    tick = low
    while tick <= high:
        for step in (1, 2, 5):
            if tick * step <= high:
                x, y = place(first, tick * step)
                draw.line([(x, y), place(1, tick * step)], GRID, SCALE)
                draw.text((x - 8 * SCALE, y), f"{tick * step:g}", SOFT, font, anchor="rm")
        tick *= 10
    draw.line([place(target, low), place(target, high)], TARGET, SCALE)
    for trial in trials:
        _dot(draw, place(trial.recall, 1e6 * trial.seconds), 3, DOT)
    line = [place(trial.recall, 1e6 * trial.seconds) for trial in frontier(trials)]
    draw.line(line, LINE, 2 * SCALE)
    for point in line:
        _dot(draw, point, 4, LINE)
    middle = (LEFT + width - RIGHT) / 2 * SCALE
    draw.text((LEFT * SCALE, 18 * SCALE), title, INK, ImageFont.load_default(17 * SCALE))
    draw.text((LEFT * SCALE, 40 * SCALE), "microseconds per query", SOFT, font)
    foot = (height - 14) * SCALE
    draw.text((middle, foot), "recall (line: the target)", SOFT, font, anchor="ms")
    with atomic_writer(path) as file:
        page.resize(SIZE, Image.Resampling.LANCZOS).save(file, "PNG", pnginfo=marked())


def _dot(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    x, y, r = *centre, radius * SCALE
    draw.ellipse((x - r, y - r, x + r, y + r), colour)
