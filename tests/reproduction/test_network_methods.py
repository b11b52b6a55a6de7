"""Rows with a network, against brute force over what the network says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lookalike.lsh import LSHSettings
from reproduction.collection import Collection, Sample
from reproduction.hashing.codes import tie_order
from reproduction.methods.cnn_exhaustive import CnnExhaustive
from reproduction.methods.cnn_lsh import CnnLsh
from reproduction.methods.cnnh import Cnnh
from reproduction.methods.codes import CodeMethod
from reproduction.methods.dnnh import Dnnh
from reproduction.methods.fc_features import FcFeatures
from reproduction.methods.itq_codes import ItqCodes
from reproduction.methods.lenet import LeNetL
from reproduction.methods.lsh_codes import LshCodes
from reproduction.methods.nearest import nearest
from reproduction.methods.network import NetworkMethod
from reproduction.methods.ours import (
    Ours,
    OursExhaustive,
    OursPaperHashing,
    OursWithoutAugmentation,
)
from reproduction.methods.pca_codes import PcaCodes
from reproduction.methods.second_order import SecondOrder
from reproduction.methods.spatial_attention import SpatialAttention
from reproduction.methods.vgg import VggN
from reproduction.networks import Networks
from reproduction.recipes import LENET, OURS, VGG

SMALL = OURS.but(input_size=64, dim=32, epochs=2, batch_size=8)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    return Networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def gallery(collection: Collection) -> Sample:
    return collection.sample(np.flatnonzero(np.arange(len(collection)) % 4 != 1))


@pytest.fixture(scope="module")
def queries(collection: Collection) -> Sample:
    return collection.sample(np.arange(1, len(collection), 4))


def test_the_nearest_are_those_of_a_stable_sort() -> None:
    values = np.array([0.5, 0.9, 0.5, 0.1, 0.5, 0.9], np.float32)
    whole = np.argsort(-values, kind="stable")
    for k in range(1, 7):
        assert nearest(values, k).tolist() == whole[:k].tolist()


@pytest.mark.parametrize("kind", [CnnExhaustive, OursExhaustive, SpatialAttention, SecondOrder])
def test_exhaustive_rows_rank_by_cosine(
    kind: Callable[..., NetworkMethod], networks: Networks, gallery: Sample, queries: Sample
) -> None:
    method = kind(networks, SMALL)
    method.fit(gallery)
    right = 0
    for picture, label in zip(queries, queries.labels, strict=True):
        features = method.describe(picture)
        exact = np.argsort(-(method.vectors @ features), kind="stable")
        assert method.search(picture, len(gallery)).tolist() == exact.tolist()
        right += int(gallery.labels[exact[0]] == label)
    assert right / len(queries) > 0.9  # the classes differ in colour


def test_attention_is_what_sets_the_rows_apart(networks: Networks) -> None:
    kinds = {
        kind(networks, SMALL).recipe.embedder.attention: kind
        for kind in (CnnExhaustive, Ours, SpatialAttention, SecondOrder)
    }
    assert set(kinds) == {"none", "cbam", "spatial", "second-order"}
    assert CnnLsh(networks, SMALL).recipe == CnnExhaustive(networks, SMALL).recipe
    assert Ours(networks, SMALL).recipe == OursExhaustive(networks, SMALL).recipe
    assert FcFeatures(networks, SMALL).recipe.embedder.dim == 4096
    plain = OursWithoutAugmentation(networks, SMALL).recipe
    assert not any(vars(plain.training.augmentation).values())


@pytest.mark.parametrize("kind", [Ours, OursPaperHashing])
def test_hashed_rows_rank_everything_once_and_hits_first(
    kind: Callable[..., Ours], networks: Networks, gallery: Sample, queries: Sample
) -> None:
    method = kind(networks, SMALL)
    method.fit(gallery)
    assert method.tables.settings == method.settings()
    if kind is OursPaperHashing:
        assert method.tables.settings == LSHSettings.paper(32)
    for picture in queries:
        features = method.describe(picture)
        order = method.match(features, len(gallery))
        assert sorted(order.tolist()) == list(range(len(gallery)))
        hits = method.tables.search(features, k=5).ids
        assert order[:5].tolist() == hits.tolist() == method.match(features, 5).tolist()


@pytest.mark.parametrize("kind", [LshCodes, ItqCodes, Cnnh, Dnnh])
def test_rows_of_codes_rank_by_hamming_distance(
    kind: Callable[..., CodeMethod], networks: Networks, gallery: Sample, queries: Sample
) -> None:
    method = kind(networks, 16, SMALL)
    method.fit(gallery)
    bits = method.encode(method.network.embed(gallery)) > 0
    assert bits.shape == (len(gallery), 16)
    ties = tie_order(len(gallery))
    right = 0
    for picture, label in zip(queries, queries.labels, strict=True):
        own = method.encode(NetworkMethod.describe(method, picture)[None])[0] > 0
        distances = (bits != own).sum(axis=1)
        expected = np.lexsort([ties, distances])
        found = method.search(picture, len(gallery))
        assert found.tolist() == expected.tolist()
        right += int(gallery.labels[found[0]] == label)
    assert right / len(queries) > 0.7
    assert method.title.endswith("16 bits")


def test_pca_keeps_as_many_directions_as_there_are(
    networks: Networks, gallery: Sample, queries: Sample
) -> None:
    method = PcaCodes(networks, SMALL)
    method.fit(gallery)
    rows = method.network.embed(gallery)
    assert method.vectors.shape == (len(gallery), min(32, len(gallery) - 1))
    # Cosines of the centred rows, for no direction in which they vary is left out.
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.abs(method.vectors @ method.vectors.T - centred @ centred.T).max() < 5e-3


def test_networks_from_nothing_are_trained_on_the_files(
    networks: Networks, gallery: Sample, queries: Sample
) -> None:
    lenet = LeNetL(networks, LENET.but(epochs=4))
    lenet.fit(gallery)
    assert lenet.vectors.shape == (len(gallery), 84)
    found = [lenet.search(picture, 1)[0] for picture in queries]
    assert (gallery.labels[found] == queries.labels).mean() > 0.5
    scratch = VggN(networks, VGG)
    assert scratch.recipe.training.weights == "none"
    assert scratch.recipe.embedder.trunk == "vgg16-bn"
    assert scratch.title == "VGG-N [18], from scratch"
    given = VggN(networks, VGG, weights="vgg16.pth")
    assert (given.recipe.training.weights, given.recipe.training.freeze) == ("vgg16.pth", -2)
    assert given.recipe.embedder.trunk == "vgg16"
    assert given.title == "VGG-N [18], given weights"
