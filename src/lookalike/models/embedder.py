"""The paper's feature extractor: trunk -> attention -> pooling -> FC -> L2.

    pool "gap"      mean over places                                          (n, C)
    pool "gem"      generalised mean, (mean of x^p)^(1/p), p learnt from 3    (n, C)
    pool "flatten"  all places in order, as the paper                         (n, C h w)

Attention sits in the trunk after the chosen stages, so that later stages read the gated map; the
paper's place is after the last one. Beyond the paper, `fuse` takes the maps of earlier stages
(texture) beside the last one (meaning): each passes a gate of its own, off the trunk's path unless
the trunk has one there, is pooled, and made a unit vector, so that no stage outvotes another; the
FC reads them joined.

What is learnt of some classes can cost the sight for others. `keep_trunk` therefore sets the
trunk's own features, GAP of the last map without attention, centred and reduced, beside the FC's
output, two unit vectors of equal weight: the cosine of an embedding is the mean of both cosines.

`save_embedder` writes one to a file that training can go on from; searching uses the exported ONNX
file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.atomic import atomic_writer
from lookalike.encoder import ModelInfo
from lookalike.errors import ModelError
from lookalike.models.layers import CBAM, GAP, GeM, SecondOrderAttention, unit
from lookalike.models.settings import EmbedderSettings, Triple, triple
from lookalike.models.trunks import make_trunk
from lookalike.models.weights import fill, read_torch_file


class Embedder(nn.Module):
    """Normalised images (n, 3, s, s) with s = `settings.input_size` -> unit rows (n, `dim`).

    `mean` and `std` say how pixels x in 0..255 are normalised, (x - mean) / std per channel
    (Eq. 1-2 with std = max - min); they are the trunk's own unless given. `weights` go to the
    trunk, as in `make_trunk`. The FC starts with a zero bias.
    """

    def __init__(
        self,
        settings: EmbedderSettings,
        weights: str | Path = "none",
        *,
        mean: Triple | None = None,
        std: Triple | None = None,
    ) -> None:
        super().__init__()
        self.trunk = make_trunk(settings.trunk, weights)
        self.mean = self.trunk.mean if mean is None else mean
        self.std = self.trunk.std if std is None else std
        sides = self.trunk.sides(settings.input_size)
        last = len(sides) - 1
        if sides[-1] < 1:
            raise ValueError(
                f"{settings.trunk} cannot read {settings.input_size} pixels: too small"
            )
        self.gates = nn.ModuleDict()  # in the trunk
        self.side_gates = nn.ModuleDict()  # of fused stages without a gate in the trunk
        if settings.attention != "none":
            for index in settings.attention_stages:
                self.gates[str(index)] = self._gate(settings, index, unit_gain=index != last)
            for index in sorted(set(settings.fuse) - set(settings.attention_stages)):
                self.side_gates[str(index)] = self._gate(settings, index)
        self.pools = nn.ModuleDict()
        width = 0
        for index in (*settings.fuse, last):
            flat = settings.pool == "flatten" and index == last
            self.pools[str(index)] = (
                nn.Flatten() if flat else GeM() if settings.pool == "gem" else GAP()
            )
            width += self.trunk.channels[index] * (sides[index] ** 2 if flat else 1)
        self.drop = nn.Dropout(settings.dropout)
        self.fc: nn.Linear | None = None
        if settings.dim is not None:
            self.fc = nn.Linear(width, settings.dim)
            nn.init.zeros_(self.fc.bias)
        self.own: nn.Linear | None = None
        if settings.trunk_dim:
            self.own = nn.Linear(self.trunk.channels[last], settings.trunk_dim)
        self.width = width
        """Numbers before the FC."""
        self.settings = settings

    def _gate(
        self, settings: EmbedderSettings, index: int, unit_gain: bool = False
    ) -> CBAM | SecondOrderAttention:
        channels = self.trunk.channels[index]
        if settings.attention == "second-order":
            return SecondOrderAttention(channels, settings.reduction, neutral=settings.neutral)
        return CBAM(
            channels,
            settings.reduction,
            channel=settings.attention in ("cbam", "channel"),
            spatial=settings.attention in ("cbam", "spatial"),
            neutral=settings.neutral,
            unit_gain=unit_gain,
        )

    @property
    def dim(self) -> int:
        """Dimension of an embedding."""
        return (self.settings.dim or self.width) + self.settings.trunk_dim

    def pooled(self, images: Tensor) -> Tensor:
        """What the FC reads, (n, width)."""
        return self._pooled(self._maps(images, {})[0], {})

    def project(self, pooled: Tensor) -> Tensor:
        """Dropout and FC: (n, width) -> (n, dim), of any length. Without an FC, `pooled` itself."""
        kept: Tensor = self.drop(pooled)
        return kept if self.fc is None else self.fc(kept)

    def own_features(self, images: Tensor) -> Tensor:
        """GAP of the trunk's last map, without the attention after it: unit rows (n, C)."""
        return _own(self._maps(images, {})[1])

    def forward(self, images: Tensor) -> Tensor:
        return self._embeddings(images, {})

    def from_maps(self, known: Mapping[int, Tensor]) -> Tensor:
        """The same from maps of the trunk's stages: the last that is known, and those that are
        pooled before it."""
        return self._embeddings(known[max(known)], {}, known)

    def explained(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Embeddings and, from the same run, the gates of the deepest stage that has any.

        The gates are "channel" (n, C) and "spatial" (n, h, w), within 0..1, as far as the attention
        has them. Second-order attention has none: its spatial map is the attention that each place
        receives, of sum 1, and its channel weights are ones.
        """
        seen: dict[int, dict[str, Tensor]] = {}
        embeddings = self._embeddings(images, seen)
        return embeddings, seen[max(seen)] if seen else {}

    def _embeddings(
        self, images: Tensor, seen: dict[int, dict[str, Tensor]], known: Mapping[int, Tensor] = {}
    ) -> Tensor:
        """As `forward`; the gates of each stage are left in `seen`."""
        maps, raw = self._maps(images, seen, known)
        rows = unit(self.project(self._pooled(maps, seen)))
        if self.own is None:
            return rows
        return unit(torch.cat([unit(self.own(_own(raw))), rows], 1))

    def _maps(
        self, images: Tensor, seen: dict[int, dict[str, Tensor]], known: Mapping[int, Tensor] = {}
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The map of each stage, and the last one without the attention after it."""
        after = _attending(self.gates, seen)
        last = max(map(int, self.pools))
        attend = after.pop(last, None)
        maps = self.trunk.stages(images, after, known)
        raw = maps[last]
        return (maps if attend is None else (*maps[:last], attend(raw))), raw

    def _pooled(self, maps: tuple[Tensor, ...], seen: dict[int, dict[str, Tensor]]) -> Tensor:
        """As `pooled`, of the maps of all stages."""
        aside = _attending(self.side_gates, seen)
        parts = []
        for key, pool in self.pools.items():
            x = maps[int(key)]
            part = pool(aside[int(key)](x) if int(key) in aside else x)
            parts.append(unit(part) if self.settings.unit_pool or self.settings.fuse else part)
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def fold(self, mean: Tensor, matrix: Tensor) -> None:
        """Put y -> matrix (y - mean) between FC and L2, as one FC: centring, PCA, whitening.

        `mean` (dim,) and `matrix` (d, dim) are, say, `whitening` of what `project` gave in
        evaluation mode; `dim` becomes d.
        """
        with torch.no_grad():
            matrix, shift = matrix.double(), -matrix.double() @ mean.double()
            weight, bias = matrix, shift
            if self.fc is not None:
                weight = matrix @ self.fc.weight.double()
                bias = matrix @ self.fc.bias.double() + shift
        self.fc = _linear(weight, bias)
        self.settings = replace(self.settings, dim=len(weight))

    def keep_trunk(self, mean: Tensor, matrix: Tensor) -> None:
        """Set the unit vector of matrix (y - mean) beside the FC's, y being `own_features`.

        `mean` (C,) and `matrix` (d, C) are, say, `whitening` of the own features of many images
        of any kind, with power 0. `trunk_dim` becomes d.
        """
        self.own = _linear(matrix, -matrix.double() @ mean.double())
        self.settings = replace(self.settings, trunk_dim=len(matrix))

    def info(self, name: str, version: str = "1") -> ModelInfo:
        """The description that the exported file carries."""
        return ModelInfo(name, version, "", self.settings.input_size, self.mean, self.std, self.dim)


def _own(raw: Tensor) -> Tensor:
    return unit(raw.mean((2, 3)))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _attending(
    gates: nn.ModuleDict, seen: dict[int, dict[str, Tensor]]
) -> dict[int, Callable[[Tensor], Tensor]]:
    """The gates by stage, as functions of a map that leave what they computed in `seen`."""

    def attending(index: int, gate: nn.Module) -> Callable[[Tensor], Tensor]:
        def attend(x: Tensor) -> Tensor:
            assert isinstance(gate, CBAM | SecondOrderAttention)
            features, channel, spatial = gate.attend(x)
            found = {"channel": channel, "spatial": spatial}
            seen[index] = {key: value for key, value in found.items() if value is not None}
            return features

        return attend

    return {int(key): attending(int(key), gate) for key, gate in gates.items()}


KIND = "lookalike embedder"
FORMAT = 1
KEYS = {"kind", "format", "settings", "mean", "std", "state", "sha256"}


def save_embedder(embedder: Embedder, path: Path) -> None:
    """Write weights, settings and preprocessing; `path` is replaced only by a whole file."""
    content: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "settings": embedder.settings.as_dict(),
        "mean": list(embedder.mean),
        "std": list(embedder.std),
        "state": embedder.state_dict(),
    }
    content["sha256"] = _digest(content)
    with atomic_writer(path) as out:
        torch.save(content, out)


