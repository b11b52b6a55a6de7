"""A gallery's folder is input: whatever is in it, queries are answered rightly or refused with an
error that lookalike means, and nothing outside is touched.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path

import pytest
from fakes import assert_holds, updated, write_photos
from forged_tables import altered, forge_entry, forge_identity, forge_row, identity_of, meta_of

from lookalike.atomic import IrregularFileError
from lookalike.errors import GalleryDamagedError, GalleryError, LookalikeError
from lookalike.gallery import Gallery, schema, store
from lookalike.gallery.identity import read_identity
from lookalike.gallery.places import delete_gallery
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import Store

QUERY = "a/000.png"
Answer = list[tuple[str, float]]


def answer(folder: Path, *, agreeing: bool = True) -> Answer:
    """What a fresh process would find, after asking for everything that a gallery gives.

    ``agreeing``: whether table and index must have the same images.
    """
    opened = Gallery.open(folder, create=False)
    found = [(hit.path, round(hit.cosine, 4)) for hit in opened.search(QUERY, 60)]
    known = opened.info().images
    snapshot = opened.reader().now()
    rows = snapshot.rows(snapshot.matching(None).tolist())
    if agreeing:
        assert known == len(found)
        assert {os.fsdecode(row.path) for row in rows.values()} == {path for path, _ in found}
    opened.skipped()
    opened.duplicates()
    opened.verify()
    return found


def is_refused(folder: Path, expected: Answer) -> bool:
    """Whether the gallery is; else its answers are ``expected``, and it can be updated."""
    try:
        found = answer(folder)
    except GalleryError:
        assert Gallery.find_damage(folder) != []
        return True
    assert found == expected
    return False


@pytest.fixture
def whole(gallery: Gallery, photos: Path) -> bytes:
    """The content of the table of `gallery`, with a skipped and a removed file and a tuning."""
    (photos / "bad.txt.jpg").write_bytes(b"no image")
    gallery.update()
    gallery.remove(["c/002.png"])
    gallery.tune(k=2, target_recall=0.5, force=True)
    return (gallery.directory / "gallery.sqlite").read_bytes()


# ---- forged values -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "model_path", "root", "pairs", "tuning", "flags"])
def test_every_forged_entry_of_the_table_is_refused_or_harmless(
    gallery: Gallery, photos: Path, whole: bytes, name: str
) -> None:
    table = gallery.directory / "gallery.sqlite"
    expected, meta = answer(photos), meta_of(table)
    names = {"flags": ("unfinished", "gallery_id", "devices")}.get(name, (name,))
    meta["root"] = [os.fsencode(photos).hex(), b"..".hex()]
    refused = count = 0
    for entry in names:
        for _, text in altered(meta.get(entry)):
            table.write_bytes(whole)
            forge_entry(table, entry, text)
            count += 1
            refused += is_refused(photos, expected)
    assert refused > count // 3, (refused, count)
    Gallery.repair(photos)
    assert answer(photos) == expected


@pytest.mark.slow
def test_every_forged_identity_is_taken_for_damage_or_harmless(
    gallery: Gallery, photos: Path, whole: bytes, tmp_path: Path
) -> None:
    path = gallery.directory / "gallery.json"
    shutil.copytree(gallery.directory, tmp_path / "whole")
    expected = answer(photos)
    document = identity_of(path)
    document["root"] = [os.fsencode(photos).hex(), b"..".hex()]
    for what, text in altered(document):
        forge_identity(path, text)
        assert answer(photos) == expected, what
        if read_identity(gallery.directory) is None:
            assert any("gallery.json is damaged" in line for line in Gallery.find_damage(photos))
        if "other" in what or what.endswith(("is x", "is null", "is large", "is nul")):
            (gallery.directory / "gallery.sqlite").unlink()
            with suppress(GalleryError):  # a repair makes the table from it
                Gallery.repair(photos)
                assert Gallery.find_damage(photos) == []
            shutil.rmtree(gallery.directory)
            shutil.copytree(tmp_path / "whole", gallery.directory)


@pytest.mark.parametrize("column", [field.name for field in fields(ImageRow)])
def test_every_forged_value_of_a_row_is_refused_or_harmless(
    gallery: Gallery, photos: Path, whole: bytes, column: str
) -> None:
    table = gallery.directory / "gallery.sqlite"
    expected = answer(photos)
    values = [None, -1, 0, 7, 1 << 62, -(1 << 63), 1.5, "", "x", "\0", b"", b"x", b"\0", b"\xff"]
    outside = [
        b"/etc/passwd",
        b"../x.png",
        b"a/../../x",
        b"a//000.png",
        b"./a/000.png",
        "a/000.png",
    ]
    for value in [*values, *outside]:
        for path in (b"a/000.png", b"c/002.png"):
            table.write_bytes(whole)
            with suppress(sqlite3.IntegrityError):  # SQLite itself does not take it
                forge_row(table, path, column, value)
            try:
                found = answer(photos, agreeing=column != "skipped")
            except LookalikeError:
                continue
            if column not in ("id", "path", "skipped"):  # a query that looks changed is read again
                assert [name for name, _ in found] == [name for name, _ in expected]
                assert dict(found) == pytest.approx(dict(expected), abs=2e-4)
            names = {name for name, _ in found}
            assert names <= {name for name, _ in expected} | {"x", "\udcff"}, value
            with suppress(LookalikeError):
                Gallery.open(photos, create=False).update()


# ---- what is in the place of a file --------------------------------------------------------------


def link(path: Path, precious: Path) -> None:
    path.symlink_to(precious)


def pipe(path: Path, precious: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, precious: Path) -> None:
    path.mkdir()


def device(path: Path, precious: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_nothing(path: Path, precious: Path) -> None:
    path.symlink_to(precious.with_name("nothing"))


FILES = (
    "gallery.sqlite",
    "gallery.sqlite-journal",
    "gallery.sqlite-wal",
    "gallery.sqlite-shm",
    "gallery.json",
    ".gallery.json.tmp",
    ".gallery.sqlite.tmp",
    "lock",
    "index",
    "index/manifest.json",
    "index/.manifest.json.tmp",
    "index/hasher",
    "index/segment",
    "thumbnails",
)


@pytest.mark.parametrize("make", [link, pipe, folder, device, link_to_nothing])
@pytest.mark.parametrize("name", FILES)
def test_what_is_not_a_file_of_the_gallery_is_neither_followed_nor_waited_for(
    gallery: Gallery,
    photos: Path,
    tmp_path: Path,
    name: str,
    make: Callable[[Path, Path], None],
) -> None:
    expected = answer(photos)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    place = gallery.directory / name
    if name in ("index/hasher", "index/segment"):
        (place,) = place.parent.glob(f"{place.name}-*")
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    make(place, precious)
    for act in (
        lambda: answer(photos),
        lambda: Gallery.find_damage(photos),
        lambda: Gallery.open(photos, create=False).update(),
        lambda: Gallery.repair(photos),
        lambda: Gallery.open(photos, create=False).update(),
    ):
        with suppress(LookalikeError, IrregularFileError, IsADirectoryError):
            act()
    assert precious.read_bytes() == b"precious"
    assert not precious.with_name("nothing").exists()
    if make is not folder:
        assert answer(photos) == expected
        assert Gallery.find_damage(photos) == []


def test_the_gallerys_own_folder_may_be_a_link(photos: Path, tmp_path: Path, model: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (photos / ".lookalike").symlink_to(disk / "gallery")
    (disk / "gallery").mkdir()
    Gallery.open(photos, model=model).update()
    expected = answer(photos)
    _, report = Gallery.rebuild(photos, model=model)
    assert report.images == 12
    assert answer(photos) == expected
    assert (photos / ".lookalike").is_symlink()
    assert [path.name for path in disk.iterdir()] == ["gallery"]


# ---- SQLite's own ways out -----------------------------------------------------------------------


def forged_journal(table: Path, named: Path | None, pages: int | None = None) -> bytes:
    content = table.read_bytes()
    (page,) = struct.unpack(">H", content[16:18])
    magic = bytes.fromhex("d9d505f920a163d7")
    count = len(content) // page if pages is None else pages
    head = (magic + struct.pack(">IIIII", 0, 0, count, 512, page)).ljust(512, b"\0")
    if named is None:
        return head
    name = os.fsencode(named)
    tail = struct.pack(">I", 0x40000000 // page + 1) + name
    return head + tail + struct.pack(">II", len(name), sum(name)) + magic


@pytest.mark.parametrize("pages", [None, 0, 1 << 31])
def test_a_journal_that_would_delete_a_file_or_cut_or_blow_up_the_table_is_refused(
    gallery: Gallery, photos: Path, tmp_path: Path, pages: int | None
) -> None:
    expected, table = answer(photos), gallery.directory / "gallery.sqlite"
    (precious := tmp_path / "precious").write_bytes(b"precious")
    before, named = table.read_bytes(), precious if pages is None else None
    journal = gallery.directory / "gallery.sqlite-journal"
    journal.write_bytes(forged_journal(table, named, pages))
    message = "names another file" if named else "is of a table of"
    for act in (lambda: answer(photos), gallery.update):
        with pytest.raises(GalleryDamagedError, match=f"{message}.*verify --repair"):
            act()
    assert any(message in line for line in Gallery.find_damage(photos))
    assert table.read_bytes() == before
    Gallery.repair(photos)
    assert answer(photos) == expected
    assert precious.read_bytes() == b"precious"


def test_the_journal_of_a_writer_who_was_killed_is_still_rolled_back(
    gallery: Gallery, photos: Path, tmp_path: Path
) -> None:
    expected, table = answer(photos), gallery.directory / "gallery.sqlite"
    journal = Path(f"{table}-journal")
    with closing(sqlite3.connect(table, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # writes pages before it commits
        connection.execute("BEGIN")
        connection.execute("UPDATE images SET size = size + 1, detail = ?", ("x" * 20_000,))
        killed = table.read_bytes(), journal.read_bytes()
        connection.execute("ROLLBACK")
    table.write_bytes(killed[0])
    journal.write_bytes(killed[1])
    assert answer(photos) == expected
    assert not journal.exists()


SCHEMAS = {
    "a view without end": (
        "ALTER TABLE meta RENAME TO other",
        "CREATE VIEW meta AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) "
        "SELECT 'zz' || x AS name, x AS value, 0 AS checksum FROM r",
    ),
    "images without end": (
        "ALTER TABLE images RENAME TO other",
        "CREATE VIEW images AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) "
        "SELECT x AS id, x AS path, x, x, x, x, x, x, x, x, x, x, x, x, x FROM r",
    ),
    "a trigger": ("CREATE TRIGGER t AFTER DELETE ON images BEGIN DELETE FROM images; END",),
    "another table": ("CREATE TABLE found (path)",),
    "another index": ("CREATE INDEX other ON images (abs(size))",),
    "one index less": ("DROP INDEX images_hash",),
    "one column more": ("ALTER TABLE images ADD COLUMN x AS (abs(size))",),
    "statistics": ("ANALYZE",),
    "a journal of another mode": ("PRAGMA journal_mode = WAL",),
}


@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_another_schema_is_refused_at_once_and_repaired(
    gallery: Gallery, photos: Path, statements: tuple[str, ...]
) -> None:
    expected = answer(photos)
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as connection:
        for statement in statements:
            connection.execute(statement)
    with pytest.raises(GalleryDamagedError, match="verify --repair"):
        answer(photos)
    assert Gallery.find_damage(photos) != []
    Gallery.repair(photos)
    Gallery.open(photos, create=False).update()
    assert answer(photos) == expected


def test_rows_survive_a_flipped_bit_in_the_text_of_the_schema(
    gallery: Gallery, photos: Path, decoded: list[str]
) -> None:
    expected, table = answer(photos), gallery.directory / "gallery.sqlite"
    decoded.clear()
    content = bytearray(table.read_bytes())
    content[content.find(b"images_skipped") + 2] ^= 0x80
    table.write_bytes(content)
    with pytest.raises(GalleryDamagedError, match="verify --repair"):
        answer(photos)
    Gallery.repair(photos)
    Gallery.open(photos, create=False).update()
    assert answer(photos) == expected
    assert decoded == []


def test_a_query_that_does_not_end_is_ended(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STEPS", 1000)
    monkeypatch.setattr(schema, "STEPS_PER_BYTE", 0)
    with closing(Store.open(gallery.directory / "gallery.sqlite")) as opened:
        endless = (
            "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r"
        )
        with pytest.raises(GalleryDamagedError, match="interrupted"):
            list(opened.read(endless))
        assert opened.counts().images == 12


def test_pages_that_lead_to_one_another_again_and_again_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    Store.create(path, {})
    with closing(Store.open(path, write=True)) as opened, opened.transaction():
        opened.put(ImageRow(n, b"%05d.png" % n, 1, 1) for n in range(1, 2000))
    with closing(sqlite3.connect(path)) as table:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'images'"
        start = 4096 * (table.execute(query).fetchone()[0] - 1)
    content = bytearray(path.read_bytes())
    assert content[start] == 5, "the root of the table is a page of references"
    cells = int.from_bytes(content[start + 3 : start + 5])
    places = struct.unpack(f">{cells}H", content[start + 12 : start + 12 + 2 * cells])
    first = content[start + places[0] : start + places[0] + 4]
    for place in places:
        content[start + place : start + place + 4] = first
    path.write_bytes(content)
    with closing(Store.open(path)) as opened:
        with pytest.raises(GalleryDamagedError, match="the id 1 follows"):
            opened.ids()
        with pytest.raises(GalleryDamagedError, match="the id 1 follows"):
            list(opened.indexed())
        assert len(opened.integrity()) > 0


# ---- whose file it is ----------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [None, "gallery.json"])
@pytest.mark.parametrize("manifest", ["index/manifest.json", "index"])
@pytest.mark.parametrize("swapped", [1, 2, 3, 4, 5, 6, 7])
def test_files_of_another_gallery_are_refused_and_no_repair_takes_them_over(
    gallery: Gallery,
    photos: Path,
    tmp_path: Path,
    model: Path,
    lost: str | None,
    manifest: str,
    swapped: int,
) -> None:
    write_photos(tmp_path / "other", 12, first_seed=900)  # as many, with the same ids
    other = updated(tmp_path / "other", model=model)
    expected, theirs, home = answer(photos), answer(other.root), gallery.directory
    parts = ("gallery.sqlite", "gallery.json", manifest)
    chosen = {name for n, name in enumerate(parts) if swapped >> n & 1}
    for name in chosen:
        if (home / name).is_dir():
            shutil.rmtree(home / name)
            shutil.copytree(other.directory / name, home / name)
        else:
            (home / name).write_bytes((other.directory / name).read_bytes())
    if lost:
        (home / lost).unlink()
    alone = ("index" in chosen) != ("gallery.sqlite" in chosen)
    if alone and "index/manifest.json" not in chosen:
        for act in (lambda: answer(photos), gallery.update):
            with pytest.raises(GalleryDamagedError, match=r"belongs to the index.*verify --repair"):
                act()
        assert any("belongs to the index" in line for line in Gallery.find_damage(photos))
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    try:
        Gallery.repair(photos)
    except GalleryDamagedError as error:
        assert "different galleries" in str(error)
        assert "lookalike index --rebuild" in str(error)
        assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
        Gallery.rebuild(photos, model=model)
    else:
        if swapped == 7 and manifest == "index":  # the other gallery as a whole
            assert answer(other.root) == theirs
            return
        assert_holds(updated(photos, create=False), photos)
    assert answer(photos) == expected


# ---- deletion by name, not by place --------------------------------------------------------------


def test_an_update_leaves_a_folder_beside_the_gallery_alone(
    photos: Path, tmp_path: Path, model: Path
) -> None:
    mine = tmp_path / "index.old"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    updated(photos, directory=tmp_path / "index", model=model)
    assert (mine / "letter.txt").read_text() == "dear"
    with pytest.raises(GalleryError, match=r"index\.old is in the way"):
        Gallery.rebuild(photos, directory=tmp_path / "index", model=model)
    assert (mine / "letter.txt").read_text() == "dear"
    mine.rename(tmp_path / "letters")
    (tmp_path / "index.rebuild").symlink_to(tmp_path / "letters")
    with pytest.raises(GalleryError, match=r"index\.rebuild is in the way"):
        Gallery.rebuild(photos, directory=tmp_path / "index", model=model)
    assert (tmp_path / "letters/letter.txt").read_text() == "dear"
    (tmp_path / "index.rebuild").unlink()
    Gallery.rebuild(photos, directory=tmp_path / "index", model=model)
    assert {path.name for path in tmp_path.iterdir()} == {"index", "letters", "photos"}


def test_only_a_gallerys_own_files_are_deleted_with_it(
    gallery: Gallery, photos: Path, tmp_path: Path
) -> None:
    home = gallery.directory
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/lock").write_text("dear")
    kept = [home / "letter.txt", home / "index/letter.txt", home / "thumbnails/ab/letter.txt"]
    (home / "thumbnails/ab").mkdir(parents=True)
    (home / "thumbnails/ab" / ("ab" * 16 + "-256-1.webp")).write_bytes(b"")
    for path in kept:
        path.write_text("dear")
    (home / "thumbnails/cd").symlink_to(tmp_path / "letters")
    delete_gallery(home)
    left = [path for path in home.rglob("*") if not path.is_dir()]
    assert sorted(left) == sorted(kept)
    assert (tmp_path / "letters/lock").read_text() == "dear"
    for path in kept:
        path.unlink()
    delete_gallery(home)
    assert not home.exists()
