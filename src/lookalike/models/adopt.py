"""Bring your own encoder: any ONNX image encoder becomes a model file of lookalike.

The graph is kept as it is; its input and output get the names, types and shapes that
`lookalike.encoder` takes, and what the embedding does not need is left out. Before anything is
written the result must embed test images: finite, not zero, different images differently, and a
image alone as in company. Needs onnx, not torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from lookalike.atomic import file_sha256
from lookalike.encoder import Encoder, EncoderSettings, ModelInfo
from lookalike.errors import ModelError, first_line
from lookalike.models.settings import Triple
from lookalike.runtimes import INPUT, OUTPUT, OnnxRuntime, import_onnxruntime
from lookalike.words import MASK, TOKENS, WordEncoder, metadata, read_tokenizer, words_file

Tokens: TypeAlias = Literal["cls", "mean"]


@dataclass(frozen=True)
class TextTower:
    """The other half of a model of images and words: files, and what they take.

    Attributes:
        file: ONNX, int64 `input_ids` (n, t), perhaps `attention_mask`, to (n, d), d of the images.
        tokenizer: a tokenizer.json.
        output: the one to use, if there are several.
        length: the most tokens that it takes.
    """

    file: Path
    tokenizer: Path
    output: str | None = None
    length: int = 77


SMALLEST_DIFFERENCE = 1e-6
"""1 - cosine of the two test images, above the rounding of float32; a model below is blind."""
TOLERANCE = 1e-3
"""1 - cosine of an image alone and in a batch of two."""
_EXPORT_AGAIN = (
    "export it again with a batch axis of any length "
    "(torch.onnx.export: dynamic_axes or dynamic_shapes)"
)


def adopt(
    path: Path,
    out: Path,
    *,
    name: str,
    size: int,
    mean: Triple,
    std: Triple,
    output: str | None = None,
    tokens: Tokens | None = None,
    version: str = "1",
    text: TextTower | None = None,
) -> ModelInfo:
    """Wrap the ONNX image encoder at `path` into the model file `out`; return its description.

    The encoder takes images of `size` x `size` as one float tensor (n, 3, size, size), RGB,
    pixels x in 0..255 as (x - mean) / std per channel. `output` names the output to use, if there
    are several. Of what it gives, (n, d) is the embedding; of (n, t, d), `tokens` takes the first
    token ("cls") or the mean of all; of (n, C, h, w), the mean over places. Of a `text` tower, a
    file of words is made beside `out`, see `words_file`.

    Raises ModelError, which says what to change, and writes nothing then.
    """
    made = [out] if text is None else [out, words_file(out)]
    sources = [path] if text is None else [path, text.file, text.tokenizer]
    for file, source in product(made, sources):
        if file.exists() and source.exists() and file.samefile(source):
            raise ModelError(f"{file} would take the place of {source}: give out another name")
    info = _describe(name, version, size, mean, std)
    model = _free_names(_read(path), (INPUT, OUTPUT))
    chosen = _choose_output(path, model, output)
    _prune(model.graph, chosen)
    source = _check_input(path, model, size)
    _wrap_input(model, source, size)
    shape, kind = _shape_of(path, model, chosen, size)
    pooled = _wrap_output(path, model, chosen, shape, kind, tokens)
    if any(node.op_type == "DynamicQuantizeLinear" for node in model.graph.node):
        _take_images_singly(model.graph, size, pooled)
    info = _describe(name, version, size, mean, std, dim=pooled)
    model.producer_name = "lookalike"
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".lookalike-") as directory:
        part = Path(directory) / out.name
        if text is not None:
            info = replace(info, words=_adopt_words(text, words_file(part), pooled))
        helper.set_model_props(model, info.to_metadata())
        info = _write(path, model, part)
        if text is not None:
            words_file(part).replace(words_file(out))
        part.replace(out)
    return info


def _describe(
    name: str, version: str, size: int, mean: Triple, std: Triple, dim: int = 1
) -> ModelInfo:
    try:
        info = ModelInfo(name, version, "", size, mean, std, dim)
    except (TypeError, ValueError) as error:
        raise ModelError(str(error)) from error
    if max(info.std) < 1:
        times = [tuple(round(255 * value, 3) for value in part) for part in (mean, std)]
        raise ModelError(
            f"pixels are 0..255, but std is {std}, as if for 0..1: "
            f"give mean {times[0]} and std {times[1]}"
        )
    return info


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, onnx and the file system each have their own
        raise ModelError(f"{path}: not a readable ONNX file ({first_line(error)})") from error
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX file, or one without a graph")
    return model


def _free_names(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model with `names` in use nowhere: if one is, every value gets a prefix."""
    used = set(_read_by(model.graph.node))
    used.update(name for node in model.graph.node for name in node.output)
    used.update(value.name for value in model.graph.input)
    return compose.add_prefix(model, "adopted/") if used & set(names) else model


