"""Galleries whose files were altered by someone who knows the format: every checksum is right."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lookalike.gallery.rows import ImageRow, checked_row

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "negative": -1,
    "zero": 0,
    "large": (1 << 63) - 1,
    "huge": 10**400,
    "fraction": 0.5,
    "nan": math.nan,
    "infinity": math.inf,
    "empty text": "",
    "text": "x",
    "nul": "\0",
    "surrogate": "\ud800",
    "empty list": [],
    "numbers": [3, 2, 1],
    "empty object": {},
    "object": {"a": 1},
}
"""Of JSON."""
DEEP = "[" * 100_000 + "]" * 100_000


def altered(document: Any) -> Iterator[tuple[str, str]]:
    """JSON texts like ``document`` with one value replaced, removed or added, and what it is."""
    for name, value in VALUES.items():
        yield f"is {name}", json.dumps(value)
    yield "is deep", DEEP
    for path, value in _with(document, ()):
        yield path, json.dumps(value)


def _with(document: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    where = "/".join(path)
    if isinstance(document, dict):
        yield f"{where} has another key", {**document, "other": 1}
        for key in document:
            yield f"{where}/{key} missing", {k: v for k, v in document.items() if k != key}
            for name, value in VALUES.items():
                yield f"{where}/{key} is {name}", {**document, key: value}
            for what, value in _with(document[key], (*path, key)):
                yield what, {**document, key: value}
    elif isinstance(document, list) and document:
        for name, value in VALUES.items():
            yield f"{where} begins with {name}", [value, *document[1:]]
        for what, value in _with(document[0], (*path, "0")):
            yield what, [value, *document[1:]]


def meta_of(table: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(table)) as connection:
        rows = connection.execute("SELECT name, value FROM meta").fetchall()
    return {name: json.loads(value) for name, value in rows}


def forge_entry(table: Path, name: str, text: str) -> None:
    checksum = zlib.crc32(f"{name}={text}".encode(errors="surrogatepass"))
    with closing(sqlite3.connect(table)) as connection, connection:
        connection.execute("REPLACE INTO meta VALUES (?, ?, ?)", (name, text, checksum))


def forge_row(table: Path, path: bytes, column: str, value: Any) -> None:
    with closing(sqlite3.connect(table)) as connection, connection:
        found = connection.execute("SELECT * FROM images WHERE path = ?", (path,)).fetchone()
        row = checked_row(found)
        assert column in {field.name for field in fields(ImageRow)}
        forged = replace(row, **{column: value})
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(
            f"UPDATE images SET {column} = ?, checksum = ? WHERE path = ?",
            (value, forged.checksum, path),
        )


def identity_of(path: Path) -> Any:
    return json.loads(path.read_bytes())["gallery"]


def forge_identity(path: Path, text: str) -> None:
    """``text``: of the gallery's part of gallery.json."""
    try:
        crc = zlib.crc32(json.dumps(json.loads(text), sort_keys=True).encode())
    except RecursionError:
        crc = 0
    path.write_text(f'{{"format": 1, "crc32": {crc}, "gallery": {text}}}', errors="surrogatepass")
