"""Whole networks fine-tuned, on the CPU at small sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lookalike.errors import LookalikeError
from reproduction.collection import Collection
from reproduction.confs import TUNED, Settings, Tuned, Views
from reproduction.finetune import Learner, augment, best, embed, expand, fine_tune, mix, on_device
from reproduction.results import Results
from reproduction.study import Study
from reproduction.train import Networks

CPU = torch.device("cpu")
STILL = Views(size=24, area=1.0, ratio=1.0, rotation=0.0, colour=0.0, mixed=0.0)


def small(network: str = "lite0", **changes: object) -> Tuned:
    given = {"input_size": 64, "dim": 16, "epochs": 1, "batch_size": 8, **changes}
    return replace(TUNED[network].but(**given), views=Views(size=32))


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_augmentation_of_no_strength_shows_the_image_or_its_mirror() -> None:
    images = torch.randint(0, 256, (16, 3, 24, 24), dtype=torch.uint8, generator=drawn(0))
    shown = augment(images, STILL, drawn(1))
    plain = (shown - images).abs().amax((1, 2, 3)) < 1e-2
    mirrored = (shown - images.flip(3)).abs().amax((1, 2, 3)) < 1e-2
    assert bool((plain ^ mirrored).all()) and 0 < int(mirrored.sum()) < 16


def test_a_window_shows_its_share_of_the_image() -> None:
    ramp = torch.arange(96).repeat(96, 1)
    images = torch.stack([ramp, ramp.T, ramp * 0]).to(torch.uint8).repeat(64, 1, 1, 1)
    shown = augment(images, replace(STILL, area=0.25), drawn(0))
    across, down = (
        (shown[:, channel].amax((1, 2)) - shown[:, channel].amin((1, 2))) / 95 for channel in (0, 1)
    )
    # 24 samples span 23/24 of a window whose sides are between a half and all of the image's.
    assert float(across.min()) >= 0.47 and float(across.max()) <= 1
    assert torch.allclose(across, down, atol=0.03)
    assert float(across.min()) < 0.6 and float(across.max()) > 0.85


@pytest.mark.parametrize("seed", range(6))
def test_a_mixed_batch_holds_the_share_that_it_says_of_its_own_images(seed: int) -> None:
    images = torch.zeros(2, 3, 20, 20)
    images[0] = 100.0
    mixed, share = mix(images, Views(mixed=1.0), np.random.default_rng(seed))
    assert float(mixed[0].mean()) == pytest.approx(100 * share, abs=1e-3)
    assert float(mixed[1].mean()) == pytest.approx(100 * (1 - share), abs=1e-3)
    assert not images[1].any()


def test_the_loss_counts_each_label_by_its_share() -> None:
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])
    losses = []
    for share in (1.0, 0.0, 0.25):
        torch.manual_seed(0)
        learner = Learner(small(), 2, CPU)
        learner.step(images, labels, share, rate=1e-9)
        losses.append(float(learner.loss))
    assert losses[2] == pytest.approx(0.25 * losses[0] + 0.75 * losses[1], abs=1e-4)


def test_the_averaged_weights_begin_at_the_learnt_ones_and_follow_them() -> None:
    learner = Learner(small(ema=0.5), 2, CPU)
    before = learner.embedder.trunk.state_dict()["_conv_head.weight"].clone()
    learner.step(torch.rand(4, 3, 32, 32), torch.tensor([0, 0, 1, 1]), 1.0, rate=1.0)
    own = learner.embedder.trunk.state_dict()["_conv_head.weight"]
    average = learner.average.trunk.state_dict()["_conv_head.weight"]
    assert not torch.equal(own, before)
    # The first decay is 1 / 10.
    assert torch.allclose(average, 0.1 * before + 0.9 * own, atol=1e-6)


@pytest.mark.slow
def test_fine_tuning_learns_classes_and_repeats_itself(collection: Collection) -> None:
    images, labels = on_device(collection, 64, CPU), collection.labels
    tuned = small(epochs=4)
    first, again = (embed(fine_tune(tuned, images, labels), images) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.abs(np.linalg.norm(first, axis=1) - 1).max() < 1e-5
    cosines = first @ first.T
    same = labels[:, None] == labels
    assert cosines[same].mean() > cosines[~same].mean() + 0.3
    mirrored = embed(fine_tune(tuned, images, labels), images.flip(3))
    assert np.abs(mirrored - first).max() < 1e-4


def test_expansion_takes_a_query_between_two_groups_to_the_nearer() -> None:
    angles = np.radians([0, 2, 4, 90, 92, 94])
    gallery = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    query = np.array([[np.cos(np.radians(40)), np.sin(np.radians(40))]], np.float32)
    queries, wide = expand(query, gallery, neighbours=3, power=1.0)
    assert np.abs(np.linalg.norm(wide, axis=1) - 1).max() < 1e-6
    assert np.allclose(wide[:3] @ wide[:3].T, 1, atol=1e-3)  # each group draws together
    # Three of weight cos 38 degrees at 2 degrees beside the query itself.
    weight = 3 * np.cos(np.radians(38))
    expected = query[0] + weight * np.array([np.cos(np.radians(2)), np.sin(np.radians(2))])
    assert np.allclose(queries[0], expected / np.linalg.norm(expected), atol=2e-3)


def test_numbers_of_other_settings_are_refused(collection: Collection, tmp_path: Path) -> None:
    study = Study(collection, Networks(tmp_path), Results(tmp_path), Settings(queries_per_class=2))
    study.note("0123456789ab", "made", "tuned")
    with pytest.raises(LookalikeError, match="row tuned that were computed with other settings"):
        best(study, (0,), "cpu")
