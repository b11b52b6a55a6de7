from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import embedding, updated, write_photo, write_photos

from lookalike.gallery import Gallery
from lookalike.gallery.rarity import PairStatistics


def share_below(vectors: list[np.ndarray], cosine: float) -> float:
    """By counting the pairs, half of those that are equally alike."""
    pairs = [a @ b for a, b in itertools.combinations(vectors, 2)]
    return float(np.mean([(c < cosine) + 0.5 * (c == cosine) for c in pairs]))


def test_the_rarity_of_a_hit_is_the_share_of_pairs_less_alike(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "photos"
    paths = write_photos(folder, 40)
    gallery = updated(folder, model=model)
    vectors = [embedding(path) for path in paths]
    outside = write_photo(tmp_path / "outside.png", 77)
    hits = gallery.search(outside, 40)
    assert len(hits) == 40
    for hit in hits:
        assert hit.rarity is not None
        # Quantiles are kept in steps of 0.01; 780 pairs lie 1 / 780 apart.
        assert hit.rarity == pytest.approx(share_below(vectors, hit.cosine), abs=0.005)
    assert hits[0].rarity > 0.9  # type: ignore[operator]


def test_the_rarest_score_claims_no_more_than_the_pairs_can_show() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    statistics = PairStatistics.measure(vectors, np.arange(20))
    assert statistics is not None
    lowest, highest = statistics.shares_below([-1.0, 1.0])
    assert highest <= 1 - 1 / 190
    assert highest == pytest.approx(0.99, abs=0.006)
    assert lowest == 0.0
    assert PairStatistics.from_dict(statistics.as_dict()) == statistics


def test_in_a_gallery_of_few_large_classes_their_own_images_mean_something() -> None:
    rng = np.random.default_rng(1)
    classes = rng.standard_normal((9, 200))

    def images(kind: int, count: int) -> np.ndarray:
        rows = classes[kind] + rng.standard_normal((count, 200))
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    shown = np.concatenate([images(kind, 100) for kind in range(8)])
    pairs = PairStatistics.measure(shown, np.arange(len(shown)))
    assert pairs is not None
    own = (images(0, 20) @ shown.T).max(axis=1)
    foreign = (images(8, 20) @ shown.T).max(axis=1)
    assert np.interp(0.98, pairs.levels, pairs.cosines) > own.min()  # as alike as many pairs
    assert not any(map(pairs.is_chance, own))
    assert all(map(pairs.is_chance, foreign))


def test_the_statistics_follow_when_images_are_exchanged_for_others(
    gallery: Gallery, photos: Path
) -> None:
    def pairs() -> PairStatistics:
        found = gallery.info().pairs
        assert found is not None
        return found

    write_photos(photos, 40)
    gallery.update()
    before = pairs()
    write_photo(photos / "a/000.png", 200)  # one of forty goes, one comes: less than a tenth
    gallery.update()
    assert pairs() == before
    for name in "abc":
        shutil.rmtree(photos / name)
    write_photos(photos, 40, first_seed=300)
    gallery.update()
    after = pairs()
    assert after.images == before.images == 40
    assert after.cosines != before.cosines
