"""A program traced by `torch.export`, written as ONNX nodes.

Each operation that the embedders use has its ONNX form here; others are refused by name, never
guessed. Evaluation-mode batch norms become part of the convolution before them, and zero padding
(TensorFlow's uneven one too) part of the one after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.fx import Node

from lookalike.encoder import INPUT, ModelInfo
from lookalike.errors import ModelError

__all__ = ["Translation"]

OPSET = 17
IR_VERSION = 8

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Translation:
    """ONNX nodes and weights for one traced program, named after the module's parameters."""

    def __init__(self, program: torch.export.ExportedProgram, outputs: Sequence[str]) -> None:
        signature = program.graph_signature
        places = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        tensors: dict[str, Any] = {**program.constants, **program.state_dict}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.outputs: list[onnx.ValueInfoProto] = []
        self._values: dict[str, Array] = {}
        self._names: dict[str, str] = {}
        for node in program.graph.nodes:
            if node.op == "placeholder" and node.name in places:
                self._names[node.name] = places[node.name]
                self._values[node.name] = tensors[places[node.name]].detach().numpy()
            elif node.op == "placeholder":
                self._names[node.name] = INPUT
            elif node.op == "call_function" and node.name not in self._names:
                self._translate(node)
            elif node.op == "output":
                for value, name in zip(node.args[0], outputs, strict=True):
                    self.nodes.append(helper.make_node("Identity", [self.use(value)], [name]))
                    self.outputs.append(
                        helper.make_tensor_value_info(
                            name, TensorProto.FLOAT, ["n", *_shape(value)[1:]]
                        )
                    )

    def model(self, info: ModelInfo) -> onnx.ModelProto:
        """The whole file, checked; `info` is its metadata."""
        size = info.input_size
        graph = helper.make_graph(
            self.nodes,
            info.name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, size, size])],
            self.outputs,
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="lookalike",
        )
        helper.set_model_props(model, info.to_metadata())
        onnx.checker.check_model(model, full_check=True)
        return model

    def name(self, value: Node) -> str:
        return self._names[value.name]

    def use(self, value: Any) -> str:
        """The ONNX name of a traced value or a Python number; weights are kept once used."""
        if not isinstance(value, Node):
            return self.keep(f"number_{value}", np.array(value, np.float32))
        name = self.name(value)
        return self.keep(name, self._values[value.name]) if value.name in self._values else name

    def keep(self, name: str, value: Array) -> str:
        """Store a weight; a name that holds another one already (folded twice) gets a suffix."""
        if name in self.weights and not np.array_equal(self.weights[name], value):
            name = f"{name}_{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def array(self, value: Any, otherwise: float) -> Array:
        return np.array(otherwise) if value is None else self._values[value.name]

    def add(self, node: Node, operation: str, inputs: Sequence[str], **attributes: Any) -> None:
        self._names[node.name] = node.name
        self.nodes.append(
            helper.make_node(operation, inputs, [node.name], name=node.name, **attributes)
        )

    def _translate(self, node: Node) -> None:
        operation = str(node.target)
        if operation in _ELEMENTWISE:
            self.add(node, _ELEMENTWISE[operation], [self.use(value) for value in node.args])
        elif operation in _OTHERS:
            _OTHERS[operation](self, node)
        else:
            raise ModelError(
                f"cannot export the operation {operation}: add its form to models/translation.py"
            )


def _pad(onto: Translation, node: Node) -> None:
    """Nothing is written: each convolution that reads the padding takes it over."""
    _, _, mode, value = _arguments(node, 2, "constant", None)
    readers = {str(user.target) for user in node.users}
    if mode != "constant" or value not in (None, 0) or readers != {"aten.conv2d.default"}:
        raise ModelError("cannot export padding other than by zeros before a convolution")


