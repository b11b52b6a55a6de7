"""``lookalike index``, also called ``update``, and ``watch``, which updates by itself."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.interrupt import acknowledge
from lookalike.cli.options import (
    ENCODING,
    GALLERY,
    JSON,
    NumberRange,
    argument,
    command,
    find_folder,
    gallery_name,
    option,
)
from lookalike.cli.output import leave, number, print_json, say, visible
from lookalike.cli.progress import progress_shown
from lookalike.errors import (
    GalleryError,
    GalleryLockedError,
    LookalikeError,
    StorageFullError,
    extra_needed,
    install_command,
)

if TYPE_CHECKING:
    from lookalike.gallery import Gallery, UpdateReport


KINDS_NAMED = 6
RAW = frozenset(["arw", "cr2", "cr3", "dng", "nef", "nrw", "orf", "pef", "raf", "rw2", "srw"])


@command()
def index(
    folder: Path | None = argument(
        type=click.Path(path_type=Path, exists=True, file_okay=False), required=False
    ),
    gallery: Path | str | None = option(
        "Keep the gallery's files in this new or empty directory instead of FOLDER/.lookalike, "
        "for instance because FOLDER is read-only. Without FOLDER: the gallery to bring up to "
        "date, named as for other commands.",
        metavar="DIR",
        type=gallery_name,
    ),
    rebuild: bool = option(
        "Encode all images again, for another model; until it is done, the old gallery serves."
    ),
    parts: str | None = option(
        "Make the gallery from the parts that 'lookalike cluster embed' or 'cluster export' wrote "
        "to this folder or URI, without encoding anything; FOLDER is where the images are here.",
        "--from",
        metavar="DIR",
    ),
    exclude: tuple[str, ...] = option(
        "Leave out what fits, as in a .gitignore file: 'raw/', '*.png'; remembered, and dropped "
        "if it is indexed. A file .lookalikeignore in any folder of images does the same.",
        metavar="PATTERN",
    ),
    accept_missing: bool = option(
        "Drop what is known of all files that are gone, even if a disk that is not mounted may be "
        "why."
    ),
    wait: float = option(
        "How long to wait if another process is writing.",
        metavar="SECONDS",
        type=NumberRange(0),
        default=0.0,
    ),
    encoding: dict[str, Any] = ENCODING,
    as_json: bool = JSON,
) -> None:
    """Index the images below FOLDER, or bring its gallery up to date.

    If FOLDER is left out, it is the current folder or the nearest one above it that has a gallery.
    New and changed files are encoded, deleted ones dropped, moved ones recognised. Interrupt it at
    any moment and run it again: it goes on where it stopped.

    Not indexed: hidden files and folders (those whose name begins with a dot), thumbnails and
    recycle bins of network storage, files without the extension of an image, what patterns
    exclude, and the files of galleries. Links to folders, also outside FOLDER, are followed.

    If FOLDER is empty, a disk below it is not mounted, or more than half of the files (10 or more)
    are gone at once, what is known of them is kept, and the exit status is 1.
    """
    from lookalike.gallery import Gallery
    from lookalike.gallery.places import nearest_above, places

    if parts is not None and rebuild:
        raise click.UsageError("--from makes a new gallery, --rebuild replaces one: give one only")
    opened, named, given = None, gallery, folder
    if folder is None:
        folder, gallery = _defaults(gallery)
    elif gallery is None and (above := nearest_above(folder.absolute().parent)) is not None:
        say(
            f"{visible(os.fspath(folder))} is inside {visible(os.fspath(above))}, which has a "
            f"gallery as well; in {visible(os.fspath(folder))}, commands use the gallery made here"
        )
    if isinstance(gallery, str):
        if parts is not None or rebuild:
            raise click.UsageError(
                "--from and --rebuild make galleries on disk; for one in shards there is: "
                "lookalike cluster start"
            )
        if exclude:
            raise click.UsageError(
                "--exclude is for a gallery on disk; of one in shards, write the patterns into a "
                "file .lookalikeignore in the images' folder"
            )
        opened, gallery = Gallery.open(gallery, **encoding), None
        _check_folder(opened, given)
    elif exclude and parts is not None:
        raise click.UsageError("--exclude is for indexing; --from takes all that was embedded")
    elif parts is None and (exclude or not rebuild):
        opened = Gallery.open(folder, directory=gallery, **encoding)
        if exclude:
            opened.exclude(exclude)
    known = opened
    if rebuild:
        with suppress(LookalikeError):  # a damaged one is rebuilt all the same
            known = Gallery.open(folder, directory=gallery, create=False)
    root = places(folder, gallery)[0] if known is None else known.root
    say(f"indexing {visible(os.path.abspath(root))}")
    with progress_shown() as show:
        if parts is not None:
            with extra_needed("cluster"):
                from lookalike.cluster.convert import import_gallery
                from lookalike.cluster.parts import Parts
            report = import_gallery(
                Parts.open(parts),
                folder,
                directory=gallery,
                model=encoding["model"],
                wait=wait,
                progress=show,
            )
        elif rebuild or opened is None:
            _, report = Gallery.rebuild(
                folder,
                directory=gallery,
                progress=show,
                wait=wait,
                accept_missing=accept_missing,
                **encoding,
            )
        else:
            report = opened.update(show, wait=wait, accept_missing=accept_missing)
    report_problems(report, named, given)
    names = ("images", "added", "changed", "moved", "dropped", "skipped", "removed", "missing")
    counts = {name: getattr(report, name) for name in names}
    if as_json:
        passed_over = {**report.passed_over, "others": report.others}
        counts |= {"reused": report.reused, "ignored": report.ignored}
        counts["passed_over"] = {name: count for name, count in passed_over.items() if count}
        print_json({**counts, "seconds": round(report.seconds, 3)})
    else:
        words = {"missing": " but kept", "removed": " by you"}
        changes = [
            f"{counts[name]:,} {name}{words.get(name, '')}" for name in names[1:] if counts[name]
        ]
        images, changed = number(report.images, "image"), ", ".join(changes) or "no change"
        click.echo(f"{images} ({changed}) in {report.seconds:.1f} s")
    if report.skipped or report.unlisted or report.absent:
        leave()


def _defaults(gallery: Path | str | None) -> tuple[Path, Path | str | None]:
    """Without FOLDER: the named gallery's folder, or the nearest one that has a gallery; and the
    gallery, None: in that folder."""
    from lookalike.gallery.places import FOLDER, has_gallery, nearest_above

    here = Path.cwd()
    if gallery is None and (usual := os.environ.get("LOOKALIKE_GALLERY")):
        gallery = gallery_name(usual)
        if isinstance(gallery, Path) and not has_gallery(gallery):
            return gallery, None  # it names the images' folder
    if gallery is None:
        return nearest_above(here) or here, None
    if isinstance(gallery, Path) and (gallery / FOLDER).is_dir():
        return gallery, None  # a folder that was indexed, or is now
    return (gallery if isinstance(gallery, Path) and has_gallery(gallery) else here), gallery


def _check_folder(served: Gallery, given: Path | None) -> None:
    """GalleryError if FOLDER is another than that of the gallery in shards, which it need not
    repeat."""
    if given is not None and given.resolve() != served.root.resolve():
        raise GalleryError(
            f"that gallery is of {visible(os.fspath(served.root))}, not of "
            f"{visible(os.fspath(given.absolute()))}; leave FOLDER out"
        )


def report_problems(
    report: UpdateReport, gallery: Path | str | None = None, folder: Path | None = None
) -> None:
    """Folders and files that gave no image, to stderr. ``gallery``, ``folder``: as the user named
    them."""
    option = "" if gallery is None else f" --gallery {shlex.quote(visible(os.fspath(gallery)))}"
    for path, why in report.unlisted:
        say(f"cannot read {_shown(path)}: {why}; what was indexed of it is kept")
    for row in report.newly_skipped:
        say(f"skipped {_shown(row.path)}: {row.skipped}: {row.detail}; {row.remedy}")
    for path in report.galleries:
        say(f"{_shown(path)} holds the files of a gallery; it was not entered")
    for path in report.nested:
        say(
            f"{_shown(path)} has a gallery of its own, which commands in it use; its images are "
            f"also in this one"
        )
    if passed_over := _passed_over(report):
        say(passed_over)
    if report.ignored:
        say(f"{number(report.ignored, 'path')} left out by patterns")
    place = "" if folder is None else f" {shlex.quote(visible(os.fspath(folder)))}"
    accept = f"lookalike index{place}{option} --accept-missing"
    for absence in report.absent:
        say(
            f"{number(absence.files, 'file')} of {_shown(absence.folder)} missing: {absence.why}; "
            f"what is known of them is kept; if they are gone for good: {accept}"
        )
    if report.skipped:
        are = "is" if report.skipped == 1 else "are"
        say(
            f"{number(report.skipped, 'file')} {are} skipped; list them with: "
            f"lookalike info --skipped{option}; dismiss what can stay as it is with: "
            f"lookalike remove{option} PATH"
        )


def _shown(path: bytes) -> str:
    return visible(os.fsdecode(path)) or "the folder"


def _passed_over(report: UpdateReport) -> str:
    """What was not opened for its extension, if it may have been meant to be; else "".

    Other files, of text or films for instance, are not worth a line unless there are no images.
    """
    kinds = dict(report.passed_over)
    without = kinds.pop("", 0)
    if not kinds and (report.images or not (without or report.others)):
        return ""
    often = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    named = [visible(kind) for kind in often[:KINDS_NAMED]]
    named += ["..."] if len(often) > KINDS_NAMED else []
    named += [f"{without:,} without extension"] if without else []
    named += [f"{report.others:,} others"] if report.others and not kinds else []
    count = sum(kinds.values()) + without + (0 if kinds else report.others)
    remedy = f"; for camera raw files: {install_command('raw')}" if RAW & set(kinds) else ""
    return f"{number(count, 'file')} of other kinds passed over: {', '.join(named)}{remedy}"


# ---- watching ------------------------------------------------------------------------------------


SETTLED_MS = 2000
"""So long nothing must change before an update: copying a folder is one change."""


@command()
def watch(
    gallery: Path | str | None = GALLERY,
    encoding: dict[str, Any] = ENCODING,
) -> None:
    """Keep a gallery up to date while its folder changes, until Ctrl-C.

    An update runs at the start and whenever files have come, gone or changed and then nothing has
    happened for two seconds. If another process is updating, it is waited for; if the disk is full,
    it is tried again at the next change.
    """
    with extra_needed("watch"):
        from watchfiles import watch as changes_of

    from lookalike.gallery import Gallery
    from lookalike.gallery.ignore import IGNORE

    opened = Gallery.open(find_folder(gallery), create=False, **encoding)
    own = os.path.realpath(opened.directory)

    def concerns(_: object, path: str) -> bool:
        inside = Path(os.path.relpath(path, opened.root)).parts
        hidden = any(part.startswith(".") and part != IGNORE for part in inside)
        return not hidden and not Path(os.path.realpath(path)).is_relative_to(own)

    def update() -> None:
        try:
            report = opened.update(wait=60)
        except (GalleryLockedError, StorageFullError) as error:
            say(f"{error}; trying again at the next change")
            return
        report_problems(report, gallery)
        counts = {name: getattr(report, name) for name in ("added", "changed", "moved", "dropped")}
        done = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        if done:
            click.echo(f"{number(report.images, 'image')} ({done})")

    has_said = False
    with suppress(KeyboardInterrupt):
        while True:
            is_first = True
            # The first update begins when changes are noticed already, so that none is missed.
            for changes in changes_of(
                opened.root,
                watch_filter=concerns,
                debounce=10 * SETTLED_MS,
                step=SETTLED_MS,
                rust_timeout=SETTLED_MS,
                yield_on_timeout=True,
            ):
                if changes or is_first:
                    update()
                if not has_said:
                    say(f"watching {visible(os.fspath(opened.root))} (Ctrl-C stops)")
                is_first, has_said = False, True
                if any(os.path.islink(path) and os.path.isdir(path) for _, path in changes):
                    break  # a folder that was linked is watched from the next call on
    acknowledge()
    say("stopped")
