"""Train an embedder on class folders: one call, resumable, the same result however often killed.

What the network sees follows from the seed alone: the split, each epoch's order, each image's
augmentation. A checkpoint holds all else that the next step depends on (weights, optimiser,
averages, torch's random state, the place within the epoch), so a training that goes on from it
computes the same bits as one that was never interrupted, on the CPU and with the same number of
threads, which it holds too.

The stages of the trunk that are frozen, as far as no attention comes between, are run once for
`views` augmented views of each image; their maps stay in memory, and the rest trains from them.
"""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.utils import deterministic as torch_deterministic

from lookalike.atomic import atomic_writer
from lookalike.errors import TrainingError
from lookalike.models.data import LabelledImages
from lookalike.models.embedder import Embedder, save_embedder
from lookalike.models.export import Storage, export_embedder, no_compiler_cache, storage_cost
from lookalike.models.inputs import TrainData, frozen_stages
from lookalike.models.losses import Teacher, make_loss, teacher_digest
from lookalike.models.report import (
    Listener,
    TrainReport,
    draw_curves,
    overfitting,
    write_csv,
)
from lookalike.models.run import Run
from lookalike.models.settings import EmbedderSettings, TrainSettings

Identity: TypeAlias = dict[str, dict[str, Any]]

COST_IMAGES = 50
CHECKPOINT_FORMAT = 2


def train(
    source: Path | LabelledImages,
    embedder_settings: EmbedderSettings,
    settings: TrainSettings,
    out: Path,
    progress: Listener | None = None,
    *,
    name: str = "",
    storage: Storage = "float32",
) -> TrainReport:
    """Train on the class folders in `source`, or on given images, and write the model to `out`.

    `out` ending in .onnx is a model file for a gallery; the embedder goes beside it as .pt, the
    curves as .csv and .svg. With another ending `out` is the embedder alone. OUT.checkpoint is
    there until the end: the same call goes on from it. `name` is the model's in the file; none:
    from `out`. `storage` is what the model file keeps its weights as; the report says what it
    costs.

    Torch's random state, threads and determinism are set while it runs and given back.

    Raises TrainingError for settings that do not fit the network, data without anything to learn, a
    loss that is not finite, and a checkpoint of another training; ModelError for weights that do
    not fit; MissingExtraError for a loss or weights whose package is not installed.
    """
    began = time.perf_counter()
    listener = progress or (lambda _: None)
    if not out.parent.is_dir():
        raise TrainingError(f"{out.parent} is not a folder to write {out.name} to: make it first")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device is cuda, and torch finds none here: use cpu")
    _check_parts(embedder_settings, settings)
    data = TrainData.read(source, embedder_settings, settings, listener)
    checkpoint = out.with_name(out.name + ".checkpoint")
    identity = identify(data, embedder_settings, settings)
    saved = read_checkpoint(checkpoint, identity)
    threads = settings.threads or torch.get_num_threads()
    with _torch_state(saved["threads"] if saved else threads, settings):
        run = Run(data, embedder_settings, settings, listener)
        if saved is not None:
            run.restore(saved)
        resumed = run.epoch if saved else None
        run.go_on(lambda: write_checkpoint(checkpoint, identity, run.state()))
    report = _write(run, out, name or out.stem, storage)
    checkpoint.unlink(missing_ok=True)  # last, so nothing can be lost
    return replace(report, resumed=resumed, seconds=time.perf_counter() - began)


def _check_parts(embedder_settings: EmbedderSettings, settings: TrainSettings) -> None:
    """Before minutes of reading images: build everything once, and let it go."""
    frozen_stages(embedder_settings.trunk, settings.freeze)
    if embedder_settings.trunk_dim:
        raise TrainingError("trunk_dim is not trained: set it to 0, and keep_trunk afterwards")
    with torch.random.fork_rng(devices=[]):
        try:
            embedder = Embedder(embedder_settings, settings.weights)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        make_loss(settings, embedder.dim, 2)
        if settings.teacher is not None:
            path = Path(settings.teacher)
            teacher_digest(path)  # its error for a file that is not there names the setting
            Teacher(path, embedder, torch.device("cpu"))


def _write(run: Run, out: Path, name: str, storage: Storage) -> TrainReport:
    """All files of a finished training."""
    data, embedder, history = run.data, run.result(), tuple(run.history)
    weights = out.with_suffix(".pt") if out.suffix == ".onnx" else out
    csv, svg = out.with_suffix(".csv"), out.with_suffix(".svg")
    save_embedder(embedder, weights)
    loss = None
    if out.suffix == ".onnx":
        export_embedder(embedder, out, name=name, storage=storage)
        if storage != "float32":
            some = data.examples(COST_IMAGES, embedder.settings.input_size)
            loss = storage_cost(embedder, out, some)
    write_csv(history, csv)
    draw_curves(history, svg, kept=run.kept)
    return TrainReport(
        out=out,
        weights=weights,
        csv=csv,
        svg=svg,
        classes=data.images.classes,
        images=len(data.training),
        held_out=len(data.plain) - data.gallery if data.plain is not None else 0,
        skipped=data.skipped,
        history=history,
        kept=run.kept,
        overfitting=overfitting(history),
        storage_cost=loss,
    )


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


# ---- the checkpoint: the state of a run, and the identity of the training --------------------


def identify(data: TrainData, embedder: EmbedderSettings, settings: TrainSettings) -> Identity:
    """What must be equal for a training to go on: all settings that the result depends on."""
    digest = hashlib.sha256()
    images = data.images
    for path, label in zip(images.paths, images.labels.tolist(), strict=True):
        line = f"{images.classes[label]}/{path.name} {path.stat().st_size}\n"
        digest.update(line.encode(errors="surrogateescape"))
    digest.update(data.plain_labels.tobytes())
    own = asdict(settings)
    for name in ("checkpoint_seconds", "picture_memory", "threads"):
        del own[name]
    if settings.teacher is not None:
        own["teacher"] = teacher_digest(Path(settings.teacher))
    rest = {"images": len(images), "files": digest.hexdigest(), "torch": str(torch.__version__)}
    return {"training": own, "embedder": embedder.as_dict(), "data": rest}


def write_checkpoint(path: Path, identity: Identity, state: Any) -> None:
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "identity": identity, "state": state}, buffer)
    with atomic_writer(path) as file:
        file.write(buffer.getbuffer())


def read_checkpoint(path: Path, identity: Identity) -> dict[str, Any] | None:
    """The state in the file; None without a file; TrainingError if it cannot be gone on from."""
    away = f"delete {path} to start again"
    try:
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{name} does not match its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, theirs, state = content["format"], content["identity"], content["state"]
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path} is damaged ({error}): {away}") from error
    if version != CHECKPOINT_FORMAT:
        raise TrainingError(
            f"{path} has format {version}, this lookalike reads {CHECKPOINT_FORMAT}: {away}"
        )
    for part, own in identity.items():
        for key in sorted(own.keys() | theirs.get(part, {}).keys()):
            before, now = theirs.get(part, {}).get(key), own.get(key)
            if before != now:
                raise TrainingError(
                    f"{path} is of another training: {part}'s {key} was {before}, it is {now} "
                    f"now. Set it as it was to go on, or {away}"
                )
    result: dict[str, Any] = state
    return result
