from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lookalike.encoder import Encoder, ModelInfo
from lookalike.errors import ModelError
from lookalike.models.adopt import adopt

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
GENERATOR = np.random.default_rng(0)
KERNEL = GENERATOR.normal(size=(8, 3, 4, 4)).astype(np.float32)
HEAD = GENERATOR.normal(size=(8, 5)).astype(np.float32)
WEIGHTS: dict[str, NDArray[Any]] = {
    "kernel": KERNEL,
    "head": HEAD,
    "tokens_shape": np.array([-1, 8, 16], np.int64),
    "zero": np.array(0, np.int64),
    "folded_shape": np.array([1, 16, 8], np.int64),
}
PATCHES = helper.make_node("Conv", ["x", "kernel"], ["map"], strides=[4, 4])
"""(n, 3, 16, 16) -> (n, 8, 4, 4), as the patches of a vision transformer."""


def write(
    path: Path,
    nodes: list[NodeProto],
    outputs: dict[str, list[Any]],
    *,
    inputs: dict[str, list[Any]] | None = None,
    kind: int = TensorProto.FLOAT,
    output_kind: int | None = None,
    weights: dict[str, NDArray[Any]] = WEIGHTS,
    opset: int = 17,
) -> Path:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "foreign",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, shape in (inputs or {"x": ["batch", 3, 16, 16]}).items()
        ],
        [
            helper.make_tensor_value_info(name, output_kind or kind, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(w, name) for name, w in weights.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def transformer(path: Path, opset: int = 17) -> Path:
    """Tokens (n, 16, 8), patches that look at each other; and a head (n, 5) on the first."""
    nodes = [
        PATCHES,
        helper.make_node("Reshape", ["map", "tokens_shape"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["all"], perm=[0, 2, 1]),
        helper.make_node("Transpose", ["all"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["all", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "all"], ["last_hidden_state"]),
        helper.make_node("Gather", ["last_hidden_state", "zero"], ["first"], axis=1),
        helper.make_node("MatMul", ["first", "head"], ["embeddings"]),
    ]
    outputs: dict[str, list[Any]] = {
        "last_hidden_state": ["batch", "t", 8],
        "embeddings": ["batch", 5],
    }
    return write(path, nodes, outputs, opset=opset)


def tokens_of(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What `transformer` computes, in NumPy: (n, 16, 8)."""
    x = ((pixels - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    blocks = x.reshape(len(x), 3, 4, 4, 4, 4)
    tokens = np.einsum("ncyixj,kcij->nyxk", blocks, KERNEL.astype(float)).reshape(len(x), 16, 8)
    scores = tokens @ tokens.transpose(0, 2, 1)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True) @ tokens)


def images(n: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, 16, 16, 3)).astype(np.uint8)


def adopted(path: Path, **options: Any) -> ModelInfo:
    return adopt(
        path,
        path.with_name("adopted.onnx"),
        **{"name": "mine", "size": 16, "mean": MEAN, "std": STD, **options},
    )


def check(
    path: Path, expected: NDArray[np.float64], *, tolerance: float = 1e-5, **options: Any
) -> None:
    info = adopted(path, **options)
    encoder = Encoder.open(path.with_name("adopted.onnx"))
    assert encoder.info == info
    assert (info.name, info.input_size, info.mean, info.std) == ("mine", 16, MEAN, STD)
    assert info.dim == expected.shape[1]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.embed(images()), expected, atol=tolerance)
    assert sorted(p.name for p in path.parent.iterdir()) == ["adopted.onnx", path.name]


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("form", ["cls", "mean", "head"])
def test_a_transformer_gives_the_embeddings_that_it_gave(
    tmp_path: Path, opset: int, form: str
) -> None:
    path = transformer(tmp_path / "vit.onnx", opset)
    tokens = tokens_of(images())
    if form == "head":
        check(path, tokens[:, 0] @ HEAD, output="embeddings")
    else:
        expected = tokens[:, 0] if form == "cls" else tokens.mean(1)
        check(path, expected, output="last_hidden_state", tokens=form)


@pytest.mark.parametrize("half", [False, True])
def test_a_feature_map_is_averaged_over_places_and_half_precision_is_cast_at_both_ends(
    tmp_path: Path, half: bool
) -> None:
    path = write(
        tmp_path / "cnn.onnx",
        [PATCHES],
        {"map": ["b", 8, 4, 4]},
        kind=TensorProto.FLOAT16 if half else TensorProto.FLOAT,
        weights={"kernel": KERNEL.astype(np.float16 if half else np.float32)},
    )
    x = ((images() - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    blocks = x.reshape(3, 3, 4, 4, 4, 4)
    expected = np.einsum("ncyixj,kcij->nk", blocks, KERNEL.astype(float)) / 16
    check(path, expected, tolerance=5e-3 if half else 1e-5)  # float16 has 11 bits


def test_the_text_half_of_a_model_is_left_out(tmp_path: Path) -> None:
    nodes = [
        PATCHES,
        helper.make_node("GlobalAveragePool", ["map"], ["image_embeds"]),
        helper.make_node("MatMul", ["text", "head"], ["text_embeds"]),
    ]
    path = write(
        tmp_path / "clip.onnx",
        nodes,
        {"text_embeds": ["b", 5], "image_embeds": ["b", 8, 1, 1]},
        inputs={"text": ["b", 8], "x": ["b", 3, 16, 16]},
    )
    assert adopted(path, output="image_embeds").dim == 8
    model = onnx.load(tmp_path / "adopted.onnx")
    assert "head" not in {weight.name for weight in model.graph.initializer}
    with pytest.raises(ModelError, match=r"takes \(b, 8\), not \(n, 3, height, width\)"):
        adopted(path, output="text_embeds")


@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_a_model_with_weights_in_other_files_is_refused_and_adopting_it_packs_them(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = transformer(tmp_path / "foreign.onnx")
    own = adopted(path, output="embeddings")
    model = onnx.load(tmp_path / "adopted.onnx")
    if where == "attribute":  # a constant in a node instead of a weight of the graph
        (head,) = (weight for weight in model.graph.initializer if "head" in weight.name)
        constant = helper.make_node("Constant", [], [head.name], value=head)
        model.graph.node.insert(0, constant)
        model.graph.initializer.remove(head)
    split = tmp_path / "split" / "model.onnx"
    split.parent.mkdir()
    onnx.save_model(
        model,
        split,
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
        convert_attribute=where == "attribute",
    )
    monkeypatch.chdir(split.parent)  # where ONNX Runtime would find them
    with pytest.raises(ModelError, match=f"other files; .*lookalike model adopt {split} --out"):
        Encoder.open(split)
    packed = adopt(
        split, tmp_path / "packed.onnx", name="packed", size=16, mean=own.mean, std=own.std
    )
    assert packed.dim == own.dim
    (split.parent / "weights").unlink()
    expected = Encoder.open(tmp_path / "adopted.onnx").embed(images())
    np.testing.assert_allclose(Encoder.open(tmp_path / "packed.onnx").embed(images()), expected)
    with pytest.raises(ModelError, match="not a readable ONNX file"):  # without its weights
        adopted(split)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"one of: last_hidden_state \(batch, t, 8\), embeddings \(batch, 5\)"),
        ({"output": "pooler"}, "no output is called 'pooler'; there are: last_hidden_state"),
        ({"output": "last_hidden_state"}, 'gives 16 tokens of 8 numbers: say tokens "cls"'),
        ({"output": "embeddings", "tokens": "cls"}, 'no tokens: leave tokens "cls" out'),
        ({"output": "embeddings", "size": 32}, r"takes \(batch, 3, 16, 16\), not size 32"),
        ({"output": "embeddings", "std": (0.229, 0.224, 0.225), "mean": (0.485, 0.456, 0.406)},
         r"give mean \(123.675, 116.28, 103.53\) and std \(58.395, 57.12, 57.375\)"),
        ({"output": "embeddings", "std": (0.0, 1.0, 1.0)}, "std must be positive"),
        ({"output": "embeddings", "name": ""}, "name must be some text"),
    ],
)  # fmt: skip
def test_what_was_asked_for_must_fit_the_model(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = transformer(tmp_path / "vit.onnx")
    with pytest.raises(ModelError, match=message):
        adopted(path, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["vit.onnx"]


def node(operation: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operation, inputs, [output], **attributes)


POOL = node("GlobalAveragePool", ["map"], "y")
NAN = [PATCHES, POOL, node("Sub", ["y", "y"], "o"), node("Div", ["o", "o"], "n")]
SAME = [PATCHES, POOL, node("Sub", ["y", "y"], "o"), node("Exp", ["o"], "n")]
ACROSS = [PATCHES, POOL, node("ReduceMean", ["y"], "m", axes=[0]), node("Add", ["y", "m"], "n")]
FOLDED = [PATCHES, node("Reshape", ["map", "folded_shape"], "n")]
HIDDEN = [
    PATCHES,
    node("Shape", ["x"], "sides"),
    node("Gather", ["sides", "zero"], "count"),
    node("Div", ["count", "count"], "one"),
    node("Range", ["zero", "one", "one"], "first"),
    node("Gather", ["map", "first"], "first_map"),
    node("Concat", ["map", "first_map"], "n", axis=1),
]
FOUR = [3, 16, 16]


@pytest.mark.parametrize(
    ("nodes", "output", "inputs", "message"),
    [
        (NAN, ["b", 8, 1, 1], ["b", *FOUR], "zero or not finite"),
        (SAME, ["b", 8, 1, 1], ["b", *FOUR], "two different images the same embedding"),
        (ACROSS, ["b", 8, 1, 1], ["b", *FOUR], "another embedding in company than alone"),
        (FOLDED, [1, 16, 8], ["b", *FOUR], "made for one image at a time: export it again"),
        (FOLDED, [1, 16, 8], [1, *FOUR], "takes a batch of 1 and no other: export it again"),
        (HIDDEN, ["b", 16, 4, 4], ["b", *FOUR], "cannot take two images .*: export it again"),
        ([PATCHES], ["b", 8, 4, 4], [4, *FOUR], "takes a batch of 4 and no other: export it"),
        ([PATCHES], ["b", 8, 4, 4], ["b", 16, 16, 3], "export it channels first"),
        ([PATCHES], ["b", 8, 4, 4], ["b", 1, 16, 16],
         r"takes \(b, 1, 16, 16\), .* with a first step that makes \(b, 1, 16, 16\) of RGB"),
        ([PATCHES], ["b", 8, 4, 4], ["b", 3, 16, 8], r"takes \(b, 3, 16, 8\), not size 16"),
        ([node("Surprise", ["x"], "n")], ["b", 8], ["b", *FOUR], "does not run"),
        ([node("ReduceMean", ["x"], "n", axes=[1, 2, 3], keepdims=0)], ["b"], ["b", *FOUR],
         r"gives shape \(1,\) for one image"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_an_image_encoder_is_refused(
    tmp_path: Path, nodes: list[NodeProto], output: list[Any], inputs: list[Any], message: str
) -> None:
    name = nodes[-1].output[0]
    path = write(tmp_path / "bad.onnx", nodes, {name: output}, inputs={"x": inputs})
    options = {"tokens": "mean"} if len(output) == 3 else {}
    with pytest.raises(ModelError, match=message):
        adopted(path, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.onnx"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (TensorProto.UINT8, "takes UINT8, not float images: export it without decoding"),
        (TensorProto.DOUBLE, r"takes DOUBLE, .*: export it in float32 \(model.float\(\)\)"),
    ],
)
def test_pixels_of_another_type_are_refused(tmp_path: Path, kind: int, message: str) -> None:
    nodes = [node("Identity", ["x"], "y")]
    path = write(tmp_path / "int.onnx", nodes, {"y": ["b", 3, 16, 16]}, kind=kind)
    with pytest.raises(ModelError, match=message):
        adopted(path)


@pytest.mark.parametrize("link", [False, True])
def test_the_model_that_is_adopted_is_not_overwritten(tmp_path: Path, link: bool) -> None:
    path = out = transformer(tmp_path / "vit.onnx")
    content = path.read_bytes()
    if link:
        out = tmp_path / "link.onnx"
        out.symlink_to(path)
    with pytest.raises(ModelError, match=f"{out.name} would take the place of .*vit.onnx"):
        adopt(path, out, name="mine", size=16, mean=MEAN, std=STD, output="embeddings")
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_what_is_not_an_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"not a readable ONNX file|not an ONNX file"):
        adopted(tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        adopted(tmp_path / "none.onnx")


def test_a_dynamically_quantised_model_gives_an_image_the_same_embedding_in_any_company(
    tmp_path: Path,
) -> None:
    nodes = [
        PATCHES,
        helper.make_node("DynamicQuantizeLinear", ["map"], ["q", "scale", "zero_point"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["rounded"]),
    ]
    path = write(tmp_path / "quantised.onnx", nodes, {"rounded": ["b", 8, 4, 4]})
    assert adopted(path).dim == 8
    encoder = Encoder.open(tmp_path / "adopted.onnx")
    dull = np.clip(images(2).astype(int) // 16 + 110, 0, 255).astype(np.uint8)
    all_of_them = np.concatenate([dull, images(2)])  # whose range is sixteen times as large
    alone = np.concatenate([encoder.embed(image[np.newaxis]) for image in all_of_them])
    np.testing.assert_array_equal(encoder.embed(all_of_them), alone)
