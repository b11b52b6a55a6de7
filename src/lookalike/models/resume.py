"""The file that a killed training goes on from, OUT.checkpoint.

It holds the state of a run and the identity of the training: every setting, and the names and sizes
of the files, that the result depends on. Another identity is refused, with what differs.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch

from lookalike.atomic import atomic_writer
from lookalike.errors import TrainingError
from lookalike.models.inputs import TrainData
from lookalike.models.losses import teacher_digest
from lookalike.models.settings import EmbedderSettings, TrainSettings

__all__ = ["Identity", "identify", "read_checkpoint", "write_checkpoint"]

Identity: TypeAlias = dict[str, dict[str, Any]]

CHECKPOINT_FORMAT = 2


def identify(data: TrainData, embedder: EmbedderSettings, settings: TrainSettings) -> Identity:
    """What must be equal for a training to go on: all settings that the result depends on."""
    digest = hashlib.sha256()
    images = data.images
    for path, label in zip(images.paths, images.labels.tolist(), strict=True):
        line = f"{images.classes[label]}/{path.name} {path.stat().st_size}\n"
        digest.update(line.encode(errors="surrogateescape"))
    digest.update(data.plain_labels.tobytes())
    own = asdict(settings)
    for name in ("checkpoint_seconds", "picture_memory", "threads"):
        del own[name]
    if settings.teacher is not None:
        own["teacher"] = teacher_digest(Path(settings.teacher))
    shape = {k: list(v) if isinstance(v, tuple) else v for k, v in embedder.as_dict().items()}
    rest = {"images": len(images), "files": digest.hexdigest(), "torch": str(torch.__version__)}
    return {"training": own, "embedder": shape, "data": rest}


def write_checkpoint(path: Path, identity: Identity, state: Any) -> None:
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "identity": identity, "state": state}, buffer)
    with atomic_writer(path) as file:
        file.write(buffer.getbuffer())


def read_checkpoint(path: Path, identity: Identity) -> dict[str, Any] | None:
    """The state in the file; None without a file; TrainingError if it cannot be gone on from."""
    away = f"delete {path} to start again"
    try:
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{name} does not match its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, theirs, state = content["format"], content["identity"], content["state"]
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path} is damaged ({error}): {away}") from error
    if version != CHECKPOINT_FORMAT:
        raise TrainingError(
            f"{path} has format {version}, this lookalike reads {CHECKPOINT_FORMAT}: {away}"
        )
    for part, own in identity.items():
        for key in sorted(own.keys() | theirs.get(part, {}).keys()):
            before, now = theirs.get(part, {}).get(key), own.get(key)
            if before != now:
                raise TrainingError(
                    f"{path} is of another training: {part}'s {key} was {before}, it is {now} "
                    f"now. Set it as it was to go on, or {away}"
                )
    result: dict[str, Any] = state
    return result
