"""LeNet-L [18]: an improved LeNet-5 trained on the set, the features of its last hidden layer."""

from __future__ import annotations

from reproduction.methods.network import NetworkMethod
from reproduction.recipes import LENET

__all__ = ["LeNetL"]


class LeNetL(NetworkMethod):
    """Exact cosines of the 84 numbers of F6; see `lookalike.models.lenet`."""

    title = "LeNet-L [18]"
    base = LENET
