from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.encoder import DEFAULT_MODEL, Encoder, ModelInfo
from lookalike.errors import ModelError
from lookalike.models.embedder import Embedder
from lookalike.models.export import export_embedder, export_onnx
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