def _conv2d(onto: Translation, node: Node) -> None:
    """With the padding before it and the batch norm after it: BN(Wx + b) = (sW)x + (sb + t)."""
    source, weight, bias, strides, padding, dilations, groups = _arguments(
        node, 2, None, (1, 1), (0, 0), (1, 1), 1
    )
    top, left = bottom, right = padding
    if str(source.target) == "aten.pad.default":
        source, around = source.args[:2]
        left, right, top, bottom = np.add((left, right, top, bottom), around).tolist()
    name, kernel, shift = onto.name(weight), onto.array(weight, 1), onto.array(bias, 0)
    readers = list(node.users)
    folds = len(readers) == 1 and str(readers[0].target) == "aten.batch_norm.default"
    if folds:
        scale, addend = _scale_and_shift(onto, readers[0])
        kernel = (kernel * scale[:, None, None, None]).astype(np.float32)
        shift = (shift * scale + addend).astype(np.float32)
    inputs = [onto.use(source), onto.keep(name, kernel)]
    if folds or bias is not None:
        inputs.append(onto.keep(f"{name.removesuffix('weight')}bias", shift))
    onto.add(
        readers[0] if folds else node,
        "Conv",
        inputs,
        kernel_shape=kernel.shape[2:],
        strides=strides,
        pads=[top, left, bottom, right],
        dilations=dilations,
        group=groups,
    )


def _scale_and_shift(onto: Translation, node: Node) -> tuple[Array, Array]:
    """Per channel, in float64: an evaluation-mode batch norm is x -> scale x + shift."""
    _, weight, bias, mean, variance, _, _, epsilon, _ = _arguments(node, 9)
    scale = onto.array(weight, 1) / np.sqrt(onto.array(variance, 1).astype(np.float64) + epsilon)
    return scale, onto.array(bias, 0) - onto.array(mean, 0) * scale


def _batch_norm(onto: Translation, node: Node) -> None:
    """One that follows no convolution, as two nodes."""
    scale, shift = (part.astype(np.float32) for part in _scale_and_shift(onto, node))
    if len(_shape(node)) == 4:
        scale, shift = scale[:, None, None], shift[:, None, None]
    scaled = f"{node.name}_scaled"
    factor = onto.keep(f"{node.name}_scale", scale)
    onto.nodes.append(helper.make_node("Mul", [onto.use(node.args[0]), factor], [scaled]))
    onto.add(node, "Add", [scaled, onto.keep(f"{node.name}_shift", shift)])


def _relu6(onto: Translation, node: Node) -> None:
    onto.add(node, "Clip", [onto.use(node.args[0]), onto.use(0.0), onto.use(6.0)])


def _linear(onto: Translation, node: Node) -> None:
    source, weight, bias = _arguments(node, 2, None)
    if len(_shape(source)) != 2:
        raise ModelError("cannot export a linear layer of anything but (n, features)")
    inputs = [onto.use(part) for part in (source, weight, bias) if part is not None]
    onto.add(node, "Gemm", inputs, transB=1)


def _reduction(operation: str) -> Callable[[Translation, Node], None]:
    def translate(onto: Translation, node: Node) -> None:
        source, axes, keeps = _arguments(node, 2, False)
        onto.add(node, operation, [onto.use(source)], axes=axes, keepdims=int(keeps))

    return translate


def _global_average(onto: Translation, node: Node) -> None:
    source, sides = _arguments(node, 2)
    if tuple(sides) != (1, 1):
        raise ModelError("cannot export adaptive pooling to anything but 1 x 1")
    onto.add(node, "GlobalAveragePool", [onto.use(source)])


def _max_pool2d(onto: Translation, node: Node) -> None:
    source, kernel, strides, padding, dilations, ceils = _arguments(
        node, 2, None, (0, 0), (1, 1), False
    )
    if ceils or tuple(dilations) != (1, 1):
        raise ModelError("cannot export max pooling with dilation or rounding up")
    onto.add(
        node,
        "MaxPool",
        [onto.use(source)],
        kernel_shape=kernel,
        strides=strides or kernel,
        pads=[*padding, *padding],
    )


def _clamp(onto: Translation, node: Node) -> None:
    source, low, high = _arguments(node, 1, None, None)
    if low is None or high is not None:
        raise ModelError("cannot export clamping other than from below")
    onto.add(node, "Max", [onto.use(source), onto.use(low)])


def _vector_norm(onto: Translation, node: Node) -> None:
    source, order, axes, keeps = _arguments(node, 1, 2, None, False)
    if order != 2 or axes is None:
        raise ModelError("cannot export a norm other than the Euclidean one along given axes")
    onto.add(node, "ReduceL2", [onto.use(source)], axes=axes, keepdims=int(keeps))


def _axis(operation: str) -> Callable[[Translation, Node], None]:
    def translate(onto: Translation, node: Node) -> None:
        source, axis = _arguments(node, 2)
        axes = onto.keep(f"axis_{axis}", np.array([axis], np.int64))
        onto.add(node, operation, [onto.use(source), axes])

    return translate


