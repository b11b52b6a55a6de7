"""What a search takes: images in any form, several at once, and what hits should not look like."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import HALF, embedding, images_of, write_photo, write_photos
from PIL import Image

from lookalike import Blend, Gallery
from lookalike.errors import GalleryError
from lookalike.gallery.rarity import combine
from lookalike.images import SkippedImageError

OPEN: Callable[..., Any] = Gallery.open


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return write_photo(tmp_path / "outside.png", 77)


def test_every_form_of_an_image_finds_the_same(gallery: Gallery, outside: Path) -> None:
    expected = gallery.search(outside, 5)
    image = Image.open(outside)
    forms: list[Any] = [
        str(outside),
        outside.read_bytes(),
        io.BytesIO(outside.read_bytes()),
        image,
        np.asarray(image),
        image.convert("RGBA"),
        embedding(outside).astype(np.float32),
    ]
    for form in forms:
        hits = gallery.search(form, 5)
        assert [hit.path for hit in hits] == [hit.path for hit in expected]
        assert [hit.cosine for hit in hits] == pytest.approx(
            [hit.cosine for hit in expected], abs=HALF
        )
    with outside.open("rb") as file:
        assert gallery.search(file, 5) == expected
    forms[2] = io.BytesIO(outside.read_bytes())  # the first has been read
    lists = gallery.search(forms, 5)
    assert [hits[0].path for hits in lists] == [expected[0].path] * len(forms)
    grey = np.asarray(image.convert("L"))
    assert len(gallery.search(grey, 5)) == 5


def test_a_list_gives_the_hits_of_each_and_leaves_each_itself_out(gallery: Gallery) -> None:
    names = ["a/000.png", "b/001.png", "c/002.png"]
    assert gallery.search(names, 4) == [gallery.search(name, 4) for name in names]
    alone = gallery.search(names, 12, exclude_self=True)
    for name, hits in zip(names, alone, strict=True):
        assert {hit.path for hit in hits} == images_of(gallery.root) - {name}
    assert gallery.search([], 4) == []


def test_of_a_blend_the_mean_direction_is_compared(gallery: Gallery, outside: Path) -> None:
    like: list[str | Path] = ["a/000.png", outside]
    unlike = ["c/002.png"]
    folder = gallery.root
    vectors = {name: embedding(folder / name) for name in images_of(folder)}
    direction = (vectors["a/000.png"] + embedding(outside)) / 2 - 0.25 * vectors["c/002.png"]
    direction /= np.linalg.norm(direction)
    nearest = sorted(vectors, key=lambda name: -float(vectors[name] @ direction))
    hits = gallery.search(Blend(like, unlike), 12, exact=True)
    assert [hit.path for hit in hits] == nearest
    assert [hit.cosine for hit in hits] == pytest.approx(
        [float(vectors[name] @ direction) for name in nearest], abs=HALF
    )
    others = gallery.search(Blend(like, unlike), 12, exclude_self=True)
    assert {hit.path for hit in others} == set(vectors) - {"a/000.png", "c/002.png"}
    once: Any = iter
    assert gallery.search(Blend(once(like), once(unlike)), 12, exclude_self=True) == others


def test_combine_weighs_directions_and_not_lengths() -> None:
    a, b, c = np.eye(3)
    np.testing.assert_allclose(combine([a, 5 * b]), [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(combine([a], [3 * c]), np.array([4, 0, -1]) / 17**0.5, atol=1e-6)
    with pytest.raises(ValueError, match="cancel each other"):
        combine([a, -a])
    with pytest.raises(ValueError, match="zero or not finite"):
        combine([a, 0 * b])
    with pytest.raises(ValueError, match="at least one image"):
        Blend([])


def test_one_path_where_several_are_expected_is_refused(gallery: Gallery) -> None:
    for call in (gallery.encode, gallery.remove, gallery.restore, gallery.exclude, Blend):
        with pytest.raises(TypeError, match=r"'a/000\.png' is one value .* put it in a list"):
            call("a/000.png")


def test_a_file_that_is_open_for_text_is_refused(gallery: Gallery) -> None:
    text: Any = (gallery.root / "a/000.png").open()
    with text, pytest.raises(TypeError, match="must be opened for reading bytes"):
        gallery.search(text)


@pytest.mark.parametrize("value", [0, -3, 2.5, "3", True])
def test_a_count_that_is_not_whole_or_below_one_is_named(gallery: Gallery, value: Any) -> None:
    calls: dict[str, list[Callable[[], object]]] = {
        "k": [
            lambda: gallery.search("a/000.png", value),
            lambda: gallery.outliers(value),
            lambda: gallery.neighbours("a/000.png", value),
        ],
        "depth": [lambda: gallery.themes(depth=value), lambda: gallery.outliers(depth=value)],
        "smallest": [lambda: gallery.themes(smallest=value)],
    }
    for name, some in calls.items():
        for call in some:
            with pytest.raises(
                ValueError, match=f"^{name} is {value!r}; it must be a whole number"
            ):
                call()


def test_a_file_in_place_of_the_gallery_s_folder_is_refused(gallery: Gallery) -> None:
    with pytest.raises(GalleryError, match=r"000\.png is a file; give the folder that holds it"):
        Gallery.open(gallery.root / "a/000.png")
    with pytest.raises(GalleryError, match="name is empty"):
        Gallery.open("")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.int64),
        np.zeros((2, 48), np.float32),
        np.zeros(2, np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
    ],
)
def test_an_array_that_is_neither_pixels_nor_an_embedding_is_refused(
    gallery: Gallery, array: Any
) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(height, width, 3\), or an embedding"):
        gallery.search(array, 3)


def test_an_image_that_changed_is_read_again_also_by_its_path_in_the_gallery(
    gallery: Gallery, photos: Path
) -> None:
    """It was refused as neither a file nor an indexed image."""
    write_photo(photos / "a/000.png", 7)
    (photos / "b/001.png").write_bytes(b"not an image")
    (photos / "c/002.png").unlink()
    for near in (gallery.search("a/000.png", 5), gallery.search(["a/000.png"], 5)[0]):
        assert near == gallery.search(photos / "a/000.png", 5)
        assert near[0].path == "b/007.png" and near[0].cosine == pytest.approx(1, abs=HALF)
    with pytest.raises(SkippedImageError):
        gallery.search("b/001.png")
    assert gallery.search("c/002.png", 1)[0].path == "c/002.png"  # by what is stored


def test_a_forked_process_opens_the_model_again(gallery: Gallery) -> None:
    """OpenVINO's threads are not in it, and it waited for them without end."""
    pixels = np.full((8, 8, 3), 77, np.uint8)
    expected = gallery.search(pixels, 3)
    theirs = gallery._model._encoder
    pid = os.fork()
    if pid == 0:
        try:
            is_same = gallery.search(pixels, 3) == expected
            os._exit(0 if is_same and gallery._model._encoder is not theirs else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert gallery.search(pixels, 3) == expected and gallery._model._encoder is theirs


def test_a_query_that_is_missing_or_unreadable_is_named(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"nothing\.png is neither a file nor an indexed image"):
        gallery.search("nothing.png", 3)
    with pytest.raises(GalleryError, match="neither a file nor an indexed image"):
        gallery.search("a/0\0.png", 3)
    with pytest.raises(GalleryError, match="not an indexed image"):
        gallery.remove(["a/0\0.png"])
    assert "a/0\0.png" not in gallery
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not an image")
    with pytest.raises(SkippedImageError, match=r"bad\.jpg, number 2 of 2"):
        gallery.search(["a/000.png", bad], 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.search("a/000.png", filter=5), "the filter is 5; it must be text"),
        (lambda g: g.embeddings(5), "the filter is 5; it must be text"),
        (lambda g: g.search("a/000.png", threshold="0.5"), "threshold is '0.5'; it must be a"),
        (lambda g: g.duplicates("0.5"), "threshold is '0.5'; it must be a number"),
        (lambda g: g.search(text=5), "words are 5; they must be text"),
        (lambda g: g.search(5), "a query cannot be of the type int; several are given as a list"),
        (lambda g: g.search("a/000.png", expand="off"), "expand is 'off'; it must be True"),
        (lambda g: g.duplicates(kinds="cropped"), "'cropped' is one value where several"),
        (lambda g: g.duplicates(kinds=["crop"]), "'crop' is not a valid Kind"),
        (lambda g: g.duplicates(keep="largest"), "keep is 'largest'; give a KeepRule"),
        (lambda g: g.update(wait="1"), "wait is '1'; it must be a number"),
        (lambda g: OPEN(g.root, max_pixels="1"), "max_pixels is '1'; it must be a whole"),
        (lambda g: OPEN(g.root, max_seconds="1"), "max_seconds is '1'; it must be a"),
        (lambda g: OPEN(g.root, encoder_settings=4), "encoder_settings is 4; give an"),
        (lambda g: OPEN(g.root / "a", lsh=256), "lsh is 256; give an LSHSettings"),
    ],
)
def test_an_option_of_another_type_is_named_with_what_it_must_be(
    gallery: Gallery, call: Callable[[Any], object], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        call(gallery)


# ---- what a gallery holds -----------------------------------------------------------------------


def test_a_gallery_is_a_collection_of_its_images(gallery: Gallery, tmp_path: Path) -> None:
    images = list(gallery)
    assert [image.path for image in images] == sorted(images_of(gallery.root))
    assert len(gallery) == 12
    first = images[0]
    status = first.file.stat()
    assert first.file == gallery.root / "a/000.png"
    facts = first.width, first.height, first.format, first.bytes
    assert facts == (64, 48, "PNG", status.st_size)
    assert first.changed == datetime.fromtimestamp(status.st_mtime_ns / 1e9)
    assert "a/000.png" in gallery and gallery.root / "a/000.png" in gallery
    assert "a/999.png" not in gallery and 7 not in gallery
    with pytest.raises(GalleryError, match=r"a/999\.png is not an indexed image"):
        gallery.rows_of(["a/000.png", "a/999.png"])
    assert write_photo(tmp_path / "outside.png", 77) not in gallery
    assert [image.path for image in gallery.images("b/")] == [
        f"b/{n:03}.png" for n in (1, 4, 7, 10)
    ]


def test_embeddings_are_those_of_the_files_by_path(gallery: Gallery) -> None:
    ids, paths, vectors = gallery.embeddings()
    assert paths == [image.path for image in gallery]
    assert ids.tolist() == [image.id for image in gallery]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(
        vectors, [embedding(gallery.root / path) for path in paths], atol=HALF
    )
    assert gallery.embeddings("-a/ -b/").vectors.shape == (4, 48)
    assert gallery.embeddings("nothing").vectors.shape == (0, 48)
    with pytest.raises(GalleryError, match="date:soon"):
        gallery.embeddings("date:soon")


def test_an_empty_gallery_finds_nothing(tmp_path: Path, model: Path, outside: Path) -> None:
    (tmp_path / "empty").mkdir()
    gallery = Gallery.open(tmp_path / "empty", model=model)
    assert gallery.search(outside, 3) == []
    assert gallery.search(outside, 3, filter="*", threshold=0.5, exclude_self=True) == []
    assert gallery.duplicates() == []
    assert gallery.update().images == 0
    assert gallery.search(outside, 3) == []
    facts = gallery.info()
    assert (facts.images, facts.skipped, facts.pairs) == (0, 0, None)
    assert gallery.verify() == []


def test_tuning_a_small_gallery_takes_force_and_can_be_undone(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 60)
    gallery = Gallery.open(folder, model=model)
    with pytest.raises(GalleryError, match="cannot tune: the index holds 0 items"):
        gallery.tune(force=True)
    gallery.update()
    before = gallery.info()
    assert before.tuning is None
    with pytest.raises(GalleryError, match="has 60 images; below 10,000"):
        gallery.tune()
    with pytest.raises(GalleryError, match=r"cannot tune: target_recall is 2"):
        gallery.tune(2, force=True)
    for target in (0.9, 1.0):  # both times the settings from before the first are noted
        report = gallery.tune(target, 5, force=True)
        facts = gallery.info()
        assert facts.lsh == report.settings != before.lsh
        recall = report.expected.recall
        assert facts.tuning == {"target_recall": target, "k": 5, "recall": recall, "images": 60}
    assert gallery.reset_tuning() == before.lsh
    again = Gallery.open(folder)
    assert (again.info().lsh, again.info().tuning) == (before.lsh, None)
    assert again.verify() == []
    assert len(again.search("a/000.png", 60)) == 60
