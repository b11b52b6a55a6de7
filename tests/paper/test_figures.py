"""Figures: what is drawn equals the data, titles state what the data say, no texts overlap."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from lookalike.paper.collection import Picture
from lookalike.paper.figures import (
    AttendedPictures,
    Captioned,
    CodeExamples,
    DistortionCurves,
    MethodScore,
    PairDistances,
    Search,
    draw_attention,
    draw_buckets,
    draw_failures,
    draw_feedback,
    draw_hamming,
    draw_robustness,
    draw_search_time,
    draw_table,
    draw_top_results,
)
from lookalike.paper.figures.attention import attention_figure
from lookalike.paper.figures.buckets import buckets_figure
from lookalike.paper.figures.feedback import feedback_figure
from lookalike.paper.figures.hamming import hamming_figure
from lookalike.paper.figures.pictures import CROSS, TICK
from lookalike.paper.figures.robustness import robustness_figure
from lookalike.paper.figures.search_time import crossing, search_time_figure
from lookalike.paper.figures.style import RIGHT, WRONG, range_text, save, spread
from lookalike.paper.figures.table import table_figure
from lookalike.paper.figures.top_results import failures_figure, top_results_figure

Found = TypeVar("Found", bound=Artist)
BITS = 64


# ---- data ----------------------------------------------------------------------------------------


def picture(seed: int, height: int = 24, width: int = 32) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def attended() -> AttendedPictures:
    """Two pictures: gates that vary, then gates that hardly do. Channel 7 has the largest gate and
    the strongest map.
    """
    random = np.random.default_rng(0)
    channel = np.stack([random.uniform(0.1, 0.8, 40), random.uniform(0.499, 0.501, 40)])
    channel[:, 7] = 0.9, 0.502
    spatial = np.stack([random.uniform(0.2, 0.7, (6, 6)), random.uniform(0.498, 0.502, (6, 6))])
    before = random.exponential(size=(2, 40, 6, 6))
    before[:, 7, 2, 3] = 20
    pictures = [picture(1), picture(2, 40, 30)]
    return AttendedPictures(pictures, ["horses", "buses"], channel, spatial, before)


def pairs() -> PairDistances:
    degrees = np.array([30.0, 30.0, 60.0, 90.0, 90.0])
    return PairDistances(
        np.cos(np.radians(degrees)),
        np.array([10, 12, 20, 30, 34]),
        np.array([True, True, True, False, False]),
        BITS,
    )


def examples() -> CodeExamples:
    three = (
        Captioned(picture(1), "buses"),
        Captioned(picture(2, 30, 20), "horses"),
        Captioned(picture(3), "horses"),
    )
    return CodeExamples(three, np.array([[0, 31, 33], [31, 0, 9], [33, 9, 0]]))


def search(*names: str) -> Search:
    """A query of horses and results of the classes named."""
    found = (Captioned(picture(i, 20 + 10 * (i % 2)), name) for i, name in enumerate(names))
    return Search(Captioned(picture(9), "horses"), tuple(found))


def changed() -> list[tuple[str, Search]]:
    return [
        ("no change", search("horses", "horses", "horses")),
        ("rotated 30°", search("horses", "buses", "food")),
    ]


def failures() -> list[Search]:
    return [search("buses", "buses", "food"), search("horses", "a class of a very long name", "3")]


def curves() -> list[DistortionCurves]:
    turned = DistortionCurves(
        "rotation",
        "degrees",
        np.array([-90.0, -30, 0, 30, 90]),
        {"ours": np.array([0.2, 0.85, 0.9, 0.8, 0.1]), "SIFT": np.array([0.3, 0.4, 0.5, 0.4, 0.3])},
        neutral=0,
        aim=(-30, 30),
    )
    noisy = DistortionCurves(
        "noise",
        "grey levels",
        np.array([0.0, 10, 40]),
        {"ours": np.array([0.9, 0.88, 0.5]), "SIFT": np.array([0.5, 0.49, 0.5])},
        neutral=0,
        aim=(0, 20),
    )
    return [turned, noisy]


SIZES = np.array([1e3, 1e4, 1e5, 1e6])
EXHAUSTIVE = SIZES * 1e-8  # seconds; equal to the other at 20,000
HASHED = np.full(4, 2e-4)
P20 = np.array([[0.7, 0.8, 0.9], [0.8, 0.9, 1.0]])
MAP = np.array([[0.5, 0.6, 0.7], [0.6, 0.7, 0.8]])
SCORES = [
    MethodScore("SIFT", 0.41, 0.02, 0.77),
    MethodScore("ours", 0.95, 0.01, 0.96, own=True),
    MethodScore("CNN", 0.9, 0.01),
]
TABLES = [np.array([1, 1, 2, 0, 12]), np.array([4, 4, 4, 3, 1])]

DRAWN: dict[str, tuple[Callable[[], Figure], Callable[[Path], None]]] = {
    "attention": (lambda: attention_figure(attended()), lambda p: draw_attention(attended(), p)),
    "hamming": (
        lambda: hamming_figure(pairs(), examples()),
        lambda p: draw_hamming(pairs(), p, examples()),
    ),
    "buckets": (lambda: buckets_figure(TABLES, 16), lambda p: draw_buckets(TABLES, 16, p)),
    "top results": (
        lambda: top_results_figure(changed()),
        lambda p: draw_top_results(changed(), p),
    ),
    "failures": (
        lambda: failures_figure(failures(), [0.0, 0.1], 100),
        lambda p: draw_failures(failures(), [0.0, 0.1], 100, p),
    ),
    "robustness": (lambda: robustness_figure(curves()), lambda p: draw_robustness(curves(), p)),
    "search time": (
        lambda: search_time_figure(SIZES, EXHAUSTIVE, HASHED, [0.99, 0.98, 0.97, 0.98]),
        lambda p: draw_search_time(SIZES, EXHAUSTIVE, HASHED, p, [0.99, 0.98, 0.97, 0.98]),
    ),
    "feedback": (lambda: feedback_figure(P20, MAP, 20), lambda p: draw_feedback(P20, MAP, 20, p)),
    "table": (lambda: table_figure(SCORES, "corel1k"), lambda p: draw_table(SCORES, "corel1k", p)),
}


# ---- reading a figure ----------------------------------------------------------------------------


def title(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ").replace("\u00a0", " ")


def artists(figure: Figure, kind: type[Found]) -> list[Found]:
    return [artist for artist in figure.findobj(kind) if isinstance(artist, kind)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in artists(figure, Text) if text.get_text()]


def points(axes: Axes, number: int) -> NDArray[np.float64]:
    """(n, 2) of a line."""
    return np.asarray(axes.lines[number].get_xydata(), np.float64)


def values(drawn: ScalarMappable) -> NDArray[np.float64]:
    """Of a heat map, before they become colours."""
    array = drawn.get_array()
    assert array is not None
    return array


def shown_texts(figure: Figure) -> list[Text]:
    """All but the labels of ticks outside the axes' limits, which matplotlib leaves out."""
    outside: set[int] = set()
    for axis in artists(figure, Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                outside |= {id(tick.label1), id(tick.label2)}
    found = [t for t in artists(figure, Text) if t.get_text().strip() and t.get_visible()]
    return [text for text in found if id(text) not in outside]


# ---- all figures ---------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """A figure, its file, and the file of another call."""

    figure: Figure
    file: Path
    again: Path


@pytest.fixture(scope="module", params=DRAWN)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    compose, draw = DRAWN[request.param]
    folder = tmp_path_factory.mktemp("figures")
    found = Drawn(compose(), folder / "one.png", folder / "two.png")
    save(found.figure, found.file)
    draw(found.again)
    return found


def test_the_file_is_a_marked_png_1500_pixels_wide_and_the_same_each_time(drawn: Drawn) -> None:
    assert drawn.file.read_bytes() == drawn.again.read_bytes()
    with Image.open(drawn.file) as image:
        image.load()
        assert (image.format, image.width) == ("PNG", 1500)
        assert 400 < image.height < 2000


def test_every_text_is_on_the_page_and_no_two_overlap(drawn: Drawn) -> None:
    figure = drawn.figure  # laid out when its file was written
    # A pixel each side: boxes hold the font's full height, ink or not.
    boxes = [(text.get_text(), text.get_window_extent().padded(-1)) for text in shown_texts(figure)]
    assert len(boxes) > 5
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), (one, other)