def _prune(graph: onnx.GraphProto, output: str) -> None:
    """Leave only what `output` needs of outputs, nodes, weights and inputs, and no shapes between.

    Of a model of images and text, say, the text half goes. `onnx.utils.Extractor` does not follow
    values that the branches of an If or the body of a Loop read, and has to be given the inputs.
    """
    needed = {output}
    kept = []
    for node in reversed(graph.node):  # a node comes after those that it reads
        if needed & set(node.output):
            kept.append(node)
            needed.update(_read_by([node]))
    inputs = [value for value in _inputs_of(graph) if value.name in needed]
    weights = [weight for weight in graph.initializer if weight.name in needed]
    outputs = [value for value in graph.output if value.name == output]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
    graph.input.extend(inputs)
    graph.output.extend(outputs)


def _inputs_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """What the caller must give: inputs that are not weights (old files list those too)."""
    weights = {weight.name for weight in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _read_by(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Names that the nodes read, in their branches and loop bodies too."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read_by(inner.node)
                yield from (value.name for value in inner.output)


def _choose_output(path: Path, model: onnx.ModelProto, output: str | None) -> str:
    names: list[str] = [str(value.name) for value in model.graph.output]
    plain = [name.removeprefix("adopted/") for name in names]
    described = ", ".join(
        f"{name} {_dims(value)}" for name, value in zip(plain, model.graph.output, strict=True)
    )
    if output is None and len(names) != 1:
        raise ModelError(f"{path}: name the output to use, one of: {described}")
    if output is not None and output not in plain:
        raise ModelError(f"{path}: no output is called {output!r}; there are: {described}")
    return names[0 if output is None else plain.index(output)]


def _check_input(path: Path, model: onnx.ModelProto, size: int) -> onnx.ValueInfoProto:
    inputs = _inputs_of(model.graph)
    if len(inputs) != 1:
        described = ", ".join(value.name.removeprefix("adopted/") for value in inputs) or "none"
        raise ModelError(
            f"{path}: that output needs {len(inputs)} inputs ({described}), not images alone: "
            "choose another, or export the vision part of the model by itself"
        )
    tensor = inputs[0].type.tensor_type
    dims = [d.dim_value or None for d in tensor.shape.dim]
    if tensor.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        kind = TensorProto.DataType.Name(tensor.elem_type)
        remedy = "in float32 (model.float())" if kind == "DOUBLE" else "without decoding"
        raise ModelError(f"{path}: takes {kind}, not float images: export it {remedy}")
    if len(dims) != 4 or dims[1] not in (3, None):
        remedy = "channels first"
        if len(dims) == 4 and dims[3] != 3:
            remedy = f"with a first step that makes {_dims(inputs[0])} of RGB"
        raise ModelError(
            f"{path}: takes {_dims(inputs[0])}, not (n, 3, height, width): export it {remedy}"
        )
    if any(side not in (size, None) for side in dims[2:]):
        raise ModelError(f"{path}: takes {_dims(inputs[0])}, not size {size}: give its own")
    if dims[0] is not None:
        raise ModelError(f"{path}: takes a batch of {dims[0]} and no other: {_EXPORT_AGAIN}")
    return inputs[0]


def _wrap_input(model: onnx.ModelProto, source: onnx.ValueInfoProto, size: int) -> None:
    kind = source.type.tensor_type.elem_type
    node = helper.make_node("Cast", [INPUT], [source.name], to=kind)
    if kind == TensorProto.FLOAT:
        node = helper.make_node("Identity", [INPUT], [source.name])
    model.graph.node.insert(0, node)
    del model.graph.input[:]
    shape: list[str | int | None] = ["n", 3, size, size]
    model.graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))


