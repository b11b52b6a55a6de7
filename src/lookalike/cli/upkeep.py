"""``lookalike info``, ``verify``, ``remove`` and ``tune``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.cli.index import report_problems
from lookalike.cli.options import (
    COUNT,
    GALLERY,
    JSON,
    NewFile,
    NumberRange,
    argument,
    command,
    find_folder,
    find_gallery,
    option,
    warn_if_unfinished,
)
from lookalike.cli.output import leave, number, print_json, print_lines, say, visible
from lookalike.cli.progress import progress_shown

if TYPE_CHECKING:
    from lookalike.gallery import GalleryInfo
    from lookalike.gallery.protocol import ImageGallery
    from lookalike.lsh import LSHSettings


@command()
def info(
    gallery: Path | str | None = GALLERY,
    skipped: bool = option("List the files that were skipped or removed, with reason and remedy."),
    as_json: bool = JSON,
) -> None:
    """Show what a gallery holds and what made it."""
    from lookalike.gallery.ignore import patterns_of

    opened = find_gallery(gallery)
    if skipped:
        _list_skipped(opened, as_json)
        return
    facts = opened.info()
    warn_if_unfinished(opened, gallery)
    if as_json:
        entries = {
            "folder": os.fspath(facts.root),
            "gallery": os.fspath(facts.directory),
            "images": facts.images,
            "skipped": facts.skipped,
            "removed": facts.removed,
            "unfinished": facts.unfinished,
            "disk_bytes": facts.disk_bytes,
            "model": facts.model.as_dict(),
            "lsh": facts.lsh.as_dict(),
            "tuning": facts.tuning,
            "segments": facts.segments,
            "pairs": None if facts.pairs is None else facts.pairs.as_dict(),
        }
        print_json(entries | (facts.served or {}))
        return
    lines = _in_words(facts)
    if excluded := patterns_of(facts.directory):
        lines["left out"] = visible(", ".join(excluded))
    if facts.served is not None:
        lines["gallery"] = str(facts.served["gallery"])
        lines["parts"] = visible(str(facts.served["parts"]))
        lines["shards"] = f"{facts.served['shards']}, replicas {facts.served['replicas']}"
    print_lines(lines)


def _list_skipped(opened: ImageGallery, as_json: bool) -> None:
    rows = opened.skipped()
    if as_json:
        print_json(
            [
                {
                    "path": row.path,
                    "reason": row.skipped,
                    "detail": row.detail,
                    "remedy": row.remedy,
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        name = visible(os.fsdecode(row.path))
        click.echo(f"{name}: {row.skipped}: {row.detail}; {row.remedy}")


def _in_words(facts: GalleryInfo) -> dict[str, str]:
    from lookalike.encoder import DEFAULT_MODEL, INT8_MODEL, bundled_model

    model, lsh = facts.model, facts.lsh
    is_earlier = bundled_model(model) not in (DEFAULT_MODEL, INT8_MODEL)
    lines = {
        "folder": visible(os.fspath(facts.root)),
        "gallery": f"{visible(os.fspath(facts.directory))} ({facts.disk_bytes / 1e6:.1f} MB)",
        "images": f"{facts.images:,} indexed, {facts.skipped:,} skipped"
        + (f", {facts.removed:,} removed by you" if facts.removed else ""),
        "model": f"{model.name} {model.version}, {model.input_size} x {model.input_size} pixels -> "
        f"{model.dim} dimensions, sha256 {model.sha256[:12]}"
        + (", which index --rebuild replaces by a better one" if is_earlier else ""),
        "index": f"{lsh.code_bits} bits ({lsh.codes}), {number(lsh.tables, 'table')} ({lsh.keys}), "
        f"seed {lsh.seed}, {number(facts.segments, 'segment')}, vectors {lsh.vectors}",
        "tuning": "none, the defaults",
    }
    if (tuned := facts.tuning) is not None:
        lines["tuning"] = (
            f"for recall@{tuned['k']} {tuned['target_recall']}, measured {tuned['recall']:.3f}, at "
            f"{number(tuned['images'], 'image')}; undo it with: lookalike tune --reset"
        )
    elif any(value is not None for value in asdict(lsh.search).values()):
        lines["tuning"] = "settings other than the defaults; undo them with: lookalike tune --reset"
    if facts.pairs is not None:
        median = dict(zip(facts.pairs.levels, facts.pairs.cosines, strict=True)).get(0.5)
        if median is not None:
            lines["random pairs"] = f"median cosine {median:.3f}"
    return lines


@command()
def verify(
    gallery: Path | str | None = GALLERY,
    contents: bool = option("Also read every image and compare its content."),
    repair: bool = option("Rebuild what can be rebuilt, then update."),
    as_json: bool = JSON,
) -> None:
    """Look for damage in the gallery's files."""
    from lookalike.gallery import Gallery
    from lookalike.gallery.opening import check_on_disk

    result: dict[str, object] = {}
    if isinstance(gallery, str):
        if repair:
            check_on_disk(gallery)
        _print_damage(find_gallery(gallery).verify(contents=contents), result, as_json)
        return
    folder = find_folder(gallery)
    if repair:
        report = Gallery.repair(folder)
        opened = Gallery.open(folder, create=False)
        with progress_shown() as show:
            updated = opened.update(show)
        report_problems(updated, gallery)
        encoded = updated.added + updated.changed - updated.reused
        done = [*report.done, f"{number(encoded, 'image')} encoded"]
        result = {"done": done, "images": updated.images}
        for line in [] if as_json else done:
            click.echo(visible(line))
    problems = Gallery.find_damage(folder)
    if contents and not problems:
        problems = Gallery.open(folder, create=False).verify(contents=True)
    remedy = f"repair it with: lookalike verify --repair --gallery {visible(os.fspath(folder))}"
    _print_damage(problems, result, as_json, None if repair or contents else remedy)


