"""Figure 7: codes that differ in few bits are of embeddings at a small angle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reproduction.figures.pictures import Captioned, caption, show
from reproduction.figures.style import (
    BODY,
    HEAT,
    INK,
    MARGIN,
    SERIES,
    SMALL,
    SOFT,
    TINY,
    WIDTH,
    add_axes,
    headline,
    name_axes,
    note,
    save,
    sheet,
    title_height,
)

__all__ = [
    "CodeExamples",
    "PairDistances",
    "draw_hamming",
    "expected_bits",
    "hamming_figure",
]

PANEL = (3.95, 3.1)
BINS = 60
PICTURE = 1.5
EXAMPLES = PICTURE + 1.5  # height of that part


@dataclass(frozen=True, eq=False)
class PairDistances:
    """Pairs of images. ValueError for shapes that differ, or no pairs.

    Attributes:
        cosines: of their embeddings, (p,).
        hamming: bits in which their codes differ, (p,).
        same_class: bool (p,).
        bits: length of a code.
    """

    cosines: NDArray[np.floating]
    hamming: NDArray[np.integer]
    same_class: NDArray[np.bool_]
    bits: int

    def __post_init__(self) -> None:
        shapes = self.cosines.shape, self.hamming.shape, self.same_class.shape
        if len(set(shapes)) != 1 or self.cosines.ndim != 1 or not self.cosines.size:
            raise ValueError(f"cosines, distances and classes of shapes {shapes}; need one (p,)")

    @property
    def degrees(self) -> NDArray[np.float64]:
        """Angles between the embeddings, (p,)."""
        angles: NDArray[np.float64] = np.degrees(
            np.arccos(np.clip(self.cosines.astype(np.float64), -1, 1))
        )
        return angles


@dataclass(frozen=True, eq=False)
class CodeExamples:
    """Three pictures, the unlike one first, and the bits between their codes, int (3, 3)."""

    pictures: tuple[Captioned, Captioned, Captioned]
    distances: NDArray[np.integer]


def expected_bits(degrees: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Bits that random hyperplanes set apart on average: each does so in angle / 180 of all."""
    return bits * degrees / 180


def hamming_figure(pairs: PairDistances, examples: CodeExamples | None = None) -> Figure:
    """As `draw_hamming`."""
    degrees = pairs.degrees
    off = np.sqrt(np.mean((pairs.hamming - expected_bits(degrees, pairs.bits)) ** 2))
    same, other = (_median(pairs.hamming[pairs.same_class == kind]) for kind in (True, False))
    title = (
        f"Codes of the same class differ in {same} of {pairs.bits} bits, of other classes in "
        f"{other} (medians); random hyperplanes predict a pair within {off:.1f} bits (RMS)"
    )
    start = title_height(title) + 0.6
    below = start + PANEL[1] + 0.65
    figure = sheet(below + (EXAMPLES if examples else 0.0))
    headline(figure, title)
    ends = (0.0, max(1.0, float(degrees.max()) * 1.04))
    rows = (0.0, max(float(pairs.hamming.max()), expected_bits(np.array(ends), pairs.bits)[1]))
    panels = [add_axes(figure, left, start, *PANEL) for left in (0.75, 0.75 + PANEL[0] + 0.25)]
    meshes = []
    for axes, kind in zip(panels, (True, False), strict=True):
        chosen = pairs.same_class == kind
        name = "same class" if kind else "other class"
        name_axes(axes, "angle between embeddings, degrees", "")
        meshes.append(_density(axes, degrees[chosen], pairs.hamming[chosen], ends, rows))
        _expectation(axes, ends, rows, pairs.bits, named=not kind)
        note_ = f"{name}: {np.count_nonzero(chosen):,} pairs"
        axes.text(0.03, 0.96, note_, transform=axes.transAxes, va="top", size=BODY, color=INK)
        _cosines(axes)
    panels[0].set_ylabel("bits that differ", size=BODY, color=INK)
    panels[1].tick_params(labelleft=False)
    shared = LogNorm(1, max(10.0, *(most for _, most in meshes)))
    for mesh, _ in meshes:
        mesh.set_norm(shared)
    bar = add_axes(figure, WIDTH - 0.72, start, 0.14, PANEL[1])
    figure.colorbar(meshes[0][0], cax=bar)
    bar.tick_params(labelsize=TINY, colors=SOFT, which="both")
    bar.spines[:].set_visible(False)
    bar.set_title("pairs", size=SMALL, color=SOFT)
    if examples:
        _examples(figure, below, examples, pairs.bits)
    return figure


