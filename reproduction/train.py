"""Train: each network once for a recipe and a training set; what is on disk is not repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookalike.atomic import file_sha256
from lookalike.encoder import Encoder, EncoderSettings
from lookalike.models.data import LabelledImages, SquareImages
from lookalike.models.embedder import Embedder, load_embedder, save_embedder
from lookalike.models.export import export_embedder
from lookalike.models.inputs import (
    CHUNK,
    Batch,
    Frozen,
    Inputs,
    TrainData,
    frozen_stages,
)
from lookalike.models.run import Run, make_optimizer
from lookalike.models.settings import NO_AUGMENTATION
from lookalike.models.train import train
from lookalike.models.trunks import make_trunk
from lookalike.runtimes import Scaling
from reproduction.collection import Collection, Floats, Pixels, Positions, Sample, digest, squeeze
from reproduction.confs import SHARED_TRUNK, Recipe
from reproduction.hashing import HASHINGS
from reproduction.maps import AUGMENTATION, VIEWS, SharedMaps

STAGES = (3, 4)
"""Of SHARED_TRUNK, whose maps are shared: what its last stage reads, and what it returns."""


class Networks:
    """Trains on demand; everything that it writes is in `directory`.

    A recipe that freezes stages of SHARED_TRUNK learns from maps which all trainings share; any
    other one is trained from the files.
    """

    def __init__(self, directory: Path, report: Callable[[str], None] = lambda _: None) -> None:
        self.directory, self.report = directory, report
        directory.mkdir(parents=True, exist_ok=True)
        self._maps: dict[tuple[str, int, str], SharedMaps] = {}
        self._networks: dict[Path, Network] = {}

    def network(self, recipe: Recipe, training: Sample) -> Network:
        """The recipe's network, trained on the sample or read from its file."""
        path = self.path(recipe, training)
        if path not in self._networks:
            if not path.exists():
                self.report(f"training {path.stem} on {len(training)} images")
                for old in (path.with_suffix(".onnx"), *self.directory.glob(f"{path.stem}.views*")):
                    old.unlink(missing_ok=True)  # left behind by a network that was deleted
                self._train(recipe, training, path)
            self._networks[path] = Network(self, recipe, load_embedder(path), path)
        return self._networks[path]

    def path(self, recipe: Recipe, training: Sample) -> Path:
        """SET-NETWORK-seedN-KEY.pt; the key stands for all that the training depends on."""
        made = recipe.but(weights=weights_of(recipe)).as_dict()
        key = digest([made, training.collection.digest], 8, training.rows)
        name = f"{training.collection.name}-{recipe.name}-seed{recipe.training.seed}"
        return self.directory / f"{name}-{key}.pt"

    def shared(self, recipe: Recipe, collection: Collection) -> SharedMaps | None:
        """The maps that the recipe learns from; None if it learns from images."""
        training = recipe.training
        if training.freeze is None or recipe.embedder.trunk != SHARED_TRUNK:
            return None
        if training.augmentation not in (AUGMENTATION, NO_AUGMENTATION):
            return None
        key = collection.digest, recipe.embedder.input_size, weights_of(recipe)
        if key not in self._maps:
            trunk = make_trunk(SHARED_TRUNK, training.weights)
            self._maps[key] = SharedMaps(
                collection, trunk, STAGES, *key[1:], self.directory, self.report
            )
        return self._maps[key]

    def _train(self, recipe: Recipe, training: Sample, path: Path) -> None:
        maps = self.shared(recipe, training.collection)
        if maps is not None:
            save_embedder(_train_on_maps(recipe, training, maps), path)
        elif recipe.hashing:
            raise ValueError(f"{recipe.hashing} can only be learnt from shared maps")
        else:
            chosen = training.collection.images.take(training.rows).only(training.labels)
            train(chosen, recipe.embedder, recipe.training, path)


