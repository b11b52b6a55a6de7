"""The options of ``lookalike train`` that are fields of its settings, by the same names.

Choices and defaults stand here, too, for the settings' own modules import torch. That they agree is
tested (tests/e2e/test_training_commands.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lookalike.cli.options import NumberRange

__all__ = ["training_options"]


def stages(text: str) -> tuple[int, ...]:
    """Integers with commas between; none for an empty text."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of integers, such as 2,-1") from error


def _choice(*values: str) -> click.Choice[str]:
    return click.Choice(values)


_TRUNKS = _choice("efficientnet-lite0", "resnet50", "vgg16", "vgg16-bn", "lenet5")
_LOSSES = _choice("softmax", "triplet", "supcon", "multi-similarity", "circle")
_COUNT, _LEAST_0 = click.IntRange(1), NumberRange(0)
_RATE = NumberRange(0, min_open=True)

# Field, type, default, metavar, help. A default of None is told in the help.
_FIELDS: tuple[tuple[str, Any, Any, str | None, str], ...] = (
    ("trunk", _TRUNKS, "efficientnet-lite0", None, "Network up to its last feature map."),
    (
        "weights",
        str,
        "imagenet",
        "imagenet|none|FILE",
        "The trunk's weights to begin with; none: random. For efficientnet-lite0 they come with "
        "lookalike[train], for resnet50 and both of vgg16 they are downloaded once.",
    ),
    (
        "attention",
        _choice("none", "cbam", "channel", "spatial", "second-order"),
        "cbam",
        None,
        "Gates on the trunk's maps.",
    ),
    ("attention_stages", stages, "-1", "N,N", "Attend after these stages; -1: the last."),
    ("pool", _choice("gap", "gem", "flatten"), "gap", None, "From the last map to a vector."),
    ("fuse", stages, "", "N,N", "Earlier stages (texture) that the embedding reads, too."),
    ("dim", click.IntRange(0), 512, "N", "Numbers in an embedding; 0: no FC, all that are pooled."),
    ("input_size", _COUNT, 192, "N", "Pictures are squeezed to N x N pixels."),
    ("epochs", _COUNT, 20, "N", "Times that each picture is seen."),
    ("batch_size", click.IntRange(2), 32, "N", "Pictures per step."),
    ("seed", click.IntRange(0), 0, "N", "Of the split, the order, the augmentation, the weights."),
    ("learning_rate", _RATE, 1e-3, "RATE", "Highest; of attention, FC and class centres."),
    ("trunk_learning_rate", _LEAST_0, 1e-4, "RATE", "The same for the trunk."),
    (
        "freeze",
        int,
        None,
        "N",
        "Do not train the trunk up to this stage: -1 is the last, so all of it. Much faster, since "
        "frozen stages are run once. Default: train all.",
    ),
    ("loss", _LOSSES, "softmax", None, "All but softmax need lookalike[metric]."),
    ("softmax_weight", _LEAST_0, 0.0, "X", "Of a softmax beside another loss."),
    (
        "teacher",
        str,
        None,
        "FILE.pt",
        "Trained embedder whose embeddings to learn, too (distillation). Default: none.",
    ),
    ("images_per_class", _COUNT, 1, "N", "Kept together in a batch, for losses over pairs."),
    (
        "ema",
        NumberRange(0, 1, min_open=True, max_open=True),
        None,
        "DECAY",
        "Validate and keep a running average of the weights, such as 0.999. Default: no average.",
    ),
    ("keep", _choice("best", "last"), "best", None, "The epoch whose weights are kept, by mAP."),
    ("patience", _COUNT, None, "N", "Stop after N epochs without a better mAP. Default: never."),
    (
        "preprocessing",
        _choice("auto", "trunk", "training-set"),
        "auto",
        None,
        "Whose mean and range scale the pixels; auto: the trunk's if it has trained weights.",
    ),
    ("validation", NumberRange(0, 0.5), 0.1, "SHARE", "Of each class to hold out; 0: none."),
    ("validation_per_class", _COUNT, None, "N", "Hold out N of each class. Default: a share."),
    ("threads", _COUNT, None, "N", "Of the network. Default: as torch chooses."),
    ("device", _choice("cpu", "cuda"), "cpu", None, "Where to train."),
)
_FLAGS = {"input_size": "--size", "ema": "--average"}


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """An argument for each field that has an option, and `storage`."""
    storage = click.option(
        "--storage",
        type=_choice("float32", "float16", "int8"),
        default="float32",
        show_default=True,
        help="What the model file keeps weights as: half, a quarter of the size; not faster.",
    )
    batch_norm = click.option(
        "--freeze-batch-norm/--train-batch-norm",
        "freeze_batch_norm",
        default=None,
        help="Keep the trunk's batch statistics or not. Default: if it has trained weights.",
    )
    options = []
    for field, kind, default, metavar, text in _FIELDS:
        flag = _FLAGS.get(field, f"--{field.replace('_', '-')}")
        told: bool | str = "none" if default == "" else default is not None
        options.append(
            click.option(
                flag,
                field,
                type=kind,
                default=default,
                metavar=metavar,
                show_default=told,
                help=text,
            )
        )
    for option in reversed([*options, batch_norm, storage]):
        command = option(command)
    return command