def _flatten(onto: Translation, node: Node) -> None:
    source, first, last = _arguments(node, 1, 0, -1)
    axes = len(_shape(source))
    if first % axes == 0:
        raise ModelError("cannot export flattening of the first axis, which counts images")
    if first % axes == 1 and last % axes == axes - 1:
        onto.add(node, "Flatten", [onto.use(source)], axis=1)
    else:
        _reshape(onto, node, source)


def _unflatten(onto: Translation, node: Node) -> None:
    source, axis, _ = _arguments(node, 3)
    if axis % len(_shape(source)) == 0:
        raise ModelError("cannot export cutting up the first axis, which counts images")
    _reshape(onto, node, source)


def _reshape(onto: Translation, node: Node, source: Node) -> None:
    """To the shape that was traced, with as many images as there are: 0 keeps an axis."""
    sides = [int(side) for side in _shape(node)[1:]]
    shape = onto.keep(f"shape_{'_'.join(map(str, sides))}", np.array([0, *sides], np.int64))
    onto.add(node, "Reshape", [onto.use(source), shape])


def _transpose(onto: Translation, node: Node) -> None:
    source, first, second = _arguments(node, 3)
    order = list(range(len(_shape(source))))
    if 0 in (order[first], order[second]):
        raise ModelError("cannot export transposing of the first axis, which counts images")
    order[first], order[second] = order[second], order[first]
    onto.add(node, "Transpose", [onto.use(source)], perm=order)


def _softmax(onto: Translation, node: Node) -> None:
    source, axis, kind = _arguments(node, 2, None)
    if kind is not None:
        raise ModelError("cannot export a softmax that changes the type of its numbers")
    onto.add(node, "Softmax", [onto.use(source)], axis=axis)


def _ones_like(onto: Translation, node: Node) -> None:
    shape = f"{node.name}_shape"
    onto.nodes.append(helper.make_node("Shape", [onto.use(node.args[0])], [shape]))
    one = numpy_helper.from_array(np.ones(1, np.float32))
    onto.add(node, "ConstantOfShape", [shape], value=one)


def _cat(onto: Translation, node: Node) -> None:
    parts, axis = _arguments(node, 1, 0)
    onto.add(node, "Concat", [onto.use(part) for part in parts], axis=axis)


def _identity(onto: Translation, node: Node) -> None:
    onto.add(node, "Identity", [onto.use(node.args[0])])


def _arguments(node: Node, required: int, *defaults: Any) -> list[Any]:
    """The positional arguments, the missing optional ones filled in."""
    return [*node.args, *defaults[len(node.args) - required :]]


def _shape(node: Node) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)


_ELEMENTWISE = {
    "aten.add.Tensor": "Add",
    "aten.sub.Tensor": "Sub",
    "aten.mul.Tensor": "Mul",
    "aten.div.Tensor": "Div",
    "aten.matmul.default": "MatMul",
    "aten.pow.Tensor_Tensor": "Pow",
    "aten.reciprocal.default": "Reciprocal",
    "aten.relu.default": "Relu",
    "aten.sigmoid.default": "Sigmoid",
    "aten.tanh.default": "Tanh",
}

_OTHERS: dict[str, Callable[[Translation, Node], None]] = {
    "aten.adaptive_avg_pool2d.default": _global_average,
    "aten.amax.default": _reduction("ReduceMax"),
    "aten.batch_norm.default": _batch_norm,
    "aten.cat.default": _cat,
    "aten.clamp.default": _clamp,
    "aten.conv2d.default": _conv2d,
    "aten.dropout.default": _identity,
    "aten.feature_dropout.default": _identity,
    "aten.flatten.using_ints": _flatten,
    "aten.linalg_vector_norm.default": _vector_norm,
    "aten.linear.default": _linear,
    "aten.max_pool2d.default": _max_pool2d,
    "aten.mean.dim": _reduction("ReduceMean"),
    "aten.ones_like.default": _ones_like,
    "aten.pad.default": _pad,
    "aten.relu6.default": _relu6,
    "aten.softmax.int": _softmax,
    "aten.squeeze.dim": _axis("Squeeze"),
    "aten.transpose.int": _transpose,
    "aten.unflatten.int": _unflatten,
    "aten.unsqueeze.default": _axis("Unsqueeze"),
}
