"""The state of an index as files: whole at every moment, and mapped to open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from lookalike.atomic import attempts
from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import ArrayFile, check_owner, open_arrays, write_arrays
from lookalike.lsh.hashing import Hasher
from lookalike.lsh.links import Links
from lookalike.lsh.manifest import MANIFEST, Manifest, SegmentEntry
from lookalike.lsh.segment import Segment, are_unit
from lookalike.lsh.settings import LSHSettings
from lookalike.lsh.state import Removed, State, live_ids

VERIFY_ON_OPEN = 64 << 20
SALVAGED = (("<i8", "<f2"), ("<i8", "<f4"))


def write(folder: Path, settings: LSHSettings, owner: str, state: State) -> State:
    """Write what ``folder`` does not hold yet, replace the manifest, delete what it names no more.

    Returns:
        the same state, mapped from the files.
    """
    hasher, hasher_name, code_bytes = state.hasher, "", settings.code_bits // 8
    entries, stored = list[SegmentEntry](), list[Segment]()
    if hasher is not None:
        hasher_name = hasher.save(folder, owner).name
        for segment, gone in zip(state.segments, state.removed, strict=True):
            if segment.file is None or not segment.is_stored_in(folder, hasher_name, owner):
                path = segment.save(folder, hasher_name, owner)
                opened = Segment.open(path, hasher, hasher_name, owner)
                segment = replace(opened, links=segment.links, factors=segment.factors)
            assert segment.file is not None
            name, removed, links = segment.file.path.name, None, segment.links
            if links is not None and not links.is_stored_in(folder, name, owner):
                path = links.save(folder, name, owner)
                segment = segment.linked(Links.open(path, name, len(segment), code_bytes, owner))
            if gone.number:
                marks = {"rows": np.packbits(gone.marks)}
                meta = {"segment": name, "owner": owner}
                removed = write_arrays(folder, "removed", meta, marks).name
            file = None if segment.links is None else segment.links.file
            linked = None if file is None else file.path.name
            entries.append(SegmentEntry(name, len(segment), removed, linked, segment.factors))
            stored.append(segment)
    manifest = Manifest(owner, settings, hasher_name or None, tuple(entries))
    manifest.write(folder)
    for path in [*folder.glob("*.lka"), *folder.glob(".*.tmp")]:
        if path.name not in manifest.files:
            path.unlink(missing_ok=True)
    return State(hasher, tuple(stored), state.removed)


def read(folder: Path, owner: str | None) -> tuple[LSHSettings, str | None, State]:
    """Settings, owner (None: manifest of format 2) and state of the index in ``folder``.

    Raises:
        IndexFormatError: a file is missing, damaged, of another version, or of another index than
            ``owner`` (None: whatever the manifest says).
    """
    for last in attempts():
        try:
            manifest = Manifest.read(folder)
            if owner is not None:
                check_owner(MANIFEST, manifest.owner, owner)
            return manifest.settings, manifest.owner, _read(folder, manifest)
        except FileNotFoundError as error:
            if last:
                raise IndexFormatError(f"{folder}: a file of the index is missing") from error
        except IndexFormatError as error:
            # A writer may have replaced the manifest and deleted files that it named.
            if last or not isinstance(error.__cause__, FileNotFoundError):
                raise IndexFormatError(f"{folder}: {error}") from error
    raise AssertionError("unreachable")


def _read(folder: Path, manifest: Manifest) -> State:
    if manifest.hasher is None:
        return State(None, (), ())
    hasher = Hasher.open(folder / manifest.hasher, manifest.settings, manifest.owner)
    segments, removed = list[Segment](), list[Removed]()
    for entry in manifest.segments:
        segment = Segment.open(folder / entry.file, hasher, manifest.hasher, manifest.owner)
        if len(segment) != entry.items:
            raise IndexFormatError(
                f"{entry.file} holds {len(segment)} items, the manifest says {entry.items}"
            )
        if entry.links is not None:
            path, code_bytes = folder / entry.links, manifest.settings.code_bits // 8
            links = Links.open(path, entry.file, entry.items, code_bytes, manifest.owner)
            segment = segment.linked(links)
        segments.append(replace(segment, factors=entry.factors))
        removed.append(_read_removed(folder, entry, manifest.owner))
    state = State(hasher, tuple(segments), tuple(removed))
    size = sum(segment.file.bytes for segment in segments if segment.file is not None)
    if size <= VERIFY_ON_OPEN and (problems := damaged(state, vectors=False)):
        raise IndexFormatError("; ".join(problems))
    return state


def _read_removed(folder: Path, entry: SegmentEntry, owner: str | None) -> Removed:
    if entry.removed is None:
        return Removed.none()
    file = open_arrays(folder / entry.removed, "removed")
    file.check_owner(owner)
    found = {name: (array.shape, array.dtype.str) for name, array in file.arrays.items()}
    expected = {"rows": ((-(-entry.items // 8),), "|u1")}
    if file.damaged() or file.meta.get("segment") != entry.file or found != expected:
        raise IndexFormatError(f"{entry.removed} is damaged or of another segment")
    marks = np.unpackbits(file.arrays["rows"], count=entry.items).astype(np.bool_)
    return Removed(marks, int(np.count_nonzero(marks)))


def damaged(state: State, *, vectors: bool = True) -> list[str]:
    """Read every stored byte and name what does not match its checksum or cannot be; [] if all is
    well. For ``vectors`` see `Segment.problem`.
    """
    found = [(segment, segment.problem(vectors=vectors)) for segment in state.segments]
    problems = [f"{segment.name} is damaged: {what}" for segment, what in found if what]
    if not problems:
        try:
            live_ids(state)
        except IndexFormatError as error:
            problems.append(str(error))
    return problems


def stored_settings(folder: Path) -> LSHSettings | None:
    """The settings of the index in ``folder``, None if they cannot be read."""
    try:
        return Manifest.read(folder).settings
    except IndexFormatError:
        return None


def stored_owner(folder: Path) -> str | None:
    """The id of the index in ``folder``, by its manifest, or else by its segments if they agree.

    None: its files have no id, or it is unknown which are its own.
    """
    try:
        return Manifest.read(folder).owner
    except IndexFormatError:
        owners = {file.owner for file in _segment_files(folder)}
        return owners.pop() if len(owners) == 1 else None


def stored_owners(folder: Path) -> set[str]:
    """Every id that manifest and segments in ``folder`` carry: several if files were mixed up."""
    owners = {file.owner for file in _segment_files(folder)}
    with suppress(IndexFormatError):
        owners.add(Manifest.read(folder).owner)
    return {owner for owner in owners if owner is not None}


def _segment_files(folder: Path) -> Iterator[ArrayFile]:
    """The segments in ``folder`` whose header is whole, whether or not the manifest names them."""
    for path in sorted(folder.glob("segment-*.lka")):
        with suppress(IndexFormatError):
            yield open_arrays(path, "segment", cut=True)


def salvage(folder: Path, settings: LSHSettings, owner: str | None) -> State:
    """The state made of what is still whole of each segment of a damaged index.

    Only of files that belong to ``owner``; None: that were written before there were ids.
    """
    state = State(None, (), ())
    for file in _segment_files(folder):
        if file.owner != owner or not {"ids", "vectors"} <= set(file.arrays):
            continue
        ids, vectors = file.arrays["ids"], file.arrays["vectors"]
        kinds = ids.dtype.str, vectors.dtype.str
        if ids.ndim != 1 or vectors.shape[1:] != (settings.dim,) or kinds not in SALVAGED:
            continue
        n = min(len(ids), len(vectors))  # less than all where the file was cut
        whole = file.whole_rows("ids")[:n] & file.whole_rows("vectors")[:n]
        kept, rows = ids[:n][whole], vectors[:n][whole]
        _, first = np.unique(kept, return_index=True)
        own = first[are_unit(rows[first]) & (kept[first] >= 0)]
        new = own[state.locate(kept[own])[0] < 0]
        if len(new):
            state = state.added(settings, kept[new], rows[new].astype(np.float32))  # to the bit
    return state
