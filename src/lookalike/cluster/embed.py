"""Making a job of a source, and embedding its chunks: in this process, or as tasks on Ray.

On Ray a worker or a node that dies has its chunk done again, elsewhere; a driver that dies leaves
whole parts, and running it again does what is missing. Every machine of the cluster needs the same
lookalike, and the job's folder, the images and the model file under the same paths.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lookalike.cluster.chunk import ChunkReport, check_model, embed_chunk
from lookalike.cluster.connect import connected, is_listening
from lookalike.cluster.job import JOB, Chunk, ChunkList, Job, check_vacant
from lookalike.cluster.parts import Parts
from lookalike.cluster.source import Unreadable, chunks_of, full_name, open_source
from lookalike.cluster.storage import Storage
from lookalike.encoder import Encoder
from lookalike.errors import ClusterError, GalleryError, LookalikeError
from lookalike.gallery.report import Progress
from lookalike.images import DEFAULT_MAX_PIXELS

__all__ = ["CHUNK_IMAGES", "embed_here", "embed_on_ray", "prepare"]

CHUNK_IMAGES = 512
TRIES = 10
"""Losses of a chunk's worker after which the chunk itself is taken for the cause."""
TASKS_PER_SLOT = 2
"""Submitted for each that can run at once, so that no worker waits for the driver."""
HEAD_SECONDS = 30.0
"""Silence of the head that ends the job; Ray itself would end the whole process after 60."""
LOOK_SECONDS = 5.0
"""Between two looks at which nodes there are."""
Show = Callable[[Progress], None]


def prepare(
    source: str,
    where: str,
    *,
    model: str | None = None,
    chunk_images: int | None = None,
    unreadable: Unreadable | None = None,
) -> Parts:
    """List ``source`` and make a job of it in ``where``, or go on with the one that is there.

    A job that is there keeps its list: files added since are found by updating the gallery.

    Args:
        source: see `open_source`.
        where: folder or URI of the parts.
        model: an ONNX model file; None: the one that comes with lookalike, also for a job that is
            there.
        chunk_images: images per task; None: as the job that is there has it, or 512.
        unreadable: called for each folder that could not be listed; None: such a folder is an
            error.

    Raises:
        GalleryError: the source is nothing that can be listed, has no images, or the job in
            ``where`` is of another source or another chunk size.
        ModelMismatchError: the job in ``where`` is of another model.
    """
    storage = Storage(where)
    info = Encoder.open(None if model is None else Path(model)).info
    if JOB in storage.names():
        parts = Parts.open(where)
        job = parts.job
        if full_name(source) != job.source:
            raise GalleryError(
                f"{parts.where} holds the parts of {job.source}, not of {full_name(source)}; "
                f"choose another folder for the parts"
            )
        if chunk_images not in (None, job.chunk_images):
            raise GalleryError(
                f"the job in {parts.where} has chunk_images {job.chunk_images}, not "
                f"{chunk_images}; leave the option out, or make a new job in an empty folder"
            )
        check_model(info, job)
        storage.tidy()
        return parts
    check_vacant(storage)
    found = open_source(source, unreadable)
    size = chunk_images or CHUNK_IMAGES
    job = Job(info, found.root, size, source=found.name)
    return Parts.create(where, job, chunks_of(found, size))


def embed_here(
    parts: Parts,
    *,
    model: str | None = None,
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    deadline: float | None = None,
    progress: Show | None = None,
) -> list[ChunkReport]:
    """Embed all missing chunks, one after the other; interrupted, only whole parts are left.

    Args:
        deadline: seconds from now after which to stop, when a chunk is done.
        progress: called after each chunk, with how many of the missing images are done.

    Raises:
        GalleryError: the deadline has passed. Also what `embed_chunk` raises.
    """
    end = None if deadline is None else time.monotonic() + deadline
    missing = parts.missing()
    count = _Count(missing, progress)
    for chunk in missing:
        report = embed_chunk(
            parts.where, chunk, model=model, threads=threads, max_pixels=max_pixels
        )
        count.add(chunk, report)
        if end is not None and time.monotonic() >= end and len(count.reports) < len(missing):
            raise _out_of_time(parts, deadline or 0.0)
    return count.reports


class _Count:
    """The reports so far."""

    def __init__(self, missing: ChunkList, progress: Show | None) -> None:
        self.reports: list[ChunkReport] = []
        self._total = sum(chunk.images for chunk in missing)
        self._progress = progress
        self._done = self._skipped = 0

    def add(self, chunk: Chunk, report: ChunkReport) -> None:
        self.reports.append(report)
        self._done, self._skipped = self._done + chunk.images, self._skipped + report.skipped
        if self._progress is not None:
            self._progress(Progress(self._done, self._total, self._skipped))


