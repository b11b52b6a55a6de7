"""Parts -> an ordinary gallery on this machine, without embedding anything."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from lookalike.cluster.job.filesystem import is_uri
from lookalike.cluster.job.parts import Parts
from lookalike.encoder import DEFAULT_MODEL
from lookalike.errors import GalleryError, ModelError, ModelMismatchError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.importing import Embedded, write_gallery
from lookalike.gallery.places import places, stored_root
from lookalike.gallery.report import Progress, UpdateReport

__all__ = ["import_gallery"]

LOOKED_FOR = 100
"""Images of which one at least must be in the folder that a gallery is made for."""


def import_gallery(
    parts: Parts,
    folder: Path,
    *,
    directory: Path | None = None,
    model: Path | None = None,
    wait: float = 0.0,
    progress: Callable[[Progress], None] | None = None,
) -> UpdateReport:
    """Make the gallery of ``folder`` from a job's parts: same vectors, hash functions and codes.

    Interrupted or refused, there is no gallery.

    Args:
        folder: where the images are on this machine.
        directory: where the gallery's files go; None: ``folder/.lookalike``.
        model: the job's ONNX model file, for later searches; None: the one that comes with
            lookalike.
        wait: seconds to wait for another writer.
        progress: called after each part.

    Raises:
        GalleryError: parts are missing or damaged, the images are not in ``folder``, or there is a
            gallery already.
        ModelMismatchError: ``model`` is not the job's.
    """
    began = time.monotonic()
    parts.check_complete()
    _check_model(parts, model)
    root, home = places(folder, directory)
    names = parts.names()
    _check_root(parts, names, root)
    meta = {
        "model": parts.job.model.as_dict(),
        "model_path": None if model is None else os.fspath(model.absolute()),
        "root": stored_root(root, home),
    }

    def batches() -> Iterator[Embedded]:
        done = skipped = 0
        for name in names:
            rows = parts.read(name)
            yield Embedded(rows.images, rows.vectors, rows.skipped)
            skipped += len(rows.skipped)
            done += len(rows.images) + len(rows.skipped)
            if progress is not None:
                progress(Progress(done, max(done, parts.job.images), skipped))

    # A gallery keeps vectors, also of a job whose settings say that an index should not.
    settings = replace(parts.job.settings, vectors="float16")
    hasher = replace(parts.hasher, settings=settings)
    counts = write_gallery(GalleryFiles(home), meta, hasher, batches(), parts.next_id(), wait)
    return UpdateReport(
        added=counts.images,
        images=counts.images,
        skipped=counts.skipped,
        removed=counts.removed,
        seconds=time.monotonic() - began,
    )


def _check_model(parts: Parts, model: Path | None) -> None:
    path, known = model or DEFAULT_MODEL, parts.job.model
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read model {path} ({error.strerror})") from error
    if sha256 != known.sha256:
        raise ModelMismatchError(
            f"the parts in {parts.where} were made with model {known.name} {known.version} "
            f"(SHA-256 {known.sha256[:12]}), {path} has {sha256[:12]}; searches need the first: "
            f"name it with --model FILE"
        )


def _check_root(parts: Parts, names: list[str], root: Path) -> None:
    """Raises GalleryError if the folder is none, or seems to be another than the images'."""
    if not root.is_dir():
        raise GalleryError(f"{root} is not a folder, or its disk is not mounted")
    made_of = parts.job.root
    if not made_of or is_uri(made_of) or root.resolve() == Path(made_of).resolve() or not names:
        return
    paths = [os.fsdecode(row.path) for row in parts.read(names[0]).images[:LOOKED_FOR]]
    if paths and not any((root / path).exists() for path in paths):
        raise GalleryError(
            f"{root} has none of the first {len(paths)} images of {parts.where} ({paths[0]}, for "
            f"instance); give the folder that they are in, which was {made_of}"
        )
