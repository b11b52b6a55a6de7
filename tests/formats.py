"""Indexes as earlier versions of lookalike wrote them."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

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