def _shape_of(
    path: Path, model: onnx.ModelProto, chosen: str, size: int
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the chosen output for one image, by running it: files may not say."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        image = np.zeros((1, 3, size, size), np.float32)
        (result,) = session.run([chosen], {INPUT: image})
    except Exception as error:  # protobuf over 2 GB, and a dozen classes of onnxruntime
        raise ModelError(f"{path}: does not run ({first_line(error)})") from error
    if not isinstance(result, np.ndarray) or result.dtype.kind != "f":
        raise ModelError(f"{path}: its output {chosen} is not a tensor of floats")
    return result.shape, result.dtype


def _wrap_output(
    path: Path,
    model: onnx.ModelProto,
    chosen: str,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
    tokens: Tokens | None,
) -> int:
    """Add the nodes from the chosen output to the embeddings; return their dimension."""
    nodes, graph = [], model.graph
    last = chosen
    if kind != np.float32:
        nodes.append(helper.make_node("Cast", [last], [f"{OUTPUT}_float"], to=TensorProto.FLOAT))
        last = f"{OUTPUT}_float"
    if len(shape) == 3:
        if tokens not in ("cls", "mean"):
            raise ModelError(
                f"{path}: gives {shape[1]} tokens of {shape[2]} numbers: "
                'say tokens "cls" (the first) or "mean" (of all)'
            )
        if tokens == "cls":
            first = numpy_helper.from_array(np.array(0, np.int64), f"{OUTPUT}_first")
            graph.initializer.append(first)
            nodes.append(helper.make_node("Gather", [last, first.name], [OUTPUT], axis=1))
        else:  # by pooling, which is the same in every opset, unlike ReduceMean
            turned, pooled = f"{OUTPUT}_turned", f"{OUTPUT}_pooled"
            nodes.append(helper.make_node("Transpose", [last], [turned], perm=[0, 2, 1]))
            nodes.append(helper.make_node("GlobalAveragePool", [turned], [pooled]))
            nodes.append(helper.make_node("Flatten", [pooled], [OUTPUT], axis=1))
    elif tokens is not None:
        raise ModelError(f'{path}: gives shape {shape}, no tokens: leave tokens "{tokens}" out')
    elif len(shape) == 4:
        nodes.append(helper.make_node("GlobalAveragePool", [last], [f"{OUTPUT}_pooled"]))
        nodes.append(helper.make_node("Flatten", [f"{OUTPUT}_pooled"], [OUTPUT], axis=1))
    elif len(shape) == 2:
        nodes.append(helper.make_node("Identity", [last], [OUTPUT]))
    else:
        raise ModelError(
            f"{path}: gives shape {shape} for one image, not (n, d), (n, tokens, d) or "
            "(n, channels, height, width)"
        )
    graph.node.extend(nodes)
    dim = shape[1] if len(shape) == 4 else shape[-1]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", dim]))
    return dim


def _take_images_singly(graph: onnx.GraphProto, size: int, dim: int) -> None:
    """Run the graph on each image of a batch by itself.

    One that was quantised dynamically takes the range of its numbers from all of a batch, so that
    an image's embedding depends on those beside it.
    """
    whole = compose.add_prefix_graph(graph, "single/")
    ends = {"one": [1, 3, size, size], "row": [dim]}
    for name, shape in ends.items():
        whole.initializer.append(
            numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape")
        )
    body = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "one_shape"], [whole.input[0].name]),
            *whole.node,
            helper.make_node("Reshape", [whole.output[0].name, "row_shape"], ["row"]),
        ],
        "single",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, size, size])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, [dim])],
        list(whole.initializer),
        sparse_initializer=list(whole.sparse_initializer),
    )
    del graph.node[:], graph.initializer[:], graph.sparse_initializer[:]
    graph.node.append(helper.make_node("Scan", [INPUT], [OUTPUT], body=body, num_scan_inputs=1))


