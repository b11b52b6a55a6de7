"""``lookalike train`` and ``lookalike augment``; each setting of a training is an option."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lookalike.cli.options import JSON, PAGE, NewFile, NumberRange, argument, command, option
from lookalike.cli.output import (
    leave,
    print_json,
    print_lines,
    require_current_folder,
    say,
    shown,
    visible,
)
from lookalike.cli.progress import training_shown
from lookalike.errors import LookalikeError, extra_needed

if TYPE_CHECKING:
    from lookalike.models.report import TrainReport
    from lookalike.models.settings import AugmentSettings, EmbedderSettings, Rule, TrainSettings

Made = TypeVar("Made")

AUGMENT = option(
    "Strength of scale, rotation (degrees), crop, noise (grey levels), contrast, brightness, "
    "colour, flip or flip_vertical (chances); 0: off. May be given again.",
    "--augment",
    metavar="METHOD=STRENGTH",
)


def _stages(text: str) -> tuple[int, ...]:
    """Integers with commas between; none for an empty text."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of integers, such as 2,-1") from error


def _type(name: str, kind: type, rule: Rule) -> Any:
    """What click makes of the text of an option."""
    if rule.choices:
        return click.Choice(rule.choices)
    if kind is tuple:
        return _stages
    if kind is int:
        least = 0 if name == "dim" else rule.least  # 0: no FC
        return int if least is None else click.IntRange(int(least))
    if kind is float:
        low = rule.least if rule.above is None else rule.above
        high = rule.most if rule.below is None else rule.below
        return NumberRange(
            low, high, min_open=rule.above is not None, max_open=rule.below is not None
        )
    return kind


class _Training(click.Command):
    """With an option for each field of the settings, made when the command is asked for, since
    that takes longer than all of a short command's own work.
    """

    @cached_property
    def _of_settings(self) -> list[click.Parameter]:
        from lookalike.models.settings import EmbedderSettings, TrainSettings

        return [*_setting_options(EmbedderSettings), *_setting_options(TrainSettings)]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*self._of_settings, *super().get_params(ctx)]


def _setting_options(settings: type) -> Iterator[click.Option]:
    from lookalike.models.settings import kinds, rules

    known = kinds(settings)
    defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(settings)}
    for name, rule in rules(settings).items():
        if rule.flag is None:
            continue
        kind, _ = known[name]
        default = defaults[name]
        shown_default: bool | str = default is not None
        if kind is tuple:
            default = ",".join(map(str, default))
            shown_default = True if default else "none"
        yield click.Option(
            [rule.flag or f"--{name.replace('_', '-')}", name],
            type=None if kind is bool else _type(name, kind, rule),
            default=default,
            metavar=rule.metavar,
            show_default=shown_default,
            help=rule.about,
        )


@command(cls=_Training)
def train(
    folder: Path = argument(),
    out: Path = option(
        "The model: NAME.onnx for galleries, with NAME.pt, NAME.csv and NAME.svg beside it; or "
        "NAME.pt alone, without the model file.",
        type=NewFile(".onnx", ".pt"),
        required=True,
        metavar="FILE",
    ),
    name: str = option("What the model calls itself.", default="", show_default="NAME of --out"),
    storage: Any = option(
        "What the model file keeps weights as: half, a quarter of the size; not faster.",
        type=click.Choice(["float32", "float16", "int8"]),
        default="float32",
    ),
    strengths: tuple[str, ...] = AUGMENT,
    no_augmentation: bool = option("All methods off that --augment leaves out."),
    rest: tuple[str, ...] = option(
        "Any other setting, see docs/training.md. May be given again.",
        "--set",
        metavar="SETTING=VALUE",
    ),
    as_json: bool = JSON,
    **options: Any,
) -> None:
    """Train a model on FOLDER, which holds one folder of images for each class.

    Interrupt it at any moment and give the same command again: it goes on where it was, and ends
    with the same model. Then: lookalike index PHOTOS --model NAME.onnx
    """
    require_current_folder()
    with extra_needed("train"):
        from lookalike.models.train import train as run
    augmentation = augment_settings(strengths, no_augmentation)
    embedder, settings = settings_of(options, rest, augmentation)
    with training_shown() as show:
        report = run(folder, embedder, settings, out, show, name=name, storage=storage)
    for file in report.skipped:
        say(f"skipped {visible(os.fspath(file.path))}: {file.reason}")
    if report.overfitting is not None:
        say(report.overfitting)
    if as_json:
        print_json({**vars(report), "seconds": round(report.seconds, 3)})
    else:
        print_lines(_in_words(report))
    if out.suffix == ".onnx":
        say(f"use it: lookalike index PHOTOS --model {shown(out)}")
    if report.skipped:
        leave()


