"""The stages of a trunk that do not learn: run once, their maps stand in for the pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lookalike.errors import TrainingError
from lookalike.models.embedder import Embedder
from lookalike.models.trunk import Trunk
from lookalike.models.trunks import TRUNKS

__all__ = ["Frozen", "Maps", "frozen_stages", "stage_modules"]

Maps: TypeAlias = tuple[Tensor, ...]


def frozen_stages(trunk: str, freeze: int | None) -> int:
    """How many stages of the trunk of that name are frozen if `freeze` is the last of them.

    TrainingError for a stage that it does not have.
    """
    if freeze is None:
        return 0
    stages = len(TRUNKS[trunk].channels)
    if not -stages <= freeze < stages:
        raise TrainingError(
            f"freeze is {freeze}; {trunk} has stages from -{stages} to {stages - 1}"
        )
    return freeze % stages + 1


def stage_modules(trunk: Trunk, size: int) -> list[list[nn.Module]]:
    """The leaf modules of each stage, found by running it."""
    found: list[list[nn.Module]] = []
    hooks = [
        module.register_forward_hook(lambda module, _, __: found[-1].append(module))
        for module in trunk.modules()
        if not any(True for _ in module.children())
    ]
    modes = [(module, module.training) for module in trunk.modules()]
    trunk.eval()
    try:
        with torch.no_grad():
            x = torch.zeros(1, 3, size, size, device=next(trunk.parameters()).device)
            for index in range(len(trunk.channels)):
                found.append([])
                x = trunk.stage(index, x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return found


class _Rest(nn.Module):
    """Stands in for a trunk whose first `depth` stages have been run already.

    In place of images it takes maps, those of the stages `given`, the last one being depth - 1.
    """

    def __init__(self, trunk: Trunk, depth: int, given: tuple[int, ...]) -> None:
        super().__init__()
        self.trunk, self.depth, self.given = trunk, depth, given

    def stages(
        self, given: Maps, after: Mapping[int, Callable[[Tensor], Tensor]]
    ) -> tuple[Tensor, ...]:
        nothing = given[0].new_empty(0)
        maps = [nothing] * self.depth
        for index, x in zip(self.given, given, strict=True):
            maps[index] = after[index](x) if index in after else x
        x = maps[-1]
        for index in range(self.depth, len(self.trunk.channels)):
            x = self.trunk.stage(index, x)
            if index in after:
                x = after[index](x)
            maps.append(x)
        return tuple(maps)


class Frozen:
    """The stages that are run once: `maps(images)`, then `rest(maps)` gives the embeddings."""

    def __init__(self, embedder: Embedder, frozen: int) -> None:
        inside = [int(index) for index in embedder.gates]
        depth = min([frozen, *(index + 1 for index in inside)])
        wanted = {int(index) for index in embedder.pools if int(index) < depth} | {depth - 1}
        self.trunk, self.depth, self.given = embedder.trunk, depth, tuple(sorted(wanted))
        self.rest = copy.copy(embedder)  # the same modules and weights, with another trunk
        self.rest._modules = {
            **embedder._modules,
            "trunk": _Rest(embedder.trunk, depth, self.given),
        }

    def maps(self, images: Tensor) -> Maps:
        with torch.no_grad():
            found = []
            x = images
            for index in range(self.depth):
                x = self.trunk.stage(index, x)
                if index in self.given:
                    found.append(x)
        return tuple(found)
