"""DNNH, features and codes learned together (Lai et al. 2015, [13])."""

from __future__ import annotations

from reproduction.methods.codes import LearnedCodes

__all__ = ["Dnnh"]


class Dnnh(LearnedCodes):
    """A layer of features, cut into a slice for each bit; triplets of pictures rank the codes, and
    the network learns from that alone, end to end.
    """

    name = "DNNH-like [13]"
    hashing = "dnnh"
