"""Write an encoder as one ONNX file that the runtime can open without torch.

torch's own exporter translates the module and folds batch norms. What it notes about each node (the
lines of source that it came from, with their paths) is left out, so that the same weights and the
same packages give the same bytes, whatever the time and the place.

`store` keeps weights as float16 or int8, with arithmetic in float32: smaller, not faster. Of the
default encoder, on 50 photographs of Corel-1k (mean cosine to the float32 embedding, worst cosine):
float16 6.7 MB, 0.99999, 0.99996; int8 3.5 MB, 0.9937, 0.9668.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from lookalike.atomic import atomic_writer
from lookalike.encoder import Encoder, EncoderSettings, ModelInfo
from lookalike.errors import ModelError, first_line
from lookalike.models.embedder import Embedder
from lookalike.runtimes import INPUT, OUTPUT

CHANNEL_OUTPUT = "channel_attention"
SPATIAL_OUTPUT = "spatial_attention"
INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"
OPSET = 18
"""What torch translates to; a later one is only converted from it."""


def export_embedder(
    embedder: Embedder,
    path: Path,
    *,
    name: str,
    version: str = "1",
    attention: bool = True,
    storage: Storage = "float32",
) -> ModelInfo:
    """Write an embedder to `path`, with its own preprocessing, and return its description.

    `attention` adds the gates of the deepest attended stage as outputs, float32: CHANNEL_OUTPUT
    (n, C) and SPATIAL_OUTPUT (n, h, w), as far as the embedder has them. A search does not ask for
    them. `storage` and ModelError are as in `export_onnx`.
    """
    info = embedder.info(name, version)
    if not attention or not (embedder.gates or embedder.side_gates):
        return export_onnx(embedder, info, path, storage=storage)
    kind = embedder.settings.attention
    extra = [CHANNEL_OUTPUT] * (kind != "spatial") + [SPATIAL_OUTPUT] * (kind != "channel")
    return export_onnx(_Explained(embedder), info, path, outputs=[OUTPUT, *extra], storage=storage)


def export_onnx(
    module: nn.Module,
    info: ModelInfo,
    path: Path,
    *,
    outputs: Sequence[str] = (OUTPUT,),
    storage: Storage = "float32",
) -> ModelInfo:
    """Write `module` to `path` and return `info` with the SHA-256 of that file.

    `module` maps normalised images, float32 (n, 3, s, s) with s = `info.input_size`, to embeddings
    (n, `info.dim`) of any length: the encoder makes them unit vectors, since it must look at each
    row anyway to refuse those without a direction. A module that gives a tuple names its parts in
    `outputs`, embeddings first. `storage` is what weights are kept as in the file, whose arithmetic
    is float32. `info` goes into the file as metadata, except `info.sha256`, which is not read. The
    module's training mode is left as it was.

    Raises ModelError for an operation that torch cannot translate, a module that takes only a fixed
    number of images, and an output of another shape; nothing is written then.
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        model = _translate(module, info, outputs)
    finally:
        for part in training:
            part.training = True
    helper.set_model_props(model, info.to_metadata())
    model.graph.name = info.name
    if storage != "float32":
        store(model, storage)
    content = model.SerializeToString(deterministic=True)
    with atomic_writer(path) as file:
        file.write(content)
    return replace(info, sha256=hashlib.sha256(content).hexdigest())


def _translate(module: nn.Module, info: ModelInfo, outputs: Sequence[str]) -> onnx.ModelProto:
    images = torch.zeros(2, 3, info.input_size, info.input_size)
    with torch.no_grad():
        result = module(images)
        shape = tuple((result[0] if isinstance(result, tuple) else result).shape)
        if shape != (2, info.dim):
            raise ModelError(
                f"the module gives shape {shape} for two images, not (2, {info.dim}): "
                "set ModelInfo.dim to the length of its embeddings"
            )
        try:
            with no_compiler_cache(), _silence():
                program = torch.onnx.export(
                    module,
                    (images,),
                    dynamo=True,
                    verbose=False,
                    opset_version=OPSET,
                    input_names=[INPUT],
                    output_names=outputs,
                    dynamic_shapes=({0: torch.export.Dim("n")},),
                )
        except torch.onnx.OnnxExporterError as error:
            reason = first_line(error.__cause__ or error)
            raise ModelError(f"torch cannot export this module to ONNX: {reason}") from error
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)
    model = program.model_proto
    if any(value.type.tensor_type.shape.dim[0].dim_param != "n" for value in model.graph.output):
        raise ModelError("the module takes only two images at once: use no fixed batch in reshapes")
    return model


