"""Options that several commands share, and the gallery that they name."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lookalike.cli.output import current_folder, number, say, visible
from lookalike.errors import GalleryError

if TYPE_CHECKING:
    from lookalike.gallery.protocol import ImageGallery


class NumberRange(click.FloatRange):
    """A range of numbers; NaN, which no comparison excludes, is outside."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


class ModelFile(click.Path):
    """A model file, or the name of one that ``lookalike model get`` has downloaded."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, exists=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from lookalike.models.catalogue import CATALOGUE, model_file

        if value in CATALOGUE and not Path(value).exists():
            file = model_file(value)
            if not file.exists():
                self.fail(f"{value} is not here yet; get it with: lookalike model get {value}")
            return file
        return super().convert(value, param, ctx)


def gallery_name(value: str) -> Path | str:
    """A folder; or the address of a gallery in shards as it is, since a Path swallows slashes."""
    from lookalike.gallery.remote import is_remote

    return value if is_remote(value) else Path(value)


gallery_option = click.option(
    "--gallery",
    metavar="DIR",
    type=gallery_name,
    envvar="LOOKALIKE_GALLERY",
    help="A folder that was indexed, the directory given to 'index --gallery', or ray://NAME, the "
    "address of a gallery in shards. Default: $LOOKALIKE_GALLERY, or the current folder or the "
    "nearest one above it that has a gallery.",
)
filter_option = click.option(
    "--filter",
    "pattern",
    metavar="WORDS",
    help="Only files whose path in the gallery holds all these words, in any case, or fits a "
    "pattern: 2019/*, *.png. Also date:2021..2023, size:>2MB, width:>=1000, shape:portrait, "
    "type:jpeg; a minus before any excludes: -beach.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


max_pixels_option = click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1),
    default=200_000_000,
    help="Skip larger images, and those that take more than 1 GiB of memory, or 5 bytes for each "
    "of N if that is more.",
)
max_seconds_option = click.option(
    "--max-seconds",
    metavar="S",
    type=click.FloatRange(0, 1e6, min_open=True),
    default=10.0,
    help="Skip images that take more processor time to decode.",
)
model_option = click.option(
    "--model",
    metavar="FILE|NAME",
    type=ModelFile(),
    help="A model instead of the one that comes with lookalike: an ONNX file, or the name of one "
    "that 'lookalike model get' has downloaded.",
)


runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", "onnxruntime", "openvino"]),
    envvar="LOOKALIKE_RUNTIME",
    help="What runs the model. Default: $LOOKALIKE_RUNTIME, or OpenVINO where it is installed and "
    "gives the same embeddings, else ONNX Runtime.",
)


def encoding_options(command: Callable[..., None]) -> Callable[..., None]:
    """Those of the encoder, which the command gets as ``encoding``: arguments of `Gallery.open`."""

    @functools.wraps(command)
    def with_encoding(
        *,
        batch_size: int | None,
        threads: int | None,
        runtime: str | None,
        max_pixels: int,
        max_seconds: float,
        model: Path | None,
        **others: Any,
    ) -> None:
        from lookalike.encoder import EncoderSettings

        given: dict[str, Any] = {"batch_size": batch_size, "threads": threads, "runtime": runtime}
        encoding = {
            "encoder_settings": EncoderSettings(
                **{k: v for k, v in given.items() if v is not None}
            ),
            "model": model,
            "max_pixels": max_pixels,
            "max_seconds": max_seconds,
        }
        command(encoding=encoding, **others)

    made: Callable[..., None] = with_encoding
    for option in (
        click.option(
            "--batch-size",
            metavar="N",
            type=click.IntRange(1),
            help="Images per run of the model.",
        ),
        click.option("--threads", metavar="N", type=click.IntRange(1), help="Default: all cores."),
        runtime_option,
        max_pixels_option,
        max_seconds_option,
        model_option,
    ):
        made = option(made)
    return made


def find_folder(gallery: Path | str | None, near: Path | None = None) -> Path:
    """What ``--gallery`` names, or the nearest indexed folder above the current one or ``near``.

    Raises:
        GalleryError: there is none, or it names a gallery in shards.
    """
    from lookalike.gallery.places import find_nearest

    if isinstance(gallery, str):
        raise GalleryError(
            "this command takes a gallery on disk, not one in shards; make one of its parts with: "
            "lookalike index FOLDER --from DIR"
        )
    if gallery is not None:
        return gallery
    return find_nearest(Path.cwd(), *([] if near is None else [near.absolute().parent]))


def find_gallery(
    gallery: Path | str | None, near: Path | None = None, **settings: Any
) -> ImageGallery:
    """The same, opened; or one in shards."""
    from lookalike.gallery import Gallery

    named = gallery if isinstance(gallery, str) else find_folder(gallery, near)
    return Gallery.open(named, create=False, **settings)


def update_command(gallery: ImageGallery, named: Path | str | None) -> str:
    """What brings this gallery up to date from the current folder; ``named``: by --gallery."""
    from lookalike.gallery.places import command, nearest_above

    if isinstance(named, str):
        return f"lookalike update --gallery {named}"
    here = current_folder()
    is_nearest = here is not None and nearest_above(here) == gallery.directory.parent
    return "lookalike update" if is_nearest else visible(command("update", gallery.directory))


def warn_if_unfinished(gallery: ImageGallery, named: Path | str | None) -> None:
    """That the gallery does not hold everything yet, to stderr; ``named`` by --gallery."""
    if gallery.unfinished():
        say(
            f"the last update did not finish, or is still running: {number(len(gallery), 'image')} "
            f"so far; go on with: {update_command(gallery, named)}"
        )
