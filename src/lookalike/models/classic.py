"""VGG16, the trunk of the paper's row VGG-N, and its twin with batch norm.

Configuration D of Simonyan and Zisserman (2015): 13 convolutions of 3 x 3, a ReLU after each, five
max poolings. The twin has a batch norm (Ioffe and Szegedy 2015) before each ReLU, without which a
network of this depth learns badly from nothing. Parameter names are torchvision's, so that the
ImageNet weights published there load without renaming.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.models.trunk import Trunk
from lookalike.models.weights import load_weights

__all__ = ["IMAGENET", "IMAGENET_BN", "VGG16", "VGG16BN"]

IMAGENET = "https://download.pytorch.org/models/vgg16-397923af.pth"
IMAGENET_BN = "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth"

CONVOLUTIONS = (2, 2, 3, 3, 3)
HIDDEN = 4096
GRID = 7
"""The classifier reads GRID x GRID places, whatever the size of the map."""


class VGG16(Trunk):
    """Trunk: normalised images (n, 3, s, s) -> feature map (n, 512, s/32, s/32), rounded down.

    `classes` adds the three linear layers of the published weights, which end in 1000; an encoder
    leaves them out. All parameters with the classifier: 138,357,544.
    """

    channels = (64, 128, 256, 512, 512)
    mean = (123.675, 116.28, 103.53)
    std = (58.395, 57.12, 57.375)
    batch_norm = False

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self._ends = [0]
        inputs = 3
        for outputs, convolutions in zip(self.channels, CONVOLUTIONS, strict=True):
            for _ in range(convolutions):
                self.features.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                if self.batch_norm:
                    self.features.append(nn.BatchNorm2d(outputs))
                self.features.append(nn.ReLU())
                inputs = outputs
            self.features.append(nn.MaxPool2d(2))
            self._ends.append(len(self.features))
        self.classifier: nn.Sequential | None = None
        if classes is not None:
            self.classifier = nn.Sequential(
                nn.Linear(inputs * GRID * GRID, HIDDEN),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(HIDDEN, HIDDEN),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(HIDDEN, classes),
            )
        for part in self.features:
            if isinstance(part, nn.Conv2d):  # He et al. (2015), for training from nothing
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                assert part.bias is not None
                nn.init.zeros_(part.bias)

    def stage(self, index: int, x: Tensor) -> Tensor:
        for i in range(self._ends[index], self._ends[index + 1]):
            x = self.features[i](x)
        return x

    def sides(self, size: int) -> tuple[int, ...]:
        return tuple(size // stride for stride in (2, 4, 8, 16, 32))

    def classify(self, images: Tensor) -> Tensor:
        """Class scores before softmax, (n, classes). ValueError without a classifier."""
        if self.classifier is None:
            raise ValueError("this trunk has no classifier: make it with classes=1000")
        scores: Tensor = self.classifier(F.adaptive_avg_pool2d(self(images), GRID).flatten(1))
        return scores

    def load_weights(self, path: Path) -> None:
        """A classifier in the file is left out when this trunk has none."""
        load_weights(self, path, type(self).__name__, classifier="classifier.")


class VGG16BN(VGG16):
    """VGG16 with batch norm. All parameters with the classifier: 138,365,992."""

    batch_norm = True
