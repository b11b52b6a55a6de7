from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.encoder import DEFAULT_MODEL, Encoder, ModelInfo
from lookalike.errors import ModelError
from lookalike.models.embedder import Embedder
from lookalike.models.export import Storage, cost, export_embedder, export_onnx, store
from lookalike.models.settings import EmbedderSettings

LENET = {"trunk": "lenet5", "input_size": 40}
SMALL = EmbedderSettings(**LENET, dim=8, neutral=False)  # type: ignore[arg-type]


def info(dim: int, input_size: int = 16) -> ModelInfo:
    return ModelInfo("small", "3", "", input_size, (1.5, 2.0, 3.25), (4.0, 5.5, 1e-3), dim)


def test_the_shipped_model_is_one_small_file_of_folded_convolutions() -> None:
    model = onnx.load(DEFAULT_MODEL, load_external_data=False)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert DEFAULT_MODEL.stat().st_size < 25e6
    assert not any(weight.external_data for weight in model.graph.initializer)


def test_two_exports_are_the_same_bytes_and_the_checksum_is_theirs(tmp_path: Path) -> None:
    embedder = Embedder(SMALL).eval()
    first, second = (
        export_embedder(embedder, tmp_path / f"{name}.onnx", name="small", version="3")
        for name in ("first", "second")
    )
    content = (tmp_path / "first.onnx").read_bytes()
    assert content == (tmp_path / "second.onnx").read_bytes()
    assert b"torch/" not in content and Path(__file__).name.encode() not in content
    assert first == second and first.sha256 == sha256(content).hexdigest()
    assert Encoder.open(tmp_path / "first.onnx").info == first


class Reflected(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.erf(F.pad(images, (1, 1, 1, 1), mode="reflect")).mean((2, 3))


class Unknown(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = torch.linalg.svdvals(images)
        return values[..., 0]


class Fixed(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(2, 3, -1).mean(2)


@pytest.mark.parametrize(
    ("module", "dim", "message"),
    [
        (Unknown(), 3, r"torch cannot export this module to ONNX: .*_linalg_svd"),
        (Fixed(), 3, "takes only two images at once"),
        (Reflected(), 4, r"shape \(2, 3\) for two images, not \(2, 4\)"),
    ],
)
def test_what_cannot_be_exported_is_named_and_leaves_no_file(
    tmp_path: Path,
    module: nn.Module,
    dim: int,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ModelError, match=message):
        export_onnx(module, info(dim), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def tried(settings: EmbedderSettings, path: Path, attention: bool) -> None:
    """Export at random weights; embeddings and gates equal torch for batches of 1 and 3.

    Batch norms are away from the identity, so that folding them wrongly shows.
    """
    torch.manual_seed(0)
    embedder = Embedder(settings).eval()
    for name, part in embedder.named_modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            # else the residuals grow a thousandfold, and float32's error too
            small = 0.1 if name.endswith("bn3") else 1
            nn.init.normal_(part.weight, small, 0.3 * small)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var = torch.rand_like(part.running_mean) + 0.5
    info = export_embedder(embedder, path, name="tried", attention=attention)
    assert info.dim == embedder.dim and info.input_size == settings.input_size
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = settings.input_size
    for n in (1, 3):
        images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            embeddings, gates = embedder.explained(images)
        names = ["embeddings", *(f"{key}_attention" for key in gates if attention)]
        assert [output.name for output in session.get_outputs()] == names
        found = session.run(names, {"images": images.numpy()})
        for actual, expected in zip(found, [embeddings, *gates.values()], strict=False):
            assert actual.shape == tuple(expected.shape)
            assert np.abs(actual - expected.numpy()).max() < 1e-4  # issue 4; unit rows and gates


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "pool", "fuse", "dim"),
    [
        ({**LENET, "attention": "cbam"}, "gap", (0, 1), 8),
        ({**LENET, "attention": "channel"}, "gem", (), None),
        ({**LENET, "attention": "spatial"}, "flatten", (0,), 8),
        ({**LENET, "attention": "second-order"}, "gem", (0,), 8),
        ({**LENET, "attention": "none"}, "flatten", (0, 1), None),
        ({"trunk": "resnet50", "attention": "cbam"}, "flatten", (2,), 32),
        ({"trunk": "vgg16", "attention": "cbam"}, "gem", (3,), None),
        ({"trunk": "vgg16-bn", "attention": "none"}, "gap", (), 32),
        ({"trunk": "efficientnet-lite0", "attention": "spatial"}, "flatten", (3,), None),
    ],
)
def test_every_trunk_and_head_equals_torch(
    tmp_path: Path, head: dict[str, Any], pool: str, fuse: tuple[int, ...], dim: int | None
) -> None:
    settings = EmbedderSettings(
        **{"attention_stages": (0, -1), "input_size": 64, **head},
        pool=pool,
        fuse=fuse,
        dim=dim,
        neutral=False,
    )
    tried(settings, tmp_path / "model.onnx", attention=True)


# ---- smaller weights -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(replace(SMALL, dim=64)).eval()


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
