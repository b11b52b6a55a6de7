"""Making a job of a source, and embedding its chunks: in this process, or as tasks on Ray.

On Ray a worker or a node that dies has its chunk done again, elsewhere; a driver that dies leaves
whole parts, and running it again does what is missing. Every machine of the cluster needs the same
lookalike, and the job's folder, the images and the model file under the same paths.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from lookalike.cluster.chunk import (
    DEFAULTS,
    ChunkReport,
    EmbedSettings,
    check_model,
    embed_chunk,
    embed_chunks,
)
from lookalike.cluster.connect import connected, is_listening
from lookalike.cluster.job import JOB, Chunk, Job
from lookalike.cluster.parts import Parts
from lookalike.cluster.source import full_name, open_source
from lookalike.cluster.storage import Storage
from lookalike.encoder import DEFAULT_MODEL, Encoder, bundled_model
from lookalike.errors import ClusterError, GalleryError, LookalikeError
from lookalike.progress import Progress

CHUNK_IMAGES = 512
TRIES = 10
"""Losses of a chunk's worker after which the chunk itself is taken for the cause."""
TASKS_PER_SLOT = 2
"""Submitted for each that can run at once, so that no worker waits for the driver."""
HEAD_SECONDS = 30.0
"""Silence of the head that ends the job; Ray itself would end the whole process after 60."""
LOOK_SECONDS = 5.0
"""Between two looks at which nodes there are."""


def prepare(
    source: str, where: str, *, model: str | None = None, chunk_images: int | None = None
) -> Parts:
    """List ``source`` and make a job of it in ``where``, or go on with the one that is there.

    A job that is there keeps its list: files added since are found by updating the gallery.

    Args:
        source: see `open_source`.
        where: folder or URI of the parts.
        model: an ONNX model file; None: the one that comes with lookalike, or came with the version
            that made the job that is there.
        chunk_images: images per task; None: as the job that is there has it, or 512.

    Raises:
        GalleryError: the source is nothing that can be listed, has no images, or the job in
            ``where`` is of another source or another chunk size.
        ModelMismatchError: the job in ``where`` is of another model.
    """
    storage = Storage(where)
    if JOB not in storage.names():
        info = Encoder.open(Path(model or DEFAULT_MODEL)).info
        found = open_source(source)
        job = Job(info, found.root, chunk_images or CHUNK_IMAGES, source=found.name)
        return Parts.create(where, job, found.items())
    parts = Parts.open(where)
    job = parts.job
    if full_name(source) != job.source:
        raise GalleryError(
            f"{parts.where} holds the parts of {job.source}, not of {full_name(source)}; choose "
            f"another folder for the parts"
        )
    if chunk_images not in (None, job.chunk_images):
        raise GalleryError(
            f"the job in {parts.where} has chunk_images {job.chunk_images}, not {chunk_images}; "
            f"leave the option out, or make a new job in an empty folder"
        )
    check_model(Encoder.open(Path(model or bundled_model(job.model))).info, job)
    storage.tidy()
    return parts


def embed_all(
    parts: Parts,
    address: str | None = None,
    settings: EmbedSettings = DEFAULTS,
    *,
    gpus_per_task: float = 0.0,
    deadline: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[ChunkReport]:
    """Embed all missing chunks; interrupted, only whole parts are left.

    Args:
        address: HOST:PORT of the head of a Ray cluster of which this machine is a node; None: one
            chunk after the other in this process.
        gpus_per_task: to reserve on Ray beside them; may be a fraction.
        deadline: seconds from now after which to stop; None: as long as it takes.
        progress: called after each chunk, with how many of the missing images are done.

    Raises:
        GalleryError: the deadline has passed. Also what `embed_chunk` raises.
        ClusterError: no Ray answers at the address, or one of another version; nothing there has
            the CPUs or GPUs that a task reserves; its head is lost; a chunk kills all its workers.
        MissingExtraError: Ray is not installed.
    """
    end = None if deadline is None else time.monotonic() + deadline
    if not (missing := parts.missing()):
        return []
    job = parts.job
    total = sum(map(job.images_of, missing))
    reports: list[ChunkReport] = []
    done = skipped = 0
    work: Work
    if address is None:
        work = embed_chunks(parts.where, parts.chunks(missing), settings)
    else:
        work = _on_ray(parts, missing, address, settings, gpus_per_task)
    with closing(work):
        for report in work:
            if report is not None:
                reports.append(report)
                done, skipped = done + job.images_of(report.number), skipped + report.skipped
                if progress is not None:
                    progress(Progress(done, total, skipped))
            if end is not None and time.monotonic() >= end and len(reports) < len(missing):
                raise GalleryError(
                    f"stopped after {deadline:g} s, the deadline: "
                    f"{job.chunks - len(parts.missing())} of {job.chunks} chunks are done and "
                    f"kept; run the same command again to go on"
                )
    return reports


Work = Generator[ChunkReport | None, None, None]
"""Reports as chunks are done; None now and then, if nothing has happened."""


def _on_ray(
    parts: Parts, missing: list[int], address: str, settings: EmbedSettings, gpus: float
) -> Work:
    cpus = settings.threads or 1
    settings = replace(settings, threads=cpus)
    with connected(address) as ray:
        remote = ray.remote(embed_chunk).options(num_cpus=cpus, num_gpus=gpus, max_retries=TRIES)
        slots = _slots(ray, cpus, gpus)
        if not slots:
            also = f" and {gpus:g} GPU" if gpus else ""
            raise ClusterError(
                f"no node of the Ray cluster at {address} has the {cpus} CPU{also} that a task "
                f"reserves; reserve less, or add a node with: ray start --address={address}"
            )
        waiting, running = parts.chunks(missing), dict[Any, Chunk]()
        looked = heard = time.monotonic()
        while True:
            while len(running) < TASKS_PER_SLOT * max(1, slots):
                if (chunk := next(waiting, None)) is None:
                    break
                running[remote.remote(parts.where, chunk, settings)] = chunk
            if not running:
                return
            for reference in ray.wait(list(running), timeout=1.0)[0]:
                yield _report(ray, reference, running.pop(reference))
            yield None
            now = time.monotonic()
            if now - looked >= LOOK_SECONDS:
                looked = now
                if is_listening(address):
                    heard, slots = now, _slots(ray, cpus, gpus)
                elif now - heard >= HEAD_SECONDS:
                    raise ClusterError(
                        f"the head of the Ray cluster at {address} is lost; what is done is kept: "
                        f"start the cluster again, then run the same command again"
                    )


def _slots(ray: Any, cpus: int, gpus: float) -> int:
    """How many tasks the nodes that are alive now can run at once."""
    has = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    rooms = (min(h.get("CPU", 0) // cpus, h.get("GPU", 0) / gpus if gpus else 1e9) for h in has)
    return sum(map(int, rooms))


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
        first, last = (os.fsdecode(chunk.items[at][0]) for at in (0, -1))
        raise ClusterError(
            f"chunk {chunk.number}, from {first!r} to {last!r}, has lost its worker {TRIES + 1} "
            f"times ({type(error).__name__}); if one of its images needs too much memory, try a "
            f"smaller --max-pixels"
        ) from error
