"""[20]: CNN without attention, every gallery image compared."""

from __future__ import annotations

from typing import ClassVar

from reproduction.methods.network import Changes, NetworkMethod

__all__ = ["CnnExhaustive"]


class CnnExhaustive(NetworkMethod):
    """Trunk and FC, exact cosines."""

    title = "CNN, exhaustive [20]"
    changes: ClassVar[Changes] = {"attention": "none"}