def load_embedder(path: Path) -> Embedder:
    """Read what `save_embedder` wrote, in evaluation mode, on the CPU.

    ModelError for a file that is missing, damaged, of another kind or format, or whose content
    is not what it was saved with.
    """
    content = read_torch_file(path, "checkpoint")
    if not isinstance(content, Mapping) or content.get("kind") != KIND:
        raise ModelError(
            f"{path}: not a checkpoint of an embedder; a file of trunk weights goes to --weights"
        )
    if content.get("format") != FORMAT:
        raise ModelError(
            f"{path}: checkpoint format {content.get('format')!r}, this version reads {FORMAT}"
        )
    try:
        if content.keys() != KEYS:
            raise ValueError(f"its parts are {sorted(map(str, content))}, not {sorted(KEYS)}")
        embedder = Embedder(
            EmbedderSettings.from_dict(content["settings"]),
            mean=triple(content["mean"]),
            std=triple(content["std"]),
        )
        embedder.info("checked")
        if not isinstance(content["state"], Mapping):
            raise ValueError(f"its weights are a {type(content['state']).__name__}")
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{path}: a damaged checkpoint ({error})") from error
    fill(embedder, content["state"], f"{path}: not the weights of its own settings")
    if (found := _digest(content)) != content["sha256"]:
        raise ModelError(
            f"{path}: a damaged checkpoint: its content has SHA-256 {found[:16]}..., "
            f"saved was {str(content['sha256'])[:16]}... Use another copy"
        )
    return embedder.eval()


def _digest(content: Mapping[str, Any]) -> str:
    """Of settings, preprocessing, and weights in order of names; whatever the device."""
    small = {key: content[key] for key in ("settings", "mean", "std")}
    digest = hashlib.sha256(json.dumps(small, sort_keys=True).encode())
    for name in sorted(content["state"]):
        value: Tensor = content["state"][name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
