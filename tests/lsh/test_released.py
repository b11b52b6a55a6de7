"""Files of every format that was ever released, committed as the code of that time wrote them.

A new format adds a folder to `released`, made by `write` with the code that introduces it; the
others stay as they are.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.lsh import LSHIndex, LSHSettings, linking
from lookalike.lsh.manifest import FORMAT_VERSION
from lookalike.lsh.segment import Factors

RELEASED = Path(__file__).with_name("released")
SETTINGS = {
    "one-table": LSHSettings(20, code_bits=64),
    "paper": LSHSettings.paper(20, tables=2, key_bits=4),
}
RNG = np.random.default_rng(2026)
ROWS = RNG.standard_normal((160, 20)).astype(np.float32)
QUERIES = RNG.standard_normal((4, 20)).astype(np.float32)
FACTORS = Factors((2.5, 2.0, 1.0), (1.0, 1.0, 4.0), 0.25)  # so few items are not measured
REMOVED = np.arange(5, 160, 31)
HELD = np.setdiff1d(np.arange(160), REMOVED)


def write(folder: Path) -> None:
    """What each release's own code ran."""
    for name, settings in SETTINGS.items():
        index = LSHIndex(settings=settings)
        index.add(np.arange(100), ROWS[:100])
        index.add(np.arange(100, 160), ROWS[100:])
        vars(linking).update(LINKED_FROM=1, SCANNED=1)
        index.link()
        state = index._state
        segments = [replace(segment, factors=FACTORS) for segment in state.segments]
        index._state = replace(state, segments=tuple(segments))
        index.remove(REMOVED)
        index.save(folder / name)


def test_the_present_format_is_among_them() -> None:
    assert (RELEASED / f"format-{FORMAT_VERSION}").is_dir()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("folder", sorted(RELEASED.iterdir()), ids=lambda folder: folder.name)
def test_a_released_index_is_searched_changed_and_saved_as_a_present_one(
    folder: Path, name: str, tmp_path: Path
) -> None:
    shutil.copytree(folder / name, tmp_path / "index")
    index = LSHIndex.open(tmp_path / "index")
    assert index.settings == SETTINGS[name]
    assert index.ids.tolist() == HELD.tolist()
    assert index.damaged() == []
    has_links = all(segment.links is not None for segment in index.segments())
    factors = FACTORS if folder.name >= "format-7" else None
    assert all(segment.factors == factors for segment in index.segments())
    assert has_links == (folder.name >= "format-6" and name == "one-table")

    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    cosines = QUERIES @ unit[HELD].T / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    best = np.argsort(-cosines, axis=1)[:, :5]
    for options in ({"exact": True}, {"candidates": 10**6, "rerank": 10**6}):
        found = index.search(QUERIES, 5, **options)
        np.testing.assert_array_equal(found.ids, HELD[best])
        expected = np.take_along_axis(cosines, best, axis=1)
        np.testing.assert_allclose(found.cosines, expected, atol=1e-3)  # kept in float16

    index.add(REMOVED, ROWS[REMOVED])
    index.compact()
    index.save(tmp_path / "index")
    again = LSHIndex.open(tmp_path / "index")
    assert again.ids.tolist() == list(range(160))
    assert again.search(ROWS, 1).ids[:, 0].tolist() == list(range(160))
