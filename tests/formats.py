"""Galleries and indexes as earlier versions of lookalike wrote them."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

from lookalike.gallery import Gallery
from lookalike.gallery.identity import read_identity, write_identity
from lookalike.lsh import arrayfile
from lookalike.lsh.manifest import Manifest


def as_format_2(folder: Path) -> None:
    """Rewrite a saved index as it was before indexes had ids."""
    manifest = Manifest.read(folder)
    assert manifest.hasher is not None

    def without_owner(name: str, **changed: str) -> str:
        file = arrayfile.open_arrays(folder / name, name.split("-")[0])
        meta = {key: value for key, value in file.meta.items() if key != "owner"}
        return arrayfile.write_arrays(folder, file.kind, {**meta, **changed}, file.arrays).name

    hasher = without_owner(manifest.hasher)
    segments = []
    for entry in manifest.segments:
        segment = without_owner(entry.file, hasher=hasher)
        removed = entry.removed and without_owner(entry.removed, segment=segment)
        segments.append({"file": segment, "items": entry.items, "removed": removed})
    body = {"settings": manifest.settings.as_dict(), "hasher": hasher, "segments": segments}
    crc = zlib.crc32(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    for name in manifest.files:
        (folder / name).unlink()
    text = json.dumps({"format": 2, "crc32": crc, "index": body})
    (folder / "manifest.json").write_text(text)


VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    hash BLOB,
    width INTEGER,
    height INTEGER,
    format TEXT,
    skipped TEXT,
    detail TEXT,
    remedy TEXT,
    checksum INTEGER NOT NULL
);
CREATE INDEX images_hash ON images (hash);
CREATE INDEX images_skipped ON images (skipped) WHERE skipped IS NOT NULL;
"""


def make_version_1(gallery: Gallery) -> None:
    """Write the gallery's files as the first version of lookalike did."""
    (gallery.directory / "neighbours.lka").unlink(missing_ok=True)
    as_format_2(gallery.directory / "index")
    identity = read_identity(gallery.directory)
    assert identity is not None
    del identity["gallery_id"], identity["distinct"]
    write_identity(gallery.directory, identity)
    path = gallery.directory / "gallery.sqlite"
    columns = "id, path, size, mtime_ns, hash, width, height, format, skipped, detail, remedy"
    with closing(sqlite3.connect(path)) as table:
        rows = table.execute(f"SELECT {columns} FROM images").fetchall()
        meta = table.execute("SELECT name, value FROM meta").fetchall()
        top = table.execute("SELECT seq FROM sqlite_sequence WHERE name = 'images'").fetchone()
    path.unlink()
    with closing(sqlite3.connect(path)) as table, table:
        table.executescript(VERSION_1)
        table.execute("PRAGMA application_id = 0x4C4B4C4B")
        table.execute("PRAGMA user_version = 1")
        marks = ",".join("?" * 12)
        table.executemany(
            f"INSERT INTO images VALUES ({marks})",
            [(*row, zlib.crc32(repr(row).encode())) for row in rows],
        )
        table.execute("UPDATE sqlite_sequence SET seq = ?", top)
        table.executemany(
            "INSERT INTO meta VALUES (?, ?, ?)",
            [
                (name, value, zlib.crc32(f"{name}={value}".encode()))
                for name, value in meta
                if name in ("model", "model_path", "root", "pairs", "tuning", "unfinished")
            ],
        )