def draw_hamming(pairs: PairDistances, path: Path, examples: CodeExamples | None = None) -> None:
    """Figure 7 as a PNG: how many pairs have which angle and Hamming distance, by class; below it
    three pictures with the distances of their codes.
    """
    save(hamming_figure(pairs, examples), path)


def _median(values: NDArray[np.integer]) -> str:
    return f"{np.median(values):.0f}" if values.size else "none"


def _density(
    axes: Axes,
    degrees: NDArray[np.float64],
    hamming: NDArray[np.integer],
    across: tuple[float, float],
    up: tuple[float, float],
) -> tuple[QuadMesh, float]:
    """Numbers of pairs by cell, and the largest; cells are whole bits high, empty ones blank."""
    step = max(1, round((up[1] - up[0]) / BINS))
    rows = np.arange(up[0] - 0.5, up[1] + step + 0.5, step)
    columns = np.linspace(*across, BINS + 1)
    counts, _, _ = np.histogram2d(degrees, hamming, (columns, rows))
    axes.set_xlim(*across)
    axes.set_ylim(-0.5, up[1] * 1.02)
    mesh = axes.pcolormesh(columns, rows, np.where(counts > 0, counts, np.nan).T, cmap=HEAT)
    return mesh, float(counts.max())


def _expectation(
    axes: Axes, ends: tuple[float, float], rows: tuple[float, float], bits: int, *, named: bool
) -> None:
    """The mean, and twice the standard deviation of `bits` independent hyperplanes."""
    degrees = np.linspace(*ends, 200)
    mean = expected_bits(degrees, bits)
    twice = 2 * np.sqrt(mean * (1 - degrees / 180))
    axes.plot(degrees, mean, color=SERIES[1], linewidth=2)
    for edge in (mean - twice, mean + twice):
        axes.plot(degrees, edge, color=SERIES[1], linewidth=1, linestyle="--")
    if named:
        axes.text(
            0.97,
            0.05,
            "random hyperplanes:\nbits \u00d7 angle / 180°,\ndashed: \u00b1 2 sd",
            transform=axes.transAxes,
            ha="right",
            size=SMALL,
            color=SERIES[1],
        )


def _cosines(axes: Axes) -> None:
    """The same axis again, at the top, as cosines."""
    top = axes.secondary_xaxis("top")
    last = axes.get_xlim()[1]
    cosines = [c for c in (1, 0.9, 0.7, 0.5, 0.25, 0, -0.5, -1) if np.degrees(np.arccos(c)) <= last]
    top.set_xticks(np.degrees(np.arccos(cosines)).tolist(), [f"{c:g}" for c in cosines])
    top.set_xlabel("cosine", size=SMALL, color=SOFT)
    top.tick_params(labelsize=TINY, colors=SOFT, length=3)
    top.spines[:].set_visible(False)


def _examples(figure: Figure, top: float, examples: CodeExamples, bits: int) -> None:
    """A row of three, the distance of neighbours between them, of the outer two below."""
    step = PICTURE + 1.6
    left = (WIDTH - 2 * step - PICTURE) / 2
    note(
        figure,
        MARGIN,
        top,
        f"Three of the images, and how many of {bits} bits their codes differ in",
    )
    top += 0.35
    for number, example in enumerate(examples.pictures):
        axes = add_axes(figure, left + number * step, top, PICTURE, PICTURE)
        show(axes, example.picture)
        caption(axes, [example.name], bold=True)
    for first in (0, 1):
        middle = left + first * step + PICTURE + (step - PICTURE) / 2
        _distance(figure, middle, top + PICTURE / 2, int(examples.distances[first, first + 1]))
        _rule(figure, (middle - 0.6, middle + 0.6), top + PICTURE / 2 + 0.2)
    foot = top + PICTURE + 0.5
    _distance(figure, WIDTH / 2, foot + 0.18, int(examples.distances[0, 2]))
    ends = (left + PICTURE / 2, WIDTH - left - PICTURE / 2)
    _rule(figure, ends, foot)


def _distance(figure: Figure, left: float, top: float, bits: int) -> None:
    text = f"{bits} bits"
    note(figure, left, top, text, size=BODY, colour=INK, bold=True, across="center", down="center")


def _rule(figure: Figure, ends: tuple[float, float], top: float) -> None:
    """A double arrow across."""
    axes = add_axes(figure, ends[0], top - 0.05, ends[1] - ends[0], 0.1)
    axes.set_axis_off()
    arrow = {"arrowstyle": "<->", "color": SOFT, "linewidth": 1.5}
    axes.annotate("", (0, 0.5), (1, 0.5), xycoords="axes fraction", arrowprops=arrow)
