"""Tables that earlier versions of lookalike made."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import assert_holds
from formats import make_version_1
from PIL import Image

from lookalike.encoder import Encoder
from lookalike.gallery import Gallery, schema
from lookalike.gallery.schema import SCHEMA_VERSION
from lookalike.gallery.store import Store


def version_of(gallery: Gallery) -> int:
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as table:
        return int(table.execute("PRAGMA user_version").fetchone()[0])


def schema_of(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as table:
        return sorted(table.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"), key=str)


def test_a_table_of_version_1_is_read_as_it_is(gallery: Gallery, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    gallery.update()
    before = gallery.search("a/000.png", 12), gallery.skipped(), gallery.info().pairs
    make_version_1(gallery)
    opened = Gallery.open(photos, create=False)
    assert opened.search("a/000.png", 12) == before[0]
    assert [(row.id, row.path, row.skipped) for row in opened.skipped()] == [
        (row.id, row.path, row.skipped) for row in before[1]
    ]
    assert opened.info().pairs == before[2]
    assert opened.verify() == []
    assert version_of(gallery) == 1


def test_a_table_of_version_1_becomes_what_a_new_one_is_when_it_is_written(
    gallery: Gallery, photos: Path, decoded: list[str], tmp_path: Path
) -> None:
    gallery.remove(["b/001.png"])
    make_version_1(gallery)
    report = gallery.update()
    assert (report.images, report.added, report.changed, report.removed) == (11, 0, 0, 1)
    assert (report.hashed, len(decoded)) == (11, 11)
    assert (gallery.update().hashed, len(decoded)) == (0, 11)
    assert version_of(gallery) == SCHEMA_VERSION
    Store.create(tmp_path / "new.sqlite", {})
    assert schema_of(gallery.directory / "gallery.sqlite") == schema_of(tmp_path / "new.sqlite")
    assert gallery.verify() == []
    gallery.remove(["a/000.png"])
    gallery.restore(["a/000.png", "b/001.png"])
    gallery.update()
    assert_holds(gallery, photos)


def test_an_old_gallery_gets_its_perceptual_hashes_and_dates_without_encoding(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0132] = "2019:07:21 14:03:55"
    Image.linear_gradient("L").convert("RGB").save(photos / "dated.jpg", exif=exif)
    gallery.update()

    def read() -> dict[bytes, tuple[int | None, int | None]]:
        with gallery._files.reading() as store:
            return {row.path: (row.phash, row.taken) for row in store.indexed()}

    expected = read()
    assert len(set(expected.values())) > 10
    dates = {path.decode(): taken for path, (_, taken) in expected.items() if taken}
    assert dates == {"dated.jpg": datetime(2019, 7, 21, 14, 3, 55, tzinfo=UTC).timestamp()}
    make_version_1(gallery)
    assert set(read().values()) == {(None, None)}
    monkeypatch.setattr(Encoder, "embed", lambda *_: pytest.fail("encoded again"))
    monkeypatch.setattr(Encoder, "encode", lambda *_: pytest.fail("encoded again"))
    gallery.update()
    assert read() == expected


def test_a_migration_that_is_interrupted_changes_nothing(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version_1(gallery)
    before = schema_of(gallery.directory / "gallery.sqlite")

    def fail() -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(schema, "new_owner", fail)
        with pytest.raises(KeyboardInterrupt):
            gallery.update()
    assert (version_of(gallery), schema_of(gallery.directory / "gallery.sqlite")) == (1, before)
    gallery.update()
    assert version_of(gallery) == SCHEMA_VERSION


def test_every_gallery_has_an_id_of_its_own_and_keeps_it(
    gallery: Gallery, photos: Path, tmp_path: Path, model: Path
) -> None:
    def id_of(opened: Gallery) -> str:
        with closing(Store.open(opened.directory / "gallery.sqlite")) as store:
            return str(store.meta("gallery_id"))

    first = id_of(gallery)
    assert len(bytes.fromhex(first)) == 16
    assert id_of(Gallery.open(photos, directory=tmp_path / "other", model=model)) != first
    (photos / "a/000.png").unlink()
    gallery.update()
    assert id_of(gallery) == first
    make_version_1(gallery)
    gallery.update()
    assert len(bytes.fromhex(id_of(gallery))) == 16


def test_a_damaged_table_of_version_1_is_repaired(gallery: Gallery, photos: Path) -> None:
    make_version_1(gallery)
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as table, table:
        table.execute("UPDATE images SET size = size + 1 WHERE path = ?", (b"a/000.png",))
    assert Gallery.find_damage(photos) != []
    assert Gallery.repair(photos).to_read == 0
    assert gallery.update().images == 12
    assert_holds(gallery, photos)


def test_a_column_that_was_emptied_does_not_match_its_checksum(gallery: Gallery) -> None:
    path = gallery.directory / "gallery.sqlite"
    with closing(Store.open(path, write=True)) as store, store.transaction():
        (row,) = store.by_paths([b"a/000.png"])
        store.put([replace(row, inode=7, ctime_ns=8, note="only the first frame")])
    with closing(Store.open(path)) as store:
        (found,) = store.by_paths([b"a/000.png"])
        assert (found.inode, found.ctime_ns, found.note) == (7, 8, "only the first frame")
    with closing(sqlite3.connect(path)) as table, table:
        table.execute("UPDATE images SET note = NULL WHERE path = ?", (b"a/000.png",))
        text = table.execute("SELECT value FROM meta WHERE name = 'gallery_id'").fetchone()[0]
    assert len(json.loads(text)) == 32
    assert any("checksum" in problem for problem in gallery.verify())
