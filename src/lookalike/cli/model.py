"""``lookalike model``: what model files are, how to make one, and published ones by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.options import (
    COUNT,
    JSON,
    RUNTIME,
    ModelFile,
    NewFile,
    argument,
    command,
    option,
)
from lookalike.cli.output import leave, print_json, print_lines, say, shown
from lookalike.cli.progress import download_shown
from lookalike.errors import extra_needed

if TYPE_CHECKING:
    from lookalike.encoder import ModelInfo


def triple(text: str) -> tuple[float, float, float]:
    """Three numbers with commas between."""
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not three numbers, such as 127,127,127") from error
    return red, green, blue


@click.group()
def model() -> None:
    """Model files: published ones to download, what is in one, and how to make one."""


@command(model, "list")
def list_models(
    as_json: bool = JSON,
) -> None:
    """List the encoders that have a name: those that come along, and those to download."""
    from lookalike.models.catalogue import BUNDLED, CATALOGUE, model_file

    names = "name", "about", "licence", "bytes", "source"
    rows: list[tuple[Any, ...]] = [
        (name, about, "Apache-2.0", model_file(name).stat().st_size, "lookalike")
        for name, about in BUNDLED.items()
    ]
    rows += [
        (name, entry.about, entry.licence, entry.bytes, f"{entry.repository}@{entry.revision}")
        for name, entry in CATALOGUE.items()
    ]
    models = [dict(zip(names, row, strict=True)) for row in rows]
    for each in models:
        file = model_file(each["name"])
        each["file"] = str(file) if file.exists() else None
    if as_json:
        print_json(models)
        return
    width = max(len(each["name"]) for each in models)
    for each in models:
        state = "downloaded" if each["file"] else f"{each['bytes'] / 1e6:.0f} MB"
        state = "comes along" if each["name"] in BUNDLED else state
        click.echo(f"{each['name']:{width}}  {state:>11}  {each['licence']:10}  {each['about']}")


@command(model)
def get(
    name: str = argument(),
    host: str | None = option(
        "A mirror to download from. Default: $LOOKALIKE_MODELS_URL, or https://huggingface.co",
        metavar="URL",
    ),
    as_json: bool = JSON,
) -> None:
    """Download the published encoder NAME and make a model file of it, for use without a network.

    Run it again if it was interrupted: it goes on where it stopped. Proxies are those of the
    environment (https_proxy).
    """
    from lookalike.models import catalogue

    file = catalogue.model_file(name)
    with extra_needed("onnx"), download_shown() as show:
        facts = catalogue.get(name, host=host, progress=show)
    _report(facts, file, as_json)
    say(f"use it: lookalike index PHOTOS --model {name}")


@command(model)
def remove(
    name: str = argument(),
) -> None:
    """Delete the downloaded model NAME.

    Galleries that were made with it need it again for what they do not hold yet: new images, and
    queries from elsewhere.
    """
    from lookalike.models import catalogue

    if not catalogue.remove(name):
        leave(f"{name} is not here")


@command(model)
def info(
    file: Path | None = argument(metavar="[FILE|NAME]", type=ModelFile(), required=False),
    runtime: str | None = RUNTIME,
    as_json: bool = JSON,
) -> None:
    """Show what a model takes and gives, and what runs it here.

    It is a FILE, or by its NAME one that comes along or was downloaded. Without either, it is the
    default one.
    """
    from lookalike.encoder import DEFAULT_MODEL, Encoder, EncoderSettings

    settings = EncoderSettings() if runtime is None else EncoderSettings(runtime=runtime)
    encoder = Encoder.open(file, settings)
    _report(encoder.info, file or DEFAULT_MODEL, as_json, encoder.runtime.description)


@command(model)
def adopt(
    file: Path = argument(),
    out: Path = option(
        "The model file to write.", type=NewFile(".onnx"), required=True, metavar="FILE"
    ),
    name: str = option("What the model calls itself.", required=True),
    size: int = option(
        "Images are squeezed to N x N pixels.", type=COUNT, required=True, metavar="N"
    ),
    mean: tuple[float, float, float] = option(
        "Of pixels from 0 to 255, which enter as (x - mean) / std.",
        required=True,
        metavar="R,G,B",
        type=triple,
    ),
    std: tuple[float, float, float] = option(
        "Of pixels from 0 to 255.", required=True, metavar="R,G,B", type=triple
    ),
    output: str | None = option("The output to use, if the encoder has several."),
    tokens: Any = option(
        "Of an output of tokens, the first, or the mean of all.", type=click.Choice(["cls", "mean"])
    ),
    text: Path | None = option(
        "The ONNX file of the other half of a model of images and words, to search by words; it "
        "goes into a second file beside the model file.",
        metavar="FILE",
    ),
    tokenizer: Path | None = option("Of --text, a tokenizer.json.", metavar="FILE"),
    text_output: str | None = option("The output of --text to use, if it has several."),
    text_length: int = option(
        "The most tokens that --text takes.", metavar="N", type=click.IntRange(1, 4096), default=77
    ),
    version: str = option("Of the model.", default="1"),
    as_json: bool = JSON,
) -> None:
    """Make a model file of any image encoder in an ONNX FILE, a DINOv2 or CLIP tower, say.

    It is written only if it embeds test images as it should. docs/bring-your-own-encoder.md has
    an example from beginning to end.
    """
    if (text is None) != (tokenizer is None):
        raise click.UsageError("--text and --tokenizer belong together: give both, or neither")
    with extra_needed("onnx"):
        from lookalike.models.adopt import TextTower
        from lookalike.models.adopt import adopt as wrap

    tower = None
    if text is not None and tokenizer is not None:
        tower = TextTower(text, tokenizer, text_output, text_length)
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
        text=tower,
    )
    _report(facts, out, as_json)
    say(f"use it: lookalike index PHOTOS --model {shown(out)}")


def _report(facts: ModelInfo, file: Path, as_json: bool, runtime: str = "") -> None:
    if as_json:
        entry = {"runtime": runtime} if runtime else {}
        print_json({**facts.as_dict(), "bytes": file.stat().st_size, **entry})
        return
    from lookalike.words import words_file

    lines = {
        "model": f"{facts.name} {facts.version}",
        "file": f"{shown(file)} ({file.stat().st_size / 1e6:.1f} MB)",
        "takes": f"{facts.input_size} x {facts.input_size} pixels, (x - mean) / std",
        "mean": ", ".join(f"{value:g}" for value in facts.mean),
        "std": ", ".join(f"{value:g}" for value in facts.std),
        "gives": f"{facts.dim} dimensions",
        "words": f"in {shown(words_file(file))}" if facts.words else "not known",
        "sha256": facts.sha256,
    }
    if runtime:
        lines["runtime"] = runtime
    print_lines(lines)
