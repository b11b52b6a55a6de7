"""Make the model in 8 bits that lookalike ships beside the default one.

    python benchmarks/quantise.py FOLDER_OF_COREL5K OUT

OUT is src/lookalike/data/lookalike-general-3-int8.onnx. Convolutions and sums take and give 8 bits
(ONNX's QDQ), with a scale for each filter and, of activations, the range that they have on IMAGES
images, a part of them turned, mirrored or grey. Filters have 7 bits, so that pairs of products fit
the 16 bits in which processors without VNNI add them: all give the same bits. The first EXACT
convolutions, attention and FC stay in float32. Then, layer after layer, what rounding adds to a
channel's mean is taken from its bias (Nagel et al. 2019).

`lookalike evaluate FOLDER --model OUT` measures what it finds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lookalike.atomic import atomic_writer
from lookalike.encoder import DEFAULT_MODEL, METADATA_PREFIX, Encoder, EncoderSettings
from lookalike.images import looks_like_image, read_image
from lookalike.runtimes import INPUT, ONLY, Scaling, import_onnxruntime

IMAGES = 96
EXACT = 3
BATCH = 8
VERSION = "3-int8"
WAYS = (
    lambda pixels: pixels,
    np.rot90,
    lambda pixels: np.rot90(pixels, 2),
    lambda pixels: np.broadcast_to(pixels.mean(axis=2, keepdims=True), pixels.shape),
    np.fliplr,
)

Batches = Sequence[NDArray[np.float32]]


def images(folder: Path, size: int) -> NDArray[np.uint8]:
    """An even sample of the folder's images, (IMAGES, size, size, 3), each seen in one of WAYS."""
    paths = sorted(path for path in folder.rglob("*") if looks_like_image(path.name))
    if len(paths) < IMAGES:
        raise SystemExit(f"{folder}: {len(paths)} images, not {IMAGES}")
    chosen = [paths[i * len(paths) // IMAGES] for i in range(IMAGES)]
    squares = [read_image(path, size).pixels for path in chosen]
    return np.stack(
        [WAYS[i % len(WAYS)](square) for i, square in enumerate(squares)],
        dtype=np.uint8,
        casting="unsafe",
    )


def outputs(
    model: onnx.ModelProto, names: Sequence[str], batches: Batches
) -> Iterator[list[NDArray[np.float32]]]:
    """These tensors of the graph, of each batch."""
    onnxruntime = import_onnxruntime()
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    for name in names:
        tapped.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        tapped.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for batch in batches:
        yield session.run(None, {INPUT: batch})


def means(
    model: onnx.ModelProto, names: Sequence[str], batches: Batches
) -> list[NDArray[np.float64]]:
    """Of each of these tensors (n, channels, h, w), by channel."""
    sums = [
        [values.mean(axis=(0, 2, 3), dtype=np.float64) for values in made]
        for made in outputs(model, names, batches)
    ]
    return [np.mean(parts, axis=0) for parts in zip(*sums, strict=True)]


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Those of the trunk, which have a bias."""
    return [node for node in model.graph.node if node.op_type == "Conv" and node.input[2:]]


def ranges_of(
    model: onnx.ModelProto, names: Sequence[str], batches: Batches
) -> dict[str, tuple[np.float32, np.float32]]:
    """The least and the largest value of these tensors, or 0."""
    ranges = dict.fromkeys(names, (np.float32(0), np.float32(0)))
    for made in outputs(model, names, batches):
        for name, values in zip(names, made, strict=True):
            low, high = ranges[name]
            ranges[name] = min(low, values.min()), max(high, values.max())
    return ranges


def quantised(model: onnx.ModelProto, batches: Batches) -> onnx.ModelProto:
    """With convolutions after the first EXACT, and the sums of what they give, in 8 bits."""
    calibrate = import_onnxruntime("onnxruntime.quantization.calibrate")
    quantization = import_onnxruntime("onnxruntime.quantization")
    clips = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    given = {node.output[0] for node in convolutions(model)}
    sums = [n for n in model.graph.node if n.op_type == "Add" and given & set(n.input)]
    nodes = [*convolutions(model)[EXACT:], *sums]
    ends = {name for node in nodes for name in (*node.input, *node.output)}
    ends -= {weights.name for weights in model.graph.initializer}
    clipped = {name: clips.get(name, name) for name in ends}
    ranges = ranges_of(model, sorted(set(clipped.values())), batches)
    tensors = {
        name: calibrate.TensorData(lowest=np.array(low), highest=np.array(high))
        for name, (low, high) in ((name, ranges[end]) for name, end in clipped.items())
    }
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    qdq: Any = quantization.QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=True,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QUInt8,
        tensors_range=calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, tensors),
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "Add"],
        extra_options={"WeightSymmetric": True},
    )
    qdq.quantize_model()
    qdq.model.topological_sort()
    made: onnx.ModelProto = qdq.model.model
    return made


def correct(made: onnx.ModelProto, model: onnx.ModelProto, batches: Batches) -> None:
    """Give the channels of ``made`` the means of ``model`` by its biases, layer after layer."""
    names = [node.output[0] for node in convolutions(model)]
    expected = means(model, names, batches)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    for node, mean in list(zip(convolutions(model), expected, strict=True))[EXACT:]:
        (found,) = means(made, [node.output[0]], batches)
        bias = tensors[f"{node.input[2]}_quantized"]
        scale = numpy_helper.to_array(tensors[f"{node.input[2]}_quantized_scale"])
        steps = np.rint((found - mean) / scale).astype(np.int32)
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) - steps, bias.name))


def halve(model: onnx.ModelProto) -> None:
    """Keep the matrices, which the runtime turns into float32 on opening, as float16."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    matrices = {node.input[1] for node in model.graph.node if node.op_type == "Gemm"}
    for name in sorted(matrices):
        values = numpy_helper.to_array(weights[name]).astype(np.float16)
        weights[name].CopyFrom(numpy_helper.from_array(values, f"{name}_half"))
        cast = helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)
        model.graph.node.insert(0, cast)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    settings = EncoderSettings(runtime="onnxruntime")
    encoder = Encoder.open(settings=settings)
    info = encoder.info
    pixels = images(arguments.folder, info.input_size)
    scaling = Scaling(info.mean, info.std)
    batches = [scaling.batch(pixels[i : i + BATCH]) for i in range(0, IMAGES, BATCH)]
    default = onnx.load(DEFAULT_MODEL)
    model = quantised(default, batches)
    correct(model, default, batches)
    halve(model)
    # OpenVINO gives other embeddings (cosine 0.998), no faster: benchmarks/README.md.
    model.metadata_props.add(key=ONLY, value=settings.runtime)
    for entry in model.metadata_props:
        if entry.key == f"{METADATA_PREFIX}version":
            entry.value = VERSION
    onnx.checker.check_model(model, full_check=True)
    with atomic_writer(arguments.out) as stream:
        stream.write(model.SerializeToString())
    cosines = (encoder.embed(pixels) * Encoder.open(arguments.out, settings).embed(pixels)).sum(1)
    print(f"cosine to float32: at least {cosines.min():.4f}, median {np.median(cosines):.4f}")


if __name__ == "__main__":
    main()
