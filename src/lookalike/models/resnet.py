"""ResNet50, the paper's trunk.

The residual network of He et al. (2016) in its later form, "v1.5": where a block halves the
resolution, its 3 x 3 convolution takes the stride, not the 1 x 1 before it. Parameter names are
torchvision's, so that the ImageNet weights published there load without renaming.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.models.trunk import Trunk
from lookalike.models.weights import load_weights

__all__ = ["IMAGENET", "Bottleneck", "ResNet50"]

IMAGENET = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
"""Of the original recipe (76.1 % top-1): cross entropy without label smoothing or mixing."""

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4
STEM = 64


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """1 x 1 down to `width`, 3 x 3 with the stride, 1 x 1 up to 4 `width`; plus the input.

    The input passes a strided 1 x 1 convolution (`downsample`) where the shape changes.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = _convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(Trunk):
    """Trunk: normalised images (n, 3, s, s) -> feature map (n, 2048, s/32, s/32), rounded up.

    `classes` adds the linear classifier of the published weights, which has 1000; an encoder
    leaves it out. All parameters with the classifier: 25,557,032.
    """

    channels = (256, 512, 1024, 2048)
    mean = (123.675, 116.28, 103.53)
    std = (58.395, 57.12, 57.375)

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        self.conv1 = _convolution(3, STEM, 7, 2)
        self.bn1 = nn.BatchNorm2d(STEM)
        inputs = STEM
        for index, (outputs, blocks) in enumerate(zip(self.channels, BLOCKS, strict=True)):
            layer = nn.Sequential()
            for i in range(blocks):
                stride = 2 if index > 0 and i == 0 else 1
                layer.append(Bottleneck(inputs, outputs // EXPANSION, stride))
                inputs = outputs
            self.add_module(f"layer{index + 1}", layer)
        self.fc = None if classes is None else nn.Linear(inputs, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # He et al. (2015), for training from nothing
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def stage(self, index: int, x: Tensor) -> Tensor:
        if index == 0:
            x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        result: Tensor = self.get_submodule(f"layer{index + 1}")(x)
        return result

    def sides(self, size: int) -> tuple[int, ...]:
        return tuple(-(-size // stride) for stride in (4, 8, 16, 32))

    def classify(self, images: Tensor) -> Tensor:
        """Class scores before softmax, (n, classes). ValueError without a classifier."""
        if self.fc is None:
            raise ValueError("this trunk has no classifier: make it with classes=1000")
        scores: Tensor = self.fc(self(images).mean((2, 3)))
        return scores

    def load_weights(self, path: Path) -> None:
        """A classifier in the file is left out when this trunk has none."""
        load_weights(self, path, "ResNet50", classifier="fc.")
