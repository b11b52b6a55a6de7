"""VGG16 and LeNet-5, the trunks of the paper's rows VGG-N and LeNet-L.

Configuration D of Simonyan and Zisserman (2015): 13 convolutions of 3 x 3, a ReLU after each, five
max poolings. The twin has a batch norm (Ioffe and Szegedy 2015) before each ReLU, without which a
network of this depth learns badly from nothing. Parameter names are torchvision's, so that the
ImageNet weights published there load without renaming.

LeNet-5 is improved: LeCun et al. (1998) with the layers' names and widths kept, and what has
proved itself since:

    C1   convolution 5 x 5, 3 -> 6 (colour instead of grey), batch norm, ReLU
    S2   max pooling 2 x 2 (instead of trained averages)
    C3   convolution 5 x 5, 6 -> 16 (each map reads all six), batch norm, ReLU
    S4   max pooling 2 x 2
    C5   convolution 5 x 5, 16 -> 120, batch norm, ReLU, dropout 0.5 of whole maps
    F6   the embedder's linear layer

No convolution pads. An image of 32 x 32, LeNet's own size, gives 1 x 1 after C5; a larger one
gives a larger map, 41 x 41 at 192.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from lookalike.models.trunk import Trunk
from lookalike.models.weights import load_weights

IMAGENET = "https://download.pytorch.org/models/vgg16-397923af.pth"
IMAGENET_BN = "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth"

CONVOLUTIONS = (2, 2, 3, 3, 3)


class VGG16(Trunk):
    """Trunk: normalised images (n, 3, s, s) -> feature map (n, 512, s/32, s/32), rounded down.

    Parameters: 14,714,688.
    """

    channels = (64, 128, 256, 512, 512)
    mean = (123.675, 116.28, 103.53)
    std = (58.395, 57.12, 57.375)
    batch_norm = False

    def __init__(self) -> None:
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

    def load_weights(self, path: Path) -> None:
        """A classifier in the file is left out."""
        load_weights(self, path, type(self).__name__, classifier="classifier.")


class VGG16BN(VGG16):
    """VGG16 with batch norm. Parameters: 14,723,136."""

    batch_norm = True


def _layer(inputs: int, outputs: int, *after: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), *after
    )


class LeNet5(Trunk):
    """Trunk: normalised images (n, 3, s, s), s >= 32 -> feature map (n, 120, t, t).

    t = floor((floor((s - 4) / 2) - 4) / 2) - 4. Parameters: 51,134.
    """

    channels = (6, 16, 120)
    mean = (127.5, 127.5, 127.5)
    std = (127.5, 127.5, 127.5)

    def __init__(self) -> None:
        super().__init__()
        c1, c3, c5 = self.channels
        self.c1 = _layer(3, c1, nn.MaxPool2d(2))
        self.c3 = _layer(c1, c3, nn.MaxPool2d(2))
        self.c5 = _layer(c3, c5, nn.Dropout2d(0.5))

    def stage(self, index: int, x: Tensor) -> Tensor:
        result: Tensor = (self.c1, self.c3, self.c5)[index](x)
        return result

    def sides(self, size: int) -> tuple[int, ...]:
        first = (size - 4) // 2
        second = (first - 4) // 2
        return first, second, second - 4

    def load_weights(self, path: Path) -> None:
        """A classifier in the file is left out."""
        load_weights(self, path, "LeNet-5", classifier="classifier.")