@command()
def augment(
    image: Path = argument(),
    out: Path = option("The page to write.", type=PAGE, required=True, metavar="HTML"),
    strengths: tuple[str, ...] = AUGMENT,
    seed: int = option("Of the random draws.", type=click.IntRange(0), default=0),
) -> None:
    """Show what training does to IMAGE: each method at full strength, then three random draws."""
    import numpy as np
    from PIL import Image

    from lookalike.images import SkippedImageError
    from lookalike.images.decoder import Decoder
    from lookalike.models.augment import examples
    from lookalike.sheet import LONGEST_SIDE, Cell, Row, write_html

    settings = augment_settings(strengths)
    try:
        with Decoder() as decoder:
            pixels = np.asarray(decoder.read_rgb(image, longest_side=LONGEST_SIDE))
    except SkippedImageError as error:
        raise LookalikeError(f"{visible(os.fspath(image))}: {error}") from error
    cells = [Cell(Image.fromarray(p), (name,)) for name, p in examples(pixels, settings, seed)]
    row = Row(cells[0], tuple(cells[1:]), ("Image", "As training sees it"))
    title = f"Augmentation of {visible(image.name)}"
    write_html([row], out, title=title, lead="Each method at full strength, then random draws.")
    say(f"wrote {shown(out)}")


# ---- settings ------------------------------------------------------------------------------------


def augment_settings(strengths: tuple[str, ...], all_off: bool = False) -> AugmentSettings:
    """Of METHOD=STRENGTH; UsageError for what is not one, or out of range."""
    from lookalike.models.settings import NO_AUGMENTATION, AugmentSettings

    base = NO_AUGMENTATION if all_off else AugmentSettings()
    values = _defaults(base)
    return _built(AugmentSettings, **{**values, **_parsed("--augment", strengths, values)})


def settings_of(
    options: Mapping[str, Any], rest: tuple[str, ...], augmentation: AugmentSettings
) -> tuple[EmbedderSettings, TrainSettings]:
    """Of the options, named as the fields are, and of ``--set`` for fields that have none."""
    from lookalike.models.settings import EmbedderSettings, TrainSettings

    embedder, training = _defaults(EmbedderSettings()), _defaults(TrainSettings())
    others = {k: v for k, v in {**embedder, **training}.items() if k not in options}
    del others["augmentation"], others["trunk_dim"]  # the latter is not trained
    given = {**options, **_parsed("--set", rest, others)}

    def of(known: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in given.items() if key in known}

    return (
        _built(EmbedderSettings, **of(embedder)),
        _built(TrainSettings, **of(training), augmentation=augmentation),
    )


def _defaults(settings: Any) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def _parsed(option: str, pairs: tuple[str, ...], known: Mapping[str, Any]) -> dict[str, Any]:
    """NAME=VALUE, with a value of the kind that `known` has for that name."""
    values = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in known:
            raise click.UsageError(f"{option}: {name!r} is not one of {', '.join(known)}")
        kind = type(known[name])
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind and not (name == "clip" and value is None):
            wanted = {bool: "true or false", int: "an integer", float: "a number"}[kind]
            raise click.UsageError(f"{option}: {name}={text} must be {wanted}")
        values[name] = value
    return values


def _built(make: Callable[..., Made], **values: Any) -> Made:
    try:
        return make(**values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


# ---- the summary ---------------------------------------------------------------------------------


def _in_words(report: TrainReport) -> dict[str, str]:
    before, kept, last = report.history[0], report.history[report.kept], report.history[-1]
    lines = {
        "images": f"{report.images} trained, {report.held_out} held out, "
        f"{len(report.classes)} classes, {len(report.skipped)} skipped",
        "kept": f"epoch {report.kept} of {last.epoch}",
    }
    for label, key in (
        ("P@10", "precision_10"),
        ("mAP", "mean_average_precision"),
        ("mAP with LSH", "lsh_mean_average_precision"),
    ):
        value = getattr(kept, key)
        if value is not None:
            lines[label] = f"{value:.3f} (before training {getattr(before, key):.3f})"
    if report.out.suffix == ".onnx":
        lines["model"] = f"{shown(report.out)} ({report.out.stat().st_size / 1e6:.1f} MB)"
    if report.storage_cost is not None:
        lines["storage cost"] = (
            f"cosine to the float32 embedding {report.storage_cost.mean:.5f}, "
            f"at worst {report.storage_cost.worst:.5f}"
        )
    lines["weights"] = shown(report.weights)
    lines["curves"] = f"{shown(report.csv)}, {shown(report.svg)}"
    went_on = "" if report.resumed is None else f", after going on in epoch {report.resumed}"
    lines["time"] = f"{report.seconds:.1f} s{went_on}"
    return lines
