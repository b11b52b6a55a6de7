"""Arrays in files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from reproduction.mapped import open_rows, read_count, write_count


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    rows, there = open_rows(tmp_path / "rows", np.float16, (3, 4))
    assert not there and not rows.any()
    rows[1] = [1, 2, 3, 4]
    rows.flush()
    again, there = open_rows(tmp_path / "rows", np.float16, (3, 4))
    assert there and again[1].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 23, 25])
def test_a_file_of_another_size_is_made_anew(size: int, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"x" * size)
    rows, there = open_rows(tmp_path / "rows", np.float16, (3, 4))
    assert not there and not rows.any()
    assert (tmp_path / "rows").stat().st_size == 24


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system has no such call")
def test_a_full_disk_is_an_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        open_rows(tmp_path / "rows", np.float16, (3, 4))
    assert caught.value.filename == str(tmp_path / "rows")
    assert not list(tmp_path.iterdir())


def test_a_count_that_nobody_noted_is_nothing(tmp_path: Path) -> None:
    assert read_count(tmp_path / "done") == 0
    write_count(tmp_path / "done", 12)
    assert read_count(tmp_path / "done") == 12