# ---- attention -----------------------------------------------------------------------------------


def test_attention_says_its_ranges_and_which_gates_hardly_vary() -> None:
    given = attended()
    flat = AttendedPictures(
        given.pictures[1:], given.names[1:], given.channel[1:], given.spatial[1:], given.before[1:]
    )
    low, high = given.channel.min(), given.channel.max()
    assert f"channel gates {low:.2f} to {high:.2f}" in title(attention_figure(given))
    assert "constant" not in title(attention_figure(given))
    assert title(attention_figure(flat)).endswith(
        "; spatial and channel nearly constant within each picture"
    )


def test_attention_does_not_stretch_noise_and_draws_the_gates_as_they_are() -> None:
    given = attended()
    axes = attention_figure(given).axes
    heats = [a.images[1] for a in axes if len(a.images) == 2]
    for heat, gate in zip(heats, given.spatial, strict=True):
        np.testing.assert_array_equal(values(heat), gate)
    assert heats[0].get_clim() == pytest.approx((given.spatial[0].min(), given.spatial[0].max()))
    low, high = heats[1].get_clim()
    assert high - low == pytest.approx(0.1) and low < 0.498 and high > 0.502
    curves_ = [points(a, 0)[:, 1] for a in axes if a.get_xlabel() == "rank of the channel"]
    for curve, gates in zip(curves_, given.channel, strict=True):
        np.testing.assert_array_equal(curve, np.sort(gates)[::-1])


