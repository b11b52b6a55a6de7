"""AlexNet's way (Krizhevsky et al. 2012, [9]): 4,096 numbers of a fully connected layer."""

from __future__ import annotations

from typing import ClassVar

from reproduction.methods.network import Changes, NetworkMethod

__all__ = ["FcFeatures"]

DIM = 4096


class FcFeatures(NetworkMethod):
    """An FC of AlexNet's width on the trunk that all rows share; exact cosines."""

    title = "FC features, 4,096 [9]"
    changes: ClassVar[Changes] = {"attention": "none", "dim": DIM}
