"""Distillation: what the teacher sees and says, and that a student comes to agree with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import write_classes
from test_train import QUICK, SMALL

from lookalike.errors import ModelError, TrainingError
from lookalike.models.data import class_folders, read_labelled
from lookalike.models.embedder import Embedder, load_embedder, save_embedder
from lookalike.models.losses import Teacher
from lookalike.models.settings import NO_AUGMENTATION, EmbedderSettings
from lookalike.models.train import train

CPU = torch.device("cpu")


def embedder_of(seed: int, settings: EmbedderSettings = SMALL, level: float = 100.0) -> Embedder:
    torch.manual_seed(seed)
    mean, std = (level, level + 20, level - 10), (200.0, 220.0, 240.0)
    return Embedder(settings, mean=mean, std=std).eval()


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.pt"
    save_embedder(embedder_of(3), path)
    return path


def test_the_loss_is_one_less_the_mean_cosine_to_what_the_teacher_says_of_the_pixels(
    teacher: Path,
) -> None:
    student, wise = embedder_of(4, level=60.0), load_embedder(teacher)
    pixels = torch.rand(6, 3, 40, 40) * 255

    def normalised(by: Embedder) -> torch.Tensor:
        mean, std = torch.tensor(by.mean).view(3, 1, 1), torch.tensor(by.std).view(3, 1, 1)
        return (pixels - mean) / std

    with torch.no_grad():
        own, theirs = student(normalised(student)), wise(normalised(wise))
        found = float(Teacher(teacher, student, CPU).loss(normalised(student), own))
    a, b = own.double().numpy(), theirs.double().numpy()
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    assert found == pytest.approx(1 - np.mean((a * b).sum(axis=1) / lengths), abs=1e-5)


@pytest.mark.slow
def test_a_student_comes_to_agree_with_its_teacher(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 24)
    settings = replace(QUICK, epochs=10, augmentation=NO_AUGMENTATION, validation_per_class=6)
    wise = train(data, SMALL, replace(settings, seed=5), tmp_path / "wise.pt").weights
    _, squares, _ = read_labelled(class_folders(data)[0], 40, memory=1 << 30, threads=1)
    pixels = torch.from_numpy(np.stack([squares[i] for i in range(len(squares))]))
    pixels = pixels.permute(0, 3, 1, 2).float()

    def embedded(path: Path) -> torch.Tensor:
        embedder = load_embedder(path)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (embedder.mean, embedder.std))
        with torch.no_grad():
            rows: torch.Tensor = embedder((pixels - mean) / std)
            return rows

    agreement = {}
    for name, file in (("alone", None), ("taught", str(wise))):
        out = tmp_path / f"{name}.pt"
        train(data, SMALL, replace(settings, teacher=file, keep="last"), out)
        agreement[name] = float((embedded(out) * embedded(wise)).sum(1).mean())
    assert agreement["taught"] > 0.8
    assert agreement["alone"] < 0.4


def test_a_teacher_of_another_length_is_refused(teacher: Path, tmp_path: Path) -> None:
    data = tmp_path / "not there: the teacher is looked at before any image"
    settings = replace(QUICK, teacher=str(teacher))
    with pytest.raises(TrainingError, match=r"16 numbers, the student 8: set --dim 16"):
        train(data, replace(SMALL, dim=8), settings, tmp_path / "out.pt")
    teacher.write_bytes(teacher.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"teacher\.pt"):
        train(data, SMALL, settings, tmp_path / "out.pt")
    with pytest.raises(TrainingError, match="cannot be read"):
        missing = replace(settings, teacher=str(tmp_path / "none.pt"))
        train(data, SMALL, missing, tmp_path / "out.pt")


def test_a_training_does_not_go_on_with_another_teacher(teacher: Path, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", 6)
    settings = replace(QUICK, teacher=str(teacher), checkpoint_seconds=0)

    def stop(progress: object) -> None:
        if getattr(progress, "epoch", 0) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, SMALL, settings, tmp_path / "out.pt", stop)
    save_embedder(embedder_of(9), teacher)
    with pytest.raises(TrainingError, match="of another training: training's teacher was"):
        train(data, SMALL, settings, tmp_path / "out.pt")
