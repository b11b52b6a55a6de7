"""Rows with a network, against brute force over what the network says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lookalike.lsh import LSHSettings
from reproduction.collection import Collection, Sample
from reproduction.confs import NETWORKS, ROWS, Recipe
from reproduction.hashing import tie_order
from reproduction.methods import (
    CodeNetwork,
    HashedNetwork,
    NetworkMethod,
    PcaNetwork,
    nearest,
    network_method,
)
from reproduction.train import Networks


def small(network: str) -> Recipe:
    return NETWORKS[network].but(input_size=64, dim=32, epochs=2, batch_size=8)


def method_of(row: str, networks: Networks) -> NetworkMethod:
    conf = ROWS[row]
    if conf.search == "codes":
        conf = replace(conf, bits=16)
    recipe = small(conf.network)
    return network_method(conf, networks, recipe.but(dim=16) if recipe.hashing else recipe)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        *("cnn-exhaustive", "ours-exhaustive", "spatial", "second-order"),
        *("lsh-48", "itq-48", "cnnh-48", "dnnh-48"),
    ],
)
def test_rows_rank_by_cosine_or_by_the_hamming_distance_of_codes(
    row: str, networks: Networks, gallery: Sample, queries: Sample
) -> None:
    method = method_of(row, networks)
    method.fit(gallery)
    if isinstance(method, CodeNetwork):
        bits = method.encode(method.network.embed(gallery)) > 0
        assert bits.shape == (len(gallery), 16)
    right = 0
    for image, label in zip(queries, queries.labels, strict=True):
        if isinstance(method, CodeNetwork):
            own = method.encode(NetworkMethod.describe(method, image)[None])[0] > 0
            expected = np.lexsort([tie_order(len(gallery)), (bits != own).sum(axis=1)])
        else:
            expected = np.argsort(-(method.vectors @ method.describe(image)), kind="stable")
        found = method.search(image, len(gallery))
        assert found.tolist() == expected.tolist()
        right += int(gallery.labels[found[0]] == label)
    # The classes differ in colour.
    assert right / len(queries) > (0.7 if isinstance(method, CodeNetwork) else 0.9)


@pytest.mark.parametrize("row", ["ours", "ours-paper-hashing"])
def test_hashed_rows_rank_everything_once_and_hits_first(
    row: str, networks: Networks, gallery: Sample, queries: Sample
) -> None:
    method = method_of(row, networks)
    method.fit(gallery)
    assert isinstance(method, HashedNetwork)
    expected = LSHSettings.paper(32) if row == "ours-paper-hashing" else LSHSettings(32)
    assert method.tables.settings == expected
    for image in queries:
        features = method.describe(image)
        order = method.match(features, len(gallery))
        assert sorted(order.tolist()) == list(range(len(gallery)))
        hits = method.tables.search(features, k=5).ids
        assert order[:5].tolist() == hits.tolist() == method.match(features, 5).tolist()


def test_pca_keeps_as_many_directions_as_there_are(
    networks: Networks, gallery: Sample, queries: Sample
) -> None:
    method = method_of("pca", networks)
    assert isinstance(method, PcaNetwork)
    method.fit(gallery)
    rows = method.network.embed(gallery)
    assert method.vectors.shape == (len(gallery), min(32, len(gallery) - 1))
    # Cosines of the centred rows, for no direction in which they vary is left out.
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.abs(method.vectors @ method.vectors.T - centred @ centred.T).max() < 5e-3
