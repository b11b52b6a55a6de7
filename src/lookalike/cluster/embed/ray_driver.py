"""All missing chunks of a job, embedded on a Ray cluster.

What survives: a worker or a node that dies has its chunk done again, elsewhere; a driver that dies
leaves whole parts, and running it again does what is missing. Ray is told nothing but the chunk's
description and the name of a function, so every machine of the cluster needs the same lookalike,
and the job's folder, the images and the model file under the same paths.

Ray is imported by the function that needs it, not here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from lookalike.cluster.embed.chunk import ChunkReport
from lookalike.cluster.embed.ray_address import NO_REPORTS, check_cluster, listens
from lookalike.cluster.embed.ray_tasks import RayTasks
from lookalike.cluster.job.parts import Parts
from lookalike.errors import ClusterError, GalleryError, MissingExtraError
from lookalike.gallery.report import Progress
from lookalike.images import DEFAULT_MAX_PIXELS

__all__ = ["embed_on_ray", "out_of_time"]

HEAD_SECONDS = 30.0
"""Silence of the head that ends the job; Ray itself would end the whole process after 60."""
LOOK_SECONDS = 5.0
"""Between two looks at which nodes there are."""
POLL_SECONDS = 1.0


def embed_on_ray(
    parts: Parts,
    address: str,
    *,
    model: str | None = None,
    threads: int = 1,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    gpus_per_task: float = 0.0,
    deadline: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[ChunkReport]:
    """Embed all missing chunks on the Ray cluster at ``address``.

    Connects, and disconnects at the end, unless this process is connected to a cluster already,
    which is then used.

    Args:
        address: HOST:PORT of the cluster's head. This machine must be one of its nodes.
        model: path of the model file, the same on all machines; None: the one of lookalike.
        threads: of the model; a task reserves as many CPUs.
        gpus_per_task: to reserve beside them; may be a fraction.
        deadline: seconds from now after which to stop; None: as long as it takes.
        progress: called after each chunk, with how many of the missing images are done.
        tell: called with a line for people when a worker or a node was lost.

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
    total = sum(chunk.images for chunk in missing)
    reports: list[ChunkReport] = []
    options = {"model": model, "threads": threads, "max_pixels": max_pixels}
    with _connected(address) as ray:
        tasks = RayTasks(ray, parts.where, options, cpus=threads, gpus=gpus_per_task, tell=tell)
        slots, heard = tasks.slots(), time.monotonic()
        if not slots:
            raise ClusterError(
                f"no node of the Ray cluster at {address} has the {tasks.reserved} that a task "
                f"reserves; reserve less, or add a node with: ray start --address={address}"
            )
        looked, waiting, done, skipped = heard, iter(missing), 0, 0
        tasks.submit(waiting, slots)
        while len(tasks):
            for chunk, report in tasks.finished(POLL_SECONDS):
                reports.append(report)
                done, skipped = done + chunk.images, skipped + report.skipped
                if progress is not None:
                    progress(Progress(done, total, skipped))
            now = time.monotonic()
            if now - looked >= LOOK_SECONDS:
                looked = now
                if listens(address):
                    heard, slots = now, tasks.slots()
                elif now - heard >= HEAD_SECONDS:
                    raise ClusterError(
                        f"the head of the Ray cluster at {address} is lost; what is done is kept: "
                        f"start the cluster again, then run the same command again"
                    )
            tasks.submit(waiting, slots)
            if deadline is not None and end is not None and now >= end and len(tasks):
                raise out_of_time(parts, deadline)
    return reports


def out_of_time(parts: Parts, deadline: float) -> GalleryError:
    """That the deadline, in seconds, has passed, and what now."""
    chunks = parts.job.chunks
    return GalleryError(
        f"stopped after {deadline:g} s, the deadline: {chunks - len(parts.missing())} of {chunks} "
        f"chunks are done and kept; run the same command again to go on"
    )


@contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    """The module ``ray``, connected."""
    os.environ |= NO_REPORTS
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "embedding on a Ray cluster needs ray: pip install 'lookalike[cluster]'"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    check_cluster(address)
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()
