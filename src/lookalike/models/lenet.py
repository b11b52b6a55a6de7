"""An improved LeNet-5, the trunk of the paper's row LeNet-L.

LeCun et al. (1998) with the layers' names and widths kept, and what has proved itself since:

    C1   convolution 5 x 5, 3 -> 6 (colour instead of grey), batch norm, ReLU
    S2   max pooling 2 x 2 (instead of trained averages)
    C3   convolution 5 x 5, 6 -> 16 (each map reads all six), batch norm, ReLU
    S4   max pooling 2 x 2
    C5   convolution 5 x 5, 16 -> 120, batch norm, ReLU, dropout 0.5 of whole maps
    F6   the embedder's linear layer, or 84 units with ReLU before the classifier

No convolution pads. A picture of 32 x 32, LeNet's own size, gives 1 x 1 after C5; a larger one
gives a larger map, 41 x 41 at 192.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from lookalike.models.trunk import Trunk
from lookalike.models.weights import load_weights

__all__ = ["LeNet5"]

UNITS = 84


def _layer(inputs: int, outputs: int, *after: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), *after
    )


class LeNet5(Trunk):
    """Trunk: normalised images (n, 3, s, s), s >= 32 -> feature map (n, 120, t, t).

    t = floor((floor((s - 4) / 2) - 4) / 2) - 4. `classes` adds F6 and the classifier. Parameters
    of the trunk: 51,134.
    """

    channels = (6, 16, 120)
    mean = (127.5, 127.5, 127.5)
    std = (127.5, 127.5, 127.5)

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        c1, c3, c5 = self.channels
        self.c1 = _layer(3, c1, nn.MaxPool2d(2))
        self.c3 = _layer(c1, c3, nn.MaxPool2d(2))
        self.c5 = _layer(c3, c5, nn.Dropout2d(0.5))
        self.classifier: nn.Sequential | None = None
        if classes is not None:
            self.classifier = nn.Sequential(
                nn.Linear(c5, UNITS), nn.ReLU(), nn.Linear(UNITS, classes)
            )

    def stage(self, index: int, x: Tensor) -> Tensor:
        result: Tensor = (self.c1, self.c3, self.c5)[index](x)
        return result

    def sides(self, size: int) -> tuple[int, ...]:
        first = (size - 4) // 2
        second = (first - 4) // 2
        return first, second, second - 4

    def classify(self, images: Tensor) -> Tensor:
        """Class scores before softmax, (n, classes). ValueError without a classifier."""
        if self.classifier is None:
            raise ValueError("this trunk has no classifier: make it with classes=10")
        scores: Tensor = self.classifier(self(images).mean((2, 3)))
        return scores

    def load_weights(self, path: Path) -> None:
        """A classifier in the file is left out when this trunk has none."""
        load_weights(self, path, "LeNet-5", classifier="classifier.")