class Network:
    """A trained embedder, and the same exported, which queries go through."""

    def __init__(self, networks: Networks, recipe: Recipe, embedder: Embedder, path: Path) -> None:
        self.networks, self.recipe, self.embedder, self.path = networks, recipe, embedder, path

    def export(self) -> Path:
        """The exported file, written if it does not exist."""
        exported = self.path.with_suffix(".onnx")
        if not exported.exists():
            export_embedder(self.embedder, exported, name=self.path.stem)
        return exported

    def encoder(self, threads: int | None = None) -> Encoder:
        """ONNX Runtime's session of the exported file, as a gallery uses it."""
        return Encoder.open(self.export(), EncoderSettings(threads=threads))

    def embed(self, sample: Sample, view: int = 0) -> Floats:
        """Unit rows (n, dim) of the sample's images as they are, or of an augmented view.

        ValueError for a view from 1 on of a network that does not learn from shared maps.
        """
        maps = self.networks.shared(self.recipe, sample.collection)
        if maps is not None:
            freeze = self.recipe.training.freeze
            return embed_maps(self.embedder, maps, freeze, sample.rows, view)
        if view:
            raise ValueError(f"view is {view}; only shared maps keep augmented views")
        return embed_images(self.embedder, list(sample))


def embed_maps(
    embedder: Embedder, maps: SharedMaps, freeze: int | None, rows: Positions, view: int = 0
) -> Floats:
    """Unit rows (n, dim) of images as they are (view 0) or augmented, from their shared maps.

    The embedder's stages up to `freeze` must be those that the maps came from.
    """
    frozen = Frozen(embedder, frozen_stages(embedder.settings.trunk, freeze))

    def chunks() -> Iterator[tuple[torch.Tensor, ...]]:
        for start in range(0, len(rows), CHUNK):
            some = maps.take(frozen.given, view, rows[start : start + CHUNK])
            yield tuple(part.float() for part in some)

    return _rows(frozen.embed, chunks())


def embed_images(embedder: Embedder, images: list[Pixels]) -> Floats:
    """Unit rows of images (h, w, 3) of any sizes, (n, dim)."""
    scaling = Scaling(embedder.mean, embedder.std)
    size = embedder.settings.input_size

    def chunks() -> Iterator[torch.Tensor]:
        for start in range(0, len(images), CHUNK):
            some = [squeeze(x, size) for x in images[start : start + CHUNK]]
            yield torch.from_numpy(scaling.batch(some))

    return _rows(embedder.eval(), chunks())


def _rows(function: Callable[..., torch.Tensor], chunks: Iterator[Any]) -> Floats:
    with torch.no_grad():
        return np.concatenate([function(chunk).numpy() for chunk in chunks])


class _MapInputs(Inputs):
    """In place of a run's own inputs: its training images' rows of shared maps."""

    def __init__(self, run: Run, maps: SharedMaps, views: int) -> None:
        super().__init__(run.data, run.embedder, run.inputs.frozen, run.settings, run.listener)
        self.shared, self.shared_views = maps, views

    def training(self, epoch: int, batches: list[Positions]) -> Iterator[tuple[Positions, Batch]]:
        assert self.frozen is not None
        view = epoch % (self.shared_views + 1)
        for chosen in batches:
            rows = self.data.training[chosen]
            yield chosen, self.shared.take(self.frozen.given, view, rows)


def _train_on_maps(recipe: Recipe, training: Sample, maps: SharedMaps) -> Embedder:
    size, images = recipe.embedder.input_size, training.collection.images
    kept = np.unique(training.labels)
    classes = tuple(images.classes[label] for label in kept.tolist())
    numbered = LabelledImages(classes, images.paths, np.searchsorted(kept, images.labels))
    no_pixels = SquareImages(images.paths, np.empty((0, size, size, 3), np.uint8), size)
    none = np.empty(0, np.int64)
    data = TrainData(numbered, no_pixels, training.rows, None, none, 0, ())
    embedder, seed = recipe.embedder, recipe.training.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hashing = None
        if recipe.hashing:
            assert embedder.dim is not None
            sizes = np.bincount(data.labels, minlength=len(classes))
            hashing = HASHINGS[recipe.hashing](embedder.dim, sizes, seed)
            embedder = replace(embedder, dim=hashing.width)
        run = Run(data, embedder, recipe.training, lambda _: None)
        if hashing is not None:
            run.criterion = hashing.criterion
            run.optimizer = make_optimizer(run.embedder, run.criterion, recipe.training)
        augmented = recipe.training.augmentation != NO_AUGMENTATION
        run.inputs = _MapInputs(run, maps, VIEWS if augmented else 0)
        run.go_on(lambda: None)
    trained = run.result()
    if hashing is not None:
        hashing.finish(trained)
    return trained


def weights_of(recipe: Recipe) -> str:
    """What the trunk begins with: "none", "imagenet", or the SHA-256 of a file."""
    weights = recipe.training.weights
    return weights if weights in ("none", "imagenet") else file_sha256(Path(weights))
