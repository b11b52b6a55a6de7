"""``lookalike tune``: choose the index's settings by measuring."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.cli.options import find_gallery, gallery_option, json_option
from lookalike.cli.output import print_json, say

__all__ = ["tune"]


@click.command()
@gallery_option
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Share of the exact nearest neighbours that a search is to find.",
)
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Neighbours.")
@click.option(
    "--curve",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw recall against time per query for all that was tried (PNG).",
)
@json_option
def tune(gallery: Path | None, recall: float, k: int, curve: Path | None, as_json: bool) -> None:
    """Choose key bits, tables, candidates and re-rank depth by measuring, and keep them.

    Takes seconds. Worth it from some ten thousand images on; below, the defaults look at nearly
    everything anyway.
    """
    opened = find_gallery(gallery)
    report = opened.tune(recall, k)
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
                "trials": [vars(trial) for trial in report.trials],
            }
        )
    else:
        click.echo(f"recall@{k}     {expected.recall:.3f} on images it was not tuned with")
        click.echo(f"time          {1e6 * expected.seconds:.0f} microseconds a search, one thread")
        click.echo(f"exact search  {1e6 * expected.exact_seconds:.0f} microseconds")
        click.echo(
            f"settings      {settings.tables} tables, key bits {settings.key_bits or 'by size'}, "
            f"{settings.search.candidates} candidates, {settings.search.rerank} re-ranked"
        )
    if curve is not None:
        from lookalike.plot import draw_recall_curve

        title = f"recall@{k} of {len(opened)} images"
        draw_recall_curve(report.trials, recall, curve, title=title)
        say(f"drew {curve}")
