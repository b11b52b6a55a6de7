"""A tiny model that numpy can check, images for it, and what a gallery made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hostile import encode, photo
from numpy.typing import NDArray
from onnx import TensorProto, helper

from lookalike.encoder import ModelInfo
from lookalike.gallery import Gallery, UpdateReport
from lookalike.images import read_image

SIZE, CELLS = 16, 4
MEAN = 127.0
# Vectors are kept as float16: 11 bits, so each number is off by 2^-12 of its size at most.
HALF = 1e-3


def write_model(
    path: Path, name: str = "pooled", *gates: str, std: float = 64.0, cells: int = CELLS
) -> Path:
    """A model whose embedding is the colour of each of ``cells`` x ``cells`` squares.

    ``gates``: further outputs, "spatial_attention", a sigmoid of each square's mean, and
    "channel_attention", the mean of each channel.
    """
    dim = 3 * cells**2
    info = ModelInfo(name, "1", "", SIZE, (MEAN,) * 3, (std,) * 3, dim)
    side = SIZE // cells
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("AveragePool", ["images"], ["pooled"], kernel_shape=[side] * 2, strides=[side] * 2),
        node("Flatten", ["pooled"], ["embeddings"], axis=1),
    ]
    shapes: dict[str, tuple[str | int, ...]] = {"embeddings": ("n", dim)}
    if "spatial_attention" in gates:
        nodes.append(node("ReduceMean", ["pooled"], ["grey"], axes=[1], keepdims=0))
        nodes.append(node("Sigmoid", ["grey"], ["spatial_attention"]))
        shapes["spatial_attention"] = ("n", cells, cells)
    if "channel_attention" in gates:
        nodes.append(node("ReduceMean", ["pooled"], ["channel_attention"], axes=[2, 3], keepdims=0))
        shapes["channel_attention"] = ("n", 3)
    images = value("images", TensorProto.FLOAT, ("n", 3, SIZE, SIZE))
    outputs = [value(output, TensorProto.FLOAT, shape) for output, shape in shapes.items()]
    graph = helper.make_graph(nodes, name, [images], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, info.to_metadata())
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def embedding(path: Path | str, cells: int = CELLS) -> NDArray[np.float64]:
    """What the model makes of a file, by numpy alone."""
    pixels = read_image(path, SIZE).pixels.astype(np.float64) - MEAN
    side = SIZE // cells
    pooled = pixels.reshape(cells, side, cells, side, 3).mean(axis=(1, 3))
    vector: NDArray[np.float64] = pooled.transpose(2, 0, 1).ravel()
    return vector / np.linalg.norm(vector)


def write_photo(path: Path, seed: int, *, width: int = 64, height: int = 48) -> Path:
    """A lossless image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(photo(seed, height, width), "PNG", compress_level=1))
    return path


def write_photos(folder: Path, count: int, first_seed: int = 0) -> list[Path]:
    return [
        write_photo(folder / f"{'abc'[n % 3]}" / f"{n:03}.png", first_seed + n)
        for n in range(count)
    ]


def images_of(folder: Path) -> set[str]:
    """Relative paths of the PNG files below a folder, but hidden ones."""
    found = (path.relative_to(folder) for path in folder.rglob("*.png"))
    return {path.as_posix() for path in found if not any(p.startswith(".") for p in path.parts)}


def updated(folder: Path, **options: Any) -> Gallery:
    """The gallery of a folder, brought up to date; ``options``: of `Gallery.open`."""
    opened = Gallery.open(folder, **options)
    opened.update()
    return opened


def counts(report: UpdateReport) -> dict[str, int]:
    """The counts that are not zero."""
    names = ("added", "changed", "moved", "dropped", "reused", "skipped")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def vectors_of(gallery: Gallery) -> dict[str, NDArray[np.float32]]:
    """Path -> stored embedding of every indexed image, as last committed."""
    with gallery._files.reading() as store:
        rows = list(store.indexed())
        index = gallery._files.open_index(store)
    vectors = index.vectors([row.id for row in rows])
    return {os.fsdecode(row.path): vector for row, vector in zip(rows, vectors, strict=True)}


def assert_holds(gallery: Gallery, folder: Path, cells: int = CELLS) -> None:
    """The gallery has exactly the images of the folder, each with its own embedding."""
    stored = vectors_of(gallery)
    assert set(stored) == images_of(folder)
    for name, vector in stored.items():
        np.testing.assert_allclose(vector, embedding(folder / name, cells), atol=HALF, err_msg=name)


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every entry below a folder, hidden ones too, with mode, size and time."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[os.fspath(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found
