"""Making a job of a source, and doing all of it in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lookalike.cluster.embed.chunk import ChunkReport, check_model, embed_chunk
from lookalike.cluster.embed.learning import learned_hasher
from lookalike.cluster.embed.source import chunks_of, full_name, open_source
from lookalike.cluster.job.descriptor import write_chunks
from lookalike.cluster.job.folder import Folder
from lookalike.cluster.job.jobfile import JOB, check_vacant, hasher_file
from lookalike.cluster.job.parts import Job, Parts
from lookalike.encoder import Encoder
from lookalike.errors import GalleryError
from lookalike.gallery.report import Progress
from lookalike.images import DEFAULT_MAX_PIXELS
from lookalike.lsh import LSHSettings
from lookalike.lsh.hashing import Hasher

__all__ = ["CHUNK_IMAGES", "default_key_bits", "embed_here", "prepare", "unlearned_hasher"]

TABLES = 8
CHUNK_IMAGES = 512
IMAGES_PER_BUCKET = 16


def default_key_bits(images: int) -> int:
    """round(log2(images / 16)), from 4 to 14: buckets of about 16 images."""
    return min(14, max(4, round(math.log2(max(images, 1) / IMAGES_PER_BUCKET))))


def unlearned_hasher(settings: LSHSettings) -> Hasher:
    """Hash functions of ``settings`` that learn nothing: they depend on the seed alone."""
    rows = np.random.default_rng(settings.seed).standard_normal((1024, settings.dim), np.float32)
    return Hasher.fit(settings, rows / np.linalg.norm(rows, axis=1, keepdims=True))


def prepare(
    source: str,
    where: str,
    *,
    model: str | None = None,
    tables: int | None = None,
    key_bits: int | None = None,
    seed: int | None = None,
    settings: LSHSettings | None = None,
    hasher: Hasher | None = None,
    learn: bool = False,
    chunk_images: int | None = None,
    unreadable: Callable[[bytes, OSError], None] | None = None,
) -> Parts:
    """List ``source`` and make a job of it in ``where``, or go on with the one that is there.

    A job that is there keeps its list: files added since are found by updating the gallery. What
    is None is as the job has it; of a new one:

    Args:
        source: a folder, a text file with one path of an image per line, or a Parquet file or
            folder of them with a column ``path`` or ``bytes``; local, or a URI.
        where: folder or URI of the parts.
        model: an ONNX model file; None: the one that comes with lookalike, also for a job that is
            there.
        tables, key_bits, seed: of the paper's scheme, from which nothing has to be learned; None:
            8 tables, `default_key_bits`, seed 0.
        settings: instead of these three.
        hasher: the hash functions; None: from the seed, or learned.
        learn: fit the default hash functions of a local gallery on a sample of the images, which
            is embedded now; one table then, unless ``tables`` says otherwise. ``settings`` that
            learn from data do the same.
        chunk_images: images per task; None: 512.
        unreadable: told of each folder that could not be listed; None: such a folder is an error.

    Raises:
        GalleryError: the source is nothing that can be listed, has no images, or the job in
            ``where`` is of another source or of other settings.
        ModelMismatchError: the job in ``where`` is of another model.
    """
    folder = Folder(where)
    encoder = Encoder.open(None if model is None else Path(model))
    info = encoder.info
    given = {"tables": tables, "key_bits": key_bits, "seed": seed, "chunk_images": chunk_images}
    wanted = {name: value for name, value in given.items() if value is not None}
    if JOB in folder.names():
        parts = Parts.open(where)
        _check_same(parts, source, wanted, settings)
        if hasher is not None and hasher_file(hasher)[0] != parts.job.hasher:
            raise GalleryError(
                f"the job in {parts.where} has other hash functions than those given; leave them "
                f"out, or make a new job in an empty folder"
            )
        if learn and not parts.job.settings.learned:
            raise GalleryError(
                f"the job in {parts.where} takes its hash functions from the seed; leave out "
                f"--learn, or make a new job in an empty folder"
            )
        check_model(info, parts.job)
        parts.tidy()
        return parts
    check_vacant(folder)
    found = open_source(source, unreadable)
    size = chunk_images or CHUNK_IMAGES
    # Listed first: the number of images decides how many buckets there are.
    count, images = write_chunks(folder, chunks_of(found, size))
    if not images:
        raise GalleryError(
            f"there are no images in {found.name}; hidden files, and names without the extension "
            f"of an image, do not count"
        )
    bits = default_key_bits(images) if key_bits is None else key_bits
    if settings is None and learn:
        settings = LSHSettings(info.dim, tables=tables or 1, key_bits=bits, seed=seed or 0)
    elif settings is None:
        settings = LSHSettings.paper(
            info.dim, tables=tables or TABLES, key_bits=bits, seed=seed or 0
        )
    elif settings.key_bits is not None:
        bits = settings.key_bits
    if hasher is None and settings.learned:
        hasher = learned_hasher(settings, folder, count, found.root, encoder)
        settings = hasher.settings
    elif hasher is None:
        hasher = unlearned_hasher(settings)
    bits = min(bits, hasher.max_key_bits)
    job = Job(info, settings, bits, found.root, size, count, images, found.name)
    return Parts.begin(folder, job, hasher)


def _check_same(
    parts: Parts, source: str, wanted: dict[str, int], settings: LSHSettings | None
) -> None:
    job = parts.job
    name = full_name(source)
    if name != job.source:
        raise GalleryError(
            f"{parts.where} holds the parts of {job.source}, not of {name}; choose another folder "
            f"for the parts"
        )
    has = {
        "tables": job.settings.tables,
        "key_bits": job.key_bits,
        "seed": job.settings.seed,
        "chunk_images": job.chunk_images,
    }
    for option, value in wanted.items():
        if has[option] != value:
            raise GalleryError(
                f"the job in {parts.where} has {option} {has[option]}, not {value}; leave the "
                f"option out, or make a new job in an empty folder"
            )
    if settings is not None and replace(settings, search=job.settings.search) != job.settings:
        raise GalleryError(
            f"the job in {parts.where} has the settings {job.settings}, not {settings}; use these, "
            f"or make a new job in an empty folder"
        )


def embed_here(
    parts: Parts,
    *,
    model: str | None = None,
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Callable[[Progress], None] | None = None,
) -> list[ChunkReport]:
    """Embed all missing chunks, one after the other; interrupted, only whole parts are left.

    Args:
        progress: called after each chunk, with how many of the missing images are done.
    """
    reports: list[ChunkReport] = []
    missing = parts.missing()
    total = sum(chunk.images for chunk in missing)
    done = skipped = 0
    for chunk in missing:
        report = embed_chunk(
            parts.where, chunk, model=model, threads=threads, max_pixels=max_pixels
        )
        reports.append(report)
        done, skipped = done + chunk.images, skipped + report.skipped
        if progress is not None:
            progress(Progress(done, total, skipped))
    return reports
