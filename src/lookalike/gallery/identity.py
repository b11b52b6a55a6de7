"""A copy of what a scan of the folder cannot restore, kept beside the table in case it is lost."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lookalike.atomic import atomic_writer, read_regular
from lookalike.gallery.entries import check_entry
from lookalike.gallery.places import IDENTITY
from lookalike.gallery.rows import ImageRow, check_row
from lookalike.gallery.store import REMOVED, Store
from lookalike.lsh.arrayfile import parse_json

ENTRIES = ("model", "model_path", "root", "gallery_id", "distinct")
LATER = ("gallery_id", "distinct")
"""Those that the first files lack, which still say what the user took out."""
FORMAT = 1
LARGEST = 1 << 30
"""Bytes of the file."""


def identity_of(store: Store) -> dict[str, Any]:
    """Which model made the gallery, where its images are, what a user took out, and which pairs of
    contents are not duplicates."""
    removed = [
        {
            "path": row.path.hex(),
            "hash": None if row.hash is None else row.hash.hex(),
            "size": row.size,
            "mtime_ns": row.mtime_ns,
        }
        for row in store.removed()
    ]
    return {**{name: store.meta(name) for name in ENTRIES}, "removed": removed}


def entries_of(identity: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those entries that a table also holds."""
    return {name: identity[name] for name in ENTRIES if name in identity} if identity else {}


def removed_row(row: ImageRow) -> ImageRow:
    """The row as `Gallery.remove` leaves it: what is known of the file, and that it stays out."""
    known = ("id", "path", "size", "mtime_ns", "hash", "width", "height", "format")
    return ImageRow(
        **{name: getattr(row, name) for name in known},
        skipped=REMOVED,
        detail="taken out by 'lookalike remove'",
        remedy="lookalike remove --undo brings it back",
    )


def removed_rows(identity: Mapping[str, Any] | None, first_id: int) -> list[ImageRow]:
    """What a user took out, with ids from ``first_id`` on."""
    found = enumerate((identity or {}).get("removed", []), first_id)
    return [
        removed_row(
            ImageRow(
                number,
                bytes.fromhex(item["path"]),
                item["size"],
                item["mtime_ns"],
                None if item["hash"] is None else bytes.fromhex(item["hash"]),
            )
        )
        for number, item in found
    ]


def write_identity(directory: Path, identity: dict[str, Any]) -> None:
    """In one go, with a checksum."""
    document = {"format": FORMAT, "crc32": _crc32(identity), "gallery": identity}
    with atomic_writer(directory / IDENTITY) as file:
        file.write(json.dumps(document, indent=2).encode() + b"\n")


def read_identity(directory: Path) -> dict[str, Any] | None:
    """Every value proven, since the file may come from anywhere; None if there is none, or it is
    damaged. Keys that this version does not know are ignored.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        document = parse_json(read_regular(directory / IDENTITY, LARGEST))
        identity = document["gallery"]
        if document["format"] != FORMAT or _crc32(identity) != document["crc32"]:
            return None
        for name in ENTRIES:
            if name not in LATER or name in identity:
                check_entry(name, identity[name])
        for row in removed_rows(identity, 1):
            check_row(row)
        return {**entries_of(identity), "removed": identity["removed"]}
    return None


def _crc32(identity: Any) -> int:
    return zlib.crc32(json.dumps(identity, sort_keys=True).encode())
