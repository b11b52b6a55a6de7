"""job.json and the hash functions of a DIR. Writing job.json is what makes a DIR a job."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lookalike.cluster.job.descriptor import CHUNKS
from lookalike.cluster.job.folder import Folder
from lookalike.cluster.job.schema import FORMAT, Job
from lookalike.encoder import ModelInfo
from lookalike.errors import GalleryError, IndexFormatError
from lookalike.lsh import LSHSettings
from lookalike.lsh.hashing import Hasher

__all__ = ["JOB", "check_vacant", "hasher_file", "read_job", "store_hasher", "write_job"]

JOB = "job.json"


def check_vacant(folder: Folder) -> None:
    """Raises GalleryError unless the folder is empty but for a job that was never finished."""
    names = folder.names()
    if JOB in names:
        raise GalleryError(f"{folder.where} holds a job already; choose an empty folder")
    if any(name.startswith(("part-", "removed-")) for name in names):
        raise GalleryError(
            f"{folder.where} holds parts but no {JOB}: an export that did not finish, or the file "
            f"was lost; restore it from a copy, or delete the folder and begin anew"
        )
    strange = [name for name in names if name != CHUNKS and not name.startswith("hasher-")]
    if strange:
        raise GalleryError(
            f"{folder.where} holds other files ({strange[0]}); choose an empty folder for the parts"
        )


def hasher_file(hasher: Hasher) -> tuple[str, bytes]:
    """Name and content of the file of hash functions; equal ones have equal names."""
    with tempfile.TemporaryDirectory() as temporary:
        path = hasher.save(Path(temporary))
        return path.name, path.read_bytes()


def store_hasher(folder: Folder, hasher: Hasher) -> tuple[str, str]:
    """Write the hash functions; returns the name and the SHA-256 of their file."""
    name, content = hasher_file(hasher)
    folder.write(name, content)
    return name, hashlib.sha256(content).hexdigest()


def write_job(folder: Folder, job: Job, hasher_sha256: str) -> None:
    """From here on the folder is a job."""
    body = {**asdict(job), "model": job.model.as_dict(), "settings": job.settings.as_dict()}
    document = {"job": body, "hasher_sha256": hasher_sha256}
    text = json.dumps({"format": FORMAT, "crc32": _crc(document), **document}, indent=2)
    folder.write(JOB, text.encode() + b"\n")


def read_job(folder: Folder) -> tuple[Job, Hasher]:
    """Raises GalleryError: there is none, it is of another format, or damaged."""
    try:
        content = folder.read(JOB)
    except (FileNotFoundError, NotADirectoryError) as error:
        names = folder.names() if not isinstance(error, NotADirectoryError) else []
        what = "a job whose making did not finish" if CHUNKS in names else "no job"
        raise GalleryError(
            f"{folder.where} holds {what} ({JOB} is missing); make one with: lookalike cluster "
            f"embed SOURCE --out DIR"
        ) from error
    try:
        document = json.loads(content)
        version, crc = document.pop("format"), document.pop("crc32")
        if version != FORMAT:
            raise GalleryError(
                f"{JOB} in {folder.where} has format {version}, this lookalike reads format "
                f"{FORMAT}; use the lookalike that made it"
            )
        if crc != _crc(document):
            raise ValueError("it does not match its checksum")
        job = _job(document["job"])
        return job, _open_hasher(folder, job, document["hasher_sha256"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexFormatError) as error:
        raise GalleryError(
            f"{JOB} in {folder.where} is damaged: {error}; restore it from a copy, or begin anew "
            f"in an empty folder"
        ) from error


def _crc(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())


def _job(values: dict[str, Any]) -> Job:
    if values.keys() != {field.name for field in fields(Job)}:
        raise ValueError(f"it has the entries {sorted(values)}")
    model = ModelInfo.from_dict(values["model"])
    settings = LSHSettings.from_dict(values["settings"])
    return Job(**{**values, "model": model, "settings": settings})


def _open_hasher(folder: Folder, job: Job, sha256: str) -> Hasher:
    try:
        content = folder.read(job.hasher)
    except FileNotFoundError as error:
        raise ValueError(f"{job.hasher}, its hash functions, is missing") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{job.hasher} does not match its checksum")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / Path(job.hasher).name
        path.write_bytes(content)
        return Hasher.open(path, job.settings)  # mapped: what is deleted stays readable
