"""Draw the figures of docs/lsh.md and compute the numbers that it quotes, from the library itself.

    python scripts/draw_lsh_figures.py [--out FOLDER]      writes *.svg and numbers.txt
    python scripts/draw_lsh_figures.py --vectors FILE.npy  the same comparisons on your vectors
    python scripts/draw_lsh_figures.py --time              prints exact search beside the index

Everything is drawn from seeds. Another BLAS may move a measured curve by a pixel or two.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.lsh import LSHIndex, LSHSettings, families
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.join import collision_probability
from lookalike.lsh.probing import sign_scores
from lookalike.lsh.segment import ARRAYS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Points = Sequence[tuple[float, float]]

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
INK, FAINT, GRID, PAPER = "#1f2328", "#59636e", "#d8dee4", "#fbfbf8"
# Okabe and Ito's colours, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, RED, PINK, SKY = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"),
)
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
DIM, ITEMS, QUERIES, K = 128, 20_000, 500, 10
KEY_BITS = 8


# ---- plain SVG -----------------------------------------------------------------------------------


@dataclass
class Canvas:
    """SVG text on paper of its own colour, which reads on a light and on a dark page."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def add(self, tag: str, text: str | None = None, /, **attributes: str | float) -> None:
        pairs = [
            f'{name.strip("_").replace("_", "-")}="{_number(value)}"'
            for name, value in attributes.items()
        ]
        inside = "/>" if text is None else f">{escape(text)}</{tag}>"
        self.parts.append(f"<{' '.join([tag, *pairs])}{inside}")

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 13,
        fill: str = INK,
        anchor: str = "start",
        **more: str | float,
    ) -> None:
        self.add("text", words, x=x, y=y, font_size=size, fill=fill, text_anchor=anchor, **more)

    def line(self, points: Points, stroke: str = INK, width: float = 1.5, **more: str) -> None:
        text = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        style: dict[str, str | float] = {"fill": "none", "stroke": stroke, "stroke_width": width}
        self.add("polyline", points=text, **style, **more)

    def polygon(self, points: Points, fill: str, **more: str | float) -> None:
        text = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self.add("polygon", points=text, fill=fill, **more)

    def dot(self, x: float, y: float, radius: float, fill: str, **more: str | float) -> None:
        self.add("circle", cx=x, cy=y, r=radius, fill=fill, **more)

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            f'font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif">\n'
            f"<title>{escape(self.title)}</title>\n"
            f'<rect width="{self.width}" height="{self.height}" rx="10" fill="{PAPER}"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"


def _number(value: str | float) -> str:
    """To a tenth of a pixel."""
    if isinstance(value, str):
        return escape(value)
    return f"{value:.1f}".removesuffix(".0").replace("-0", "0" if abs(value) < 0.05 else "-0")


@dataclass(frozen=True)
class Chart:
    """The frame of a plot: data to pixels, grid, ticks and labels."""

    canvas: Canvas
    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        scale: Callable[[float], float] = math.log if self.log else float
        low, high = scale(self.x[0]), scale(self.x[1])
        across = (scale(x) - low) / (high - low)
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * self.width, self.top + (1 - up) * self.height

    def frame(
        self,
        title: str,
        x_label: str,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]],
    ) -> None:
        canvas, bottom = self.canvas, self.top + self.height
        for value, name in x_ticks:
            here = self.at(value, self.y[0])[0]
            canvas.line([(here, self.top), (here, bottom)], GRID, 1)
            canvas.text(here, bottom + 17, name, size=12, fill=FAINT, anchor="middle")
        for value, name in y_ticks:
            here = self.at(self.x[0], value)[1]
            canvas.line([(self.left, here), (self.left + self.width, here)], GRID, 1)
            canvas.text(self.left - 7, here + 4, name, size=12, fill=FAINT, anchor="end")
        canvas.text(self.left, self.top - 12, title, size=13.5, font_weight="600")
        middle = self.left + self.width / 2
        canvas.text(middle, bottom + 37, x_label, size=12.5, fill=FAINT, anchor="middle")

    def curve(self, xs: Sequence[float], ys: Sequence[float], stroke: str, **more: str) -> None:
        self.canvas.line([self.at(x, y) for x, y in zip(xs, ys, strict=True)], stroke, 2.2, **more)


def legend(canvas: Canvas, x: float, y: float, names: Sequence[tuple[str, str, str]]) -> None:
    """Lines of (colour, dash pattern, words), 20 pixels apart."""
    for row, (colour, dashes, words) in enumerate(names):
        at = y + 20 * row
        canvas.line([(x, at), (x + 26, at)], colour, 2.4, stroke_dasharray=dashes or "none")
        canvas.text(x + 33, at + 4.5, words, size=12.5)