def _write(path: Path, model: onnx.ModelProto, out: Path) -> ModelInfo:
    try:
        out.write_bytes(model.SerializeToString(deterministic=True))
    except ValueError as error:  # protobuf ends at 2 GB
        raise ModelError(f"{path}: too large for one file ({first_line(error)})") from error
    try:
        settings = EncoderSettings(threads=1, runtime="onnxruntime")  # one batch of all
        encoder = Encoder.open(out, settings)
    except ModelError as error:  # it ran: what is wrong is the shape that the runtime infers
        raise ModelError(f"{path}: made for one image at a time: {_EXPORT_AGAIN}") from error
    _try_images(path, encoder)
    return encoder.info


def _try_images(path: Path, encoder: Encoder) -> None:
    images = _sample_images(encoder.info.input_size)
    alone = np.concatenate([encoder.embed(images[:1]), encoder.embed(images[1:])])
    if 1 - float(alone[0] @ alone[1]) < SMALLEST_DIFFERENCE:
        raise ModelError(
            f"{path}: gives two different images the same embedding: choose another output, or "
            "check mean and std"
        )
    try:
        together = encoder.embed(images)
    except ModelError:
        raise
    except Exception as error:  # onnxruntime has a dozen unrelated classes
        raise ModelError(
            f"{path}: cannot take two images at once ({first_line(error)}): {_EXPORT_AGAIN}"
        ) from error
    if together.shape != alone.shape or np.min(np.sum(alone * together, 1)) < 1 - TOLERANCE:
        raise ModelError(
            f"{path}: gives an image another embedding in company than alone: {_EXPORT_AGAIN}, "
            "in evaluation mode"
        )


def _sample_images(size: int) -> NDArray[np.uint8]:
    """A colour ramp and noise, (2, size, size, 3)."""
    ramp = np.linspace(0, 255, size)
    first = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128.0), -1)
    second = np.random.default_rng(0).integers(0, 256, first.shape)
    return np.stack([first, second]).astype(np.uint8)


def _adopt_words(text: TextTower, out: Path, dim: int) -> str:
    """Make the file of words `out` of a text tower for embeddings of `dim`; return its SHA-256.

    Raises ModelError, which says what to change; `out` is then of no use.
    """
    path, model = text.file, compose.add_prefix(_read(text.file), "adopted/")
    chosen = _choose_output(path, model, text.output)
    _prune(model.graph, chosen)
    _wrap_tokens(path, model)
    try:
        tokens = text.tokenizer.read_text(encoding="utf-8")
        tokenizer = read_tokenizer(tokens)
    except (OSError, ValueError) as error:
        raise ModelError(f"{text.tokenizer}: not a tokenizer.json ({error})") from error
    model.graph.node.append(helper.make_node("Cast", [chosen], [OUTPUT], to=TensorProto.FLOAT))
    del model.graph.output[:]
    end = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", dim])
    model.graph.output.append(end)
    model.producer_name = "lookalike"
    out.write_bytes(model.SerializeToString(deterministic=True))
    prompts = _try_words(text, OnnxRuntime(out, 1), tokenizer, dim)
    helper.set_model_props(model, metadata(tokens, text.length, prompts))
    out.write_bytes(model.SerializeToString(deterministic=True))
    sha256 = file_sha256(out)
    WordEncoder.open(out, sha256, dim, 1)
    return sha256


