"""A folder of files that can be made again, within its limit."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lookalike.web.thumbnails import BoundedFolder

DAY = 86_400
OWN = "[a-z0-9]+"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def last_used(folder: Path, name: str, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(folder / name[:2] / name, (moment, moment))


def test_what_was_written_is_read_whole(tmp_path: Path) -> None:
    kept = BoundedFolder(tmp_path / "kept", 100, OWN)
    assert kept.read("aa1") is None
    kept.write("aa1", b"one")
    kept.write("ab2", b"two")
    kept.write("aa1", b"three")
    assert (kept.read("aa1"), kept.read("ab2")) == (b"three", b"two")
    assert names_in(tmp_path) == {"aa1", "ab2"}  # nothing temporary
    assert BoundedFolder(tmp_path / "kept", 100, OWN).read("aa1") == b"three"


def test_what_was_not_used_longest_goes_first(tmp_path: Path) -> None:
    kept = BoundedFolder(tmp_path, 1000, OWN)
    for i in range(10):
        kept.write(f"{i:02}", bytes(100))
        last_used(tmp_path, f"{i:02}", 10 - i)
    assert len(names_in(tmp_path)) == 10  # exactly the limit
    assert kept.read("00") == bytes(100)  # the oldest, used again
    kept.write("10", bytes(100))
    # 900 bytes are left: of eleven files the two go that now are the oldest.
    assert names_in(tmp_path) == {"00", *(f"{i:02}" for i in range(3, 11))}


def test_what_is_there_already_counts_and_links_do_not(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(bytes(5000))
    earlier = BoundedFolder(folder, 10**6, OWN)
    for name in ("aa", "bb", "cc"):
        earlier.write(name, bytes(400))
        last_used(folder, name, 5)
    (folder / "dd").symlink_to(elsewhere)
    (folder / "aa" / "link").symlink_to(elsewhere / "precious")
    BoundedFolder(folder, 1000, OWN).write("ee", bytes(400))
    assert len(names_in(folder) & {"aa", "bb", "cc"}) == 1
    assert "ee" in names_in(folder)
    assert (elsewhere / "precious").stat().st_size == 5000


def test_half_written_files_go_once_no_process_can_be_writing_them_and_others_stay(
    tmp_path: Path,
) -> None:
    for name in ("aa/.new_0000.tmp", "aa/.old_0000.tmp", "aa/Letter.txt", "letters/aa1", "aa/bb1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1000))
        moment = time.time() - (0.9 if "new" in name else 1.1) * DAY
        os.utime(tmp_path / name, (moment, moment))
    BoundedFolder(tmp_path, 100, OWN).write("aa", b"x")
    assert names_in(tmp_path) == {".new_0000.tmp", "Letter.txt", "aa1", "bb1", "aa"}


@pytest.mark.parametrize("linked", ["kept", "kept/aa"])
def test_a_folder_that_is_a_link_is_neither_read_nor_written_nor_pruned(
    tmp_path: Path, linked: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "aa").mkdir(parents=True)
    for path in (elsewhere / "aa1", elsewhere / "aa/aa1"):
        path.write_bytes(bytes(1000))
    (tmp_path / linked).parent.mkdir(exist_ok=True)
    (tmp_path / linked).symlink_to(elsewhere)
    kept = BoundedFolder(tmp_path / "kept", 100, OWN)
    assert kept.read("aa1") is None
    with pytest.raises(OSError):
        kept.write("aa2", b"x")
    if linked == "kept/aa":
        kept.write("bb", bytes(101))  # prunes
    assert {path.relative_to(elsewhere).as_posix() for path in elsewhere.rglob("*")} == {
        "aa",
        "aa1",
        "aa/aa1",
    }


def test_a_link_pipe_or_giant_in_place_of_a_file_reads_as_missing(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "aa/aa1").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "aa/aa2")
    (tmp_path / "aa/aa3").touch()
    os.truncate(tmp_path / "aa/aa3", 1 << 40)
    kept = BoundedFolder(tmp_path, 100, OWN)
    assert [kept.read(f"aa{n}") for n in (1, 2, 3)] == [None] * 3
    for n in (1, 2, 3):
        kept.write(f"aa{n}", b"new")
    assert [kept.read(f"aa{n}") for n in (1, 2, 3)] == [b"new"] * 3
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_folder_whose_gallery_has_gone_is_not_made_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BoundedFolder(tmp_path / "photos/.lookalike/thumbnails", 100, OWN).write("aa1", b"x")
    assert not (tmp_path / "photos").exists()


def test_many_threads_stay_within_the_limit(tmp_path: Path) -> None:
    kept = BoundedFolder(tmp_path, 2000, OWN)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: kept.write(f"{i:03}", bytes(100)), range(200)))
    held = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 1000 <= held <= 2000
