"""Options that several commands share, and the gallery that they name."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from lookalike.cli.output import current_folder, number, say, visible
from lookalike.errors import GalleryError, LookalikeError

if TYPE_CHECKING:
    from lookalike.gallery.protocol import ImageGallery


Command: TypeAlias = Callable[..., Any]


HOW_TO_NAME = "a gallery is named with --gallery DIR"


EMPTY = "The name is empty; for the current folder give a dot."


class AnyPath(click.Path):
    """A path; not the empty one, which is that of a variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class NumberRange(click.FloatRange):
    """A range of numbers; NaN, which no comparison excludes, is outside."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


class Count(click.IntRange):
    """A whole number, which help shows as N."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        return "N"


class ModelFile(click.Path):
    """A model file, or the name of one that comes along or has been downloaded."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, exists=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from lookalike.encoder import model_path
        from lookalike.models.catalogue import CATALOGUE

        file = model_path(value)
        if value in CATALOGUE and not file.exists():
            self.fail(f"{value} is not here yet; get it with: lookalike model get {value}")
        if not os.path.lexists(file) and file.suffix != ".onnx":
            self.fail(f"{visible(value)} is neither a file nor a name of: lookalike model list")
        return super().convert(file if file.exists() else value, param, ctx)


class NewFile(click.Path):
    """A file that can be written, which is known before there is any work. It has one of the
    extensions, so that no image takes its place by a slip."""

    def __init__(self, *extensions: str) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self.extensions = extensions

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        file = Path(os.fsdecode(super().convert(value, param, ctx)))
        if file.suffix not in self.extensions:
            self.fail(f"{visible(file.name)} must end in {' or '.join(self.extensions)}")
        folder = file.absolute().parent
        if not folder.is_dir():
            raise LookalikeError(f"there is no folder {visible(os.fspath(folder))} to write to")
        return file


def gallery_name(value: str) -> Path | str:
    """A folder; or the address of a gallery in shards as it is, since a Path swallows slashes."""
    from lookalike.gallery.opening import is_remote

    if not value:
        raise click.BadParameter(EMPTY)
    return value if is_remote(value) else Path(value)


# ---- options -------------------------------------------------------------------------------------

COUNT = Count(1)
PAGE = NewFile(".html", ".htm", ".HTML", ".HTM")


@dataclass(frozen=True)
class _Declared:
    """What `click.option` or `click.argument`, the ``kind``, is to be called with."""

    kind: Callable[..., Callable[[Command], Command]]
    flags: tuple[str, ...]
    how: dict[str, Any]

    def on(self, name: str, annotation: str) -> Callable[[Command], Command]:
        """For the parameter ``name``."""
        how = dict(self.how)
        if self.kind is click.option and annotation == "bool":
            how["is_flag"] = True
        elif self.kind is click.option and annotation.endswith(", ...]"):
            how["multiple"] = True
        if "Path" in annotation:
            how.setdefault("type", AnyPath(path_type=Path))
        flags = self.flags
        if self.kind is click.option and not flags:
            flags = (f"--{name.replace('_', '-')}",)
        return self.kind(*flags, name, **how)


def option(help: str, *flags: str, **how: Any) -> Any:
    """An option of a command, as the default of the parameter that takes it, whose name is the flag
    unless ``flags`` are given. ``how``: as `click.option`; what the annotation says may be left
    out: no value (bool), a path, that it may be repeated (tuple[..., ...])."""
    return _Declared(click.option, flags, {"help": help, **how})


def argument(**how: Any) -> Any:
    """An argument of a command, likewise; ``how``: as `click.argument`."""
    return _Declared(click.argument, (), how)


def command(
    group: click.Group | None = None, name: str | None = None, **how: Any
) -> Callable[[Command], click.Command]:
    """Make a command, of the ``group`` if it is one's, with the options and arguments that the
    function's parameters have as defaults. Where that is a function, its parameters are options as
    well, and the command gets what it returns. ``how``: as `click.command`."""
    make = click.command if group is None else group.command
    return lambda function: make(name, **{"cls": _Command, **how})(_with_options(function))


class _Command(click.Command):
    def get_short_help_str(self, limit: int = 0) -> str:
        return super().get_short_help_str(1000)  # the whole sentence, in several lines

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            has_gallery = any(each.name == "gallery" for each in self.params)
            if has_gallery and type(error) is click.UsageError:  # too many arguments
                message = f"{error.message}; {HOW_TO_NAME}"
                raise click.UsageError(message, ctx) from error
            raise


def _with_options(command: Command) -> Command:
    made: Command = command
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    found: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if inspect.isfunction(parameter.default):
            taken = inspect.signature(parameter.default).parameters
            groups[parameter.name] = parameter.default, list(taken)
            found += taken.values()
        elif parameter.kind is not parameter.VAR_KEYWORD:
            found.append(parameter)
    if groups:

        @functools.wraps(command)
        def grouped(**given: Any) -> None:
            for name, (function, names) in groups.items():
                given[name] = function(**{each: given.pop(each) for each in names})
            command(**given)

        made = grouped
    for each in reversed(found):  # as decorators are applied
        made = each.default.on(each.name, each.annotation)(made)
    return made


GALLERY = option(
    "A folder that was indexed, the directory given to 'index --gallery', or ray://NAME, the "
    "address of a gallery in shards. Default: $LOOKALIKE_GALLERY, or the current folder or the "
    "nearest one above it that has a gallery.",
    metavar="DIR",
    type=gallery_name,
    envvar="LOOKALIKE_GALLERY",
)
FILTER = option(
    "Only files whose path in the gallery holds all these words, in any case, or fits a "
    "pattern: 2019/*, *.png. Also date:2021..2023, size:>2MB, width:>=1000, shape:portrait, "
    "type:jpeg; a minus before any excludes: -beach.",
    "--filter",
    metavar="WORDS",
)
JSON = option("Print JSON.", "--json")
MAX_PIXELS = option(
    "Skip larger images, and those that take more than 1 GiB of memory, or 5 bytes for each "
    "of N if that is more.",
    type=COUNT,
    default=200_000_000,
)
MODEL = option(
    "A model instead of the default one: an ONNX file, or a name of 'lookalike model list'.",
    metavar="FILE|NAME",
    type=ModelFile(),
)
RUNTIME = option(
    "What runs the model. Default: $LOOKALIKE_RUNTIME, or OpenVINO where it is installed and "
    "gives the same embeddings, else ONNX Runtime.",
    type=click.Choice(["auto", "onnxruntime", "openvino"]),
    envvar="LOOKALIKE_RUNTIME",
)


def _encoding(
    model: Path | None = MODEL,
    max_seconds: float = option(
        "Skip images that take more processor time to decode.",
        metavar="S",
        type=click.FloatRange(0, 1e6, min_open=True),
        default=10.0,
    ),
    max_pixels: int = MAX_PIXELS,
    runtime: str | None = RUNTIME,
    threads: int | None = option("Default: all cores.", type=COUNT),
    batch_size: int | None = option("Images per run of the model.", type=COUNT),
) -> dict[str, Any]:
    """Arguments of `Gallery.open`."""
    from lookalike.encoder import EncoderSettings

    given: dict[str, Any] = {"batch_size": batch_size, "threads": threads, "runtime": runtime}
    settings = EncoderSettings(**{k: v for k, v in given.items() if v is not None})
    limits = {"max_pixels": max_pixels, "max_seconds": max_seconds}
    return {"encoder_settings": settings, "model": model, **limits}


ENCODING: Any = _encoding
"""Options of the encoder."""


# ---- the gallery ---------------------------------------------------------------------------------


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


def command_here(words: str, gallery: ImageGallery, named: Path | str | None) -> str:
    """A command for this gallery as given in the current folder; ``named``: by --gallery."""
    from lookalike.gallery.places import command, nearest_above

    if isinstance(named, str):
        return f"lookalike {words} --gallery {named}"
    here = current_folder()
    is_nearest = here is not None and nearest_above(here) == gallery.directory.parent
    return f"lookalike {words}" if is_nearest else visible(command(words, gallery.directory))


def warn_if_unfinished(gallery: ImageGallery, named: Path | str | None) -> None:
    """That the gallery does not hold everything yet, to stderr; ``named`` by --gallery."""
    if gallery.unfinished():
        say(
            f"the last update did not finish, or is still running: {number(len(gallery), 'image')} "
            f"so far; go on with: {command_here('update', gallery, named)}"
        )
