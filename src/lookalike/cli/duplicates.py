"""``lookalike duplicates``: find, look, decide, act, undo."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lookalike.cli.options import (
    FILTER,
    GALLERY,
    JSON,
    PAGE,
    AnyPath,
    NumberRange,
    command,
    command_here,
    find_gallery,
    option,
)
from lookalike.cli.output import (
    leave,
    number,
    print_json,
    say,
    shown,
    visible,
)
from lookalike.cli.progress import progress_shown
from lookalike.errors import LookalikeError

if TYPE_CHECKING:
    from lookalike.gallery import Duplicate, Duplicates, Gallery
    from lookalike.gallery.act import Removal
    from lookalike.gallery.protocol import ImageGallery
    from lookalike.gallery.undo import Action, Done

SHOWN = 5
"""Changed files that are named; --json has all."""
KINDS = {
    "bytes": "same bytes",
    "pixels": "same pixels",
    "picture": "same picture",
    "turned": "mirrored or rotated",
    "cropped": "cropped",
    "shot": "another shot",
}
ACTIONS = "--move-to, --trash, --hardlink, --reflink and --delete"
MARKS = "lookalike duplicates"
PAST = {
    "move": "moved",
    "trash": "moved to the trash",
    "hardlink": "linked",
    "reflink": "cloned",
    "delete": "deleted",
}
BACK = {"hardlink": "made files of their own again", "reflink": "hold what they held"}


@command()
def duplicates(
    gallery: Path | str | None = GALLERY,
    kinds: tuple[str, ...] = option(
        "Only duplicates of this kind; may be repeated. Default: all but 'shot', which are other "
        "images with a near embedding.",
        "--kind",
        type=click.Choice(list(KINDS)),
    ),
    threshold: float = option(
        "Of '--kind shot': smallest cosine to a file that is kept; 1: equal images alone.",
        metavar="COSINE",
        type=NumberRange(-0.99, 1),
        default=0.95,
    ),
    keep: str = option(
        "Which file of a group is kept.",
        type=click.Choice(["original", "largest", "smallest", "oldest", "newest"]),
        default="original",
    ),
    folders: tuple[Path, ...] = option(
        "Rather keep files of this folder of the gallery; may be repeated, the first is best.",
        "--keep-folder",
        metavar="DIR",
    ),
    names: tuple[str, ...] = option(
        "Rather keep files that match; may be repeated, the first is best.",
        "--keep-name",
        metavar="GLOB",
    ),
    reference: Path | None = option(
        "A folder of the gallery whose files are always kept and never touched.", metavar="DIR"
    ),
    pattern: str | None = FILTER,
    sheet: Path | None = option(
        "Write the groups with their images as a page.", type=PAGE, metavar="FILE.html"
    ),
    move_to: Path | None = option(
        "Move duplicates, and their .xmp and .aae files, to this folder, outside of the gallery's.",
        metavar="DIR",
        type=AnyPath(path_type=Path, file_okay=False),
    ),
    trash: bool = option("Move duplicates, and these files, to the trash."),
    hardlink: bool = option("Replace duplicates of the same bytes by hard links."),
    reflink: bool = option(
        "Replace duplicates of the same bytes by copy-on-write clones (Btrfs, XFS)."
    ),
    delete: bool = option("Delete duplicates for good; asks for a word."),
    yes: bool = option("Do not ask, except before --delete."),
    marks: Path | None = option(
        "Act on what was marked on the page of 'serve' and exported, instead of searching.",
        "--apply",
        metavar="MARKS.json",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
    ),
    undo: bool = option("Undo the last --move-to, --trash, --hardlink or --reflink."),
    distinct: tuple[tuple[Path, Path], ...] = option(
        "Remember that two files are not duplicates; may be repeated.",
        "--not-duplicate",
        metavar="FILE FILE",
        nargs=2,
    ),
    as_json: bool = JSON,
) -> None:
    """Find files that show the same picture, and do something about them.

    Images are compared, not only their embeddings: a duplicate has the same bytes, the same
    pixels, or shows the same picture resized, recompressed, brighter, in grey, mirrored, rotated,
    cropped or with a border. Other shots of a scene are not duplicates; '--kind shot' lists them.

    Kept is the file with most pixels, then one in colour, then one with a camera's name in it,
    then one that is not named like a copy or by a messenger, then a lossless one, then the oldest,
    then the one with most bytes. '--keep largest' asks for pixels and bytes alone.

    Without --move-to, --trash, --hardlink, --reflink or --delete nothing is touched. With one of
    them, what would be done is listed first. Each file is read again before it is touched, and so
    is one that is kept. --delete can not be undone.
    """
    from lookalike.gallery import COPIES, KeepOrder, KeepRule, Kind
    from lookalike.gallery.act import Removal, check_target
    from lookalike.gallery.duplicates import inside
    from lookalike.gallery.undo import Action

    wanted = move_to is not None, trash, hardlink, reflink, delete
    if sum(wanted) > 1:
        raise click.UsageError(f"Only one of {ACTIONS}.")
    action = next((each for each, is_wanted in zip(Action, wanted, strict=True) if is_wanted), None)
    if (undo or distinct) and (action or marks):
        raise click.UsageError("--undo and --not-duplicate do not go with an action.")
    if marks is not None and action is None:
        raise click.UsageError(f"--apply needs one of {ACTIONS}.")
    opened = find_gallery(gallery)
    update = f"run: {command_here('update', opened, gallery)}"
    if undo:
        _undo(_on_disk(opened), update, as_json)
        return
    if distinct:
        count = _on_disk(opened).set_distinct(distinct)
        if as_json:
            print_json({"remembered": count})
        else:
            click.echo(f"{number(count, 'pair')} remembered as not duplicates")
        return
    if action is not None:
        local = _on_disk(opened)
        if move_to is not None:
            check_target(move_to, local.root)
        protected = None if reference is None else inside(local.root, reference, True)
    if action is not None and marks is not None:
        removals = _marked(local, marks)
    else:
        places = tuple(inside(opened.root, folder, True) for folder in folders)
        with progress_shown() as progress:
            groups = opened.duplicates(
                threshold,
                kinds=frozenset(Kind(KINDS[name]) for name in kinds) or COPIES,
                keep=KeepRule(KeepOrder(keep), places, names),
                reference=reference,
                filter=pattern,
                progress=progress,
            )
        if sheet is not None:
            _write_sheet(groups, sheet)
        if action is None:
            _report_found(groups, threshold, update, as_json)
            return
        removals = [
            Removal.of(local.root, item.row, [kept.row for kept in group.keep])
            for group in groups
            for item in group.duplicates
            if not os.path.islink(item.file)
        ]
    back = command_here("duplicates --undo", opened, gallery)
    then = update if action is Action.DELETE else f"undo it with: {back}; then {update}"
    _act(local, removals, action, move_to, protected, yes, as_json, then)


def _on_disk(opened: ImageGallery) -> Gallery:
    from lookalike.gallery import Gallery

    if not isinstance(opened, Gallery):
        raise LookalikeError(
            "files are moved, and pairs remembered, for a gallery on disk, not for one in shards"
        )
    return opened


# ---- what was found ------------------------------------------------------------------------------


def _report_found(groups: Duplicates, threshold: float, update: str, as_json: bool) -> None:
    if as_json:
        answer = {"groups": [group.as_dict() for group in groups], "changed": groups.changed}
        print_json({"threshold": threshold, "summary": _summary(groups), **answer})
    else:
        _print(groups)
    count = sum(len(group.duplicates) for group in groups)
    found = f"{number(len(groups), 'group')}, {number(count, 'file')} that could go"
    say(f"{found}; nothing was deleted")
    if groups.changed:
        names = ", ".join(visible(path) for path in groups.changed[:SHOWN])
        more = ", …" if len(groups.changed) > SHOWN else ""
        say(
            f"{number(len(groups.changed), 'file')} left out: changed or gone since the last "
            f"update ({names}{more}); {update}"
        )
    if not groups:
        leave()


def _print(groups: Duplicates) -> None:
    width = max((len(str(d.kind)) for group in groups for d in group.duplicates), default=4)
    for group in groups:
        for item in group.keep:
            click.echo(_line("keep".rjust(width), item))
        for item in group.duplicates:
            click.echo(_line(str(item.kind).rjust(width), item))
        click.echo()
    if groups:
        click.echo(f"{'kind':19}  {'files':>7}  {'would be freed':>18}")
        for row in _summary(groups):
            click.echo(f"{row['kind']:19}  {row['files']:>7,}  {row['bytes']:>12,} bytes")


def _line(mark: str, item: Duplicate) -> str:
    shape = f"{item.row.width}x{item.row.height}"
    return f"{mark}  {shape:>11}  {item.row.size:>11,} bytes  {shown(item.file)}"


def _summary(groups: Duplicates) -> list[dict[str, Any]]:
    """Files and bytes of each kind that was found."""
    items = [item for group in groups for item in group.duplicates]
    found = []
    for kind in KINDS.values():
        sizes = [item.row.size for item in items if item.kind == kind]
        if sizes:
            found.append({"kind": kind, "files": len(sizes), "bytes": sum(sizes)})
    return found


def _write_sheet(groups: Duplicates, sheet: Path) -> None:
    from lookalike.sheet import Cell, Row, thumbnail, write_html

    def cell(item: Duplicate) -> Cell:
        facts = f"{item.row.width} x {item.row.height}, {item.row.size:,} bytes"
        kind = "kept" if item.kind is None else str(item.kind)
        return Cell(thumbnail(item.file), (item.path, kind, facts))

    rows = []
    for group in groups:
        first, *others = group.keep
        rest = tuple(cell(item) for item in (*others, *group.duplicates))
        rows.append(Row(cell(first), rest, ("Kept", "Could go")))
    lines = [
        f"{row['kind']}: {row['files']:,} files, {row['bytes']:,} bytes" for row in _summary(groups)
    ]
    write_html(rows, sheet, title="Duplicates", lead="\n".join(lines) or "none found")
    say(f"wrote {shown(sheet.absolute())}")


# ---- acting --------------------------------------------------------------------------------------


def _marked(local: Gallery, marks: Path) -> list[Removal]:
    """What a file of marks says could go. Remembers its pairs that are not duplicates."""
    from lookalike.gallery.act import Removal

    try:
        content = json.loads(marks.read_bytes())
        if (content["format"], content["version"]) != (MARKS, 1):
            raise ValueError("it is of another format or version")
        groups = [
            [[{**i, "path": str(i["path"])} for i in g[side]] for side in ("keep", "could_go")]
            for g in content["groups"]
        ]
        distinct = [(Path(one), Path(two)) for one, two in content.get("not_duplicates", [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LookalikeError(
            f"{marks} is not what the page of 'lookalike serve' exports ({error})"
        ) from error
    items = [item for group in groups for side in group for item in side]
    rows = local.rows_of({item["path"] for item in items})
    for item in items:
        row = rows[item["path"]]
        if (item.get("id", row.id), item.get("bytes", row.size)) != (row.id, row.size):
            raise LookalikeError(
                f"{item['path']} is another image than the one that was marked in {marks}; mark "
                f"and export the duplicates again"
            )
    if distinct:
        local.set_distinct(distinct)
    return [
        Removal.of(local.root, rows[item["path"]], [rows[kept["path"]] for kept in keep])
        for keep, going in groups
        for item in going
    ]


def _act(
    local: Gallery,
    removals: list[Removal],
    action: Action,
    target: Path | None,
    protected: bytes | None,
    yes: bool,
    as_json: bool,
    then: str,
) -> None:
    from lookalike.gallery.act import SHARING, act
    from lookalike.gallery.undo import Done

    if action in SHARING:
        removals = [r for r in removals if any(r.digest == digest for _, digest in r.kept)]
    if not removals:
        _leave(as_json, "nothing to do")
    for removal in [] if as_json else removals:
        kept = shown(removal.kept[0][0]) if removal.kept else "nothing"
        click.echo(f"{action}  {shown(removal.file)}  (kept: {kept})")
    size = sum(removal.size for removal in removals)
    question = f"{action} {number(len(removals), 'file')}, {size:,} bytes"
    if not _is_confirmed(action, question, len(removals), yes):
        say(f"{question}: nothing was done")
        if as_json:
            print_json([Done(removal.file, problem="not confirmed") for removal in removals])
        return
    with progress_shown() as progress:
        done = act(
            removals,
            action,
            local.directory,
            local.root,
            target=target,
            reference=protected,
            progress=progress,
        )
    _report(done, PAST[action], as_json, then)


def _is_confirmed(action: str, question: str, count: int, yes: bool) -> bool:
    """A dry run ends here: where there is no one to ask, only --yes confirms, and --delete not even
    with that."""
    is_asked = sys.stdin.isatty()
    if action == "delete":
        if not is_asked:
            raise LookalikeError(
                "--delete asks for a word on a terminal; --trash or --move-to do without one"
            )
        word = f"delete {count}"
        say(f"{question}. This can not be undone. Type '{word}' to go on:")
        typed = click.prompt("", prompt_suffix="> ", default="", show_default=False, err=True)
        return bool(typed == word)
    if yes:
        return True
    if not is_asked:
        say("this was a dry run; add --yes to do it")
        return False
    return click.confirm(f"{question}?", err=True)


def _report(done: Sequence[Done], what: str, as_json: bool, more: str) -> None:
    problems = [each for each in done if each.problem is not None]
    if as_json:
        print_json(done)
    for each in problems:
        say(f"{shown(each.file)}: left as it is: {visible(each.problem or '')}")
    count = len(done) - len(problems)
    say(f"{number(count, 'file')} {what}{f'; {more}' if count else ''}")
    if problems:
        leave()


def _undo(local: Gallery, update: str, as_json: bool) -> None:
    from lookalike.gallery.undo import undo

    action, done = undo(local.directory, local.root)
    if action is None:
        _leave(as_json, "nothing to undo")
    if not done:
        _leave(
            as_json,
            "all files of the last action are in their places; run it again for the one before",
        )
    _report(done, BACK.get(action, "put back"), as_json, f"then {update}")


def _leave(as_json: bool, why: str) -> NoReturn:
    """With no file, why ever."""
    if as_json:
        print_json([])
    leave(why)
