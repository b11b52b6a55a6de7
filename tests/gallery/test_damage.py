from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from fakes import assert_holds, updated, write_photos

from lookalike.errors import GalleryDamagedError, GalleryError
from lookalike.gallery import Gallery, files
from lookalike.gallery.store import Store

QUERIES = ("a/000.png", "b/016.png", "c/038.png")
Answers = list[Any]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 40)
    return tmp_path / "photos"


@pytest.fixture
def gallery(photos: Path, model: Path) -> Gallery:
    """With two segments, and rows marked as removed in the first."""
    opened = updated(photos, model=model)
    write_photos(photos / "more", 10, first_seed=300)
    (photos / "bad.png").write_bytes(b"no image")
    opened.update()
    opened.remove(["a/003.png"])
    assert opened.verify() == []
    return opened


def answers(folder: Path) -> Answers:
    """What a fresh process would get, precise enough to notice any damage."""
    opened = Gallery.open(folder, create=False)
    result: Answers = [
        [
            (hit.path, hit.file, round(hit.cosine, 5), hit.bits, hit.rarity)
            for hit in opened.search(query, 60)
        ]
        for query in QUERIES
    ]
    return [*result, [(row.path, row.skipped) for row in opened.skipped()], opened.root]


def assert_same_but_for_bits(before: Answers, after: Answers) -> None:
    """A rebuilt index has hyperplanes around another mean, so that other bits differ; and other
    images may have been drawn to estimate how rare a cosine is.
    """
    for n in range(len(QUERIES)):
        assert [hit[:3] for hit in after[n]] == [hit[:3] for hit in before[n]]
    assert after[len(QUERIES) :] == before[len(QUERIES) :]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def fill_with_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


