from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.encoder import DEFAULT_MODEL, Encoder, ModelInfo
from lookalike.errors import ModelError
from lookalike.models.embedder import Embedder
from lookalike.models.export import export_embedder, export_onnx
from lookalike.models.settings import EmbedderSettings


def info(dim: int, input_size: int = 16) -> ModelInfo:
    return ModelInfo("small", "3", "", input_size, (1.5, 2.0, 3.25), (4.0, 5.5, 1e-3), dim)


class Gated(nn.Module):
    """Convolutions, norms, pools and gates, in the roles that attention gates give them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.after = nn.BatchNorm2d(8)
        self.shared = nn.Sequential(nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 8, 1, bias=False))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.fc = nn.Linear(8 * 4 * 4, 5)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.first(F.pad(images, (0, 1, 0, 1))))
        x = self.after(torch.relu(x)) - 0.25
        mean, peak = F.adaptive_avg_pool2d(x, 1), x.amax((2, 3), keepdim=True)
        x = x * torch.sigmoid(self.shared(mean) + self.shared(peak))
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        x = F.max_pool2d(x * torch.sigmoid(self.spatial(both)), 2)
        return torch.tanh(self.fc(self.drop(torch.flatten(F.relu6(x), 1)))) / 2.0


def randomised(module: nn.Module) -> nn.Module:
    """Batch norms away from the identity, so that folding them wrongly shows."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            nn.init.normal_(part.weight, 1, 0.3)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var = torch.rand_like(part.running_mean) + 0.5
    return module


def run(path: Path, images: Tensor) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(["embeddings"], {"images": images.numpy()})
    return np.asarray(result, np.float32)


def test_the_shipped_model_is_one_small_file_of_folded_convolutions() -> None:
    model = onnx.load(DEFAULT_MODEL, load_external_data=False)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert DEFAULT_MODEL.stat().st_size < 25e6
    assert not any(weight.external_data for weight in model.graph.initializer)


def test_a_gated_network_equals_torch_for_any_batch(tmp_path: Path) -> None:
    module = randomised(Gated())
    export_onnx(module, info(dim=5), tmp_path / "gated.onnx")
    for n in (1, 3):
        images = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            expected = module.eval()(images).numpy()
        np.testing.assert_allclose(run(tmp_path / "gated.onnx", images), expected, atol=1e-5)


def test_two_exports_are_the_same_bytes_and_the_checksum_is_theirs(tmp_path: Path) -> None:
    module = randomised(Gated())
    first = export_onnx(module, info(dim=5), tmp_path / "first.onnx")
    second = export_onnx(module, info(dim=5), tmp_path / "second.onnx")
    content = (tmp_path / "first.onnx").read_bytes()
    assert content == (tmp_path / "second.onnx").read_bytes()
    assert b"torch/" not in content and Path(__file__).name.encode() not in content
    assert first == second == replace(info(dim=5), sha256=sha256(content).hexdigest())
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
    """Export at random weights; embeddings and gates equal torch for batches of 1 and 3."""
    embedder = Embedder(settings)
    randomised(embedder).eval()
    for name, part in embedder.named_modules():
        if name.endswith("bn3"):  # else the residuals grow a thousandfold, and float32's error too
            nn.init.normal_(part.get_parameter("weight"), 0.1, 0.03)
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
@pytest.mark.parametrize("attention", ["cbam", "channel", "spatial", "second-order", "none"])
@pytest.mark.parametrize(("pool", "fuse"), [("gap", (0, 1)), ("gem", ()), ("flatten", (0,))])
def test_every_head_on_the_smallest_trunk_equals_torch(
    tmp_path: Path, attention: str, pool: str, fuse: tuple[int, ...]
) -> None:
    settings = EmbedderSettings(
        trunk="lenet5",
        attention=attention,
        attention_stages=(1, -1),
        pool=pool,
        fuse=fuse,
        dim=None if pool == "gem" else 8,
        input_size=40,
        neutral=False,
    )
    tried(settings, tmp_path / "model.onnx", attention != "none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trunk", "attention", "pool", "fuse", "dim"),
    [
        ("resnet50", "cbam", "flatten", (2,), 32),
        ("vgg16", "cbam", "gem", (3,), None),
        ("vgg16-bn", "none", "gap", (), 32),
        ("efficientnet-lite0", "spatial", "flatten", (3,), None),
    ],
)
def test_heads_on_the_other_trunks_equal_torch(
    tmp_path: Path, trunk: str, attention: str, pool: str, fuse: tuple[int, ...], dim: int | None
) -> None:
    settings = EmbedderSettings(
        trunk=trunk,
        attention=attention,
        attention_stages=(0, -1),
        pool=pool,
        fuse=fuse,
        dim=dim,
        input_size=64,
        neutral=False,
    )
    tried(settings, tmp_path / "model.onnx", True)
