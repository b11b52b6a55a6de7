"""Change a model's graph in OpenVINO: pixels go in as they are, and rounding weights costs little.

``openvino``: the module, as `runtimes.import_openvino` gives it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def take_pixels(
    openvino: Any, model: Any, factor: NDArray[np.float32], offset: NDArray[np.float32]
) -> list[str]:
    """Let ``model`` take uint8 (n, s, s, 3); the names of the operations that this adds.

    Its convolutions work on (n, s, s, 3) themselves: planes would be turned back into that.
    """
    from openvino import opset13

    (planes,) = model.get_parameters()
    number, channels, *sides = planes.get_partial_shape()
    pixels = opset13.parameter(openvino.PartialShape([number, *sides, channels]), np.uint8)
    values = opset13.convert(pixels, np.float32)
    scaled = opset13.multiply(values, opset13.constant(factor))
    moved = opset13.add(scaled, opset13.constant(offset))
    turned = opset13.transpose(moved, np.array([0, 3, 1, 2]))
    for end in planes.output(0).get_target_inputs():
        end.replace_source_output(turned.output(0))
    model.add_parameters([pixels])
    model.remove_parameter(planes)
    return [node.friendly_name for node in (values, scaled, moved, turned)]


def correct(
    openvino: Any, model: Any, settings: dict[str, Any], exact: int, images: NDArray[np.float32]
) -> list[str]:
    """Add to the bias of each convolution what rounding its weights takes from its mean output.

    But for the first ``exact`` ones, whose names are returned.
    """
    from openvino import opset13

    convolutions = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
        and _weights(node) is not None
    ]
    means = openvino.Model(
        [opset13.reduce_mean(node.input_value(0), np.array([0, 2, 3])) for node in convolutions],
        model.get_parameters(),
        "means",
    )
    compiled = openvino.Core().compile_model(
        means, "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"}
    )
    request = compiled.create_infer_request()
    measured = [list(request.infer({0: image[np.newaxis]}).values()) for image in images]
    for number, node in enumerate(convolutions[exact:], exact):
        following = [end.get_node() for end in node.output(0).get_target_inputs()]
        biased = [other for other in following if other.get_type_name() == "Add"]
        if len(biased) != 1:
            continue  # it has no bias
        weights = _weights(node)
        assert weights is not None
        lost = (weights - _rounded(weights)).reshape(-1, *weights.shape[-4:])
        lost = lost.sum(axis=(3, 4))  # (groups, outputs of each, inputs of each)
        given = np.mean([values[number] for values in measured], axis=0)
        missing = np.einsum("goi,gi->go", lost, given.reshape(len(lost), -1))
        term = opset13.constant(missing.reshape(1, -1, 1, 1).astype(np.float32))
        bias = biased[0].input(1)
        bias.replace_source_output(opset13.add(bias.get_source_output(), term).output(0))
    return [node.friendly_name for node in convolutions[:exact]]


def keep_exact(openvino: Any, model: Any, names: Sequence[str]) -> Any:
    """The model with operations marked to be computed in float32, as only its XML can be."""
    from xml.etree import ElementTree

    with tempfile.TemporaryDirectory() as folder:
        file, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(model, file, weights)
        root = ElementTree.parse(file).getroot()
        content = weights.read_bytes()
    for layer in root.iter("layer"):
        if layer.get("name") in names:
            notes = layer.find("rt_info")
            if notes is None:
                notes = ElementTree.SubElement(layer, "rt_info")
            ElementTree.SubElement(notes, "attribute", name="precise", version="0")
    return openvino.Core().read_model(ElementTree.tostring(root), content)


def _weights(node: Any) -> NDArray[np.float32] | None:
    """(outputs, inputs, height, width), before them perhaps groups; None if they are computed."""
    source = node.input_value(1).get_node()
    shape = list(node.input_value(1).get_shape())
    if source.get_type_name() == "Reshape":
        source = source.input_value(0).get_node()
    constant = source.get_type_name() == "Constant" and len(shape) in (4, 5)
    return source.data.reshape(shape) if constant else None


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To bfloat16, the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    bits = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)
