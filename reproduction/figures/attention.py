"""Figures 4-6: where attention looks, which channels it lets through, and what that does to maps.

Gates may be nearly constant. Their scales therefore span a tenth at least, and each says its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reproduction.collection import Picture
from reproduction.figures.pictures import caption, show
from reproduction.figures.style import (
    GRID,
    HEAT,
    INK,
    MARGIN,
    SERIES,
    SMALL,
    SOFT,
    TINY,
    add_axes,
    headline,
    name_axes,
    note,
    range_text,
    save,
    sheet,
    title_height,
)

__all__ = ["AttendedPictures", "attention_figure", "draw_attention"]

Floats = NDArray[np.floating]
LEAST_SPAN = 0.1
"""Of a gate's scale; gates that vary by less are called nearly constant."""
SIDE = 1.7  # of a picture
MAP = 0.68  # side of a channel's map
FIRES = 0.5
"""A channel fires if its map reaches this share of the strongest channel's."""
LARGEST = 2
ROW = 2.35
HEADING = 0.55
OVERLAY_AT, BAR_AT, CURVE_AT, MAPS_AT = 2.0, 3.78, 5.0, 7.5
CURVE_WIDTH = 1.75
COVER = 0.6  # opacity of the heat over the picture
GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class AttendedPictures:
    """What CBAM did to n pictures. ValueError for shapes that do not fit.

    Attributes:
        pictures: uint8 RGB (h, w, 3) each, as the network saw them (squeezed, not cropped).
        names: their classes.
        channel: gates of Eq. 5, (n, C), within 0..1.
        spatial: gates of Eq. 6, (n, h, w), within 0..1.
        before: the feature map that the attention read, (n, C, h, w).
    """

    pictures: Sequence[Picture]
    names: Sequence[str]
    channel: Floats
    spatial: Floats
    before: Floats

    def __post_init__(self) -> None:
        n, channels, height, width = self.before.shape
        if not n or len(self.pictures) != n or len(self.names) != n:
            raise ValueError(
                f"{len(self.pictures)} pictures and {len(self.names)} names for {n} feature maps"
            )
        if self.channel.shape != (n, channels) or self.spatial.shape != (n, height, width):
            raise ValueError(
                f"gates of shape {self.channel.shape} and {self.spatial.shape} do not fit "
                f"feature maps of shape {self.before.shape}"
            )

    @property
    def after(self) -> Floats:
        """The gated map, (n, C, h, w): Eq. 3 and 4."""
        gated: Floats = self.before * self.channel[:, :, None, None] * self.spatial[:, None]
        return gated


def attention_figure(attended: AttendedPictures) -> Figure:
    """As `draw_attention`."""
    title = _title(attended)
    start = title_height(title) + HEADING
    figure = sheet(start + len(attended.pictures) * ROW)
    headline(figure, title)
    headings = (
        (MARGIN, "picture"),
        (OVERLAY_AT, "spatial gate (Eq. 6)"),
        (CURVE_AT, "channel gates (Eq. 5)"),
        (MAPS_AT, "of the channels that fire, the two\nlargest gates and the smallest"),
    )
    for left, text in headings:
        note(figure, left, start - 0.05, text, colour=INK, down="bottom")
    after = attended.after
    for number in range(len(attended.pictures)):
        top = start + 0.05 + number * ROW
        axes = add_axes(figure, MARGIN, top, SIDE, SIDE)
        show(axes, attended.pictures[number])
        caption(axes, [attended.names[number]], bold=True)
        _spatial(figure, top, attended.pictures[number], attended.spatial[number])
        axes = add_axes(figure, CURVE_AT, top, CURVE_WIDTH, SIDE)
        shown = _shown(attended.channel[number], attended.before[number])
        _channels(axes, attended.channel[number], shown)
        for column, channel in enumerate(shown):
            left = MAPS_AT + column * (MAP + 0.14)
            gate = attended.channel[number, channel]
            text = f"no. {channel:,}\ngate {gate:.2f}"
            note(figure, left + MAP / 2, top - 0.03, text, size=TINY, across="center")
            for maps, name, below in ((attended.before, "before", 0.3), (after, "after", 1.17)):
                small = add_axes(figure, left, top + below, MAP, MAP)
                _map(small, maps[number, channel])
                if not column:
                    small.set_ylabel(name, size=SMALL, color=INK)
    return figure