def _wrap_tokens(path: Path, model: onnx.ModelProto) -> None:
    """Give the inputs their names and type."""
    taken = {value.name.removeprefix("adopted/"): value for value in _inputs_of(model.graph)}
    if TOKENS not in taken or taken.keys() - {TOKENS, MASK}:
        raise ModelError(f"{path}: takes {', '.join(taken)}, not {TOKENS} and perhaps {MASK}")
    del model.graph.input[:]
    for name, value in taken.items():
        kind = value.type.tensor_type.elem_type
        model.graph.node.insert(0, helper.make_node("Cast", [name], [value.name], to=kind))
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]))


def _try_words(
    text: TextTower, runtime: OnnxRuntime, tokenizer: Any, dim: int
) -> NDArray[np.float32]:
    """The embeddings of PROMPTS, (p, dim)."""
    encoder = WordEncoder(runtime, tokenizer, text.length, np.empty((0, dim), np.float32))
    try:
        prompts = np.stack([encoder.embed(prompt) for prompt in PROMPTS])
        longest = np.full((1, text.length), tokenizer.encode(PROMPTS[0]).ids[-1], np.int64)
        inputs = {TOKENS: longest, MASK: np.ones_like(longest)}
        runtime.run({end.name: inputs[end.name] for end in runtime.inputs})
    except Exception as error:  # onnxruntime has a dozen unrelated classes
        raise ModelError(
            f"{text.file}: does not embed words, or not {text.length} tokens ("
            f"{first_line(error)}): export it with axes of any length, and give the length that "
            "it takes"
        ) from error
    if prompts.shape[1:] != (dim,):
        raise ModelError(
            f"{text.file}: gives words {prompts.shape[1:]} numbers, the images have {dim}: choose "
            "the projected outputs of both"
        )
    if 1 - np.min(prompts @ prompts[0]) < SMALLEST_DIFFERENCE:
        raise ModelError(f"{text.file}: gives different words the same embedding")
    return prompts


def _dims(value: onnx.ValueInfoProto) -> str:
    dims = [str(d.dim_value or d.dim_param or "?") for d in value.type.tensor_type.shape.dim]
    return f"({', '.join(dims)})"


_THINGS = """
    an astrolabe; the inside of a harpsichord; an electron micrograph of pollen; a circuit diagram
    of an amplifier; a nautical chart of a strait; a loom with half a carpet; a tax form filled in
    by hand; a fuel rod of a reactor; a deep-sea anglerfish; a page of a Gutenberg Bible; a lathe
    turning a brass bolt; an X-ray of a knee; a barograph's paper roll; a glass blower's furnace;
    a sundial on a church wall; a telegraph key; a chess position with two kings; a cross-section
    of a root; a suit of samurai armour; a surgical tray; a stave church; a cuneiform tablet; a
    hovercraft; a printing plate of a banknote; a beekeeper's smoker; a Geiger counter; a tunnel
    boring machine; a puppet theatre; an iron lung; the stops of a pipe organ; a periodic table; a
    diving bell; a rack of server cables; a dentist's mould; a curling stone; a wind tunnel; a
    bowl of borscht; a stamp with a king's head; a coelacanth in a jar; a snow plough on rails; a
    bagpipe; a mosaic floor of a Roman bath; a lunar rover; a typewriter's ribbon; the roof ring
    of a yurt; a bathyscaphe; a fencing mask; a planetarium projector; an oil rig's drill floor; a
    petri dish with mould; a sedan chair; a trilobite; a cable ferry; a ventilation shaft; a wax
    seal; a zoetrope; a slide rule; an abacus; a kiln full of bricks; a theodolite on a tripod; a
    magic lantern; a hydraulic press; a spinning wheel; a cloud chamber
"""
PROMPTS = tuple(f"a photo of {thing}" for thing in " ".join(_THINGS.split()).split("; "))
"""About things that few collections show: what they score in a gallery is what words score that
mean nothing there."""
