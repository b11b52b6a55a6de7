"""Search by words, with a model whose embeddings lie in two cones, of images and of words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import lookalike
from fakes import updated
from numpy.typing import NDArray
from towers import COLOURS, write_colours

from lookalike import Blend, Gallery, Words
from lookalike.errors import NoWordsError
from lookalike.gallery.rarity import PairStatistics

K = 12
OTHERS = ("seal", "lunar", "kiln", "diving", "cable", "knee", "bath", "rover", "press", "iron")


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory, towers: Path) -> Gallery:
    folder = tmp_path_factory.mktemp("photos")
    write_colours(folder, K)
    return updated(folder, model=towers)


def colours(hits: list[object]) -> list[str]:
    return [str(hit.path).partition("/")[0] for hit in hits]  # type: ignore[attr-defined]


@pytest.mark.parametrize("colour", COLOURS)
def test_words_find_what_they_name_in_the_order_of_the_cosines(
    coloured: Gallery, colour: str
) -> None:
    hits = coloured.search(text=f"a {colour}", k=3 * K)
    assert colours([*hits[:K]]) == [colour] * K
    ids, _, vectors = coloured.embeddings()
    query = coloured.encoder().words().embed(f"a {colour}")
    cosines = dict(zip(ids.tolist(), (vectors @ query).tolist(), strict=True))
    assert [hit.cosine for hit in hits] == pytest.approx(sorted(cosines.values())[::-1], abs=2e-3)
    assert not hits.is_chance


def test_a_score_of_words_is_judged_by_unrelated_words_and_not_by_pairs_of_images(
    coloured: Gallery,
) -> None:
    hits = coloured.search(Words("red"), k=3 * K)
    assert hits[0].cosine < 0.5  # as of no two images here
    pairs = coloured.info().pairs
    assert pairs is not None and pairs.shares_below([hits[0].cosine]) == [0.0]
    assert hits[0].rarity is not None and hits[0].rarity > 0.95
    assert hits[-1].rarity is not None and hits[-1].rarity < 0.5
    assert sorted((hit.rarity or 0 for hit in hits), reverse=True) == [h.rarity for h in hits]
    assert hits[0].rarity <= 1 - 1 / (64 * 3 * K)  # of so many scores of unrelated words


def test_words_that_nothing_here_shows_are_said_to_find_nothing_alike(coloured: Gallery) -> None:
    pairs = [(first, second) for first in OTHERS for second in OTHERS if first < second]
    texts = [f"a photo of a {first} {second}" for first, second in pairs]
    chance = [hits.is_chance for hits in coloured.search([Words(text) for text in texts], k=1)]
    assert sum(chance) >= 0.6 * len(chance)  # three quarters, by how the scale is made
    assert not any(coloured.search(text=f"{colour} photo").is_chance for colour in COLOURS)


def test_words_and_images_count_alike_and_what_is_not_wanted_goes_down(
    coloured: Gallery,
) -> None:
    both = coloured.search("red/00.png", k=2 * K, text="blue")
    assert set(colours([*both])) == {"red", "blue"}
    without = coloured.search(Blend([Words("a photo"), "red/00.png"], [Words("green")]), k=2 * K)
    assert colours([*without])[:K] == ["red"] * K
    blend = Blend(["red/00.png", "green/01.png"], [Words("green")])
    assert colours([*coloured.search(blend, k=K)]) == ["red"] * K
    assert both[0].rarity is not None


def test_what_is_unlike_all_means_nothing_in_a_cone_where_every_cosine_is_high() -> None:
    rng = np.random.default_rng(0)

    def cone(n: int) -> NDArray[np.float32]:
        rows = np.concatenate([np.full((n, 1), 25.0), rng.normal(size=(n, 100))], axis=1)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    images = cone(400)
    pairs = PairStatistics.measure(images, np.arange(400))
    assert pairs is not None and pairs.cosines[0] > 0.7
    near = images[0] + 0.2 * cone(1)[0]
    near /= np.linalg.norm(near)
    best = float(near @ images[0])
    typical = float(np.median(images @ cone(1)[0]))
    assert typical > 0.75
    assert pairs.is_chance(typical) and not pairs.is_chance(best)
    assert 0.2 < pairs.shares_below([typical])[0] < 0.8 < 0.999 < pairs.shares_below([best])[0]


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_takes_words_images_and_what_is_not_wanted(
    coloured: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = coloured.root / "red/00.png"
    monkeypatch.chdir(coloured.root)  # where a folder has the name of the last word
    for words, found in (
        (["a blue photo"], {"blue"}),
        (["--words", "green"], {"green"}),
        ([red, "--words", "blue"], {"red", "blue"}),
        ([red, "green/01.png", "--not", "green"], {"red"}),
        (["blue"], {"blue"}),
    ):
        done = lookalike("search", *words, "--gallery", coloured.root, "--json", "-k", "12")
        hits = json.loads(done.stdout)
        assert len(hits) == K and {hit["path"].partition("/")[0] for hit in hits} <= found


def test_words_for_a_model_that_knows_none_say_that_there_is_no_such_file(
    gallery: Gallery,
) -> None:
    message = "there is no file a red bus; as words: the gallery's model, pooled 1, knows images"
    done = lookalike("search", "a red bus", "--gallery", gallery.root, status=2)
    assert message in done.stderr
    with pytest.raises(NoWordsError, match="lookalike model get clip"):
        gallery.search(text="a red bus")
