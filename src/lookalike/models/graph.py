"""Surgery on ONNX graphs that others exported: names, parts that are not needed, a fixed batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["free_batch", "free_names", "inputs_of", "prune"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

LARGEST_FOLDED = 1_000_000
"""Numbers in a constant; calculations with larger ones are about weights, not about shapes."""


def inputs_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """What the caller must give: inputs that are not weights (old files list those too)."""
    weights = {weight.name for weight in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def free_names(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model with `names` in use nowhere: if one is, every value gets a prefix."""
    used = set(_read(model.graph.node))
    used.update(name for node in model.graph.node for name in node.output)
    used.update(value.name for value in model.graph.input)
    return compose.add_prefix(model, "adopted/") if used & set(names) else model


def prune(graph: onnx.GraphProto, output: str) -> None:
    """Leave only what `output` needs of outputs, nodes, weights and inputs, and no shapes between.

    Of a model of pictures and text, say, the text half goes.
    """
    needed = {output}
    kept = []
    for node in reversed(graph.node):  # a node comes after those that it reads
        if needed & set(node.output):
            kept.append(node)
            needed.update(_read([node]))
    inputs = [value for value in inputs_of(graph) if value.name in needed]
    weights = [weight for weight in graph.initializer if weight.name in needed]
    outputs = [value for value in graph.output if value.name == output]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
    graph.input.extend(inputs)
    graph.output.extend(outputs)


def _read(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Names that the nodes read, in their branches and loop bodies too."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read(inner.node)
                yield from (value.name for value in inner.output)


def free_batch(model: onnx.ModelProto, source: str) -> None:
    """Let a graph that was exported for one picture take any number of them, as far as it can.

    `source` is the input. Recorded shapes go; a Reshape of a batch to (1, ...) copies the batch
    instead; a constant (1, ...) that is joined to the batch, a class token say, is repeated for
    each picture. What else a graph may have fixed, only running it shows.
    """
    graph = model.graph
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*known.value_info, *known.input, *known.output)
    }
    constants = _constants(model)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            target = constants[node.input[1]]
            rows = (shapes.get(node.input[0]) or [0])[0]  # 0: not known
            batched = node.input[0] not in constants and rows in (0, 1)
            if target.ndim == 1 and target.size and target[0] == 1 and batched:
                name = f"{node.output[0]}_any_batch"
                copied = np.concatenate([[0], target[1:]]).astype(np.int64)
                graph.initializer.append(numpy_helper.from_array(copied, name))
                node.input[1] = name
        if node.op_type == "Concat" and any(name not in constants for name in node.input):
            for i, name in enumerate(node.input):
                value = constants.get(name)
                if node.attribute[0].i and value is not None and value.shape[:1] == (1,):
                    repeated = f"{node.output[0]}_repeated_{i}"
                    nodes += _repeat(graph, source, name, value.ndim, repeated)
                    node.input[i] = repeated
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    for value in (*inputs_of(graph), *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "n"


def _constants(model: onnx.ModelProto) -> dict[str, Array]:
    """Weights, and what small calculations with weights alone give: shapes, a class token."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    constants = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    for node in model.graph.node:
        given = [constants.get(name) for name in node.input if name]
        known = [value for value in given if value is not None and value.size <= LARGEST_FOLDED]
        inner = any(a.g.node or a.graphs for a in node.attribute)
        if inner or len(known) != len(given) or (not given and node.op_type != "Constant"):
            continue
        try:
            evaluator = ReferenceEvaluator(node, opsets=opsets)
            names = [name for name in node.input if name]
            results = evaluator.run(None, dict(zip(names, known, strict=True)))
        except Exception:  # an operation that the evaluator does not know stays a node
            continue
        constants.update(zip(node.output, map(np.asarray, results), strict=False))
    return constants


def _repeat(
    graph: onnx.GraphProto, source: str, constant: str, axes: int, out: str
) -> list[onnx.NodeProto]:
    """`out`: the constant (1, ...) as often as `source` has pictures."""
    zero, ones = f"{out}_first", f"{out}_rest"
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), zero))
    graph.initializer.append(numpy_helper.from_array(np.ones(axes - 1, np.int64), ones))
    return [
        helper.make_node("Shape", [source], [f"{out}_shape"]),
        helper.make_node("Gather", [f"{out}_shape", zero], [f"{out}_batch"]),
        helper.make_node("Concat", [f"{out}_batch", ones], [f"{out}_target"], axis=0),
        helper.make_node("Expand", [constant, f"{out}_target"], [out]),
    ]