@contextmanager
def _silence() -> Iterator[None]:
    """Without what torch's exporter says to developers: about packages it could use, about its own
    use of torch."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@contextmanager
def no_compiler_cache() -> Iterator[None]:
    """For calls that import torch's compiler, though nothing is compiled.

    The import makes a folder `torchinductor_USER` in the shared temporary folder; within this
    context it is one of a random name, which is gone afterwards. A folder that the user has set is
    left as it is.
    """
    if INDUCTOR_CACHE in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ[INDUCTOR_CACHE] = folder
        try:
            yield
        finally:
            os.environ.pop(INDUCTOR_CACHE, None)


class _Explained(nn.Module):
    """An embedder that gives its gates too."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        embeddings, gates = self.embedder.explained(images)
        return embeddings, *gates.values()


Storage = Literal["float32", "float16", "int8"]

SMALLEST = 256
"""Weights of fewer numbers (biases mostly) stay float32: they are a tiny share of the file."""
HALF_MAX = 65504.0


def store(model: onnx.ModelProto, storage: Storage) -> None:
    """Keep the large float32 weights of `model` as another type, in place.

    "float16" halves the file; a weight that float16 cannot hold (over 65504) is left alone. "int8"
    quarters it: each row of a matrix, or filter of a convolution, has a scale of its own, its
    largest number / 127. The runtime turns them into float32 once, on opening, so that speed and
    memory stay what they were. ValueError for another name.
    """
    if storage not in ("float32", "float16", "int8"):
        raise ValueError(f"storage must be float32, float16 or int8, not {storage!r}")
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        name = weight.name
        is_large = values.dtype == np.float32 and values.size >= SMALLEST
        if storage == "float16" and is_large and np.abs(values).max() <= HALF_MAX:
            weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
        elif storage == "int8" and is_large and values.ndim > 1:
            largest = np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True)
            scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
            rounded = np.rint(values / scale).astype(np.int8)
            weights.append(numpy_helper.from_array(rounded, f"{name}_int8"))
            weights.append(numpy_helper.from_array(scale, f"{name}_scale"))
            cast = [f"{name}_cast"]
            nodes.append(helper.make_node("Cast", [f"{name}_int8"], cast, to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [*cast, f"{name}_scale"], [name]))
        else:
            weights.append(weight)
    nodes.extend(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(weights)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)


@dataclass(frozen=True)
class Cost:
    """How far the embeddings of one model file are from those of another, as cosines."""

    mean: float
    worst: float


def cost(reference: Path, other: Path, pixels: NDArray[np.uint8]) -> Cost:
    """Of `other` against `reference`, on images uint8 (n, s, s, 3); 1: nothing is lost."""
    settings = EncoderSettings(runtime="onnxruntime")
    first, second = (Encoder.open(path, settings).embed(pixels) for path in (reference, other))
    cosines = np.einsum("nd,nd->n", first, second, dtype=np.float64)
    return Cost(float(cosines.mean()), float(cosines.min()))


def storage_cost(embedder: Embedder, out: Path, pixels: NDArray[np.uint8]) -> Cost:
    """Of the model file `out`, made of `embedder` with smaller weights, against float32."""
    with tempfile.TemporaryDirectory() as directory:
        whole = Path(directory) / "float32.onnx"
        export_embedder(embedder, whole, name="float32")
        return cost(whole, out, pixels)
