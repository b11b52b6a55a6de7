from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lookalike.encoder import Encoder
from lookalike.models.embedder import Embedder
from lookalike.models.export import Storage, cost, export_embedder, store
from lookalike.models.settings import EmbedderSettings


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    settings = EmbedderSettings(trunk="lenet5", input_size=40, dim=64, neutral=False)
    return Embedder(settings).eval()


@pytest.fixture(scope="module")
def plain(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "plain.onnx"
    export_embedder(embedder, path, name="small")
    return path


def images(n: int) -> NDArray[np.uint8]:
    """Coloured ramps and squares with some noise."""
    generator = np.random.default_rng(1)
    ramps = generator.uniform(-3, 3, (n, 1, 1, 3)) * np.arange(40)[None, :, None, None]
    ramps = ramps + generator.uniform(-3, 3, (n, 1, 1, 3)) * np.arange(40)[None, None, :, None]
    noise = generator.normal(128, 20, (n, 40, 40, 3))
    return np.clip(ramps + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("storage", "share", "worst"), [("float16", 0.55, 1 - 1e-6), ("int8", 0.33, 1 - 1e-3)]
)
def test_a_file_that_stores_less_costs_little(
    embedder: Embedder, plain: Path, tmp_path: Path, storage: Storage, share: float, worst: float
) -> None:
    info = export_embedder(embedder, tmp_path / "less.onnx", name="small", storage=storage)
    assert (tmp_path / "less.onnx").stat().st_size < share * plain.stat().st_size
    found = cost(plain, tmp_path / "less.onnx", images(20))
    assert worst < found.worst <= found.mean < 1 + 1e-6
    assert Encoder.open(tmp_path / "less.onnx").info == info


def test_stored_weights_are_off_by_half_a_step_at_most(plain: Path) -> None:
    original = {w.name: numpy_helper.to_array(w) for w in onnx.load(plain).graph.initializer}
    model = onnx.load(plain)
    store(model, "int8")
    stored = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    large = [n for n, value in original.items() if value.size >= 256 and value.ndim > 1]
    assert "embedder.fc.weight" in large and all(f"{name}_int8" in stored for name in large)
    for name in large:
        scale = stored[f"{name}_scale"]
        assert scale.size == len(original[name])
        error = np.abs(stored[f"{name}_int8"] * scale - original[name])
        assert np.all(error <= scale / 2 * (1 + 1e-5))
    small = original.keys() - set(large)
    assert all(np.array_equal(stored[name], original[name]) for name in small)


def test_a_weight_beyond_float16_and_a_row_of_zeros_survive() -> None:
    weight = np.zeros((20, 20), np.float32)
    weight[1, 2] = 70_000
    storages: tuple[Storage, ...] = ("float16", "int8")
    for storage in storages:
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "large",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 20])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 20])],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        store(model, storage)
        (found,) = ReferenceEvaluator(model).run(None, {"x": np.eye(20, dtype=np.float32)})
        np.testing.assert_allclose(np.asarray(found, np.float32), weight, rtol=1e-6)
