"""Training: what it learns, what it leaves alone, and that a killed one ends in the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import CLASSES, image, write_classes
from torch import Tensor, nn

from lookalike.encoder import Encoder
from lookalike.errors import TrainingError
from lookalike.models.data import class_folders, epoch_batches, validation_split
from lookalike.models.embedder import Embedder, load_embedder
from lookalike.models.report import (
    EpochScores,
    TrainProgress,
    TrainReport,
    overfitting,
)
from lookalike.models.run import one_cycle
from lookalike.models.settings import (
    NO_AUGMENTATION,
    AugmentSettings,
    EmbedderSettings,
    TrainSettings,
)
from lookalike.models.train import train

SMALL = EmbedderSettings(trunk="lenet5", input_size=40, dim=16)
QUICK = TrainSettings(
    weights="none",
    epochs=2,
    batch_size=16,
    seed=1,
    learning_rate=4e-3,
    trunk_learning_rate=4e-3,
    validation_per_class=3,
    threads=1,
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 13)


def state_of(path: Path) -> dict[str, Tensor]:
    return load_embedder(path).state_dict()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ---- learning ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    home = tmp_path_factory.mktemp("learnt")
    settings = replace(
        QUICK,
        epochs=12,
        augmentation=AugmentSettings(rotation=0, colour=0, flip=0.5, scale=0.1),
        validation_per_class=6,
        seed=0,
    )
    seen: list[TrainProgress] = []
    data = write_classes(home / "data", 36)
    began = time.perf_counter()
    report = train(data, SMALL, settings, home / "model.onnx", seen.append)
    assert 0 < report.seconds < time.perf_counter() - began
    assert [p.epoch for p in seen if p.stage == "epoch"] == list(range(13))
    rates = [p.images_per_second for p in seen if p.stage == "training"]
    assert all(rate is not None and rate > 0 for rate in rates)
    assert seen[-2].seconds_left == 0
    return report


def test_a_small_network_learns_to_separate_textures(learnt: TrainReport) -> None:
    before, after = learnt.history[0], learnt.history[learnt.kept]
    assert before.mean_average_precision is not None and after.mean_average_precision is not None
    assert after.mean_average_precision > 0.95
    assert before.mean_average_precision < 0.75
    assert after.precision_10 is not None and after.precision_10 > 0.95
    assert after.loss is not None and learnt.history[1].loss is not None
    assert after.loss < learnt.history[1].loss


def test_the_best_epoch_is_kept(learnt: TrainReport) -> None:
    values = [scores.mean_average_precision or 0 for scores in learnt.history]
    assert learnt.kept == int(np.argmax(values))


def test_the_model_file_embeds_as_the_kept_weights_do(learnt: TrainReport) -> None:
    encoder = Encoder.open(learnt.out)
    embedder = load_embedder(learnt.weights)
    generator = np.random.default_rng(5)
    pixels = np.stack([np.asarray(image(c, generator).resize((40, 40)), np.uint8) for c in CLASSES])
    images = (pixels.transpose(0, 3, 1, 2) - np.array(encoder.info.mean)[:, None, None]) / np.array(
        encoder.info.std
    )[:, None, None]
    with torch.no_grad():
        expected = embedder(torch.from_numpy(images.astype(np.float32))).numpy()
    # float32 through two runtimes
    np.testing.assert_allclose(encoder.embed(pixels), expected, atol=1e-4)


# ---- determinism and resumption ------------------------------------------------------------------


@pytest.mark.slow
def test_a_seed_gives_the_same_weights_and_another_seed_others(
    folder: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(folder, SMALL, replace(QUICK, seed=seed), tmp_path / f"{name}.pt")
    a, b, c = (state_of(tmp_path / f"{name}.pt") for name in "abc")
    assert equal(a, b)
    assert not equal(a, c)


SMALL_FUSED = replace(SMALL, fuse=(1,), dropout=0.2)
HARD = replace(QUICK, epochs=4, ema=0.9, keep="last")
"""Dropout draws from torch's state; the average and Adam's moments must come back too."""


def stop_after(batches: int) -> Callable[[TrainProgress], None]:
    left = [batches]

    def listen(progress: TrainProgress) -> None:
        left[0] -= progress.stage == "training"
        if left[0] < 0:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize(
    ("embedder", "settings"),
    [
        pytest.param(SMALL_FUSED, HARD, marks=pytest.mark.slow),
        (SMALL, replace(QUICK, epochs=3, freeze=-2, views=2)),
    ],
    ids=["dropout and average", "kept maps"],
)
def test_a_training_interrupted_again_and_again_ends_in_the_same_bits(
    folder: Path, tmp_path: Path, embedder: EmbedderSettings, settings: TrainSettings
) -> None:
    settings = replace(settings, checkpoint_seconds=0.0)
    whole = train(folder, embedder, settings, tmp_path / "whole.pt")
    out = tmp_path / "m.pt"
    for batches in (4, 1, 0):
        with pytest.raises(KeyboardInterrupt):
            train(folder, embedder, settings, out, stop_after(batches))
        assert out.with_name("m.pt.checkpoint").exists()
    report = train(folder, embedder, settings, out)
    assert report.resumed is not None
    assert equal(state_of(tmp_path / "whole.pt"), state_of(out))
    assert report.history == whole.history
    assert not out.with_name("m.pt.checkpoint").exists()


@pytest.fixture
def interrupted(folder: Path, tmp_path: Path) -> Path:
    settings = replace(QUICK, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(folder, SMALL, settings, tmp_path / "m.pt", stop_after(2))
    return tmp_path / "m.pt.checkpoint"


def test_a_checkpoint_of_other_settings_is_refused(folder: Path, interrupted: Path) -> None:
    settings = replace(QUICK, checkpoint_seconds=0.0, learning_rate=0.5)
    with pytest.raises(TrainingError, match=r"learning_rate was 0\.004, it is 0\.5 now"):
        train(folder, SMALL, settings, interrupted.with_name("m.pt"))


def test_a_damaged_checkpoint_is_refused(folder: Path, interrupted: Path) -> None:
    content = bytearray(interrupted.read_bytes())
    for damaged in (bytes(content[: len(content) // 2]), b"", b"nonsense"):
        interrupted.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"checkpoint is damaged .*delete"):
            train(folder, SMALL, QUICK, interrupted.with_name("m.pt"))
    content[len(content) // 2] ^= 1
    interrupted.write_bytes(content)
    with pytest.raises(TrainingError, match="damaged"):
        train(folder, SMALL, QUICK, interrupted.with_name("m.pt"))


@pytest.mark.slow
def test_torch_is_left_as_it_was(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    before = torch.get_num_threads()
    train(folder, SMALL, replace(QUICK, epochs=1, threads=2), tmp_path / "m.pt")
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected)


# ---- freezing ------------------------------------------------------------------------------------


def before_and_after(
    folder: Path, out: Path, settings: TrainSettings, embedder: EmbedderSettings = SMALL
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(9)
    start = Embedder(embedder).trunk
    file = out.with_name("trunk.pth")
    torch.save(start.state_dict(), file)
    train(folder, embedder, replace(settings, weights=str(file), keep="last"), out)
    return start.state_dict(), load_embedder(out).trunk.state_dict()


@pytest.mark.parametrize(
    ("freeze", "views", "trained"), [(-1, 0, set()), (-1, 2, set()), (-2, 0, {"c5"})]
)
def test_frozen_stages_keep_every_bit_and_those_after_them_are_trained(
    folder: Path, tmp_path: Path, freeze: int, views: int, trained: set[str]
) -> None:
    settings = replace(QUICK, freeze=freeze, views=views)
    before, after = before_and_after(folder, tmp_path / "m.pt", settings)
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == trained


def test_frozen_batch_norms_keep_their_statistics_and_train_their_weights(
    folder: Path, tmp_path: Path
) -> None:
    before, after = before_and_after(folder, tmp_path / "m.pt", QUICK)
    running = [key for key in before if "running" in key or "tracked" in key]
    assert running and all(torch.equal(before[key], after[key]) for key in running)
    assert not torch.equal(before["c1.1.weight"], after["c1.1.weight"])
    settings = replace(QUICK, freeze_batch_norm=False)
    before, after = before_and_after(folder, tmp_path / "m2.pt", settings)
    assert not torch.equal(before["c1.1.running_mean"], after["c1.1.running_mean"])


def test_maps_that_memory_does_not_hold_are_computed_again(folder: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, freeze=-1, map_memory=0, keep="last")
    train(folder, SMALL, settings, tmp_path / "m.pt")
    train(folder, SMALL, replace(settings, views=0), tmp_path / "n.pt")
    assert equal(state_of(tmp_path / "m.pt"), state_of(tmp_path / "n.pt"))


# ---- what goes wrong -----------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_names_the_files_of_its_batch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(nn.Module):
        calls = 0

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            self.calls += self.training
            return embeddings.sum() * (math.nan if self.calls == 3 else 1.0)

    monkeypatch.setattr("lookalike.models.run.make_loss", lambda *_, **__: Broken())
    order = epoch_batches
    batches: list[Any] = []

    def noted(*arguments: Any) -> Any:
        batches.append(order(*arguments))
        return batches[-1]

    monkeypatch.setattr("lookalike.models.run.epoch_batches", noted)
    with pytest.raises(TrainingError, match="loss is nan in epoch 1, batch 3: lower") as caught:
        train(folder, SMALL, QUICK, tmp_path / "m.pt")
    images, _ = class_folders(folder)
    training, _ = validation_split(images.labels, QUICK.seed, 0.1, 3)
    expected = [str(images.paths[i]) for i in training[batches[0][2]]]
    assert str(caught.value).partition(" of the batch: ")[2].split(", ") == expected
    assert not (tmp_path / "m.pt").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 0}, "epochs is 0; it must be an integer at least 1"),
        ({"loss": "hinge"}, "loss is 'hinge'; it must be one of softmax"),
        ({"validation": 0.7}, "a number at least 0 and at most 0.5"),
        ({"ema": 1.0}, "a number above 0 and below 1, or None"),
        ({"device": "tpu"}, "one of cpu, cuda"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(QUICK, **change)


# ---- schedule, average, early stop ---------------------------------------------------------------


@pytest.mark.parametrize(("steps", "warmup"), [(50, 0.3), (101, 0.1), (400, 0.45)])
def test_one_cycle_equals_that_of_torch(steps: int, warmup: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.7, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    for step in range(steps):
        assert 0.7 * one_cycle(step, steps, warmup) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        if step + 1 < steps:
            schedule.step()


def test_patience_ends_a_training_that_gets_no_better(folder: Path, tmp_path: Path) -> None:
    settings = replace(
        QUICK, epochs=9, patience=2, learning_rate=1e-12, trunk_learning_rate=1e-12,
        freeze_batch_norm=True, augmentation=NO_AUGMENTATION,
    )  # fmt: skip
    report = train(folder, SMALL, settings, tmp_path / "m.pt")
    assert [scores.epoch for scores in report.history] == [0, 1, 2]
    assert report.kept == 0


def curve(training: list[float], held_out: list[float]) -> list[EpochScores]:
    rows = enumerate(zip(training, held_out, strict=True), 1)
    return [EpochScores(0), *(EpochScores(n, a, b) for n, (a, b) in rows)]


def test_overfitting_is_a_held_out_loss_that_rises_while_the_other_falls() -> None:
    found = overfitting(curve([5, 4, 3, 2, 1], [5, 3, 3.5, 4, 4.5]))
    assert found is not None
    assert "since epoch 2" in found and "from 3.000 to 4.500" in found
    assert overfitting(curve([5, 4, 3, 2, 1], [5, 3, 3.5, 3.4, 4.5])) is None
    assert overfitting(curve([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])) is None
    assert overfitting([]) is None


def test_without_validation_the_last_epoch_is_kept(folder: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, validation=0.0, validation_per_class=None)
    report = train(folder, SMALL, settings, tmp_path / "m.pt")
    assert (report.kept, report.held_out, report.images) == (2, 0, 52)
    assert report.history[-1].mean_average_precision is None
