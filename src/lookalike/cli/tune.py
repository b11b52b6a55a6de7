"""``lookalike tune``: choose the index's settings by measuring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lookalike.cli.options import NumberRange, find_gallery, gallery_option, json_option
from lookalike.cli.output import number, print_json, say

if TYPE_CHECKING:
    from lookalike.lsh import LSHSettings


@click.command()
@gallery_option
@click.option(
    "--recall",
    type=NumberRange(0, 1, min_open=True),
    default=0.95,
    help="Share of the exact nearest neighbours that a search is to find.",
)
@click.option("-k", type=click.IntRange(1), default=10, help="Neighbours.")
@click.option(
    "--curve",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw recall against time per query for all that was tried (SVG).",
)
@click.option("--force", is_flag=True, help="Also with fewer than 10,000 images.")
@click.option("--reset", is_flag=True, help="Return to the settings from before tuning.")
@json_option
def tune(
    gallery: Path | str | None,
    recall: float,
    k: int,
    curve: Path | None,
    force: bool,
    reset: bool,
    as_json: bool,
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
            click.echo(f"settings      {_in_words(restored)}")
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
        click.echo(f"settings      {_in_words(settings)}")
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


def _in_words(settings: LSHSettings) -> str:
    key_bits, search = settings.key_bits, settings.search
    numbers = {"key bits": key_bits, "candidates": search.candidates, "re-ranked": search.rerank}
    words = [f"{name} {'by size' if n is None else n}" for name, n in numbers.items()]
    return ", ".join([number(settings.tables, "table"), *words])
