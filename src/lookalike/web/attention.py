"""Where the model looks: the gate of its attention, if the model file gives it away."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder

__all__ = ["CHANNELS_ONLY", "NONE", "as_grid", "gates", "has_attention", "note"]

SPATIAL = "spatial_attention"
CHANNEL = "channel_attention"
NONE = "this model has no attention"
CHANNELS_ONLY = "this model's attention weighs features, not places"


def has_attention(encoder: Encoder) -> bool:
    """Whether the model gives any gate."""
    return not encoder.outputs.isdisjoint((SPATIAL, CHANNEL))


def note(encoder: Encoder) -> str | None:
    """Why the model gives no attention map; None if it does."""
    if SPATIAL in encoder.outputs:
        return None
    return CHANNELS_ONLY if CHANNEL in encoder.outputs else NONE


def gates(encoder: Encoder, pixels: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """uint8 (s, s, 3) -> the spatial gate, float32 (rows, columns), each within 0..1.

    None if the model has none.
    """
    return encoder.output(SPATIAL, pixels) if SPATIAL in encoder.outputs else None


def as_grid(gate: NDArray[np.float32]) -> dict[str, Any]:
    """As `Gate`: stretched to 0..1, with the true bounds beside it. A constant gate is 0."""
    low, high = float(gate.min()), float(gate.max())
    values = (gate - low) / ((high - low) or 1.0)
    return {
        "rows": gate.shape[0],
        "columns": gate.shape[1],
        "values": np.round(values.astype(np.float64), 4).tolist(),
        "low": low,
        "high": high,
    }
