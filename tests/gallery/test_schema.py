"""The table's schema, and the id that it gives a gallery."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import assert_holds

from lookalike.errors import GalleryError
from lookalike.gallery import Gallery, schema
from lookalike.gallery.store import Store


def test_a_table_of_another_version_is_refused_and_a_rebuild_keeps_what_the_user_said(
    gallery: Gallery, photos: Path, model: Path
) -> None:
    gallery.remove(["b/001.png"])
    gallery.set_distinct([("a/000.png", "c/002.png")])
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as table, table:
        table.execute("ALTER TABLE images DROP COLUMN taken")
        table.execute("PRAGMA user_version = 3")
    for open_it in (Gallery.open, Gallery.repair, lambda _: gallery.update()):
        with pytest.raises(GalleryError, match=r"schema version 3, .* reads version 4.*--rebuild"):
            open_it(photos)
    _, report = Gallery.rebuild(photos, model=model)
    assert (report.images, report.removed) == (11, 1)
    with closing(Store.open(gallery.directory / "gallery.sqlite")) as store:
        assert len(store.distinct()) == 1
    opened = Gallery.open(photos)
    opened.restore(["b/001.png"])
    opened.update()
    assert_holds(opened, photos)


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
    assert any("checksum" in problem for problem in gallery.verify())


def test_tables_to_which_earlier_versions_added_columns_are_of_this_schema() -> None:
    columns, _, rest = schema.SCHEMA.partition("    , inode")
    first = columns + ");" + rest.partition(";")[2]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in first.split(";"):
            connection.execute(statement)
        for name in ("inode", "ctime_ns", "note", "phash", "taken"):
            kind = "TEXT" if name == "note" else "INTEGER"
            connection.execute(f"ALTER TABLE images ADD COLUMN {name} {kind}")
        assert frozenset(schema.schema_entries(connection)) == schema.expected_schema()
