"""The command ``lookalike``: data to stdout, progress and warnings to stderr, exit status 0, 1, 2.

0: done. 1: done, but nothing was found, or files were skipped, or damage was found. 2: usage, or an
error that stopped the command. Heavy modules are imported by the command that needs them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike import __version__
from lookalike.errors import LookalikeError

if TYPE_CHECKING:
    from lookalike.gallery import Gallery, Hit, Progress, UpdateReport

__all__ = ["main"]

FOUND_NOTHING = 1
FAILED = 2


class _Commands(click.Group):
    """Turns the library's errors into one line on stderr and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (LookalikeError, ValueError) as error:
            _say(f"lookalike: {error}")
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            _say(f"lookalike: {name}{error.strerror or error}")
        except KeyboardInterrupt:
            _say("lookalike: interrupted; everything committed is kept, run it again to go on")
            sys.exit(130)
        sys.exit(FAILED)


def main() -> None:
    """Entry point of the command."""
    # Names of files need not be UTF-8: print the bytes that they are.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    try:
        commands(standalone_mode=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _visible(name: str) -> str:
    """A file name on one line: control characters as escapes."""
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in name
    )


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def commands() -> None:
    """Find images that look alike: index a folder once, then search it with any picture."""


_gallery_option = click.option(
    "--gallery",
    type=click.Path(path_type=Path),
    help="A folder that was indexed, or the directory given to 'index --gallery'. Default: the "
    "current folder or the nearest one above it that has a gallery.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _encoding_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--batch-size", type=click.IntRange(1), help="Pictures per run of the model."),
        click.option("--threads", type=click.IntRange(1), help="Default: all cores."),
        click.option(
            "--max-pixels",
            type=click.IntRange(1),
            default=200_000_000,
            show_default=True,
            help="Skip larger pictures.",
        ),
        click.option(
            "--model",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            help="An ONNX model file instead of the one that comes with lookalike.",
        ),
    ):
        command = option(command)
    return command


def _options(
    batch_size: int | None, threads: int | None, max_pixels: int, model: Path | None
) -> dict[str, Any]:
    from lookalike.encoder import EncoderSettings

    given = {"batch_size": batch_size, "threads": threads}
    settings = EncoderSettings(**{k: v for k, v in given.items() if v is not None})
    return {"encoder_settings": settings, "max_pixels": max_pixels, "model": model}


