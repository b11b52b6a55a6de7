"""Networks on shared maps, against the library's own training and embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookalike.models.checkpoint import load_embedder
from lookalike.models.train import train
from lookalike.paper import networks as networks_module
from lookalike.paper.collection import Collection, squeeze
from lookalike.paper.networks import Networks, embed_pictures
from lookalike.paper.recipes import LENET, OURS

SMALL = OURS.but(input_size=64, dim=16, epochs=2, batch_size=8)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return Networks(tmp_path_factory.mktemp("networks"))


def test_maps_pictures_and_the_exported_file_give_one_embedding(
    networks: Networks, collection: Collection
) -> None:
    everything = collection.sample(np.arange(len(collection)))
    network = networks.network(SMALL, everything)
    by_maps = network.embed(everything)
    by_pictures = embed_pictures(network.embedder, collection.pictures)
    pixels = np.stack([squeeze(picture, 64) for picture in collection.pictures])
    exported = network.encoder().embed(pixels)
    assert np.abs(by_pictures - exported).max() < 1e-4
    # Maps are kept as float16, 11 bits.
    assert np.abs(by_maps - by_pictures).max() < 5e-3
    assert np.abs(np.linalg.norm(by_maps, axis=1) - 1).max() < 1e-5


def test_shared_maps_train_what_the_library_trains(
    networks: Networks, collection: Collection, tmp_path: Path
) -> None:
    rows = np.arange(0, len(collection), 2)
    recipe = SMALL.without_augmentation()
    shared = networks.network(recipe, collection.sample(rows)).embedder
    images = collection.images.take(rows)
    # Views without augmentation are the working-size picture squeezed, so train at that size.
    train(images, recipe.embedder, recipe.training, tmp_path / "own.pt")
    own = load_embedder(tmp_path / "own.pt")
    ours, theirs = (embed_pictures(each, collection.pictures) for each in (shared, own))
    # The same start, order and steps; pixels differ by one more resampling, maps by float16.
    assert (ours * theirs).sum(axis=1).min() > 0.95
    other = networks.network(recipe.but(seed=1), collection.sample(rows)).embedder
    others = embed_pictures(other, collection.pictures)
    assert (ours * others).sum(axis=1).max() < 0.9


def test_a_network_is_trained_once_and_found_again(
    networks: Networks, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = collection.sample(np.arange(len(collection)))
    first = networks.network(SMALL, sample)
    assert networks.network(SMALL, sample) is first

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(networks_module, "_train_on_maps", never)
    again = Networks(networks.directory).network(SMALL, sample)
    assert again.path == first.path
    with pytest.raises(AssertionError, match="trained again"):
        Networks(networks.directory).network(SMALL.but(seed=1), sample)


def test_a_recipe_without_frozen_stages_learns_from_the_files(
    networks: Networks, collection: Collection
) -> None:
    sample = collection.sample(np.arange(len(collection)))
    network = networks.network(LENET.but(epochs=1), sample)
    assert network.embed(sample).shape == (len(collection), 84)
    with pytest.raises(ValueError, match="only shared maps keep augmented views"):
        network.embed(sample, view=1)


def test_classes_that_are_not_seen_do_not_count(networks: Networks, collection: Collection) -> None:
    rows = np.flatnonzero(np.isin(collection.labels, [1, 3]))
    network = networks.network(SMALL, collection.sample(rows))
    assert network.embed(collection.sample(np.arange(4))).shape == (4, 16)


def test_recipes_refuse_unknown_settings() -> None:
    with pytest.raises(TypeError, match="unknown"):
        OURS.but(unknown=1)
