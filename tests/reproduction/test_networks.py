"""Networks on shared maps, against the library's own training and embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lookalike.models.trunks import make_trunk
from reproduction import train as train_module
from reproduction.collection import Collection, squeeze
from reproduction.confs import OURS
from reproduction.train import Networks, embed_images

SMALL = OURS.but(input_size=64, dim=16, epochs=2, batch_size=8)


@pytest.mark.slow
def test_maps_images_and_the_exported_file_give_one_embedding(
    networks: Networks, collection: Collection
) -> None:
    everything = collection.sample(np.arange(len(collection)))
    network = networks.network(SMALL, everything)
    by_maps = network.embed(everything)
    by_images = embed_images(network.embedder, collection.pixels)
    pixels = np.stack([squeeze(image, 64) for image in collection.pixels])
    exported = network.encoder().embed(pixels)
    assert np.abs(by_images - exported).max() < 1e-4
    # Maps are kept as float16, 11 bits.
    assert np.abs(by_maps - by_images).max() < 5e-3
    assert np.abs(np.linalg.norm(by_maps, axis=1) - 1).max() < 1e-5


def test_a_network_is_trained_once_and_found_again(
    networks: Networks, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = collection.sample(np.arange(len(collection)))
    first = networks.network(SMALL, sample)
    assert networks.network(SMALL, sample) is first
    fewer = collection.sample(np.arange(1, len(collection)))
    assert networks.path(SMALL, fewer) != first.path

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(train_module, "_train_on_maps", never)
    again = Networks(networks.directory).network(SMALL, sample)
    assert again.path == first.path
    with pytest.raises(AssertionError, match="trained again"):
        Networks(networks.directory).network(SMALL.but(seed=1), sample)


@pytest.mark.slow
@pytest.mark.parametrize("hashing", ["cnnh", "dnnh"])
def test_codes_are_learnt_through_the_last_stage_and_come_out_of_the_fc(
    hashing: str, networks: Networks, collection: Collection
) -> None:
    rows = np.arange(len(collection))
    sample = collection.sample(rows)
    recipe = SMALL.but(attention="none", epochs=4, dim=24)
    learnt = networks.network(recipe.but(hashing=hashing), sample)
    classes = networks.network(recipe, sample)
    assert learnt.path != classes.path
    assert learnt.embedder.dim == learnt.encoder().info.dim == 24
    published = make_trunk("efficientnet-lite0", "imagenet").state_dict()
    own = learnt.embedder.trunk.state_dict()
    changed = {name.split(".")[0] for name in own if not torch.equal(own[name], published[name])}
    assert "_conv_head" in changed and "_conv_stem" not in changed
    bits = learnt.embed(sample) > 0
    differing = (bits[:, None] != bits).sum(axis=2)
    same = collection.labels[:, None] == collection.labels
    apart = ~np.eye(len(rows), dtype=bool)
    assert differing[same & apart].mean() < 0.6 * differing[~same].mean()
