"""Arrays in files that an interrupted computation resumes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from reproduction.maps import Rows


def test_rows_that_were_saved_are_there_again(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.f16", np.float16, (3, 4))
    assert rows.count == 0 and not rows.array.any()
    rows.array[1] = [1, 2, 3, 4]
    rows.save(2)
    again = Rows(tmp_path / "rows.f16", np.float16, (3, 4))
    assert again.count == 2 and again.array[1].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 23, 25])
def test_a_file_of_another_size_is_replaced_and_its_count_forgotten(
    size: int, tmp_path: Path
) -> None:
    (tmp_path / "rows.f16").write_bytes(b"x" * size)
    (tmp_path / "rows.done").write_text("3")
    rows = Rows(tmp_path / "rows.f16", np.float16, (3, 4))
    assert rows.count == 0 and not rows.array.any()
    assert (tmp_path / "rows.f16").stat().st_size == 24


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system has no such call")
def test_a_full_disk_is_an_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        Rows(tmp_path / "rows.f16", np.float16, (3, 4))
    assert caught.value.filename == str(tmp_path / "rows.f16")
    assert not list(tmp_path.iterdir())
