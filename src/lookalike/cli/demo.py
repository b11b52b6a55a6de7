"""``lookalike demo``."""

from __future__ import annotations

from pathlib import Path

import click

from lookalike.cli.options import JSON, command, option
from lookalike.cli.output import leave, print_json, say
from lookalike.cli.progress import progress_shown


@command()
def demo(
    folder: Path | None = option(
        "Your own photographs instead of the ones that scikit-image and scikit-learn carry.",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
    ),
    out: Path = option("Results.", default=Path("demo")),
    as_json: bool = JSON,
) -> None:
    """Index real photographs, search them with altered ones, draw what was found.

    Exit status 1 if no altered image found the one that it was made from.
    """
    from lookalike.demo import run

    with progress_shown() as show:
        result = run(out, folder, say, show)
    if as_json:
        print_json(result)
    else:
        click.echo(result.in_words())
    if not result.found_first:
        leave()