def test_attention_shows_maps_of_channels_that_fire_before_and_after_both_gates() -> None:
    """Channels 7, 20 and 31 fire; 7 has the largest gate of all, 20 the smallest of these."""
    given = attended()
    given.before[0] /= 100
    given.before[0, [7, 20, 31], 2, 3] = 3, 2, 2.5
    given.channel[0, [20, 31]] = 0.05, 0.15
    figure = attention_figure(given)
    told = [text for text in texts(figure) if text.startswith("no. ")]
    assert told[:3] == ["no. 7\ngate 0.90", "no. 31\ngate 0.15", "no. 20\ngate 0.05"]
    by_name = {axes.get_ylabel(): axes.images[0] for axes in figure.axes[::-1] if axes.images}
    before = given.before[0, 7]
    np.testing.assert_array_equal(values(by_name["before"]), before)
    after = before * given.channel[0, 7] * given.spatial[0]
    np.testing.assert_allclose(values(by_name["after"]), after)


def test_attention_refuses_gates_that_do_not_fit_the_maps() -> None:
    given = attended()
    with pytest.raises(ValueError, match=r"\(2, 39\) and \(2, 6, 6\) do not fit .*\(2, 40, 6, 6\)"):
        dataclasses.replace(given, channel=given.channel[:, 1:])
    with pytest.raises(ValueError, match="1 pictures and 2 names for 2 feature maps"):
        dataclasses.replace(given, pictures=given.pictures[:1])


# ---- codes ---------------------------------------------------------------------------------------


def test_hamming_counts_each_pair_once_in_the_panel_of_its_kind() -> None:
    panels = hamming_figure(pairs()).axes[:2]
    for axes, count in zip(panels, (3, 2), strict=True):
        assert values(axes.collections[0]).sum() == count