def _print_damage(
    problems: list[str], result: dict[str, object], as_json: bool, remedy: str | None = None
) -> None:
    """Exit status 1 if there are any."""
    if as_json:
        print_json({**result, "problems": problems})
    else:
        for problem in problems:
            click.echo(visible(problem))
    if not problems:
        say("the gallery is whole")
        return
    if remedy is not None:
        say(remedy)
    leave()


@command()
def remove(
    paths: tuple[Path, ...] = argument(nargs=-1, required=True),
    gallery: Path | str | None = GALLERY,
    undo: bool = option("Let the next update index them again."),
) -> None:
    """Take images out of the gallery and keep them out. Files are never touched.

    PATHS are looked for in the current folder first, then in the gallery's. They may also be
    folders, patterns such as 'old/*', and skipped files, which are then dismissed: they no longer
    count as skipped. What comes into a folder later is indexed; 'index --exclude' keeps it out.
    """
    opened = find_gallery(gallery, paths[0])
    if undo:
        count = opened.restore(paths)
        click.echo(f"{number(count, 'file')} may come back at the next update")
        return
    before = len(opened)
    count = opened.remove(paths)
    images = before - len(opened)
    done = [(images, "image", "removed"), (count - images, "skipped file", "dismissed")]
    click.echo(", ".join(f"{number(n, noun)} {verb}" for n, noun, verb in done if n))


# ---- tuning --------------------------------------------------------------------------------------


@command()
def tune(
    gallery: Path | str | None = GALLERY,
    recall: float = option(
        "Share of the exact nearest neighbours that a search is to find.",
        type=NumberRange(0, 1, min_open=True),
        default=0.95,
    ),
    k: int = option("Neighbours.", "-k", type=COUNT, default=10),
    curve: Path | None = option(
        "Draw recall against time per query for all that was tried (SVG).", type=NewFile(".svg")
    ),
    force: bool = option("Also with fewer than 10,000 images."),
    reset: bool = option("Return to the settings from before tuning."),
    as_json: bool = JSON,
) -> None:
    """Choose key bits, tables, candidates and re-rank depth by measuring, and keep them.

    Takes seconds. Refused below 10,000 images: there the defaults look at nearly everything anyway,
    and settings chosen for few images find less when there are many. Tune again when the gallery
    has grown a lot.
    """
    opened = find_gallery(gallery)
    if reset:
        restored = opened.reset_tuning()
        if as_json:
            print_json({"settings": restored.as_dict()})
        else:
            click.echo(f"settings      {_settings_in_words(restored)}")
        return
    report = opened.tune(recall, k, force=force)
    expected, settings = report.expected, report.settings
    if as_json:
        print_json(
            {
                "target_recall": recall,
                "k": k,
                "recall": expected.recall,
                "microseconds": 1e6 * expected.seconds,
                "exact_microseconds": 1e6 * expected.exact_seconds,
                "settings": settings.as_dict(),
                "trials": report.trials,
            }
        )
    else:
        click.echo(f"recall@{k}     {expected.recall:.3f} on images it was not tuned with")
        click.echo(f"time          {1e6 * expected.seconds:.0f} microseconds a search, one thread")
        click.echo(f"exact search  {1e6 * expected.exact_seconds:.0f} microseconds")
        click.echo(f"settings      {_settings_in_words(settings)}")
    if expected.recall < recall:
        say(
            f"the target of {recall} was missed on images it was not tuned with; ask for more with "
            f"--recall, or return to the defaults with --reset"
        )
    if curve is not None:
        from lookalike.plot import draw_recall_curve

        title = f"recall@{k} of {len(opened)} images"
        draw_recall_curve(report.trials, recall, curve, title=title)
        say(f"drew {curve}")


def _settings_in_words(settings: LSHSettings) -> str:
    key_bits, search = settings.key_bits, settings.search
    numbers = {"key bits": key_bits, "candidates": search.candidates, "re-ranked": search.rerank}
    if search.beam is not None:
        numbers = {"key bits": key_bits, "links followed of": search.beam}
    words = [f"{name} {'by size' if n is None else n}" for name, n in numbers.items()]
    return ", ".join([number(settings.tables, "table"), *words])
