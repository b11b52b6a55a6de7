"""What runs a model: ONNX Runtime, or OpenVINO where it is installed and gives the same embeddings.

OpenVINO computes most of a model in bfloat16 where the processor has instructions for it. Whether
its embeddings are those of ONNX Runtime is measured on made images, so that a gallery may hold
embeddings of both. What agreed is kept in the user's cache folder, because compiling and measuring
take most of a second.

They are imported by `import_onnxruntime` and `import_openvino`, not here, so that commands without
a model start fast, and nowhere else, so that they never report to their makers.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import queue
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from lookalike import rounding
from lookalike.atomic import atomic_writer, cache_directory, read_regular
from lookalike.errors import LookalikeWarning, MissingExtraError, ModelError, install_command
from lookalike.onnxfile import has_external_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT = "images"
OUTPUT = "embeddings"
SMALL_MODEL = 64 << 20
"""Bytes. Smaller models run on several batches at once, one thread each: about a tenth faster than
all threads on one batch, which wait for each other after every operation, also for one that
decoding has stopped. One run of a larger model takes all threads, so that one query is fast."""


RUNTIMES = ("auto", "onnxruntime", "openvino")
AGREEMENT = 0.999
"""The least cosine between the embeddings of two runtimes that may be mixed."""
ONLY = "runtime"
"""Metadata of a model file whose value is the one runtime that is to run it."""
PROBES = 16
"""Made images: half to correct what rounded weights change, half to measure the agreement."""
FIRST_EXACT = (3, 6)
"""So many first convolutions stay in float32, where rounding costs most; tried in this order."""
KEPT_FORMAT = 2
"""Of a kept model: raised when what is compiled, or how agreement is measured, changes."""
Images: TypeAlias = "Sequence[NDArray[np.uint8]] | NDArray[np.uint8]"
"""RGB, (s, s, 3) each."""


def scale(
    image: NDArray[np.uint8],
    factor: NDArray[np.float32],
    offset: NDArray[np.float32],
    planes: NDArray[np.float32],
) -> None:
    """factor * x + offset, by channel, of pixels (s, s, 3) into ``planes`` (3, s, s)."""
    np.multiply(image.transpose(2, 0, 1), factor[:, None, None], out=planes)
    planes += offset[:, None, None]


class Scaling:
    """How pixels x enter a network: factor * x + offset, float32 (3,) each, by channel.

    Attributes:
        scale: what computes that; `gallery.squares` has one that is compiled.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """(x - mean) / std."""
        self.factor = (1 / np.array(std)).astype(np.float32)
        self.offset = (-np.array(mean) / np.array(std)).astype(np.float32)
        self.scale = scale

    def batch(self, images: Images, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """What the network takes, (n, 3, s, s); in ``out``, if that is given."""
        batch = np.empty((len(images), 3, *images[0].shape[:2]), np.float32) if out is None else out
        for image, planes in zip(images, batch, strict=True):
            self.scale(image, self.factor, self.offset, planes)
        return batch


class Runtime(Protocol):
    """An open model. Any number of threads may run it at once."""

    @property
    def name(self) -> str:
        """One of RUNTIMES, not "auto"."""

    @property
    def description(self) -> str:
        """For people: name, version, and how it computes."""

    @property
    def runs(self) -> int:
        """How many batches it is to be given at once."""

    def embed(self, images: Images) -> NDArray[np.float32]:
        """The embeddings (n, dim), of any length, of n > 0 images (s, s, 3)."""


class End(NamedTuple):
    """An input or output: name, type ("tensor(float)"), and shape, with texts for what varies."""

    name: str
    type: str
    shape: list[int | str]


class OnnxRuntime:
    """A model in ONNX Runtime, on the CPU or a GPU: a `Runtime` that also describes the model.

    Attributes:
        on_cpu: not on a GPU.
        metadata: texts that the model file carries; see ONLY.
        inputs, outputs: of the graph.
        scaling: of the pixels that `embed` takes.
    """

    name = "onnxruntime"
    scaling = Scaling((0, 0, 0), (1, 1, 1))

    def __init__(self, path: Path, threads: int) -> None:
        """Any exception: the file is damaged, or not a model."""
        onnxruntime = import_onnxruntime()
        small = _is_small(path)
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
        self.on_cpu = self._session.get_providers()[0] == "CPUExecutionProvider"
        self.runs = threads if small and self.on_cpu else 1
        self._of_thread = threading.local()
        self.description = (
            f"onnxruntime {onnxruntime.__version__}, {'CPU' if self.on_cpu else 'GPU'}"
        )
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = [End(end.name, end.type, end.shape) for end in self._session.get_inputs()]
        self.outputs = [End(end.name, end.type, end.shape) for end in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[Any]], output: str = OUTPUT) -> NDArray[np.float32]:
        """One output, (n, ...), of arrays (n, ...) by the names of the inputs."""
        values: NDArray[np.float32]
        (values,) = self._session.run([output], inputs)
        return values

    def embed(self, images: Images) -> NDArray[np.float32]:
        """As `Runtime` says."""
        # Each thread keeps its batch: the system clears the pages of another, which takes longer
        # than filling them.
        kept = getattr(self._of_thread, "batch", None)
        if kept is None or len(kept) < len(images):
            kept = self._of_thread.batch = self.scaling.batch(images)
        else:
            self.scaling.batch(images, kept[: len(images)])
        return self.run({INPUT: kept[: len(images)]})