def test_hamming_draws_bits_times_angle_over_pi_and_states_medians_and_error() -> None:
    figure = hamming_figure(pairs())
    line = points(figure.axes[0], 0)
    np.testing.assert_allclose(line[:, 1], BITS * np.radians(line[:, 0]) / math.pi)
    off = np.array([10, 12, 20, 30, 34]) - BITS * np.array([30, 30, 60, 90, 90]) / 180
    rms = math.sqrt(np.mean(off**2))
    assert title(figure) == (
        "Codes of the same class differ in 12 of 64 bits, of other classes in 32 (medians); "
        f"random hyperplanes predict a pair within {rms:.1f} bits (RMS)"
    )


def test_hamming_draws_pairs_of_one_kind_alone() -> None:
    given = pairs()
    figure = hamming_figure(dataclasses.replace(given, same_class=np.ones(5, np.bool_)))
    figure.draw_without_rendering()
    assert "of other classes in none (medians)" in title(figure)
    assert values(figure.axes[0].collections[0]).sum() == 5


def test_hamming_writes_the_three_distances_of_its_examples() -> None:
    found = texts(hamming_figure(pairs(), examples()))
    assert [text for text in found if text.endswith(" bits")] == ["31 bits", "9 bits", "33 bits"]


def test_buckets_are_counted_in_doubling_bins_and_the_title_adds_them_up() -> None:
    figure = buckets_figure(TABLES, 16)
    # Sizes in use: 1 1 2 12, 4 4 4 3 1.
    heights = [round(patch.get_height()) for patch in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights == [3, 2, 3, 1]
    assert title(figure) == (
        "2 tables of 16 buckets: 72 % are empty, the largest holds 12 of 16 images, "
        "the median of those in use 3"
    )
    met = sum(size**2 for size in (1, 1, 2, 12, 4, 4, 4, 3, 1)) / 32
    assert points(figure.axes[0], 0)[0, 0] == pytest.approx(met)
    np.testing.assert_array_equal(points(figure.axes[1], 0), [[25, 1], [31.25, 2]])
    np.testing.assert_array_equal(points(figure.axes[2], 0), [[12, 1], [4, 2]])


def test_buckets_refuses_more_buckets_in_use_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"\[4, 5\]; each table needs from 1 to 4"):
        buckets_figure(TABLES, 4)


# ---- searches ------------------------------------------------------------------------------------


def marked(figure: Figure, sign: str, colour: str) -> int:
    """How many pictures have that sign; each must have a frame of that colour."""
    found = [axes for axes in figure.axes if sign in [text.get_text() for text in axes.texts]]
    for axes in found:
        assert to_hex(axes.spines["top"].get_edgecolor()) == colour
    return len(found)


@pytest.mark.parametrize(
    ("compose", "right", "wrong"),
    [
        (lambda: top_results_figure(changed()), 4, 2),
        (lambda: failures_figure(failures(), [0.0, 0.1], 100), 1, 5),
    ],
)
def test_ticks_and_crosses_are_as_many_as_right_and_wrong_results(
    compose: Callable[[], Figure], right: int, wrong: int
) -> None:
    figure = compose()
    assert (marked(figure, TICK, RIGHT), marked(figure, CROSS, WRONG)) == (right, wrong)


def test_top_results_show_every_picture_with_its_class_and_count_in_the_title() -> None:
    searches = changed()
    figure = top_results_figure(searches)
    assert title(figure) == "Right among the first 3: 3 (no change), 1 (rotated 30°)"
    expected = [shown for _, s in searches for shown in (s.query, *s.results)]
    assert len(figure.axes) == len(expected) == 8
    for axes, shown in zip(figure.axes, expected, strict=True):
        np.testing.assert_array_equal(values(axes.images[0]), shown.picture)
        assert axes.get_xlabel().split("\n")[-1] == shown.name


