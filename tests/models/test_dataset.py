"""Class folders: what is read, what is refused and in which words, statistics, order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import TrainingError
from lookalike.images import read_image
from lookalike.models.data import (
    LabelledImages,
    balanced_sample,
    check_classes,
    class_folders,
    epoch_batches,
    in_order,
    pixel_statistics,
    read_labelled,
    validation_split,
)


def write(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    Image.fromarray(generator.integers(5, 250, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "photos"
    for name, count in (("zebra", 3), ("ünïcode cats", 2), ("apples", 4)):
        for number in range(count):
            write(home / name / f"{number}.png", seed=number)
    return home


# ---- folders -------------------------------------------------------------------------------------


def test_classes_and_images_come_in_the_order_of_their_names(folder: Path) -> None:
    images, skipped = class_folders(folder)
    assert images.classes == ("apples", "zebra", "ünïcode cats")
    assert images.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert [path.name for path in images.paths[:4]] == ["0.png", "1.png", "2.png", "3.png"]
    assert skipped == ()


def test_what_is_not_in_its_place_is_reported_and_hidden_things_are_not(folder: Path) -> None:
    write(folder / "loose.png")
    write(folder / "apples" / "more" / "deep.png")
    (folder / "readme.txt").write_text("")
    (folder / "apples" / "notes.txt").write_text("")
    write(folder / ".lookalike" / "x.png")
    write(folder / "apples" / "._0.png")
    images, skipped = class_folders(folder)
    assert len(images) == 9
    assert [(s.path.name, s.reason.split(":")[0]) for s in skipped] == [
        ("loose.png", "it is in no class folder"),
        ("more", "it is a folder inside a class"),
    ]


def test_an_empty_class_is_refused(folder: Path) -> None:
    (folder / "bears").mkdir()
    with pytest.raises(TrainingError, match="class 'bears' has no images: put some into"):
        class_folders(folder)
    (folder / "crows").mkdir()
    with pytest.raises(TrainingError, match="classes 'bears', 'crows' have no images"):
        class_folders(folder)


def labelled(*counts: int) -> LabelledImages:
    labels = np.repeat(np.arange(len(counts)), counts)
    paths = tuple(Path(f"{i}.jpg") for i in range(len(labels)))
    return LabelledImages(tuple("abcdef"[: len(counts)]), paths, labels)


@pytest.mark.parametrize(
    ("counts", "needed", "text"),
    [
        ((), 2, "no class folder was found: training compares classes"),
        ((9,), 2, "only one class, 'a', was found: training compares classes"),
        ((9, 0), 2, "class 'b' has no readable image: replace the files"),
        ((9, 1, 1), 2, "classes 'b', 'c' have one image only, so that no other can be found"),
        ((9, 4), 6, "class 'b' has fewer than 6 images: add images, or hold out fewer"),
    ],
)
def test_classes_that_cannot_be_trained_on_are_named(
    counts: tuple[int, ...], needed: int, text: str
) -> None:
    with pytest.raises(TrainingError, match=text):
        check_classes(labelled(*counts), (), needed)
    check_classes(labelled(6, 6), (), 6)


# ---- squares ------------------------------------------------------------------------------------


def test_images_are_those_of_a_search_whether_they_fit_into_memory_or_not(folder: Path) -> None:
    images, _ = class_folders(folder)
    expected = [read_image(path, 20).pixels for path in images.paths]
    for memory in (0, 4 * 3 * 20 * 20, 1 << 20):
        _, squares, _ = read_labelled(images, 20, memory=memory, threads=3)
        assert len(squares.kept) == min(9, memory // 1200)
        assert all(np.array_equal(squares[i], expected[i]) for i in range(9))


def test_unreadable_files_are_left_out_with_their_reason(folder: Path) -> None:
    (folder / "apples" / "1.png").write_bytes(b"")
    (folder / "zebra" / "0.png").write_bytes(b"no image at all")
    images, _ = class_folders(folder)
    reported: list[tuple[int, int]] = []
    readable, squares, skipped = read_labelled(
        images, 8, memory=1 << 20, threads=2, progress=lambda *both: reported.append(both)
    )
    assert [(s.path.parent.name, s.reason.split(":")[0]) for s in skipped] == [
        ("apples", "empty"),
        ("zebra", "not-an-image"),
    ]
    assert readable.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert np.array_equal(squares[3], read_image(folder / "zebra" / "1.png", 8).pixels)
    assert reported == [(i, 9) for i in range(1, 10)]


def test_a_file_that_goes_away_during_training_is_named(folder: Path) -> None:
    images, _ = class_folders(folder)
    _, squares, _ = read_labelled(images, 8, memory=0, threads=1)
    images.paths[2].unlink()
    with pytest.raises(TrainingError, match=r"2\.png could be read when .* put it back and run"):
        squares[2]


def test_work_is_not_started_far_ahead_and_an_error_comes_in_its_turn() -> None:
    started = []

    def function(item: int) -> int:
        started.append(item)
        if item == 4:
            raise RuntimeError("four")
        return item

    work = in_order(function, range(1000), 2, ahead=5)
    got = [next(work) for _ in range(4)]
    with pytest.raises(RuntimeError, match="four"):
        next(work)
    assert got == [0, 1, 2, 3]
    assert len(started) <= 11


# ---- statistics ----------------------------------------------------------------------------------


def test_statistics_equal_those_of_numpy(folder: Path) -> None:
    images, _ = class_folders(folder)
    _, squares, _ = read_labelled(images, 20, memory=1 << 20, threads=2)
    chosen = np.array([0, 3, 5])
    found = pixel_statistics(squares, chosen, 2)
    pixels = squares.kept[chosen].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0), rtol=1e-12)
    assert found.low == tuple(pixels.min(axis=0)) and found.high == tuple(pixels.max(axis=0))
    normalised = (pixels - found.mean) / found.std  # Eq. 1 and 2
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.ptp(normalised, axis=0), 1)


# ---- splits and order ----------------------------------------------------------------------------

LABELS: NDArray[np.int64] = np.repeat(np.arange(3), (30, 5, 2))


def test_validation_takes_a_share_of_each_class_and_leaves_one() -> None:
    training, held = validation_split(LABELS, 0, 0.1)
    assert np.bincount(LABELS[held]).tolist() == [3, 1, 1]
    assert np.array_equal(np.sort(np.append(training, held)), np.arange(37))
    assert np.array_equal(held, validation_split(LABELS, 0, 0.1)[1])
    assert not np.array_equal(held, validation_split(LABELS, 1, 0.1)[1])


def test_a_sample_takes_classes_in_turn_and_none_is_left_out() -> None:
    assert np.bincount(LABELS[balanced_sample(LABELS, 0, 12)]).tolist() == [5, 5, 2]
    assert np.bincount(LABELS[balanced_sample(LABELS, 0, 20)]).tolist() == [13, 5, 2]
    assert np.bincount(LABELS[balanced_sample(LABELS, 0, 1)]).tolist() == [1, 1, 1]
    assert np.array_equal(balanced_sample(LABELS, 0, 99), np.arange(37))
    assert not np.array_equal(balanced_sample(LABELS, 0, 12), balanced_sample(LABELS, 1, 12))


@pytest.mark.parametrize("group", [1, 4])
def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(group: int) -> None:
    first = epoch_batches(LABELS, 0, 1, 8, group)
    assert np.array_equal(np.sort(np.concatenate(first)), np.arange(37))
    assert [len(batch) for batch in first] == [8, 8, 8, 8, 5]
    again = epoch_batches(LABELS, 0, 1, 8, group)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (epoch_batches(LABELS, 0, 2, 8, group), epoch_batches(LABELS, 1, 1, 8, group)):
        assert not np.array_equal(np.concatenate(first), np.concatenate(other))


def test_groups_put_images_of_a_class_side_by_side() -> None:
    labels = np.repeat(np.arange(10), 8)
    for batch in epoch_batches(labels, 0, 1, 16, group=4):
        assert set(np.bincount(labels[batch], minlength=10)) <= {0, 4, 8, 12, 16}


def test_a_last_image_alone_joins_the_batch_before() -> None:
    assert [len(batch) for batch in epoch_batches(LABELS, 0, 1, 9)] == [9, 9, 9, 10]
