"""A small model of images and words that knows three colours, as CLIP's towers are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from PIL import Image

from lookalike.models.adopt import PROMPTS, TextTower, adopt

__all__ = [
    "COLOURS",
    "DIM",
    "LENGTH",
    "STATISTICS",
    "adopt_towers",
    "write_colours",
    "write_towers",
]

DIM, SIZE, LENGTH = 8, 16, 16
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
STATISTICS = (127.0,) * 3, (64.0,) * 3
CONE = 6.0
"""Of the axis that all embeddings of images share, and another that those of words share."""


def _save(
    path: Path,
    nodes: list[NodeProto],
    inputs: dict[str, tuple[int, list[str | int]]],
    output: str,
    weights: dict[str, NDArray[np.float32] | NDArray[np.int64]],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info(k, kind, shape) for k, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def write_towers(folder: Path, *, mask: bool = True) -> tuple[Path, TextTower]:
    """vision_model.onnx (pixel_values -> image_embeds), text_model.onnx (input_ids, attention_mask
    -> text_embeds) and tokenizer.json."""
    axes = np.eye(DIM, dtype=np.float32)
    vision = _save(
        folder / "vision_model.onnx",
        [
            helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["colour"], axis=1),
            helper.make_node("MatMul", ["colour", "projection"], ["projected"]),
            helper.make_node("Add", ["projected", "cone"], ["image_embeds"]),
        ],
        {"pixel_values": (TensorProto.FLOAT, ["n", 3, "h", "w"])},
        "image_embeds",
        {"projection": axes[:3], "cone": CONE * axes[6]},
    )
    others = sorted({word for prompt in PROMPTS for word in prompt.lower().split()})
    vocabulary = ["<unk>", "<s>", "</s>", *COLOURS, *others]
    table = np.zeros((len(vocabulary), DIM), np.float32)
    rng = np.random.default_rng(0)
    table[:, :6] = rng.normal(size=(len(vocabulary), 6)) * 0.3
    table[:3] = 0
    table[3:6] = 4 * (axes[:3] - axes[:3].mean(axis=0))
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])]
    inputs: dict[str, tuple[int, list[str | int]]] = {"input_ids": (TensorProto.INT64, ["n", "t"])}
    rows = "rows"
    if mask:
        inputs["attention_mask"] = (TensorProto.INT64, ["n", "t"])
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["masked"]),
        ]
        rows = "masked"
    nodes += [
        helper.make_node("ReduceMean", [rows], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Add", ["mean", "cone"], ["text_embeds"]),
    ]
    weights = {"table": table, "cone": CONE * axes[7], "last": np.array([2], np.int64)}
    if not mask:
        del weights["last"]
    text = _save(folder / "text_model.onnx", nodes, inputs, "text_embeds", weights)
    return vision, TextTower(text, _tokenizer(folder, vocabulary), "text_embeds", LENGTH)


def _tokenizer(folder: Path, vocabulary: list[str]) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(vocabulary)}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(end, numbers[end]) for end in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    made.enable_truncation(3)  # which lookalike turns off
    path = folder / "tokenizer.json"
    made.save(str(path))
    assert json.loads(path.read_text())["truncation"]["max_length"] == 3
    return path


def adopt_towers(folder: Path) -> Path:
    """The model file of both, in a folder that has none of what it was made of."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source"
    source.mkdir()
    vision, text = write_towers(source)
    mean, std = STATISTICS
    out = folder / "towers.onnx"
    name, output = "towers", "image_embeds"
    adopt(vision, out, name=name, size=SIZE, mean=mean, std=std, output=output, text=text)
    return out


def write_colours(folder: Path, count: int = 12, seed: int = 0) -> None:
    """So many noisy images of each colour, red/00.png and so on."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.clip(
                np.array(colour) + rng.normal(0, 12, 3) + rng.normal(0, 6, (16, 16, 3)), 0, 255
            )
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02}.png")
