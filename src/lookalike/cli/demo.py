"""``lookalike demo``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
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
