"""What runs a model: ONNX Runtime.

It is imported by `import_onnxruntime`, not here, so that commands without a model start fast, and
nowhere else, so that it never reports to its maker.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lookalike.errors import ModelError
from lookalike.onnxfile import has_external_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT = "images"
OUTPUT = "embeddings"
SMALL_MODEL = 64 << 20
"""Bytes. Smaller models run on several batches at once, one thread each: about a tenth faster than
all threads on one batch, which wait for each other after every operation, also for one that
decoding has stopped. One run of a larger model takes all threads, so that one query is fast."""


class End(NamedTuple):
    """An input or output: name, type ("tensor(float)"), and shape, with texts for what varies."""

    name: str
    type: str
    shape: list[int | str]


class OnnxRuntime:
    """A model in ONNX Runtime, on the CPU or a GPU. Any number of threads may run it at once.

    Attributes:
        runs: how many batches it is to be given at once.
        metadata: texts that the model file carries.
        inputs, outputs: of the graph.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int) -> None:
        """Any exception: the file is damaged, or not a model."""
        onnxruntime = import_onnxruntime()
        small = path.stat().st_size < SMALL_MODEL
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if small else threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        known = onnxruntime.get_available_providers()  # with onnxruntime-gpu, the first; else last
        providers = [
            name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known
        ]
        # Given its content instead, it takes that memory, and a third more time.
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        on_cpu = self._session.get_providers()[0] == "CPUExecutionProvider"
        self.runs = threads if small and on_cpu else 1
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = [End(end.name, end.type, end.shape) for end in self._session.get_inputs()]
        self.outputs = [End(end.name, end.type, end.shape) for end in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]], output: str = OUTPUT) -> NDArray[np.float32]:
        """One output, (n, ...), of arrays (n, ...) by the names of the inputs."""
        values: NDArray[np.float32]
        (values,) = self._session.run([output], inputs)
        return values


def open_model(
    path: Path, threads: int, remedy: str, expected: str = ""
) -> tuple[OnnxRuntime, str]:
    """A model file, which may come from anywhere, and its SHA-256 in hexadecimal.

    ModelError, which ends in `remedy`, if it is missing, damaged, keeps weights in other files, or
    its SHA-256 is not the `expected` one.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(None, "it is not a file")  # a pipe or device may never end
        before, content = path.stat(), path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read model {path} ({error.strerror}): {remedy}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if expected and sha256 != expected:
        raise ModelError(
            f"model {path}: its SHA-256 begins with {sha256[:12]}, not {expected[:12]}: {remedy}"
        )
    try:
        if has_external_data(content):
            # They would be read from the current folder, and sha256 would not cover them.
            raise ModelError(
                f"model {path} keeps weights in other files; pack all into one with: lookalike "
                f"model adopt {path} --out FILE"
            )
        del content  # before it is read once more, which takes as much memory
        runtime = OnnxRuntime(path, threads)
        if _version(path.stat()) != _version(before):
            raise ModelError(f"model {path} was written while it was opened; try again")
    except ModelError:
        raise
    except Exception as error:  # onnxruntime has a dozen unrelated classes for a bad file
        reason = str(error).partition("\n")[0]
        raise ModelError(f"model {path} is damaged ({reason}): {remedy}") from error
    return runtime, sha256


def _version(status: os.stat_result) -> tuple[int, ...]:
    """Changes when a file is written or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def import_onnxruntime(module: str = "onnxruntime") -> Any:
    """The module, or one below it, without its telemetry.

    While it is imported, onnxruntime writes a device id to the cache folder and a file to the
    temporary folder, and seconds later it looks up its maker's host. Only this variable, set
    before, prevents it; `disable_telemetry_events` is too late. Processes started later inherit it.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module(module)