DAMAGE = [truncate, empty, flip_in_the_middle, fill_with_noise, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("kind", ["manifest", "hasher", "segment", "removed", "gallery.sqlite"])
def test_a_damaged_file_is_refused_named_and_healed(
    gallery: Gallery, photos: Path, decoded: list[str], kind: str, damage: Callable[[Path], None]
) -> None:
    before = answers(photos)
    path = sorted(gallery.directory.glob(f"{kind}*" if "." in kind else f"index/{kind}*"))[0]
    damage(path)
    remedy = f"lookalike verify --repair --gallery {gallery.directory}"
    with pytest.raises(GalleryDamagedError, match=f"{path.name}.*{remedy}"):
        answers(photos)
    assert path.name in " ".join(Gallery.find_damage(photos))
    Gallery.repair(photos)
    healed = updated(photos, create=False)
    assert healed.verify() == []
    assert_same_but_for_bits(before, answers(photos))
    if kind in ("manifest", "hasher", "removed"):  # the vectors are all there
        assert decoded == []


@pytest.mark.parametrize("repair_it", [True, False], ids=["repair", "rebuild"])
def test_what_the_user_said_survives_the_loss_of_the_table(
    gallery: Gallery, photos: Path, model: Path, repair_it: bool
) -> None:
    """What was removed stays out although its file has moved; so does what is not a duplicate."""
    names = "a/000.png", "b/001.png"
    assert gallery.set_distinct([names]) == 1
    pair = tuple(sorted(row.hash or b"" for row in gallery.rows_of(names).values()))
    given_out = max(image.id for image in gallery)
    (gallery.directory / "gallery.sqlite").unlink()
    (photos / "a/003.png").rename(photos / "moved.png")
    if repair_it:
        done = Gallery.repair(photos).done
        assert done[0] == "the table was missing; a new one was made"
        assert "1 removed by you are known from gallery.json and stay out" in done
        assert not (gallery.directory / "gallery.sqlite.damaged").exists()
        healed = Gallery.open(photos, create=False)
    else:
        healed, _ = Gallery.rebuild(photos, model=model)
    with closing(Store.open(gallery.directory / "gallery.sqlite")) as store:
        assert store.distinct() == [pair]
    report = healed.update()
    assert (report.images, report.removed) == (49, 1)
    assert {row.path: row.skipped for row in healed.skipped()}[b"moved.png"] == "removed"
    if repair_it:  # or an old vector would belong to a new file
        assert min(row.id for row in healed.skipped()) > given_out
    healed.restore(["moved.png"])
    assert healed.update().images == 50


def test_rows_on_whole_pages_survive_a_page_of_noise(
    gallery: Gallery, photos: Path, decoded: list[str]
) -> None:
    write_photos(photos / "many", 300, first_seed=1000)
    gallery.update()
    decoded.clear()
    table = gallery.directory / "gallery.sqlite"
    with closing(sqlite3.connect(table)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'images'"
        ).fetchone()
    content = bytearray(table.read_bytes())
    page = 4096
    # The table's root holds, after its header of 12 bytes, offsets of cells: the children.
    start = (root - 1) * page
    cells = int.from_bytes(content[start + 3 : start + 5])
    assert content[start] == 5, "the table has outgrown one page"
    assert cells >= 4
    cell = start + int.from_bytes(content[start + 12 + 2 * 2 : start + 12 + 2 * 3])
    child = int.from_bytes(content[cell : cell + 4])
    content[(child - 1) * page : child * page] = np.random.default_rng(0).bytes(page)
    table.write_bytes(content)
    with pytest.raises(GalleryDamagedError):
        Gallery.open(photos)
    Gallery.repair(photos)
    healed = Gallery.open(photos)
    report = healed.update()
    assert report.images == 349
    assert 0 < len(decoded) < 100  # only those on the lost page
    assert (gallery.directory / "gallery.sqlite.damaged").exists()
    assert healed.verify() == []


@pytest.mark.slow
@pytest.mark.parametrize(("checked_on_open", "flips"), [(8 << 20, 500), (0, 150)])
def test_no_single_flipped_byte_of_the_table_gives_a_wrong_answer(
    gallery: Gallery,
    photos: Path,
    checked_on_open: int,
    flips: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "CHECKED_ON_OPEN", checked_on_open)
    before = answers(photos)
    table = gallery.directory / "gallery.sqlite"
    whole = table.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in [*range(0, 200, 3), *rng.integers(0, len(whole), flips).tolist()]:
        content = bytearray(whole)
        content[position] ^= 1 << int(rng.integers(8))
        table.write_bytes(content)
        try:
            found = answers(photos)
        except GalleryError as error:
            assert isinstance(error, GalleryDamagedError) or "schema version" in str(error)
            refused += 1
        else:
            assert found == before, position
    assert refused > 50
    table.write_bytes(whole)
    assert answers(photos) == before


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_copy_of_the_identity_is_named_and_healed(
    gallery: Gallery, photos: Path, damage: Callable[[Path], None]
) -> None:
    before = answers(photos)
    damage(gallery.directory / "gallery.json")
    assert answers(photos) == before  # only a repair uses it
    assert "gallery.json is " in " ".join(Gallery.find_damage(photos))
    Gallery.repair(photos)
    assert Gallery.find_damage(photos) == []


def test_without_table_and_identity_a_repair_names_the_remedy(
    gallery: Gallery, photos: Path, model: Path
) -> None:
    empty(gallery.directory / "gallery.sqlite")
    (gallery.directory / "gallery.json").unlink()
    command = f"lookalike index --rebuild --gallery {gallery.directory}$"
    with pytest.raises(GalleryDamagedError, match=command):
        Gallery.repair(photos)
    rebuilt, report = Gallery.rebuild(photos, model=model)
    assert (report.images, report.skipped) == (50, 1)
    (photos / "bad.png").unlink()
    rebuilt.update()
    assert_holds(rebuilt, photos)


def failing(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_an_image_that_rotted_on_disk_is_named_when_contents_are_compared(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos / "a/000.png"
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert gallery.verify() == []
    (problem,) = gallery.verify(contents=True)
    assert problem.startswith(f"{path}: the content has changed but not size and time")
    assert "restore the file from a copy" in problem
    with monkeypatch.context() as patch:  # a disk that fails
        patch.setattr("lookalike.images.pixels.open_source", failing)
        problems = gallery.verify(contents=True)
        assert len(problems) == len(gallery)
        assert all("unreadable: it cannot be read (Input/output error)" in p for p in problems)
        patch.setattr("lookalike.gallery.rows.ImageRow.fits", failing)  # as stat would
        assert gallery.verify(contents=True) == problems
        path.rename(photos / "gone.png")
    assert gallery.verify(contents=True) == []  # it has gone
    (photos / "gone.png").rename(path)
    path.touch()  # as the remedy says, if it was meant
    gallery.update()
    assert gallery.verify(contents=True) == []
