"""The state of an index as files: whole at every moment, and mapped to open it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import open_arrays, write_arrays
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.manifest import MANIFEST, Manifest, SegmentEntry
from lookalike.lsh.segment import Segment
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.state import Removed, State

__all__ = ["damaged", "read", "stored_settings", "whole_items", "write"]

VERIFY_ON_OPEN = 64 << 20
ATTEMPTS = 5
"""How often opening begins anew because a writer replaced the manifest meanwhile."""


def write(folder: Path, settings: LSHSettings, state: State) -> State:
    """Write what ``folder`` does not hold yet, replace the manifest, delete what it names no more.

    Returns:
        the same state, mapped from the files.
    """
    hasher, hasher_name = state.hasher, ""
    entries, stored = list[SegmentEntry](), list[Segment]()
    if hasher is not None:
        hasher_name = hasher.save(folder).name
        for segment, gone in zip(state.segments, state.removed, strict=True):
            path = folder / segment.file.path.name if segment.file else None
            if path is None or not path.exists():
                path = segment.save(folder, hasher_name)
                segment = Segment.open(path, hasher, hasher_name)
            removed = None
            if gone.number:
                marks = {"rows": np.packbits(gone.marks)}
                removed = write_arrays(folder, "removed", {"segment": path.name}, marks).name
            entries.append(SegmentEntry(path.name, len(segment), removed))
            stored.append(segment)
    manifest = Manifest(settings.as_dict(), hasher_name or None, tuple(entries))
    manifest.write(folder)
    for path in [*folder.glob("*.lka"), *folder.glob(".*.tmp")]:
        if path.name not in manifest.files:
            path.unlink(missing_ok=True)
    return State(hasher, tuple(stored), state.removed)


def read(folder: Path) -> tuple[LSHSettings, State]:
    """Raises IndexFormatError if a file is missing, damaged, or of another version."""
    for attempt in range(ATTEMPTS):
        try:
            return _read(folder, Manifest.read(folder))
        except FileNotFoundError as error:
            if attempt == ATTEMPTS - 1:
                raise IndexFormatError(f"{folder}: a file of the index is missing") from error
        except IndexFormatError as error:
            # A writer may have replaced the manifest and deleted files that it named.
            if attempt == ATTEMPTS - 1 or not isinstance(error.__cause__, FileNotFoundError):
                raise
    raise AssertionError("unreachable")


def _read(folder: Path, manifest: Manifest) -> tuple[LSHSettings, State]:
    try:
        settings = LSHSettings.from_dict(manifest.settings)
    except (TypeError, ValueError) as error:
        raise IndexFormatError(f"{MANIFEST} is damaged: {error}") from error
    if manifest.hasher is None:
        return settings, State(None, (), ())
    hasher = Hasher.open(folder / manifest.hasher, settings)
    segments, removed = list[Segment](), list[Removed]()
    for entry in manifest.segments:
        segment = Segment.open(folder / entry.file, hasher, manifest.hasher)
        if len(segment) != entry.items:
            raise IndexFormatError(
                f"{entry.file} holds {len(segment)} items, the manifest says {entry.items}"
            )
        segments.append(segment)
        removed.append(_read_removed(folder, entry))
    size = sum((folder / entry.file).stat().st_size for entry in manifest.segments)
    if size <= VERIFY_ON_OPEN and (problems := damaged(segments)):
        raise IndexFormatError("; ".join(problems))
    return settings, State(hasher, tuple(segments), tuple(removed))


def _read_removed(folder: Path, entry: SegmentEntry) -> Removed:
    if entry.removed is None:
        return Removed.none()
    file = open_arrays(folder / entry.removed, "removed")
    if file.damaged() or file.meta.get("segment") != entry.file:
        raise IndexFormatError(f"{entry.removed} is damaged or of another segment")
    marks = np.unpackbits(file.arrays["rows"], count=entry.items).astype(np.bool_)
    return Removed(marks, int(np.count_nonzero(marks)))


def damaged(segments: Sequence[Segment]) -> list[str]:
    """Read every stored byte and name what does not match its checksum; [] if all is well."""
    return [
        f"{segment.file.path.name} is damaged: {', '.join(names)}"
        for segment in segments
        if segment.file is not None and (names := segment.file.damaged())
    ]


def stored_settings(folder: Path) -> LSHSettings | None:
    """The settings of the index in ``folder``, None if they cannot be read."""
    try:
        return LSHSettings.from_dict(Manifest.read(folder).settings)
    except (IndexFormatError, ValueError, TypeError):
        return None


def whole_items(folder: Path, dim: int) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """What is still whole of each segment of a damaged index: ids (n,), vectors (n, dim)."""
    for path in sorted(folder.glob("segment-*.lka")):
        try:
            file = open_arrays(path, "segment", cut=True)
        except IndexFormatError:
            continue
        if not {"ids", "vectors"} <= set(file.arrays):
            continue
        ids, vectors = file.arrays["ids"], file.arrays["vectors"]
        if vectors.shape == (len(ids), dim) and len(ids):
            whole = file.whole_rows("ids") & file.whole_rows("vectors")
            yield ids[whole], vectors[whole]
