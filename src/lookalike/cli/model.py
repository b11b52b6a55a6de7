"""``lookalike model adopt`` and ``lookalike model info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.extras import extra_needed
from lookalike.cli.options import json_option
from lookalike.cli.output import print_json, say, shown

if TYPE_CHECKING:
    from lookalike.encoder import ModelInfo

__all__ = ["model"]


def triple(text: str) -> tuple[float, float, float]:
    """Three numbers with commas between."""
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not three numbers, such as 127,127,127") from error
    return red, green, blue


@click.group()
def model() -> None:
    """Model files: what is in one, and how to make one of another encoder."""


@model.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def info(file: Path, as_json: bool) -> None:
    """Show what the model FILE takes and gives."""
    from lookalike.encoder import Encoder

    facts = Encoder.open(file).info
    if as_json:
        print_json({**facts.as_dict(), "bytes": file.stat().st_size})
    else:
        _print(facts, file)


@model.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The model file to write.",
)
@click.option("--name", required=True, help="What the model calls itself.")
@click.option(
    "--size",
    required=True,
    metavar="N",
    type=click.IntRange(1),
    help="Images are squeezed to N x N pixels.",
)
@click.option(
    "--mean",
    required=True,
    metavar="R,G,B",
    type=triple,
    help="Of pixels from 0 to 255, which enter as (x - mean) / std.",
)
@click.option("--std", required=True, metavar="R,G,B", type=triple, help="Of pixels from 0 to 255.")
@click.option("--output", help="The output to use, if the encoder has several.")
@click.option(
    "--tokens",
    type=click.Choice(["cls", "mean"]),
    help="Of an output of tokens, the first, or the mean of all.",
)
@click.option("--version", default="1", show_default=True, help="Of the model.")
@json_option
def adopt(
    file: Path,
    out: Path,
    name: str,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    output: str | None,
    tokens: Any,
    version: str,
    as_json: bool,
) -> None:
    """Make a model file of any image encoder in an ONNX FILE, a DINOv2 or CLIP tower, say.

    It is written only if it embeds test images as it should. docs/bring-your-own-encoder.md has
    an example from beginning to end.
    """
    with extra_needed("onnx"):
        from lookalike.models.adopt import adopt as wrap

    facts = wrap(
        file,
        out,
        name=name,
        size=size,
        mean=mean,
        std=std,
        output=output,
        tokens=tokens,
        version=version,
    )
    if as_json:
        print_json({**facts.as_dict(), "bytes": out.stat().st_size})
    else:
        _print(facts, out)
    say(f"use it: lookalike index PHOTOS --model {shown(out)}")


def _print(facts: ModelInfo, file: Path) -> None:
    lines = {
        "model": f"{facts.name} {facts.version}",
        "file": f"{shown(file)} ({file.stat().st_size / 1e6:.1f} MB)",
        "takes": f"{facts.input_size} x {facts.input_size} pixels, (x - mean) / std",
        "mean": ", ".join(f"{value:g}" for value in facts.mean),
        "std": ", ".join(f"{value:g}" for value in facts.std),
        "gives": f"{facts.dim} numbers",
        "sha256": facts.sha256,
    }
    for key, value in lines.items():
        click.echo(f"{key:7} {value}")
