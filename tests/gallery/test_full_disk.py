from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import assert_holds, vectors_of, write_photos

from lookalike.errors import StorageFullError
from lookalike.gallery import Gallery
from lookalike.gallery import update as update_module

REMEDY = "is full; free some space and run the command again"
COUNT = 300


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[bool]:
    """A file system of that size at ``folder``; False if this process may not mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        allowed = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_stopped_and_sound(gallery: Gallery, folder: Path) -> int:
    """An update runs out of space; what it had committed stays whole and searchable."""
    with pytest.raises(StorageFullError, match=REMEDY):
        gallery.update()
    again = Gallery.open(folder, directory=gallery.directory, create=False)
    assert again.verify() == []
    stored = vectors_of(again)
    for name in list(stored)[:3]:
        assert again.search(name, 1)[0].path == name
    return len(stored)


@pytest.mark.slow
def test_a_full_disk_stops_with_the_remedy_and_an_update_goes_on_when_there_is_space(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_module, "COMMIT_IMAGES", 16)
    folder, disk = tmp_path / "photos", tmp_path / "disk"
    write_photos(folder, COUNT)
    with mounted(disk, "600k") as real:
        gallery = Gallery.open(folder, directory=disk / "gallery", model=model)
        if real:
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(400_000))
            known = assert_stopped_and_sound(gallery, folder)
            assert assert_stopped_and_sound(gallery, folder) >= known
            ballast.unlink()
        else:  # not allowed to mount: a limit on the size of files stands in for the disk
            with file_size_limit(60_000):
                known = assert_stopped_and_sound(gallery, folder)
        assert 0 < known < COUNT
        report = gallery.update()
        assert (report.images, report.skipped) == (COUNT, 0)
        assert_holds(gallery, folder)
        assert gallery.verify() == []
        del gallery  # which keeps its files open


def test_a_disk_that_is_full_from_the_start_says_so(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 3)
    with (
        file_size_limit(1000),
        pytest.raises(StorageFullError, match=REMEDY),
    ):
        Gallery.open(folder, model=model)
    assert Gallery.open(folder, model=model).update().added == 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("commit", [1, 2, 3])
def test_any_write_may_fail_and_the_last_commit_stays(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch, code: int, commit: int
) -> None:
    monkeypatch.setattr(update_module, "COMMIT_IMAGES", 4)
    before = vectors_of(gallery)
    write_photos(photos / "new", 24, first_seed=500)
    real, calls = os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 4 * commit:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        known = assert_stopped_and_sound(gallery, photos)
    assert len(before) <= known < len(before) + 24
    assert gallery.update().images == 36
    assert_holds(gallery, photos)