class OpenVino:
    """A model in OpenVINO, on the CPU: a `Runtime`."""

    name = "openvino"

    def __init__(self, compiled: Any, description: str, settings: dict[str, Any]) -> None:
        """``settings``: that it was compiled with."""
        self.description = description
        self.runs = settings["NUM_STREAMS"]
        self._compiled, self._settings = compiled, settings
        self._idle = queue.SimpleQueue[Any]()
        for _ in range(self.runs):
            request = compiled.create_infer_request()
            # OpenVINO's first arrays of a process hang if two threads make them.
            _ = request.get_input_tensor().data
            self._idle.put(request)

    @classmethod
    def compile(
        cls,
        path: Path,
        threads: int,
        exact: int | None,
        images: NDArray[np.uint8],
        scaling: Scaling,
    ) -> OpenVino:
        """Any exception: OpenVINO does not run the model.

        Args:
            exact: so many first convolutions are computed in float32, the rest in bfloat16; None:
                everything in float32.
            images: (n, s, s, 3); on their mean, rounding the weights to bfloat16 changes nothing.
            scaling: of their pixels.
        """
        openvino = import_openvino()
        core = openvino.Core()
        model = core.read_model(path)
        model = openvino.Model([model.output(OUTPUT)], model.get_parameters(), OUTPUT)
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # the cores are shared with the processes that decode
        }
        runs = 1
        if _is_small(path):
            # A fixed shape runs a tenth faster; one image at a time stays in the cache of its core.
            model.reshape([1, 3, *images.shape[1:3]])
            runs = threads
        names: list[str] = []
        if exact is not None:
            names = rounding.correct(openvino, model, settings, exact, scaling.batch(images))
        names += rounding.take_pixels(openvino, model, scaling.factor, scaling.offset)
        if exact is not None:
            model = rounding.keep_exact(openvino, model, names)
        settings |= {
            "NUM_STREAMS": runs,
            "INFERENCE_PRECISION_HINT": "f32" if exact is None else "bf16",
        }
        version = openvino.__version__.partition("-")[0]
        description = f"openvino {version}, " + (
            "float32" if exact is None else f"bfloat16 after {exact} convolutions in float32"
        )
        return cls(core.compile_model(model, "CPU", settings), description, settings)

    @classmethod
    def load(cls, path: Path, sha256: str, threads: int) -> OpenVino | None:
        """What `keep` kept of the model file ``path``; None if that is not of this machine."""
        if not _is_small(path):
            return None
        with suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
            content = read_regular(cls._kept(sha256, threads), 4 * SMALL_MODEL)
            line, _, blob = content.partition(b"\n")
            head = json.loads(line)
            if head["key"] == cls._key(sha256) and head["sha256"] == _sha256(blob):
                core, settings = import_openvino().Core(), head["settings"]
                compiled = core.import_model(io.BytesIO(blob), "CPU", settings)
                return cls(compiled, head["description"], settings)
        return None

    def keep(self, path: Path, sha256: str, threads: int) -> None:
        """For `load`, if that is possible."""
        if not _is_small(path):
            return
        with suppress(OSError):
            file = self._kept(sha256, threads)
            file.parent.mkdir(parents=True, exist_ok=True)
            blob = self._compiled.export_model()
            blob = blob if isinstance(blob, bytes) else blob.getvalue()
            head = {
                "key": self._key(sha256),
                "sha256": _sha256(blob),
                "description": self.description,
                "settings": self._settings,
            }
            with atomic_writer(file) as stream:
                stream.write(json.dumps(head).encode() + b"\n" + blob)

    @staticmethod
    def _kept(sha256: str, threads: int) -> Path:
        return cache_directory() / "openvino" / f"{sha256[:16]}-{threads}.blob"

    @staticmethod
    def _key(sha256: str) -> str:
        """All that the compiled model, and its agreement, depend on."""
        openvino, onnxruntime = import_openvino(), import_onnxruntime()
        core = openvino.Core()
        names = "FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"
        processor = [core.get_property("CPU", name) for name in names]
        versions = openvino.__version__, onnxruntime.__version__
        return str((KEPT_FORMAT, AGREEMENT, sha256, *versions, *processor))

    @staticmethod
    def plans() -> tuple[int | None, ...]:
        """Values of ``exact`` for this processor, the fastest first."""
        core = import_openvino().Core()
        has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return (*FIRST_EXACT, None) if has_bfloat16 else (None,)

    def embed(self, images: Images) -> NDArray[np.float32]:
        """As `Runtime` says; waits while `runs` threads run it."""
        request = self._idle.get()
        try:
            if self._compiled.input(0).partial_shape.is_dynamic:
                batch = np.asarray(images)
                rows: NDArray[np.float32] = request.infer({0: batch}, share_inputs=True)[0]
                return rows
            given = request.get_input_tensor().data[0]
            made = []
            for image in images:
                given[:] = image
                request.infer()
                made.append(request.get_output_tensor().data.copy())
            return np.concatenate(made)
        finally:
            self._idle.put(request)


