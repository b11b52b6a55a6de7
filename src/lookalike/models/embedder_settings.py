"""What an embedder is made of, as data: validated, and saved beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lookalike.models.trunks import TRUNKS

__all__ = ["ATTENTION", "POOLS", "EmbedderSettings"]

ATTENTION = ("none", "cbam", "channel", "spatial", "second-order")
POOLS = ("gap", "gem", "flatten")


@dataclass(frozen=True)
class EmbedderSettings:
    """What an embedder is made of. ValueError for what cannot be built.

    Stages count from 0; -1 is the last, -2 the one before, and so on, and come back counted from 0.
    """

    trunk: str = "efficientnet-lite0"
    attention: str = "cbam"
    """"none", "cbam" (channel, then spatial), "channel" or "spatial" alone, or "second-order"."""
    attention_stages: tuple[int, ...] = (-1,)
    """In the trunk, after these stages. Without effect if `attention` is "none"."""
    pool: str = "gap"
    """Of the last map. "flatten" leaves the maps of `fuse` to "gap"."""
    fuse: tuple[int, ...] = ()
    """Earlier stages that are embedded too."""
    dim: int | None = 512
    """Numbers out of the FC. None (or 0): no FC, the embedding is the pooled vector."""
    input_size: int = 192
    reduction: int = 16
    """Of the MLP in the channel gate, and of the channels in second-order attention."""
    unit_pool: bool = False
    """Make the pooled vector a unit one before the FC, as stages that are fused always are."""
    neutral: bool = True
    """Start with attention that changes no direction; False starts it at random (see layers.py and
    second_order.py)."""
    dropout: float = 0.0
    """Share of the pooled numbers that training leaves out before the FC."""
    trunk_dim: int = 0
    """Numbers of the trunk's own features that stand beside the FC's, see `Embedder.keep_trunk`."""

    def __post_init__(self) -> None:
        if self.dim == 0 and type(self.dim) is int:
            object.__setattr__(self, "dim", None)
        for key, known in (("trunk", TRUNKS), ("attention", ATTENTION), ("pool", POOLS)):
            if getattr(self, key) not in known:
                value = getattr(self, key)
                raise ValueError(f"{key} must be one of {', '.join(known)}, not {value!r}")
        for key in ("dim", "input_size", "reduction"):
            value = getattr(self, key)
            if (type(value) is not int or value < 1) and not (key == "dim" and value is None):
                raise ValueError(f"{key} must be a positive integer, not {value!r}")
        if type(self.trunk_dim) is not int or self.trunk_dim < 0:
            raise ValueError(f"trunk_dim must be an integer from 0, not {self.trunk_dim!r}")
        for key in ("unit_pool", "neutral"):
            if type(getattr(self, key)) is not bool:
                raise ValueError(f"{key} must be true or false, not {getattr(self, key)!r}")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be within 0..1, not {self.dropout!r}")
        stages = len(TRUNKS[self.trunk].channels)
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