def draw_attention(attended: AttendedPictures, path: Path) -> None:
    """Figures 4-6, a row for each picture, as a PNG.

    The picture; its spatial gate as heat over it; its channel gates from the largest down, those
    of the channels beside them as dots. Of the channels that fire in this picture, the maps of the
    largest gates and of the smallest, before and after both gates, each on a scale of its own.
    """
    save(attention_figure(attended), path)


def _title(attended: AttendedPictures) -> str:
    parts, flat = [], []
    for name, gates in (("spatial", attended.spatial), ("channel", attended.channel)):
        parts.append(f"{name} gates {range_text(gates.min(), gates.max())}")
        axis = tuple(range(1, gates.ndim))
        if np.ptp(gates, axis=axis).max() < LEAST_SPAN:
            flat.append(name)
    title = f"Attention: {', '.join(parts)}"
    if flat:
        title += f"; {' and '.join(flat)} nearly constant within each picture"
    return title


def _scale(gates: Floats) -> tuple[float, float]:
    """Ends of a scale that holds all gates and spans LEAST_SPAN or more, within 0..1."""
    low, high = float(gates.min()), float(gates.max())
    more = max(0.0, LEAST_SPAN - (high - low)) / 2
    low, high = low - more, high + more
    shift = max(0.0, -low) - max(0.0, high - 1)
    return max(0.0, low + shift), min(1.0, high + shift)


def _spatial(figure: Figure, top: float, picture: Picture, gate: Floats) -> None:
    axes = add_axes(figure, OVERLAY_AT, top, SIDE, SIDE)
    height, width = picture.shape[:2]
    show(axes, np.repeat((picture @ GREY).astype(np.uint8)[:, :, None], 3, axis=2))
    low, high = _scale(gate)
    heat = axes.imshow(
        gate,
        cmap=HEAT,
        vmin=low,
        vmax=high,
        alpha=COVER,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear",
    )
    axes.set_xlabel(range_text(gate.min(), gate.max()), size=SMALL, color=SOFT)
    bar = add_axes(figure, BAR_AT, top, 0.12, SIDE)
    figure.colorbar(heat, cax=bar, ticks=[low, (low + high) / 2, high], format="%.2f")
    bar.tick_params(labelsize=TINY, colors=SOFT, length=2)
    bar.spines[:].set_visible(False)


def _shown(gates: Floats, maps: Floats) -> list[int]:
    """Of the channels that fire, the LARGEST by gate and the one of the smallest gate."""
    peaks = maps.max(axis=(1, 2))
    bound = FIRES * peaks.max() if peaks.max() > 0 else peaks.min()
    firing = np.flatnonzero(peaks >= bound)
    ranked: list[int] = firing[np.argsort(-gates[firing], kind="stable")].tolist()
    return ranked[:LARGEST] + ranked[LARGEST:][-1:]


def _channels(axes: Axes, gates: Floats, shown: list[int]) -> None:
    order = np.argsort(-gates, kind="stable")
    ranked = gates[order]
    ranks = np.arange(1, len(ranked) + 1)
    axes.plot(ranks, ranked, color=SERIES[0], linewidth=1.8)
    places = np.flatnonzero(np.isin(order, shown))
    axes.plot(ranks[places], ranked[places], "o", color=SERIES[1], markersize=4)
    name_axes(axes, "rank of the channel", "", size=SMALL)
    low, high = _scale(gates)
    edge = 0.05 * (high - low)
    axes.set_ylim(low - edge, high + edge)
    axes.set_xlim(1 - 0.03 * len(ranked), len(ranked))
    axes.set_xticks([1, len(ranked)], ["1", f"{len(ranked):,}"])
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.text(
        0.97,
        0.96,
        range_text(gates.min(), gates.max()),
        transform=axes.transAxes,
        ha="right",
        va="top",
        size=SMALL,
        color=SOFT,
    )


def _map(axes: Axes, values: Floats) -> None:
    """Heat from 0 (or the least value, if that is below) to the largest."""
    low, high = min(0.0, float(values.min())), float(values.max())
    axes.imshow(values, cmap=HEAT, vmin=low, vmax=high if high > low else low + 1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(GRID)
    axes.set_xlabel(f"{low:.3g} to {high:.3g}", size=TINY, color=SOFT, labelpad=1)
