"""Move, trash, link, clone or delete duplicates; never the last whole copy, and with an undo log.

Before each file is touched it is read again, and so is one that is kept: both must hold what was
indexed, and be two files. What is about to be done is in the log before it is done.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lookalike.errors import GalleryError
from lookalike.gallery.moves import RefusedError, clone, explain, link, move, require_whole
from lookalike.gallery.places import is_within
from lookalike.gallery.rows import ImageRow, file_identity, is_path
from lookalike.gallery.undo import Action, Done, Entry, Log, forget_parts, open_log
from lookalike.progress import Progress

SHARING = (Action.HARDLINK, Action.REFLINK)
"""Of files of the same bytes alone."""
SIDECARS = (".xmp", ".aae")
"""Of files beside an image, in which programs keep its edits and ratings."""


@dataclass(frozen=True)
class Removal:
    """A file that could go, and those that are kept for it: each with the hash of its content."""

    file: Path
    digest: bytes
    kept: tuple[tuple[Path, bytes], ...]
    size: int = 0

    @classmethod
    def of(cls, root: Path, row: ImageRow, kept: Iterable[ImageRow]) -> Self:
        """Of a file that could go for those that are ``kept``, of the gallery in ``root``."""

        def whole(row: ImageRow) -> tuple[Path, bytes]:
            return root / os.fsdecode(row.path), row.hash or b""

        return cls(*whole(row), tuple(map(whole, kept)), row.size)


def act(
    removals: Sequence[Removal],
    action: Action,
    directory: Path,
    root: Path,
    *,
    target: Path | None = None,
    reference: bytes | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Done]:
    """Do it, file by file; what is refused or fails is left as it is, and the rest goes on.
    With an image that is moved, or goes to the trash, go its sidecars.

    Args:
        directory: of the gallery, which keeps the log.
        root: the gallery's folder.
        target: the folder for Action.MOVE, outside ``root``; made if it is missing.
        reference: a folder of the gallery, as rows have it, whose files are never touched.

    Raises:
        GalleryError: ``target`` is missing, inside ``root`` or not to be written, or the log cannot
            be written.
        GalleryLockedError: another process writes to the gallery, or acts on its files.
    """
    if action is Action.MOVE:
        _make_target(target, root)
    going = {os.path.realpath(each.file) for each in removals}
    batch, found = secrets.token_hex(8), list[Done]()
    with open_log(directory) as log:
        forget_parts(directory, root)
        for number, removal in enumerate(removals, start=1):
            try:
                _check(removal, going, root, reference)
                to = _perform(removal, action, log, batch, root, target)
                found.append(Done(removal.file, to))
                if action in (Action.MOVE, Action.TRASH):
                    for file, place in _sidecars(removal.file, to):
                        found.append(_carry(file, place, action, log, batch, root))
            except (RefusedError, OSError) as error:
                found.append(Done(removal.file, problem=explain(error)))
            if progress is not None:
                progress(Progress(number, len(removals), sum(bool(d.problem) for d in found)))
    return found


def _sidecars(image: Path, moved: Path | None) -> list[tuple[Path, Path | None]]:
    """Of an image that has gone, and where they go if it was ``moved``: x.jpg.xmp; and x.xmp
    unless another file x is left, to which it may belong."""
    try:
        names = [name for name in os.listdir(image.parent) if name.startswith(image.stem)]
    except OSError:
        return []
    files = [image.with_name(name) for name in sorted(names)]
    found = [file for file in files if file.suffix.lower() in SIDECARS]
    is_shared = any(file.stem == image.stem for file in files if file not in found)
    places = list[tuple[Path, Path | None]]()
    for file in found:
        if file.stem == image.name:
            places.append((file, moved and moved.with_name(moved.name + file.suffix)))
        elif file.stem == image.stem and not is_shared:
            places.append((file, moved and moved.with_name(moved.stem + file.suffix)))
    return places


def _carry(
    file: Path, place: Path | None, action: Action, log: Log, batch: str, root: Path
) -> Done:
    """Of a sidecar."""
    from lookalike.images import SkippedImageError, content_hash  # with all image formats

    try:
        removal = Removal(file, content_hash(file), ())
        return Done(file, _perform(removal, action, log, batch, root, None, place))
    except SkippedImageError as error:
        return Done(file, problem=error.detail)
    except (RefusedError, OSError) as error:
        return Done(file, problem=explain(error))


def check_target(target: Path | None, root: Path) -> None:
    """Raises GalleryError unless duplicates can be moved there."""
    if target is None:
        raise GalleryError("no folder was given to move files to")
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(root)):
        raise GalleryError(
            f"{target} is inside {root}, the gallery's folder, where the files would be found "
            f"again; choose a folder outside"
        )
    if os.path.lexists(target) and not os.path.isdir(target):
        raise GalleryError(f"{target} is not a folder")


def _make_target(target: Path | None, root: Path) -> None:
    check_target(target, root)
    assert target is not None
    try:
        target.mkdir(parents=True, exist_ok=True)
        if not os.access(target, os.W_OK | os.X_OK):
            raise PermissionError(0, "it cannot be written to")
    except OSError as error:
        raise GalleryError(
            f"cannot move files to {target} ({error.strerror}); choose another folder"
        ) from error


def _check(removal: Removal, going: set[str], root: Path, reference: bytes | None) -> None:
    """Raises RefusedError unless the file holds what was indexed and another file that is kept
    does as well."""
    path = removal.file
    if not is_path(_relative(path, root)):
        raise RefusedError(f"it is not inside {root}")
    if reference is not None:
        place = os.path.realpath(path)
        safe = os.path.realpath(root / os.fsdecode(reference))
        if is_within(os.fsencode(path), os.fsencode(root / os.fsdecode(reference))) or is_within(
            os.fsencode(place), os.fsencode(safe)
        ):
            raise RefusedError("it is in the reference folder")
    require_whole(path, removal.digest)
    problems = []
    for kept, digest in removal.kept:
        try:
            if os.path.realpath(kept) in going:
                raise RefusedError("it would go as well")
            if _is_same_file(kept, path):
                raise RefusedError("it is the same file by another name")
            require_whole(kept, digest)
            return
        except RefusedError as error:
            problems.append(f"{kept}: {error}")
    raise RefusedError(f"no copy is left that is kept ({'; '.join(problems) or 'none is marked'})")


def _relative(path: Path, root: Path) -> bytes:
    return os.fsencode(Path(os.path.relpath(path, root)).as_posix())


def _is_same_file(one: Path, two: Path) -> bool:
    try:
        return file_identity(one) == file_identity(two)
    except OSError as error:
        raise RefusedError(explain(error)) from error


def _perform(
    removal: Removal,
    action: Action,
    log: Log,
    batch: str,
    root: Path,
    target: Path | None,
    to: Path | None = None,
) -> Path | None:
    """Where it is then, if anywhere; ``to``: where it is moved, instead of below ``target``."""
    path, digest = removal.file, removal.digest
    relative, status, token = _relative(path, root), path.lstat(), secrets.token_hex(8)
    kept = None
    if action is Action.MOVE and to is None:
        assert target is not None
        to = _vacant(Path(os.path.abspath(target)) / os.fsdecode(relative))
    if action in SHARING:
        kept = next((file for file, content in removal.kept if content == digest), None)
        if kept is None:
            raise RefusedError("only files of the same bytes can share them")
        require_whole(kept, digest)
    entry = Entry(
        batch,
        action,
        relative,
        digest,
        token,
        None if to is None else os.fsencode(to),
        status.st_ino,
        status.st_mode,
        status.st_mtime_ns,
    )
    log.add(entry.as_dict())
    if to is not None:
        move(path, to, digest, token)
    elif kept is not None and action is Action.HARDLINK:
        link(kept, path, token)
    elif kept is not None:
        clone(kept, path, digest, token)
    elif action is Action.TRASH:
        from send2trash import send2trash

        send2trash(os.fspath(path))
    else:
        path.unlink()
    return to or (path if kept else None)


def _vacant(path: Path) -> Path:
    """The path, or the same with a number that makes it one of no file."""
    for number in range(2, 10_000):
        if not os.path.lexists(path):
            return path
        base = path.stem if number == 2 else path.stem.rpartition(" (")[0]
        path = path.with_name(f"{base} ({number}){path.suffix}")
    raise RefusedError(f"{path} and 10,000 more are there already")