def _embed(where: str, chunk: Chunk, options: Mapping[str, Any]) -> ChunkReport:
    """What a worker does."""
    return embed_chunk(where, chunk, **options)


def embed_on_ray(
    parts: Parts,
    address: str,
    *,
    model: str | None = None,
    threads: int = 1,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    gpus_per_task: float = 0.0,
    deadline: float | None = None,
    progress: Show | None = None,
) -> list[ChunkReport]:
    """Embed all missing chunks on the Ray cluster at ``address``.

    Args:
        address: HOST:PORT of the cluster's head. This machine must be one of its nodes.
        model: path of the model file, the same on all machines; None: the one of lookalike.
        threads: of the model; a task reserves as many CPUs.
        gpus_per_task: to reserve beside them; may be a fraction.
        deadline: seconds from now after which to stop; None: as long as it takes.
        progress: called after each chunk, with how many of the missing images are done.

    Raises:
        ClusterError: no Ray answers at the address, or one of another version; nothing there has
            the CPUs or GPUs that a task reserves; its head is lost; a chunk kills all its workers.
        GalleryError: the deadline has passed. Also what `embed_chunk` raises.
        MissingExtraError: Ray is not installed.
    """
    end = None if deadline is None else time.monotonic() + deadline
    missing = parts.missing()
    if not len(missing):
        return []
    count = _Count(missing, progress)
    options = {"model": model, "threads": threads, "max_pixels": max_pixels}
    with connected(address) as ray:
        remote = ray.remote(_embed).options(
            num_cpus=threads, num_gpus=gpus_per_task, max_retries=TRIES
        )
        slots = _slots(ray, threads, gpus_per_task)
        if not slots:
            gpus = f" and {gpus_per_task:g} GPU" if gpus_per_task else ""
            raise ClusterError(
                f"no node of the Ray cluster at {address} has the {threads} CPU{gpus} that a task "
                f"reserves; reserve less, or add a node with: ray start --address={address}"
            )
        running: dict[Any, Chunk] = {}
        waiting = iter(missing)
        looked = heard = time.monotonic()
        while True:
            while len(running) < TASKS_PER_SLOT * max(1, slots):
                chunk = next(waiting, None)
                if chunk is None:
                    break
                running[remote.remote(parts.where, chunk, options)] = chunk
            if not running:
                return count.reports
            for reference in ray.wait(list(running), timeout=1.0)[0]:
                chunk = running.pop(reference)
                count.add(chunk, _report(ray, reference, chunk))
            now = time.monotonic()
            if now - looked >= LOOK_SECONDS:
                looked = now
                if is_listening(address):
                    heard, slots = now, _slots(ray, threads, gpus_per_task)
                elif now - heard >= HEAD_SECONDS:
                    raise ClusterError(
                        f"the head of the Ray cluster at {address} is lost; what is done is kept: "
                        f"start the cluster again, then run the same command again"
                    )
            if end is not None and now >= end and running:
                raise _out_of_time(parts, deadline or 0.0)


def _slots(ray: Any, cpus: int, gpus: float) -> int:
    """How many tasks the nodes that are alive now can run at once."""

    def fit(has: Mapping[str, float]) -> int:
        number = has.get("CPU", 0) // cpus
        return int(min(number, has.get("GPU", 0) / gpus) if gpus else number)

    return sum(fit(node["Resources"]) for node in ray.nodes() if node["Alive"])


def _report(ray: Any, reference: Any, chunk: Chunk) -> ChunkReport:
    errors = ray.exceptions
    try:
        report: ChunkReport = ray.get(reference)
        return report
    except errors.RayTaskError as error:
        if isinstance(error.cause, LookalikeError | OSError):
            raise error.cause from error
        raise ClusterError(
            f"chunk {chunk.number} failed on a worker: {error.cause!r}; check that all machines of "
            f"the cluster have the same lookalike installed"
        ) from error
    except errors.RayError as error:
        raise ClusterError(
            f"chunk {chunk.number}, from {chunk.items[0]!r} to {chunk.items[-1]!r}, has lost its "
            f"worker {TRIES + 1} times ({type(error).__name__}); if one of its images needs too "
            f"much memory, try a smaller --max-pixels"
        ) from error


def _out_of_time(parts: Parts, deadline: float) -> GalleryError:
    chunks = parts.job.chunks
    return GalleryError(
        f"stopped after {deadline:g} s, the deadline: {chunks - len(parts.missing())} of {chunks} "
        f"chunks are done and kept; run the same command again to go on"
    )