# ---- data ----------------------------------------------------------------------------------------


def skewed(rng: np.random.Generator, count: int, *, clusters: int) -> Floats:
    """Unit vectors (count, DIM) with the two habits of image embeddings.

    The variance of axis i falls like 1 / i, and the mean is far from the origin. With ``clusters``,
    half of the variance is between their centres.
    """
    scale = np.arange(1, DIM + 1, dtype=np.float32) ** np.float32(-0.5)
    rotation = families.orthogonal(rng, DIM, DIM)
    vectors = rng.standard_normal((count, DIM), dtype=np.float32)
    if clusters:
        centres = rng.standard_normal((clusters, DIM), dtype=np.float32)
        vectors += centres[rng.integers(clusters, size=count)]
    vectors *= scale
    vectors[:, 3] += 1
    vectors = vectors @ rotation
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True)
class Trial:
    """Items (n, dim), queries (q, dim), and the rows of each query's K nearest items (q, K)."""

    items: Floats
    queries: Floats
    nearest: Ints

    @classmethod
    def draw(cls, seed: int, clusters: int) -> Trial:
        return cls.of(skewed(np.random.default_rng(seed), ITEMS + QUERIES, clusters=clusters))

    @classmethod
    def of(cls, vectors: Floats) -> Trial:
        """The first QUERIES of the unit ``vectors`` are searched for among the others."""
        queries, items = vectors[:QUERIES], vectors[QUERIES:]
        nearest = np.argsort(-(queries @ items.T), axis=1, kind="stable")[:, :K]
        return cls(items, queries, nearest)


def place_of(scores: Floats, rows: Ints) -> Ints:
    """How many columns of each row of (q, n) ``scores`` rank before those of ``rows`` (q, k)."""
    columns = np.arange(scores.shape[1])
    places = np.empty_like(rows)
    for i, column in np.ndindex(rows.shape):
        row = rows[i, column]
        before = scores[i] > scores[i, row]
        before |= (scores[i] == scores[i, row]) & (columns < row)
        places[i, column] = np.count_nonzero(before)
    return places


# ---- one hyperplane, and many --------------------------------------------------------------------


def wedge(centre: tuple[float, float], radius: float, start: float, stop: float) -> Points:
    """A sector between two angles, for a polygon; y points down on the page."""
    angles = np.linspace(start, stop, 24)
    arc = [(centre[0] + radius * math.cos(a), centre[1] - radius * math.sin(a)) for a in angles]
    return [centre, *arc]


