"""CNNH, learned hashing in two steps (Xia et al. 2014, [12])."""

from __future__ import annotations

from reproduction.methods.codes import LearnedCodes

__all__ = ["Cnnh"]


class Cnnh(LearnedCodes):
    """First codes that agree with the labels, then a network that gives them."""

    name = "CNNH [12]"
    hashing = "cnnh"