def test_top_results_refuse_rows_of_different_lengths() -> None:
    with pytest.raises(ValueError, match=r"searches of \[1, 3\] results"):
        top_results_figure([*changed(), ("cropped", search("horses"))])


def test_failures_print_precisions_and_name_the_commonest_mistake() -> None:
    figure = failures_figure(failures(), [0.0, 0.1], 1000)
    assert title(figure) == (
        "The 2 worst of 1,000 queries: P@10 0.00 to 0.10; "
        "buses in answer to horses are 2 of 5 mistakes shown"
    )
    assert [axes.get_xlabel() for axes in figure.axes[::4]] == [
        "horses\nP@10 0.00",
        "horses\nP@10 0.10",
    ]
    assert figure.axes[6].get_xlabel() == "a clas…g name"
    with pytest.raises(ValueError, match="1 precisions for 2 searches"):
        failures_figure(failures(), [0.0], 1000)


# ---- curves --------------------------------------------------------------------------------------


def test_robustness_draws_each_curve_and_shades_the_aim() -> None:
    given = curves()
    figure = robustness_figure(given)
    for axes, panel in zip(figure.axes, given, strict=True):
        assert (axes.get_title("left"), axes.get_xlabel()) == (panel.kind, panel.unit)
        for line, scores in zip(axes.lines[1:], panel.scores.values(), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), panel.levels)
            np.testing.assert_array_equal(line.get_ydata(), scores)
        shade = axes.patches[0].get_extents().transformed(axes.transData.inverted())
        assert (shade.x0, shade.x1) == pytest.approx(panel.aim)
    # Worse beyond the aim, at 90 degrees and 40 grey levels, does not count.
    assert (
        title(figure)
        == "Within the levels aimed at, ours loses at most 0.100 mAP: rotation, level 30"
    )


def test_robustness_refuses_curves_without_the_neutral_level_or_of_another_length() -> None:
    one = curves()[0]
    with pytest.raises(ValueError, match=r"need the neutral one, 5"):
        dataclasses.replace(one, neutral=5)
    with pytest.raises(ValueError, match="rotation: 2 scores of ours for 5 levels"):
        dataclasses.replace(one, scores={"ours": np.zeros(2)})


def test_search_time_marks_the_size_at_which_both_are_equal() -> None:
    figure = search_time_figure(SIZES, EXHAUSTIVE, HASHED)
    axes = figure.axes[0]
    np.testing.assert_allclose(points(axes, 0), np.column_stack([SIZES, EXHAUSTIVE * 1e3]))
    np.testing.assert_allclose(points(axes, 1), np.column_stack([SIZES, HASHED * 1e3]))
    np.testing.assert_allclose(points(axes, 3), [[20_000, 0.2]])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert title(figure) == (
        "LSH is the faster from 20,000 images on; at 1,000,000 it is 50 times as fast"
    )


def test_the_crossing_is_the_last_one_and_may_be_none() -> None:
    sizes = [1, 10, 100, 1000]
    assert crossing(sizes, [1, 3, 1, 4], [2, 2, 2, 2]) == pytest.approx(100 * 10**0.5)
    assert crossing(sizes, [1, 1, 1, 1], [2, 2, 2, 2]) is None
    assert crossing(sizes, [3, 1, 1, 1], [2, 2, 2, 1]) is None
    assert crossing(sizes, [3, 3, 3, 3], [2, 2, 2, 2]) == -math.inf
    assert "exhaustive" in title(search_time_figure(SIZES, HASHED, 2 * HASHED)).lower()
    every = title(search_time_figure(SIZES, 2 * HASHED, HASHED))
    assert every == "LSH is the faster at every size measured; at 1,000,000 it is 2 times as fast"
    with pytest.raises(ValueError, match="positive"):
        crossing(sizes, [1, 0, 1, 1], [1, 1, 1, 1])