def _is_small(path: Path) -> bool:
    return path.stat().st_size < SMALL_MODEL


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def probes(size: int) -> NDArray[np.uint8]:
    """Made images (PROBES, size, size, 3), always the same, with the spectrum of photographs."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, np.newaxis], np.fft.fftfreq(size))
    frequency[0, 0] = 1 / size
    images = np.empty((PROBES, size, size, 3), np.uint8)
    for image in images:
        noise = np.fft.fft2(rng.standard_normal((4, size, size)))
        layers = np.fft.ifft2(noise / frequency ** rng.uniform(0.9, 1.5)).real
        layers /= layers.std(axis=(1, 2), keepdims=True)
        light = 127 + rng.normal(0, 35) + rng.uniform(30, 80) * layers[0]
        colour = rng.uniform(5, 25) * layers[1:] + rng.normal(0, 20, (3, 1, 1))
        image[:] = np.clip(light + colour, 0, 255).transpose(1, 2, 0)
    return images


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The least cosine between rows of (n, dim); NaN if one has no direction."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(all="ignore"):
        return float(((first * second).sum(axis=1) / lengths).min())


def choose(
    model: OnnxRuntime,
    path: Path,
    sha256: str,
    wanted: str,
    threads: int,
    size: int,
) -> Runtime:
    """What runs the model at ``path``: ``model``, or OpenVINO if that is ``wanted`` or installed.

    Args:
        sha256: of the file.
        wanted: one of RUNTIMES.
        size: of the images that it takes.

    Raises:
        MissingExtraError: OpenVINO is wanted and not installed.
        ModelError: it is wanted and cannot run the model, or gives other embeddings.
    """
    installed = find_spec("openvino") is not None
    only = model.metadata.get(ONLY) == OnnxRuntime.name
    if wanted == "onnxruntime" or (wanted == "auto" and (only or not (installed and model.on_cpu))):
        return model
    if only:
        raise ModelError(f"model {path} is made for ONNX Runtime; use --runtime onnxruntime")
    if not installed:
        raise MissingExtraError(
            f"the runtime openvino is not installed: {install_command('openvino')}"
        )
    try:
        if (kept := OpenVino.load(path, sha256, threads)) is not None:
            return kept
        images = probes(size)
        to_correct, to_compare = images[: PROBES // 2], images[PROBES // 2 :]
        expected = model.embed(to_compare)
        for exact in OpenVino.plans():
            made = OpenVino.compile(path, threads, exact, to_correct, model.scaling)
            least = agreement(expected, made.embed(to_compare))
            if least >= AGREEMENT:
                made.keep(path, sha256, threads)
                return made
        why = f"the cosine of its embeddings to ONNX Runtime's is {least:.4f}, not {AGREEMENT}"
    except Exception as error:  # OpenVINO has one class for everything
        why = str(error).strip().partition("\n")[0]
    reason = f"OpenVINO cannot be used for model {path}: {why}"
    if wanted == "openvino":
        raise ModelError(f"{reason}; use --runtime onnxruntime")
    warnings.warn(f"{reason}; ONNX Runtime is used", LookalikeWarning, stacklevel=2)
    return model


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
    sha256 = _sha256(content)
    if expected and sha256 != expected:
        raise ModelError(
            f"model {path}: its SHA-256 begins with {sha256[:12]}, not {expected[:12]}: {remedy}"
        )
    try:
        if has_external_data(content):
            # They would be read from the current folder, and sha256 would not cover them.
            raise ModelError(
                f"model {path} keeps weights in other files; pack all into one with: lookalike "
                f"model adopt {path} --out FILE.onnx"
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


def import_openvino() -> Any:
    """The module without its telemetry, a package of its own that it works without."""
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # not to be imported
    return importlib.import_module("openvino")
