"""What runs a model: ONNX Runtime.

It is imported by `import_onnxruntime`, not here, so that commands without a model start fast, and
nowhere else, so that it never reports to its maker.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["INPUT", "OUTPUT", "End", "OnnxRuntime", "import_onnxruntime"]

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

    def run(self, images: NDArray[np.float32], output: str = OUTPUT) -> NDArray[np.float32]:
        """One output, (n, ...), of (n, 3, s, s)."""
        values: NDArray[np.float32]
        (values,) = self._session.run([output], {INPUT: images})
        return values


def import_onnxruntime(module: str = "onnxruntime") -> Any:
    """The module, or one below it, without its telemetry.

    While it is imported, onnxruntime writes a device id to the cache folder and a file to the
    temporary folder, and seconds later it looks up its maker's host. Only this variable, set
    before, prevents it; `disable_telemetry_events` is too late. Processes started later inherit it.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module(module)
