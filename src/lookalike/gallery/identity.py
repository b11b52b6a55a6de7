"""The copy, beside the table, of what no scan of the folder can tell, should the table be lost."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lookalike.gallery.places import IDENTITY
from lookalike.gallery.store import REMOVED, ImageRow, Store

__all__ = [
    "entries_of",
    "identity_of",
    "read_identity",
    "removed_row",
    "removed_rows",
    "write_identity",
]

ENTRIES = ("model", "model_path", "root")


def identity_of(store: Store) -> dict[str, Any]:
    """Which model made the gallery, where its images are, and what a user took out."""
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
    """Those that a table holds, too."""
    return {name: identity[name] for name in ENTRIES if name in identity} if identity else {}


def removed_row(row: ImageRow) -> ImageRow:
    """The row as `Gallery.remove` leaves it: what is known of the file, and that it stays out."""
    return ImageRow(
        row.id,
        row.path,
        row.size,
        row.mtime_ns,
        row.hash,
        row.width,
        row.height,
        row.format,
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
    body = json.dumps(identity, sort_keys=True)
    document = {"format": 1, "crc32": zlib.crc32(body.encode()), "gallery": identity}
    temporary = directory / f".{IDENTITY}.tmp"
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(temporary, directory / IDENTITY)


def read_identity(directory: Path) -> dict[str, Any] | None:
    """None if there is none or it is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads((directory / IDENTITY).read_bytes())
        identity = document["gallery"]
        if zlib.crc32(json.dumps(identity, sort_keys=True).encode()) == document["crc32"]:
            return dict(identity)
    return None