def directions_of(normals: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The angles, ascending, at which hyperplanes through the centre leave it: (2 * planes,)."""
    along = np.arctan2(normals[:, 0], -normals[:, 1])
    return np.sort(np.mod(np.concatenate([along, along + np.pi]), 2 * np.pi))


def draw_hyperplanes() -> str:
    """Three hyperplanes cut the plane into six cells of a three-bit code."""
    canvas = Canvas(720, 400, "Three hyperplanes through the mean give each direction three bits")
    rng = np.random.default_rng(3)
    centre, radius = (205.0, 205.0), 165.0
    normals = np.array([[math.cos(a), math.sin(a)] for a in np.radians([100, 155, 35])])
    cuts = directions_of(normals)
    fills = ("#dcecf7", "#fbeed2", "#d9f0e8", "#f8e0d4", "#f5e3ed", "#e3f2fb")
    for i, start in enumerate(cuts):
        stop = cuts[(i + 1) % len(cuts)] + (2 * np.pi if i == len(cuts) - 1 else 0)
        canvas.polygon(wedge(centre, radius, start, stop), fills[i])
        middle = (start + stop) / 2
        direction = np.array([math.cos(middle), math.sin(middle)])
        bits = "".join("1" if margin > 0 else "0" for margin in normals @ direction)
        x, y = centre[0] + 185 * direction[0], centre[1] - 185 * direction[1]
        canvas.text(x, y + 5, bits, anchor="middle", font_weight="600", font_family="monospace")
    for j, normal in enumerate(normals):
        along = np.array([-normal[1], normal[0]]) * radius
        ends = [(centre[0] + s * along[0], centre[1] - s * along[1]) for s in (-1, 1)]
        canvas.line(ends, INK, 1.6)
        tip = (centre[0] + 34 * normal[0], centre[1] - 34 * normal[1])
        canvas.line([centre, tip], RED, 2)
        canvas.dot(*tip, 2.6, RED)
        x, y = centre[0] + 48 * normal[0], centre[1] - 48 * normal[1]
        canvas.text(x, y + 4, f"p{j + 1}", fill=RED, anchor="middle", size=12)
    for angle, length in zip(
        rng.uniform(0, 2 * np.pi, 70), rng.uniform(0.35, 0.93, 70), strict=True
    ):
        x = centre[0] + radius * length * math.cos(angle)
        y = centre[1] - radius * length * math.sin(angle)
        canvas.dot(x, y, 2.4, FAINT, opacity=0.7)
    pair = [("x", 0.86, 82.0, BLUE), ("y", 0.8, 42.0, BLUE), ("z", 0.8, 251.0, ORANGE)]
    for name, length, degrees, colour in pair:
        a = math.radians(degrees)
        tip = centre[0] + radius * length * math.cos(a), centre[1] - radius * length * math.sin(a)
        canvas.line([centre, tip], colour, 2.6)
        canvas.dot(*tip, 4.5, colour)
        canvas.text(tip[0] + 8, tip[1] - 6, name, fill=colour, font_weight="700", size=15)
    canvas.line(wedge(centre, 62, math.radians(42), math.radians(82))[1:], BLUE, 1.6)
    canvas.text(centre[0] + 40, centre[1] - 64, "θ", fill=BLUE, size=15)
    words = [
        ("Each hyperplane asks one question", True),
        ("On which side of me do you lie?", False),
        (f"Bit j is 1 if pⱼ · (v {MINUS} mean) > 0.", False),
        ("", False),
        ("x and y are 40° apart", True),
        ("One of the three planes falls between", False),
        ("them; the other two bits agree.", False),
        ("", False),
        ("x and z are 169° apart", True),
        ("All three planes fall between them.", False),
        ("", False),
        ("A random plane falls between two", False),
        ("vectors with probability θ / π.", False),
    ]
    for row, (text, bold) in enumerate(words):
        weight = "600" if bold else "400"
        canvas.text(425, 92 + 21 * row, text, size=14, font_weight=weight)
    return canvas.svg()


def measure_collisions() -> tuple[list[float], list[float], dict[str, list[float]]]:
    """Angles in degrees, the share of equal bits, and for both sign families the standard deviation
    of the number of equal bits among 256, for 400 pairs under each of 10 draws of the planes.
    """
    rng = np.random.default_rng(1)
    degrees = [float(d) for d in range(5, 180, 10)]
    shares, spreads = [], {"hyperplanes": [0.0] * len(degrees), "orthogonal": [0.0] * len(degrees)}
    counts: dict[str, list[list[NDArray[Any]]]] = {name: [[] for _ in degrees] for name in spreads}
    for _ in range(10):
        made = {
            "hyperplanes": families.hyperplanes(rng, 256, 256),
            "orthogonal": families.orthogonal(rng, 256, 256),
        }
        for i, angle in enumerate(degrees):
            basis = rng.standard_normal((2, 400, 256)).astype(np.float32)
            basis /= np.linalg.norm(basis, axis=2, keepdims=True)
            first, other = basis
            other = other - np.einsum("ij,ij->i", first, other)[:, np.newaxis] * first
            other /= np.linalg.norm(other, axis=1, keepdims=True)
            second = math.cos(math.radians(angle)) * first + math.sin(math.radians(angle)) * other
            for name, planes in made.items():
                equal = (first @ planes.T > 0) == (second @ planes.T > 0)
                counts[name][i].append(equal.sum(axis=1))
    for i in range(len(degrees)):
        shares.append(float(np.concatenate(counts["hyperplanes"][i]).mean() / 256))
        for name in spreads:
            spreads[name][i] = float(np.concatenate(counts[name][i]).std())
    return degrees, shares, spreads


def draw_collision() -> tuple[str, list[str]]:
    degrees, shares, spreads = measure_collisions()
    expected = [collision_probability(math.cos(math.radians(d))) for d in degrees]
    worst = max(abs(a - b) for a, b in zip(shares, expected, strict=True))
    canvas = Canvas(720, 340, "Measured collision probability of one bit against 1 - theta / pi")
    angles = [(float(d), f"{d}°") for d in (0, 45, 90, 135, 180)]
    left = Chart(canvas, 56, 52, 280, 222, (0, 180), (0, 1))
    left.frame(
        "Share of equal bits", "angle between the two vectors", angles,
        [(v, f"{v:g}") for v in (0, 0.25, 0.5, 0.75, 1)],
    )  # fmt: skip
    left.curve([0, 180], [1, 0], ORANGE)
    for angle, share in zip(degrees, shares, strict=True):
        canvas.dot(*left.at(angle, share), 3.6, BLUE)
    canvas.line([(172, 76), (198, 76)], ORANGE, 2.4)
    canvas.text(205, 80.5, f"1 {MINUS} θ / π", size=12.5)
    canvas.dot(185, 97, 3.6, BLUE)
    canvas.text(205, 101.5, "measured", size=12.5)
    right = Chart(canvas, 404, 52, 290, 222, (0, 180), (0, 10))
    right.frame(
        "Deviation of equal bits of 256", "angle between the two vectors", angles,
        [(float(v), str(v)) for v in (0, 2, 4, 6, 8, 10)],
    )  # fmt: skip
    binomial = [math.sqrt(256 * p * (1 - p)) for p in expected]
    right.curve(degrees, binomial, FAINT, stroke_dasharray="4 4")
    right.curve(degrees, spreads["hyperplanes"], RED)
    right.curve(degrees, spreads["orthogonal"], BLUE)
    names = [
        (FAINT, "4 4", "binomial: 256 independent bits"),
        (RED, "", "independent hyperplanes"),
        (BLUE, "", "orthogonal hyperplanes"),
    ]
    legend(canvas, 440, 216, names)
    middle = degrees.index(45.0)
    numbers = [
        "collision: 256 bits, 4,000 pairs at each of 18 angles, 256 dimensions",
        f"  largest difference of a measured share from 1 - theta/pi: {worst:.4f}",
        f"  deviation of equal bits at 45 degrees: binomial {binomial[middle]:.1f}, independent "
        f"{spreads['hyperplanes'][middle]:.1f}, orthogonal {spreads['orthogonal'][middle]:.1f}",
    ]
    return canvas.svg(), numbers


# ---- buckets and probes --------------------------------------------------------------------------


def bits_of(bucket: int) -> str:
    """Four bits, that of the first hyperplane in front."""
    return f"{bucket:04b}"[::-1]


def draw_probes() -> tuple[str, list[str]]:
    """Four hyperplanes, eight cells, and the order in which one query visits them."""
    canvas = Canvas(
        720, 440, "Buckets of a four-bit key and the order in which a query visits them"
    )
    rng = np.random.default_rng(11)
    centre, radius = (215.0, 222.0), 178.0
    normals = np.array(
        [[math.cos(a), math.sin(a)] for a in np.radians([12, 58, 97, 146])], np.float32
    )
    degrees = np.concatenate(
        [rng.normal(85, 30, 60), rng.normal(205, 28, 36), rng.uniform(0, 360, 34)]
    )
    lengths = rng.uniform(0.3, 0.95, 130)
    radians = np.radians(degrees)
    items = (lengths[:, np.newaxis] * np.stack([np.cos(radians), np.sin(radians)], axis=1)).astype(
        np.float32
    )
    at_71 = math.cos(math.radians(71)), math.sin(math.radians(71))
    query = np.float32(0.72) * np.array([at_71], np.float32)
    keys = (items @ normals.T > 0) @ (1 << np.arange(4))
    sizes = np.bincount(keys, minlength=16)
    scores = np.empty((1, 16), np.float32)
    sign_scores((query @ normals.T).astype(np.float32), scores)
    order = [int(b) for b in np.argsort(-scores[0], kind="stable")]
    visited = [b for b in order if sizes[b]]
    cuts = directions_of(normals)
    shades = (
        "#7fb8dc",
        "#a3cce6",
        "#c0dcef",
        "#d6e8f4",
        "#e5f0f8",
        "#eef5fa",
        "#f3f8fb",
        "#f7fafc",
    )
    for i, start in enumerate(cuts):
        stop = cuts[(i + 1) % len(cuts)] + (2 * np.pi if i == len(cuts) - 1 else 0)
        middle = (start + stop) / 2
        direction = np.array([math.cos(middle), math.sin(middle)])
        bucket = int((normals @ direction > 0) @ (1 << np.arange(4)))
        rank = visited.index(bucket)
        canvas.polygon(wedge(centre, radius, start, stop), shades[rank])
        x, y = centre[0] + 196 * direction[0], centre[1] - 196 * direction[1]
        canvas.dot(x, y, 12, BLUE if rank < 3 else FAINT)
        canvas.text(x, y + 4.8, str(rank + 1), fill="#ffffff", anchor="middle", font_weight="700")
    at = (centre[0] + radius * query[0, 0], centre[1] - radius * query[0, 1])
    for j, normal in enumerate(normals):
        along = np.array([-normal[1], normal[0]]) * radius
        ends = [(centre[0] + s * along[0], centre[1] - s * along[1]) for s in (-1, 1)]
        canvas.line(ends, INK, 1.5)
        margin = float(query[0] @ normal)
        foot = (at[0] - radius * margin * normal[0], at[1] + radius * margin * normal[1])
        canvas.line([at, foot], RED, 1.5, stroke_dasharray="4 3")
        canvas.dot(*foot, 2.6, RED)
        side = 14 * np.array([normal[0], -normal[1]]) * (-1 if margin > 0 else 1)
        label = f"m{'₁₂₃₄'[j]}"
        canvas.text(foot[0] + side[0], foot[1] + side[1] + 5, label, fill=RED, anchor="middle")
    for x, y in items:
        at_item = centre[0] + radius * float(x), centre[1] - radius * float(y)
        canvas.dot(*at_item, 2.3, INK, opacity=0.45)
    canvas.dot(*at, 6, RED, stroke="#ffffff", stroke_width=1.5)
    canvas.text(at[0] - 8, at[1] - 9, "query", fill=RED, font_weight="700", anchor="end")
    left = 444
    heads = (("probe", 14), ("key", 69), ("flips", 122), ("score", 178), ("items", 232))
    for name, x in heads:
        canvas.text(left + x, 42, name, size=12, fill=FAINT, anchor="middle")
    number = 0
    for row, bucket in enumerate(order):
        y = 68 + 22 * row
        colour = INK if sizes[bucket] else "#a0a8b0"
        if sizes[bucket]:
            number += 1
            canvas.text(left + 14, y, str(number), fill=colour, anchor="middle", font_weight="600")
        else:
            canvas.text(left + 14, y, MINUS, fill=colour, anchor="middle")
        flips = (bucket ^ order[0]).bit_count()
        mono: dict[str, Any] = {"size": 14, "anchor": "middle", "font_family": "monospace"}
        canvas.text(left + 69, y, bits_of(bucket), fill=colour, **mono)
        canvas.text(left + 122, y, str(flips), fill=colour, anchor="middle")
        score = f"{scores[0, bucket] + 0.0:.2f}".replace("-0.00", "0.00").replace("-", MINUS)
        canvas.text(left + 196, y, score, fill=colour, anchor="end")
        canvas.text(left + 242, y, str(sizes[bucket]), fill=colour, anchor="end")
    numbers = [
        "probes: keys in probing order (flipped bits, score, items)",
        *(
            f"  {bits_of(b)}  {(b ^ order[0]).bit_count()} flipped  {scores[0, b]:6.3f}  "
            f"{sizes[b]:3d}"
            for b in order
        ),
    ]
    return canvas.svg(), numbers


# ---- cells ---------------------------------------------------------------------------------------


def draw_cells(trial: Trial) -> tuple[str, list[str]]:
    """The cells of 16 sample points on the sphere of directions, without and with whitening."""
    canvas = Canvas(720, 540, "Cells of sample points without and with partial whitening")
    rng = np.random.default_rng(5)
    spread = np.array([4.0, 1.0, 0.5], np.float32)
    items = rng.standard_normal((4000, 3)).astype(np.float32) * spread
    items -= items.mean(axis=0)
    axes = families.Principal.of(items)
    axes = families.Principal(np.abs(axes.axes.round()).astype(np.float32), axes.variance)
    plain = families.Principal(axes.axes, np.ones_like(axes.variance))
    fills = [
        *("#9ecae1", "#fdd49e", "#a8dcc8", "#f4b8a0", "#e3bfd6", "#c9c3e6", "#d9d9b8", "#bfe3ee"),
        *("#fbe6c0", "#c6e8dc", "#f8d5c6", "#efdbe8", "#e0ddf2", "#ececd6", "#7fb8d4", "#f2c27a"),
    ]
    columns, rows = 130, 80
    longitude = (np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi
    height = 1 - 2 * (np.arange(rows) + 0.5) / rows
    lon, z = np.meshgrid(longitude, height)
    flat = np.sqrt(1 - z**2)
    grid = np.stack([flat * np.cos(lon), flat * np.sin(lon), z], axis=2).astype(np.float32)
    for panel, used in enumerate((plain, axes)):
        anchors = families.voronoi(np.random.default_rng(2), 16, used, items)
        space = families.whitening(used)
        mapped = items @ space.T
        mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
        left, top, step = 24 + 348 * panel, 46, 2.5
        of_grid = np.argmax(grid @ anchors.T, axis=2)
        for cell in range(16):
            path = []
            for r in range(rows):
                edges = np.flatnonzero(np.diff(np.r_[0, of_grid[r] == cell, 0]))
                for start, stop in edges.reshape(-1, 2):
                    x, y = left + step * start, top + step * r
                    across = _number(step * (stop - start))
                    path.append(f"M{_number(x)} {_number(y)}h{across}v{step + 0.2:.1f}h-{across}z")
            canvas.add("path", d="".join(path), fill=fills[cell])
        for point in mapped[:500]:
            x = left + step * columns * (math.atan2(point[1], point[0]) + np.pi) / (2 * np.pi)
            canvas.dot(x, top + step * rows * (1 - point[2]) / 2, 1.3, INK, opacity=0.55)
        for point in anchors:
            x = left + step * columns * (math.atan2(point[1], point[0]) + np.pi) / (2 * np.pi)
            y = top + step * rows * (1 - point[2]) / 2
            canvas.dot(x, y, 3.6, RED, stroke="#ffffff", stroke_width=1.2)
        title = "Without whitening" if panel == 0 else "Axes divided by variance^(1/4)"
        canvas.text(left, 30, title, font_weight="600", size=13.5)
    caption = "The sphere of directions, unrolled with true areas. The strong axis points to the "
    canvas.text(24, 266, caption + "middle and to both ends.", size=12, fill=FAINT)
    numbers = draw_cell_sizes(canvas, trial)
    return canvas.svg(), numbers


def draw_cell_sizes(canvas: Canvas, trial: Trial) -> list[str]:
    """Below the maps: how many items the cells of a real key hold, largest first."""
    buckets = 1 << KEY_BITS
    chart = Chart(canvas, 66, 322, 630, 158, (0, buckets), (0, 420))
    chart.frame(
        f"Items in each of {buckets} cells, {len(trial.items):,} items of {DIM} dimensions",
        "cell, largest first", [(float(v), str(v)) for v in range(0, buckets + 1, 64)],
        [(float(v), str(v)) for v in (0, 100, 200, 300, 400)],
    )  # fmt: skip
    numbers = [f"cells: items per cell of {buckets}, {len(trial.items):,} items, 200 clusters"]
    names = (("no whitening", "without whitening", RED), ("voronoi", "variance^(1/4)", BLUE))
    for name, _, colour in names:
        keys = key_hasher(name, trial).keys(trial.items, KEY_BITS)[0]
        sizes = np.sort(np.bincount(keys, minlength=buckets))[::-1]
        chart.curve(list(range(buckets)), sizes.tolist(), colour)
        met = float(np.square(sizes).sum() / sizes.sum())
        numbers.append(
            f"  {name:13s} fewest {sizes[-1]}, most {sizes[0]}; the bucket of a random item holds "
            f"{met:.0f} on average (even cells: {len(trial.items) / buckets:.0f})"
        )
    legend(canvas, 470, 346, [(colour, "", words) for _, words, colour in names])
    return numbers


# ---- recall --------------------------------------------------------------------------------------


def visited_items(hasher: Hasher, trial: Trial) -> Ints:
    """Items visited until each of the nearest (q, K) is met, whole buckets, best bucket first."""
    keys = hasher.keys(trial.items, KEY_BITS)[0].astype(np.int64)
    scores = hasher.bucket_scores(hasher.prepare(trial.queries).mapped, KEY_BITS)
    sizes = np.bincount(keys, minlength=1 << KEY_BITS)
    order = np.argsort(-scores, axis=1, kind="stable")
    so_far = np.cumsum(sizes[order], axis=1)
    return np.take_along_axis(so_far, place_of(scores, keys[trial.nearest]), axis=1)


KEYS = (
    ("voronoi", "voronoi (the default)", BLUE, ""),
    ("no whitening", "voronoi, not whitened", SKY, "6 4"),
    ("itq", "itq", GREEN, ""),
    ("cross-polytope", "cross-polytope", PINK, ""),
    ("orthogonal", "orthogonal", ORANGE, ""),
    ("paper", "the paper's: independent, no mean", RED, "6 4"),
)


def draw_recall(trials: dict[str, Trial]) -> tuple[str, list[str]]:
    canvas = Canvas(720, 428, "Share of the ten nearest items met against items visited")
    numbers = [
        f"recall: {ITEMS:,} items, {DIM} dimensions, {QUERIES} queries, one table of "
        f"{1 << KEY_BITS} buckets;",
        f"  share of the {K} nearest in the buckets visited; items to visit for 0.9",
    ]
    budgets = [round(100 * 10 ** (i / 16)) for i in range(33)]
    for panel, (title, trial) in enumerate(trials.items()):
        chart = Chart(canvas, 52 + 346 * panel, 48, 296, 214, (100, 10_000), (0, 1), log=True)
        chart.frame(
            title, "items visited of 20,000 (logarithmic)",
            [(100, "100"), (1000, "1,000"), (10_000, "10,000")],
            [(v, f"{v:g}") for v in (0, 0.25, 0.5, 0.75, 1)],
        )  # fmt: skip
        numbers.append(f"  {title}:")
        for name, _, colour, dashes in KEYS:
            cost = visited_items(key_hasher(name, trial), trial)
            ys = [float((cost <= budget).mean()) for budget in budgets]
            chart.curve(budgets, ys, colour, stroke_dasharray=dashes or "none")
            numbers.append("    " + recall_line(name, cost))
    rows = [(colour, dashes, words) for _, words, colour, dashes in KEYS]
    legend(canvas, 52, 338, rows[:3])
    legend(canvas, 398, 338, rows[3:])
    return canvas.svg(), numbers


def recall_line(name: str, cost: Ints) -> str:
    at = "  ".join(f"{m:,}: {(cost <= m).mean():.2f}" for m in (500, 1000, 2000))
    return f"{name:15s} {at}   0.9: {int(np.quantile(cost, 0.9)):,}"


def key_hasher(name: str, trial: Trial) -> Hasher:
    dim = trial.items.shape[1]
    if name == "paper":
        return Hasher.fit(LSHSettings.paper(dim, tables=1, key_bits=KEY_BITS), trial.items)
    default = LSHSettings(dim, key_bits=KEY_BITS)
    if name != "no whitening":
        return Hasher.fit(replace(default, keys=name), trial.items)
    hasher = Hasher.fit(default, trial.items)
    centred = trial.items - hasher.mean
    axes = families.Principal.of(centred)
    plain = families.Principal(axes.axes, np.ones_like(axes.variance))
    anchors = families.voronoi(np.random.default_rng(0), 1 << KEY_BITS, plain, centred)
    space = families.whitening(plain)
    return replace(hasher, key_map=space, key_points=anchors[np.newaxis])


RANKINGS = (
    ("asymmetric", f"margins {TIMES} bits, length corrected", BLUE, ""),
    ("uncorrected", f"margins {TIMES} bits", GREEN, "6 4"),
    ("hamming", "equal bits (Hamming)", RED, ""),
)


def ranking_scores(hasher: Hasher, trial: Trial) -> dict[str, Floats]:
    """Scores (q, n) of every item by its code, in the three ways compared."""
    packed, corrections, additions = hasher.codes(trial.items)
    bits = np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32)
    signs = 2 * bits - 1
    raw = hasher.prepare(trial.queries).margins @ signs.T
    query_bits = np.unpackbits(hasher.query_codes(trial.queries), axis=1, bitorder="little")
    equal = (2 * query_bits.astype(np.float32) - 1) @ signs.T
    step = hasher.addition_unit / hasher.correction_unit * 32767
    return {
        "asymmetric": raw * corrections + additions * step,
        "uncorrected": raw,
        "hamming": equal,
    }


def ranking_line(bits: int, name: str, places: Ints) -> str:
    at = "  ".join(f"{d}: {(places < d).mean():.3f}" for d in (10, 20, 50, 100))
    return f"  {bits} bits  {name:11s} {at}"


def draw_ranking(trial: Trial) -> tuple[str, list[str]]:
    canvas = Canvas(720, 366, "Share of the ten nearest items among the best ranked by code")
    numbers = [f"ranking: share of the {K} nearest among the best ranked by the code alone"]
    depths = [round(10 * 10 ** (i / 16)) for i in range(24)]
    for panel, bits in enumerate((128, 256)):
        chart = Chart(canvas, 52 + 346 * panel, 48, 296, 214, (10, 300), (0.4, 1), log=True)
        chart.frame(
            f"{bits} bits", "depth of the exact re-rank (logarithmic)",
            [(10, "10"), (30, "30"), (100, "100"), (300, "300")],
            [(v, f"{v:g}") for v in (0.4, 0.6, 0.8, 1)],
        )  # fmt: skip
        hasher = Hasher.fit(LSHSettings(DIM, code_bits=bits), trial.items)
        scores = ranking_scores(hasher, trial)
        for name, _, colour, dashes in RANKINGS:
            places = place_of(scores[name], trial.nearest)
            ys = [float((places < depth).mean()) for depth in depths]
            chart.curve(depths, ys, colour, stroke_dasharray=dashes or "none")
            numbers.append(ranking_line(bits, name, places))
    for column, (_, words, colour, dashes) in enumerate(RANKINGS):
        legend(canvas, 52 + (0, 268, 424)[column], 338, [(colour, dashes, words)])
    return canvas.svg(), numbers


def memory(trial: Trial) -> list[str]:
    """Bytes per item beside the vectors, as stored."""
    numbers = [f"memory: bytes per item beside the vectors, {ITEMS:,} items, 256 bits"]
    for tables in (1, 2, 4, 8):
        index = LSHIndex(settings=LSHSettings(DIM, tables=tables))
        index.add(np.arange(ITEMS), trial.items)
        (segment,) = index.segments()
        total = sum(getattr(segment, name).nbytes for name in ARRAYS if name != "vectors")
        buckets = 1 << segment.key_bits
        formula = 12 + tables * (36 * (1 + 16 * buckets / ITEMS) + 4 * (tables > 1))
        numbers.append(
            f"  {tables} tables of {buckets} buckets: {total / ITEMS:.1f}, formula {formula:.1f}"
        )
    return numbers


def draw_all() -> dict[str, str]:
    """Every figure and ``numbers.txt``, by file name."""
    trials = {
        "200 clusters": Trial.draw(0, clusters=200),
        "the same spectrum without clusters": Trial.draw(1, clusters=0),
    }
    clustered = trials["200 clusters"]
    collision, on_collision = draw_collision()
    probes, on_probes = draw_probes()
    cells, on_cells = draw_cells(clustered)
    recall, on_recall = draw_recall(trials)
    ranking, on_ranking = draw_ranking(clustered)
    parts = (on_collision, on_probes, on_cells, on_recall, on_ranking, memory(clustered))
    return {
        "hyperplanes.svg": draw_hyperplanes(),
        "collision.svg": collision,
        "probes.svg": probes,
        "cells.svg": cells,
        "recall.svg": recall,
        "ranking.svg": ranking,
        "numbers.txt": "\n\n".join("\n".join(part) for part in parts) + "\n",
    }


def compare(path: Path) -> None:
    """What the figures compare, for the rows of a NumPy file instead of synthetic vectors."""
    vectors = np.load(path).astype(np.float32)
    vectors = np.random.default_rng(0).permutation(vectors)
    trial = Trial.of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    print(f"{len(trial.items):,} items, {trial.items.shape[1]} dimensions, {1 << KEY_BITS} buckets")
    for name, *_ in KEYS:
        print("  " + recall_line(name, visited_items(key_hasher(name, trial), trial)))
    for bits in (128, 256):
        settings = LSHSettings(trial.items.shape[1], code_bits=bits)
        scores = ranking_scores(Hasher.fit(settings, trial.items), trial)
        for name, *_ in RANKINGS:
            print(ranking_line(bits, name, place_of(scores[name], trial.nearest)))


def time_exact() -> None:
    """Exact search (BLAS, a batch) beside the index at its defaults in one thread."""
    rng = np.random.default_rng(0)
    print("items   recall  exact, us/query  index, us/query   ratio")
    for count in (1_000, 5_000, 20_000, 100_000):
        vectors = skewed(rng, count + 200, clusters=200)
        index = LSHIndex(dim=DIM)
        index.add(np.arange(count), vectors[200:])
        found = index.evaluate(vectors[:200], K)
        exact, own = found.exact_seconds * 1e6, found.seconds * 1e6
        print(f"{count:7,}  {found.recall:.3f}  {exact:15.0f}  {own:15.0f}  {exact / own:6.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder to write to")
    parser.add_argument("--vectors", type=Path, help="compare on these, (n, dim), and draw nothing")
    parser.add_argument("--time", action="store_true", help="measure speed instead")
    arguments = parser.parse_args()
    if arguments.time:
        time_exact()
        return
    if arguments.vectors is not None:
        compare(arguments.vectors)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text in draw_all().items():
        (arguments.out / name).write_text(text, encoding="utf-8")
        print(arguments.out / name)
    print((arguments.out / "numbers.txt").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
