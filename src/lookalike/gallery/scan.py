"""Walk a folder and list the files that are candidates, without opening any."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lookalike.gallery.ignore import IGNORE, Rules
from lookalike.gallery.places import FOLDER, IDENTITY, TABLE, is_gallery
from lookalike.gallery.rows import file_state
from lookalike.images import looks_like_image

LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
NOT_READ = frozenset(
    b"3fr arw bpg cr2 cr3 crw cur dcm dcr dds djvu dng dpx emf eps erf exr fff fits flif hdr icns "
    b"ico iiq insp j2c j2k jls jng jp2 jpc jpf jph jpm jpx jxl jxr kdc mef mng mos mrw nef nrw orf "
    b"pam pbm pcd pcx pef pfm pgm pict pnm ppm psb psd qoi raf ras raw rw2 rwl sgi sr2 srf srw svg "
    b"svgz tga wbmp wmf x3f xbm xcf xpm".split()
)
"""Extensions of images in formats that are not read."""
JUNK = frozenset([b"@eaDir", b"@Recycle", b"#recycle", b"$RECYCLE.BIN"])
"""Folders in which network storage and Windows keep thumbnails and what was deleted."""
NO_RULES = Rules()
KINDS = 100
"""Extensions counted one by one, of a folder with endlessly many."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A candidate: its path relative to the folder with forward slashes, as the system spells it
    (bytes, since names need not be UTF-8), its size in bytes and its time of change in ns, as
    `file_state` gives them; inode and time of the inode's change, None if not known.
    """

    path: bytes
    size: int
    mtime_ns: int
    inode: int | None = None
    ctime_ns: int | None = None


@dataclass
class ScanNotes:
    """What a scan has seen besides candidates; paths as in `FoundFile`.

    Attributes:
        is_empty: whether the folder holds nothing, hidden entries aside.
        devices: device number of the folder itself (b"") and of those folders in it that are on
            another device than the folder around them.
        dangling: links, without an image's name, that lead to nothing.
        galleries: directories of other galleries' files, which were not entered.
        nested: folders that have a gallery of their own; their images are found all the same.
        ignored: files and folders that patterns leave out; what is in such folders is not entered.
        passed_over: files by extension, in lower case, that are images by their names but in a
            format that is not read; "" counts those without any extension.
        others: all other files that are not candidates.
    """

    is_empty: bool = False
    devices: dict[bytes, int] = field(default_factory=dict)
    dangling: list[bytes] = field(default_factory=list)
    galleries: list[bytes] = field(default_factory=list)
    nested: list[bytes] = field(default_factory=list)
    ignored: set[bytes] = field(default_factory=set)
    passed_over: Counter[str] = field(default_factory=Counter)
    others: int = 0

    def ignores(self, path: bytes) -> bool:
        """Whether a file is left out by patterns, itself or with a folder around it."""
        return bool(self.ignored) and not self.ignored.isdisjoint((path, *_above(path)))

    def pass_over(self, name: bytes) -> None:
        """Count a file that is not a candidate."""
        stem, dot, extension = name.rpartition(b".")
        kind = extension.lower().decode(errors="replace") if stem and dot else ""
        is_image = extension.lower() in NOT_READ or _is_spoilt(name)
        if kind and not is_image:
            self.others += 1
        elif kind in self.passed_over or len(self.passed_over) < KINDS:
            self.passed_over[kind] += 1
        else:
            self.others += 1


def _is_spoilt(name: bytes) -> bool:
    """Whether it is the name of an image with something behind it: b.jpg_large, c.jpg~, d.png.1."""
    stem, _, extension = name.rpartition(b".")
    if looks_like_image(stem):
        return extension.isdigit() or extension.lower() in (b"bak", b"old", b"orig", b"tmp")
    letters = len(extension)
    while letters and not extension[:letters].isalnum():
        letters -= 1
    return letters < len(extension) and looks_like_image(b"x." + extension[:letters])


def scan(
    root: bytes,
    unreadable: Callable[[bytes, OSError], None],
    *skip: bytes,
    notes: ScanNotes | None = None,
    rules: Rules = NO_RULES,
) -> Iterator[FoundFile]:
    """Yield the image files below ``root`` in a fixed order, judging by name alone.

    Links are followed, after everything else; a folder is entered once, however many links lead to
    it, and those above ``root`` never, so loops end. That is decided by real paths, since inode
    numbers are 0 or equal on some mounts. Hidden files and folders, JUNK, the folders ``skip``, and
    the directories of other galleries are passed over. A link to nothing, a pipe or a device with
    an image's name is yielded too, for the reader to say what is wrong with it.

    Args:
        unreadable: called with the path and the error of every folder that cannot be listed, and
            of every file or folder that cannot be looked at. If that is so of all that a folder
            holds, it is called once, for the folder.
        notes: filled while the iterator is consumed.
        rules: patterns of what is left out, besides those of `IGNORE` files.

    Raises:
        GalleryError: an `IGNORE` file cannot be read, or a pattern in it is invalid.
    """
    notes = ScanNotes() if notes is None else notes
    top = os.path.realpath(root)
    entered = {*_above(top), *(os.path.realpath(folder) for folder in skip)}
    pending: list[tuple[bytes, bytes, int | None, Rules]] = [(b"", top, None, rules)]
    links = list[tuple[bytes, int, Rules]]()
    while pending or links:
        outer: int | None
        if pending:
            folder, place, outer, rules = pending.pop()
        else:
            folder, outer, rules = links.pop(0)
            place = os.path.realpath(os.path.join(root, folder))
        if place in entered:
            continue
        entered.add(place)
        absolute = os.path.join(root, folder) if folder else root
        try:
            device = os.stat(absolute).st_dev
            with os.scandir(absolute) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            unreadable(folder, error)
            continue
        if device != outer:
            notes.devices[folder] = device
        names = {entry.name for entry in listed}
        if folder and _is_of_a_gallery(absolute, names):
            notes.galleries.append(folder)
            continue
        if folder and FOLDER.encode() in names and is_gallery(_join(absolute, FOLDER.encode())):
            notes.nested.append(folder)
        listed = [e for e in listed if not e.name.startswith(b".") and e.name not in JUNK]
        notes.is_empty = notes.is_empty or not (folder or listed)
        if IGNORE.encode() in names:
            rules = rules.within(folder, Path(os.fsdecode(_join(absolute, IGNORE.encode()))))
        folders, failures = list[tuple[bytes, bytes, int, Rules]](), list[tuple[bytes, OSError]]()
        failed = 0
        for entry in listed:
            path = _join(folder, entry.name)
            try:
                found = entry.stat()
            except OSError as error:
                failed += 1
                is_image = looks_like_image(entry.name)
                if error.errno not in LEADS_NOWHERE:
                    if is_image or not _is_file(entry):
                        failures.append((path, error))
                elif is_image:
                    yield FoundFile(path, -1, -1)
                else:
                    notes.dangling.append(path)
                continue
            if rules.levels and rules.ignore(path, is_folder=stat.S_ISDIR(found.st_mode)):
                notes.ignored.add(path)
            elif stat.S_ISDIR(found.st_mode):
                if entry.is_symlink():
                    links.append((path, device, rules))
                else:
                    folders.append((path, _join(place, entry.name), device, rules))
            elif looks_like_image(entry.name):
                yield FoundFile(path, *file_state(found))
            elif stat.S_ISREG(found.st_mode):
                notes.pass_over(entry.name)
        if len(failures) > 1 and failed == len(listed):
            failures = [(folder, failures[0][1])]
        for failure in failures:
            unreadable(*failure)
        pending.extend(reversed(folders))


def _join(folder: bytes, name: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/" + name if folder else name


def _above(top: bytes) -> Iterator[bytes]:
    folder = top
    while (parent := os.path.dirname(folder)) != folder:
        yield parent
        folder = parent


def _is_of_a_gallery(folder: bytes, names: set[bytes]) -> bool:
    return not names.isdisjoint((TABLE.encode(), IDENTITY.encode())) and is_gallery(folder)


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    """Whether it is known not to be a folder, nor a link to one."""
    try:
        return not (entry.is_symlink() or entry.is_dir(follow_symlinks=False))
    except OSError:
        return False