def test_feedback_draws_the_means_of_the_splits() -> None:
    figure = feedback_figure(P20, MAP, 20)
    np.testing.assert_allclose(points(figure.axes[0], 0), [[0, 0.75], [1, 0.85], [2, 0.95]])
    np.testing.assert_allclose(points(figure.axes[0], 1), [[0, 0.55], [1, 0.65], [2, 0.75]])
    assert title(figure) == (
        "2 rounds of feedback, 20 answers each, raise P@20 from 0.750 to 0.950 "
        "and mAP from 0.550 to 0.750"
    )
    falling = title(feedback_figure(P20[0, ::-1][:2], MAP[0, :2], 5))
    assert falling.startswith("A round of feedback, 5 answers, takes P@20 from 0.900 to 0.800")


def test_the_table_ranks_methods_and_shows_the_papers_numbers_hollow() -> None:
    figure = table_figure(SCORES, "corel1k")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ours", "CNN", "SIFT"]
    lines = {line: np.asarray(line.get_xydata(), np.float64) for line in axes.lines}
    means = [place for line, place in lines.items() if line.get_marker() == "o"]
    np.testing.assert_allclose(np.concatenate(means), [[0.95, 0], [0.9, 1], [0.41, 2]])
    hollow = [place for line, place in lines.items() if line.get_markerfacecolor() == "none"]
    np.testing.assert_allclose(np.concatenate(hollow), [[0.96, 0], [0.77, 2]])
    whiskers = np.array([c.get_segments()[0][:, 0] for c in axes.collections])  # type: ignore[attr-defined]
    np.testing.assert_allclose(whiskers, [[0.94, 0.96], [0.89, 0.91], [0.39, 0.43]])
    assert title(figure) == "corel1k: ours is best, mAP 0.950, 0.050 ahead of CNN"


def test_the_table_claims_no_lead_within_a_standard_deviation() -> None:
    close = [MethodScore("ours", 0.95, 0.01), MethodScore("CNN", 0.945, 0.002)]
    found = title(table_figure(close, "corel1k"))
    assert found == "corel1k: ours is best, mAP 0.950; CNN is within a standard deviation of it"
    one_split = [MethodScore("ours", 0.95, math.nan), MethodScore("CNN", 0.949, 0.002)]
    assert title(table_figure(one_split, "corel1k")) == found


def test_the_table_of_one_split_tells_no_deviation() -> None:
    one_split = [MethodScore("CNN", 0.9, math.nan), MethodScore("ours", 0.95, math.nan)]
    figure = table_figure(one_split, "corel1k")
    assert title(figure) == "corel1k: ours is best, mAP 0.950 on one split, CNN 0.900"
    told = texts(figure)
    assert {"0.950", "0.900", "dot: one split"} <= set(told)
    assert not any("nan" in text or "\u00b1" in text for text in told)
    assert len(figure.axes[0].collections) == 0  # no whiskers


# ---- style ---------------------------------------------------------------------------------------


def test_labels_are_spread_as_little_as_needed_and_keep_their_order() -> None:
    np.testing.assert_allclose(spread([0.5, 0.1, 0.52], 0.1), [0.46, 0.1, 0.56])
    np.testing.assert_allclose(spread([0.99, 1.0], 0.1), [0.9, 1.0])
    np.testing.assert_allclose(spread([0.0, 0.0, 0.0], 0.2), [0, 0.2, 0.4])
    assert spread([], 0.1).shape == (0,)


def test_a_range_has_as_many_decimals_as_show_a_difference() -> None:
    assert range_text(0.31, 0.78) == "0.31 to 0.78"
    assert range_text(0.4981, 0.5019) == "0.498 to 0.502"
    assert range_text(0.5, 0.5004) == "0.5000 to 0.5004"
    assert range_text(0.5, 0.5) == "0.5000 throughout"
