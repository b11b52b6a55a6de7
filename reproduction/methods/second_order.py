"""Second-order attention, in the manner of SOLAR (Ng et al. 2020, [8])."""

from __future__ import annotations

from typing import ClassVar

from reproduction.methods.network import Changes, NetworkMethod

__all__ = ["SecondOrder"]


class SecondOrder(NetworkMethod):
    """Each place of the last map reads from all others, GeM pooling as in SOLAR; exact cosines.

    SOLAR's second-order similarity loss is left out: the loss is that of all rows.
    """

    title = "second-order attention (SOLAR-like) [8]"
    changes: ClassVar[Changes] = {"attention": "second-order", "pool": "gem"}
