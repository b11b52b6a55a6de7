"""Train an embedder on class folders: one call, resumable, the same result however often killed.

What the network sees follows from the seed alone: the split, each epoch's order, each picture's
augmentation. A checkpoint holds all else that the next step depends on (weights, optimiser,
averages, torch's random state, the place within the epoch), so a training that goes on from it
computes the same bits as one that was never interrupted, on the CPU and with the same number of
threads, which it holds too.

The stages of the trunk that are frozen, as far as no attention comes between, are run once for
`views` augmented views of each picture; their maps stay in memory, and the rest trains from them.

    train_settings.py, train_report.py   what goes in and what is told
    train_data.py -> inputs.py           pictures; batches of pictures, or of frozen.py's maps
    run.py, validation.py                the loop and its state; what is measured each epoch
    train_checkpoint.py                  the file that a killed training goes on from
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.utils import deterministic as torch_deterministic

from lookalike.errors import TrainingError
from lookalike.models.augment import Transform, apply
from lookalike.models.checkpoint import save_embedder
from lookalike.models.compress import Cost, Storage, cost
from lookalike.models.curves import draw_png, overfitting, write_csv
from lookalike.models.dataset import LabelledImages
from lookalike.models.distill import Teacher, teacher_digest
from lookalike.models.embedder import Embedder, EmbedderSettings
from lookalike.models.export import export_embedder, no_compiler_cache
from lookalike.models.frozen import frozen_stages
from lookalike.models.losses import make_loss
from lookalike.models.run import Run
from lookalike.models.train_checkpoint import identify, read_checkpoint, write_checkpoint
from lookalike.models.train_data import TrainData
from lookalike.models.train_report import Listener, Progress, TrainReport
from lookalike.models.train_settings import TrainSettings

__all__ = ["EmbedderSettings", "Progress", "TrainReport", "TrainSettings", "train"]

COST_PICTURES = 50


def train(
    source: Path | LabelledImages,
    embedder_settings: EmbedderSettings,
    settings: TrainSettings,
    out: Path,
    progress: Listener | None = None,
    *,
    validation: LabelledImages | None = None,
    name: str = "",
    storage: Storage = "float32",
) -> TrainReport:
    """Train on the class folders in `source`, or on given images, and write the model to `out`.

    `out` ending in .onnx is a model file for a gallery; the embedder goes beside it as .pt, the
    curves as .csv and .png. With another ending `out` is the embedder alone. OUT.checkpoint is
    there until the end: the same call goes on from it. `validation` replaces the split of the
    settings: queries with the same classes. `name` is the model's in the file; none: from `out`.
    `storage` is what the model file keeps its weights as; the report says what it costs.

    Torch's random state, threads and determinism are set while it runs and given back.

    Raises TrainingError for settings that do not fit the network, data without anything to learn, a
    loss that is not finite, and a checkpoint of another training; ModelError for weights that do
    not fit; MissingExtraError for a loss or weights whose package is not installed.
    """
    began = time.perf_counter()
    tell = progress or (lambda _: None)
    if not out.parent.is_dir():
        raise TrainingError(f"{out.parent} is no folder to write {out.name} to: make it first")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device is cuda, and torch finds none here: use cpu")
    _check_parts(embedder_settings, settings)
    data = TrainData.read(source, validation, embedder_settings, settings, tell)
    checkpoint = out.with_name(out.name + ".checkpoint")
    identity = identify(data, embedder_settings, settings)
    saved = read_checkpoint(checkpoint, identity)
    threads = settings.threads or torch.get_num_threads()
    with _torch_state(saved["threads"] if saved else threads, settings):
        run = Run(data, embedder_settings, settings, tell)
        if saved is not None:
            run.restore(saved)
        resumed = run.epoch if saved else None
        run.go_on(lambda: write_checkpoint(checkpoint, identity, run.state()))
        embedder = run.result()
    return _write(
        embedder,
        run,
        out,
        name or out.stem,
        storage,
        checkpoint,
        resumed=resumed,
        seconds=time.perf_counter() - began,
    )


def _check_parts(embedder_settings: EmbedderSettings, settings: TrainSettings) -> None:
    """Before minutes of reading pictures: build everything once, and let it go."""
    frozen_stages(embedder_settings.trunk, settings.freeze)
    if embedder_settings.trunk_dim:
        raise TrainingError("trunk_dim is not trained: set it to 0, and keep_trunk afterwards")
    with torch.random.fork_rng(devices=[]):
        try:
            embedder = Embedder(embedder_settings, settings.weights)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        make_loss(settings.loss, embedder.dim, 2)
        if settings.teacher is not None:
            path = Path(settings.teacher)
            teacher_digest(path)  # its error for a file that is not there names the setting
            Teacher(path, embedder, torch.device("cpu"))


def _write(
    embedder: Embedder,
    run: Run,
    out: Path,
    name: str,
    storage: Storage,
    checkpoint: Path,
    *,
    resumed: int | None,
    seconds: float,
) -> TrainReport:
    """All files of a finished training; the checkpoint goes last, so nothing can be lost."""
    weights = out.with_suffix(".pt") if out.suffix == ".onnx" else out
    csv, png = out.with_suffix(".csv"), out.with_suffix(".png")
    save_embedder(embedder, weights)
    loss = None
    if out.suffix == ".onnx":
        export_embedder(embedder, out, name=name, storage=storage)
        if storage != "float32":
            loss = _storage_cost(embedder, run.data, out)
    history = tuple(run.history)
    write_csv(history, csv)
    draw_png(history, png, kept=run.kept)
    checkpoint.unlink(missing_ok=True)
    data = run.data
    return TrainReport(
        out=out,
        weights=weights,
        csv=csv,
        png=png,
        classes=data.images.classes,
        images=len(data.training),
        held_out=len(data.plain) - data.gallery if data.plain is not None else 0,
        skipped=data.skipped,
        history=history,
        kept=run.kept,
        overfitting=overfitting(history),
        storage_cost=loss,
        resumed=resumed,
        seconds=seconds,
    )


def _storage_cost(embedder: Embedder, data: TrainData, out: Path) -> Cost:
    """What the smaller weights of `out` cost, on pictures from all over the data."""
    size = embedder.settings.input_size
    some = np.linspace(0, len(data.pictures) - 1, min(COST_PICTURES, len(data.pictures)))
    pixels = [apply(data.pictures[i], Transform(), (size, size)) for i in some.astype(int).tolist()]
    with tempfile.TemporaryDirectory() as directory:
        whole = Path(directory) / "float32.onnx"
        export_embedder(embedder, whole, name="float32")
        return cost(whole, out, np.stack(pixels))


@contextmanager
def _torch_state(threads: int, settings: TrainSettings) -> Iterator[None]:
    """Seed, threads and determinism for a training, and everything as it was afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch_deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    own_threads = torch.get_num_threads()
    devices = [torch.cuda.current_device()] if settings.device == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.set_num_threads(threads)
        with no_compiler_cache():
            torch.use_deterministic_algorithms(settings.device == "cpu")
        # A debugging aid, and slow.
        torch_deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.manual_seed(settings.seed)
        try:
            yield
        finally:
            torch.set_num_threads(own_threads)
            torch.use_deterministic_algorithms(deterministic)
            torch_deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