def _find_gallery(gallery: Path | None, near: Path | None = None, **options: Any) -> Gallery:
    """Open the gallery asked for, or the nearest one above the current folder or ``near``."""
    from lookalike.errors import GalleryError
    from lookalike.gallery import Gallery

    if gallery is not None:
        return Gallery.open(gallery, create=False, **options)
    for start in [Path.cwd()] + ([near.absolute().parent] if near is not None else []):
        for folder in (start, *start.parents):
            if (folder / ".lookalike").is_dir():
                return Gallery.open(folder, create=False, **options)
    raise GalleryError(
        f"there is no gallery in {Path.cwd()} or above; make one with 'lookalike index FOLDER', or "
        f"name it with --gallery"
    )


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; elsewhere a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        speed = TextColumn("{task.fields[rate]}"), TimeRemainingColumn()
        with Bar(*columns, *speed, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("images", total=None, rate="")
            began = time.monotonic()

            def show(progress: Progress) -> None:
                rate = f"{progress.done / max(1e-9, time.monotonic() - began):.0f}/s"
                bar.update(task, total=progress.total, completed=progress.done, rate=rate)

            yield show
        return
    last = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= 5:
            last = time.monotonic()
            _say(f"{progress.done} of {progress.total} read, {progress.skipped} skipped")

    yield tell


# ---- index ------------------------------------------------------------------------------------


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option(
    "--gallery",
    type=click.Path(path_type=Path),
    help="Keep the gallery's files in this directory instead of FOLDER/.lookalike, for instance "
    "because FOLDER is read-only.",
)
@click.option("--rebuild", is_flag=True, help="Encode everything anew, for another model.")
@click.option("--wait", type=float, default=0.0, help="Seconds to wait for another writer.")
@_encoding_options
@_json_option
def index(
    folder: Path,
    gallery: Path | None,
    rebuild: bool,
    wait: float,
    batch_size: int | None,
    threads: int | None,
    max_pixels: int,
    model: Path | None,
    as_json: bool,
) -> None:
    """Index the images below FOLDER, or bring its gallery up to date.

    New and changed files are encoded, deleted ones dropped, moved ones recognised. Interrupt it at
    any moment and run it again: it goes on where it stopped.
    """
    from lookalike.gallery import Gallery

    options = _options(batch_size, threads, max_pixels, model)
    if not folder.is_dir():
        raise LookalikeError(f"{folder} is not a folder")
    with _progress() as show:
        if rebuild:
            _, report = Gallery.rebuild(folder, directory=gallery, progress=show, **options)
        else:
            opened = Gallery.open(folder, directory=gallery, **options)
            report = opened.update(show, wait=wait)
    _tell_update(report, as_json)


def _tell_update(report: UpdateReport, as_json: bool) -> None:
    for folder, why in report.unlisted:
        _say(f"cannot list {_visible(os.fsdecode(folder)) or 'the folder'}: {why}")
    for row in report.newly_skipped:
        name = _visible(os.fsdecode(row.path))
        _say(f"skipped {name}: {row.skipped}: {row.detail}; {row.remedy}")
    counts = {
        "images": report.images,
        "added": report.added,
        "changed": report.changed,
        "moved": report.moved,
        "dropped": report.dropped,
        "skipped": report.skipped,
    }
    if as_json:
        _print_json({**counts, "seconds": round(report.seconds, 3)})
    else:
        changes = [f"{n} {what}" for what, n in counts.items() if n and what != "images"]
        click.echo(
            f"{report.images} images ({', '.join(changes) or 'no change'}) "
            f"in {report.seconds:.1f} s"
        )
        if report.skipped:
            click.echo("list the skipped files with: lookalike info --skipped")
    if report.skipped or report.unlisted:
        sys.exit(FOUND_NOTHING)


commands.add_command(index, "update")


# ---- search -----------------------------------------------------------------------------------


@commands.command()
@click.argument("query", type=click.Path(path_type=Path, allow_dash=True))
@_gallery_option
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Images to find.")
@click.option("--threshold", type=click.FloatRange(-1, 1), help="Smallest cosine of a hit.")
@click.option(
    "--filter",
    "pattern",
    metavar="GLOB",
    help="Only files whose path (or name, if GLOB has no slash) matches.",
)
@click.option("--exclude-self", is_flag=True, help="Leave out the query and its exact copies.")
@click.option("--exact", is_flag=True, help="Compare with every image instead of hashing.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the query and its hits as a contact sheet (PNG).",
)
@_encoding_options
@_json_option
def search(
    query: Path,
    gallery: Path | None,
    k: int,
    threshold: float | None,
    pattern: str | None,
    exclude_self: bool,
    exact: bool,
    picture: Path | None,
    batch_size: int | None,
    threads: int | None,
    max_pixels: int,
    model: Path | None,
    as_json: bool,
) -> None:
    """Find the images that look most like QUERY.

    QUERY is an image file, the path of an indexed image, or - for an image on standard input.
    Each line: cosine, bits of the code that differ, share of random pairs less alike, path.
    """
    from_stdin = str(query) == "-"
    source = sys.stdin.buffer.read() if from_stdin else query
    options = _options(batch_size, threads, max_pixels, model)
    opened = _find_gallery(gallery, None if from_stdin else query, **options)
    hits = opened.search(
        source,
        k,
        threshold=threshold,
        filter=pattern,
        exclude_self=exclude_self,
        exact=exact,
    )
    if as_json:
        _print_json([hit.as_dict() for hit in hits])
    else:
        for hit in hits:
            rarity = "" if hit.rarity is None else f"{100 * hit.rarity:.3f} %"
            bits = f"{hit.bits}/{hit.code_bits}"
            click.echo(f"{hit.cosine:.3f}  {bits:>7}  {rarity:>8}  {_visible(hit.path)}")
    if picture is not None:
        _draw(opened, source, hits, picture)
    if not hits:
        _say("nothing found")
        sys.exit(FOUND_NOTHING)


def _draw(opened: Gallery, source: Path | bytes, hits: list[Hit], picture: Path) -> None:
    import io

    from lookalike.sheet import draw_png, search_sheet, thumbnail

    if isinstance(source, bytes):
        image, name = thumbnail(io.BytesIO(source)), "standard input"
    else:
        path = source if source.exists() else opened.root / source
        image, name = thumbnail(path), source.name
    row = search_sheet(image, hits, query_caption=("query", name))
    draw_png([row], picture, title=f"What looks like {_visible(name)}")
    _say(f"drew {picture}")


# ---- duplicates -------------------------------------------------------------------------------


@commands.command()
@_gallery_option
@click.option(
    "--threshold",
    type=click.FloatRange(-0.99, 1),
    default=0.95,
    show_default=True,
    help="Smallest cosine between two files that count as duplicates.",
)
@click.option(
    "--reference",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A folder of the gallery whose files are always kept.",
)
@click.option("--filter", "pattern", metavar="GLOB", help="Only files whose path matches.")
@_json_option
def duplicates(
    gallery: Path | None,
    threshold: float,
    reference: Path | None,
    pattern: str | None,
    as_json: bool,
) -> None:
    """List groups of near duplicates and which file of each to keep. Deletes nothing.

    Kept is the file with most pixels, then most bytes, then the oldest.
    """
    opened = _find_gallery(gallery)
    groups = opened.duplicates(threshold, reference=reference, filter=pattern)
    if as_json:
        _print_json({"threshold": threshold, "groups": [group.as_dict() for group in groups]})
    else:
        for group in groups:
            for item in group.keep:
                click.echo(
                    f"keep          {item.row.width}x{item.row.height}  {_visible(item.path)}"
                )
            for item in group.duplicates:
                shape = f"{item.row.width}x{item.row.height}"
                click.echo(f"    {item.cosine:.3f}     {shape}  {_visible(item.path)}")
    count = sum(len(group.duplicates) for group in groups)
    _say(f"{len(groups)} groups, {count} files that could go; nothing was deleted")
    if not groups:
        sys.exit(FOUND_NOTHING)


# ---- info, verify, remove, export -------------------------------------------------------------


@commands.command()
@_gallery_option
@click.option("--skipped", is_flag=True, help="List the skipped files with reason and remedy.")
@_json_option
def info(gallery: Path | None, skipped: bool, as_json: bool) -> None:
    """Tell what a gallery holds and what made it."""
    opened = _find_gallery(gallery)
    if skipped:
        rows = opened.skipped()
        entries = [
            {
                "path": os.fsdecode(row.path),
                "reason": row.skipped,
                "detail": row.detail,
                "remedy": row.remedy,
            }
            for row in rows
        ]
        if as_json:
            _print_json(entries)
        for entry in [] if as_json else entries:
            name = _visible(entry["path"] or "")
            click.echo(f"{name}: {entry['reason']}: {entry['detail']}; {entry['remedy']}")
        return
    facts = opened.info()
    model, lsh = facts.model, facts.lsh
    if as_json:
        _print_json(
            {
                "folder": os.fspath(facts.root),
                "gallery": os.fspath(facts.directory),
                "images": facts.images,
                "skipped": facts.skipped,
                "disk_bytes": facts.disk_bytes,
                "model": model.as_dict(),
                "lsh": lsh.as_dict(),
                "segments": facts.segments,
                "pairs": None if facts.pairs is None else facts.pairs.as_dict(),
            }
        )
        return
    lines = {
        "folder": _visible(os.fspath(facts.root)),
        "gallery": f"{_visible(os.fspath(facts.directory))} ({facts.disk_bytes / 1e6:.1f} MB)",
        "images": f"{facts.images} indexed, {facts.skipped} skipped",
        "model": f"{model.name} {model.version}, {model.input_size} x {model.input_size} pixels -> "
        f"{model.dim} numbers, sha256 {model.sha256[:12]}",
        "index": f"{lsh.family} {lsh.code_bits} bits, {lsh.tables} tables, seed {lsh.seed}, "
        f"{facts.segments} segments, vectors {lsh.vectors}",
    }
    if facts.pairs is not None:
        median = dict(zip(facts.pairs.levels, facts.pairs.cosines, strict=True)).get(0.5)
        lines["random pairs"] = "" if median is None else f"median cosine {median:.3f}"
    for name, value in lines.items():
        click.echo(f"{name:13} {value}")


@commands.command()
@_gallery_option
@click.option("--contents", is_flag=True, help="Also read every image and compare its content.")
@click.option("--repair", is_flag=True, help="Rebuild what can be rebuilt, then update.")
@_json_option
def verify(gallery: Path | None, contents: bool, repair: bool, as_json: bool) -> None:
    """Look for damage in the gallery's files."""
    from lookalike.gallery import Gallery

    if repair:
        where = gallery if gallery is not None else _nearest_folder()
        report = Gallery.repair(where)
        opened = Gallery.open(where, create=False)
        with _progress() as show:
            updated = opened.update(show)
        done = [*report.done, f"{report.to_read} images were read again"]
        problems = opened.verify(contents=contents)
        if as_json:
            _print_json({"done": done, "problems": problems, "images": updated.images})
        else:
            click.echo("\n".join(done))
    else:
        opened = _find_gallery(gallery)
        problems = opened.verify(contents=contents)
        if as_json:
            _print_json({"problems": problems})
    for problem in [] if as_json else problems:
        click.echo(_visible(problem))
    if not problems:
        _say("the gallery is whole")
        return
    if not repair:
        _say(f"repair it with: lookalike verify --repair --gallery {opened.directory}")
    sys.exit(FOUND_NOTHING)


def _nearest_folder() -> Path:
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / ".lookalike").is_dir():
            return folder
    raise LookalikeError(f"there is no gallery in {Path.cwd()} or above; name it with --gallery")


@commands.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_gallery_option
@click.option("--undo", is_flag=True, help="Let the next update index them again.")
def remove(paths: tuple[Path, ...], gallery: Path | None, undo: bool) -> None:
    """Take images out of the gallery and keep them out. Files are never touched."""
    opened = _find_gallery(gallery, paths[0])
    count = opened.restore(paths) if undo else opened.remove(paths)
    click.echo(f"{count} images {'may come back at the next update' if undo else 'removed'}")


@commands.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Your own photographs instead of the ones that scikit-image and scikit-learn carry.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Results.",
)
def demo(folder: Path | None, out: Path) -> None:
    """Index real photographs, search them with altered ones, draw what was found."""
    from lookalike.demo import run

    run(out, folder, click.echo)
