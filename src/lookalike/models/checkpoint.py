"""An embedder as a file that training can go on from; searching uses the exported ONNX file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookalike.atomic import atomic_writer
from lookalike.errors import ModelError
from lookalike.models.embedder import Embedder, EmbedderSettings
from lookalike.models.trunk import Triple
from lookalike.models.weights import fill, read_torch_file

__all__ = ["load_embedder", "save_embedder"]

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
            mean=_triple(content["mean"]),
            std=_triple(content["std"]),
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


def _triple(values: Any) -> Triple:
    red, green, blue = map(float, values)
    return red, green, blue


def _digest(content: Mapping[str, Any]) -> str:
    """Of settings, preprocessing, and weights in order of names; whatever the device."""
    small = {key: content[key] for key in ("settings", "mean", "std")}
    digest = hashlib.sha256(json.dumps(small, sort_keys=True).encode())
    for name in sorted(content["state"]):
        value: Tensor = content["state"][name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
