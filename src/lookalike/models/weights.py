"""Weight files: strict loading, and a download that is checked before anything sees it."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

import torch
from torch import Tensor, nn

from lookalike.errors import ModelError

__all__ = [
    "Progress",
    "cache_directory",
    "fetch",
    "file_sha256",
    "fill",
    "load_weights",
    "read_torch_file",
]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that have arrived and the bytes expected, None if unknown."""

_PIECE = 1 << 20
_TIMEOUT_SECONDS = 30


def read_torch_file(path: Path, kind: str = "PyTorch weight file") -> Any:
    """What `torch.save` wrote: tensors and plain values alone, no code in the file is run.

    ModelError for a missing or damaged file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such {kind}: check the path") from error
    except Exception as error:  # damaged bytes lead the unpickler anywhere
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"{path}: not a readable {kind} ({reason}). Get it again") from error


def load_weights(module: nn.Module, path: Path, what: str, classifier: str = "") -> None:
    """Load a file of weights into `module`, which is `what` to the reader of an error.

    Names beginning with `classifier` may be in the file without a place in the module, which is
    how a trunk takes the file of a whole network. All else is as in `fill`.
    """
    state = read_torch_file(path)
    if not isinstance(state, Mapping):
        raise ModelError(f"{path}: holds a {type(state).__name__}, not a table of weights")
    own = module.state_dict()
    if classifier:
        state = {
            name: value
            for name, value in state.items()
            if name in own or not str(name).startswith(classifier)
        }
    fill(module, state, f"{path}: not the weights of {what}")


def fill(module: nn.Module, state: Mapping[Any, Any], message: str) -> None:
    """Set every parameter and buffer of `module` from `state`.

    ModelError, beginning with `message`, lists all names that are missing, unexpected or of
    another shape or kind; the module is unchanged then. Only the step counters of batch norms
    may be missing, since files older than the counters have none and nothing here reads them.
    """
    own = module.state_dict()
    wrong = [f"missing {n}" for n in own if n not in state and not n.endswith(_COUNTER)]
    wrong += [f"unexpected {name}" for name in state if name not in own]
    for name in own.keys() & state.keys():
        value = state[name]
        if not isinstance(value, Tensor):
            wrong.append(f"{name} is a {type(value).__name__}, not a tensor")
        elif value.shape != own[name].shape:
            wrong.append(f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}")
        elif value.is_floating_point() != own[name].is_floating_point():
            wrong.append(f"{name} is {value.dtype}, not {own[name].dtype}")
    if wrong:
        raise ModelError(f"{message}: {'; '.join(wrong)}")
    module.load_state_dict({**own, **state})


_COUNTER = "num_batches_tracked"


def cache_directory() -> Path:
    """Where downloaded weights stay: $XDG_CACHE_HOME/lookalike, or ~/.cache/lookalike."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "lookalike"


def fetch(url: str, directory: Path | None = None, progress: Progress | None = None) -> Path:
    """The file at `url`, from `directory` (the cache) if it is there already.

    The name ends in "-" and the first digits of the content's SHA-256, as PyTorch's do
    (resnet50-0676ba61.pth). A file appears in `directory` only when whole and right; one found
    there is checked too, and downloaded again if it has changed. ModelError otherwise, with the
    way round it.
    """
    name = url.rpartition("/")[2]
    digits = re.search(r"-([0-9a-f]{8,64})\.", name)
    if not digits:
        raise ValueError(f"{url} does not carry its checksum in its name")
    directory = cache_directory() if directory is None else directory
    path = directory / name
    if path.is_file() and file_sha256(path).startswith(digits[1]):
        return path
    part: Path | None = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".part", delete=False) as out:
            part = Path(out.name)
            found = _download(url, out, progress)
        if not found.startswith(digits[1]):
            raise ModelError(
                f"{url}: its SHA-256 begins with {found[: len(digits[1])]}, not {digits[1]}: "
                "try again, or give a file of your own with --weights FILE"
            )
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ModelError(
            f"cannot download {url} ({reason}): get it on another machine and give it with "
            f"--weights FILE, or put it at {path}"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path


def _download(url: str, out: IO[bytes], progress: Progress | None) -> str:
    """Write the content to `out`, down to the disk, and return its SHA-256."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        length = response.headers.get("Content-Length")
        expected = int(length) if length else None
        arrived = 0
        while piece := response.read(_PIECE):
            out.write(piece)
            digest.update(piece)
            arrived += len(piece)
            if progress is not None:
                progress(arrived, expected)
    if expected is not None and arrived != expected:
        raise http.client.IncompleteRead(b"", expected - arrived)
    out.flush()
    os.fsync(out.fileno())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
