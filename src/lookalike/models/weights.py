"""Weight files: strict loading, and those that PyTorch publishes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.atomic import cache_directory
from lookalike.errors import ModelError, first_line
from lookalike.models.download import download


def read_torch_file(path: Path, kind: str = "PyTorch weight file") -> Any:
    """What `torch.save` wrote: tensors and plain values alone, no code in the file is run.

    ModelError for a missing or damaged file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such {kind}: check the path") from error
    except Exception as error:  # damaged bytes lead the unpickler anywhere
        raise ModelError(
            f"{path}: not a readable {kind} ({first_line(error)}). Get it again"
        ) from error


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


def fetch(url: str) -> Path:
    """The file at `url`, from the cache if it is there already; see `download`.

    The name ends in "-" and the first digits of the content's SHA-256, as PyTorch's do
    (resnet50-0676ba61.pth). One found in the cache is checked too, and downloaded again if it has
    changed. ModelError otherwise, with the way round it.
    """
    path = cache_directory() / url.rpartition("/")[2]
    otherwise = ", or give a file of your own with --weights FILE"
    download(url, path, path.stem.rpartition("-")[2], otherwise=otherwise)
    return path
