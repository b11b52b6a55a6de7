"""Spatial attention alone, in the manner of DELF (Noh et al. 2017, [6])."""

from __future__ import annotations

from typing import ClassVar

from reproduction.methods.network import Changes, NetworkMethod

__all__ = ["SpatialAttention"]


class SpatialAttention(NetworkMethod):
    """A learned weight for each place of the last map, before it is pooled; exact cosines.

    DELF trains the weights on the pooled, weighted map with a classification loss, as here, and
    then keeps the places of the largest weights as local features; this row keeps the pooled map.
    """

    title = "spatial attention (DELF-like) [6]"
    changes: ClassVar[Changes] = {"attention": "spatial"}
