"""Files that are replaced whole, and links and pipes that are not taken for files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.atomic import IrregularFileError, atomic_writer, open_regular, read_regular
from lookalike.gallery.lock import exclusive


def link_to_file(path: Path) -> None:
    target = path.with_name("precious")
    target.write_bytes(b"precious")
    path.symlink_to(target)


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


IRREGULAR = [link_to_file, link_to_nothing, os.mkfifo, Path.mkdir]


@pytest.mark.parametrize("make", IRREGULAR, ids=lambda make: make.__name__)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
def test_only_regular_files_are_opened(
    tmp_path: Path, make: Callable[[Path], None], flags: int
) -> None:
    make(tmp_path / "file")
    with pytest.raises(IrregularFileError, match="is not a regular file"):
        open_regular(tmp_path / "file", flags)
    assert not (tmp_path / "nothing").exists()


def test_a_file_larger_than_it_may_be_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(IrregularFileError, match="is larger than the 4 bytes"):
        read_regular(tmp_path / "file", 4)


@pytest.mark.parametrize("name", ["file", ".file.tmp"])
@pytest.mark.parametrize("make", IRREGULAR[:3], ids=lambda make: make.__name__)
def test_what_is_planted_in_the_place_of_a_file_is_replaced_and_not_followed(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    make(tmp_path / name)
    with atomic_writer(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()
    if make is link_to_file:
        assert (tmp_path / "precious").read_bytes() == b"precious"
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "precious"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_writer(tmp_path / "file") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_writer(tmp_path / "file") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("make", IRREGULAR, ids=lambda make: make.__name__)
def test_a_lock_that_is_a_link_or_pipe_is_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "lock")
    with pytest.raises(IrregularFileError), exclusive(tmp_path / "lock", RuntimeError):
        pass
    if make is link_to_file:
        assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_lock_that_is_another_name_of_a_file_leaves_its_content(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    os.link(tmp_path / "precious", tmp_path / "lock")
    with (
        exclusive(tmp_path / "lock", RuntimeError),
        pytest.raises(RuntimeError, match="unknown"),
        exclusive(tmp_path / "lock", RuntimeError),
    ):
        pass
    assert (tmp_path / "precious").read_bytes() == b"precious"
