"""`lookalike duplicates` as the owner of photographs uses it: find, look, decide, move, undo."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, lookalike
from fakes import listing
from PIL import Image
from shapes import texture

from lookalike.gallery import Gallery

pytestmark = pytest.mark.slow


@pytest.fixture
def album(tmp_path: Path, model: Path) -> Path:
    """Three images; of the first a small version, a mirrored one, and an exact copy."""
    folder = tmp_path / "album"
    folder.mkdir()
    for seed in range(3):
        texture(seed).save(folder / f"{seed}.png")
    texture(0).resize((160, 120)).save(folder / "small.jpg", quality=85)
    texture(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.jpg", quality=95)
    shutil.copy2(folder / "0.png", folder / "0 copy.png")
    lookalike("index", folder, "--model", model)
    return folder


def test_kinds_are_named_summed_up_and_shown_and_what_is_better_can_be_chosen(
    album: Path, tmp_path: Path
) -> None:
    done = lookalike("duplicates", cwd=album)
    found = {line.split()[-1]: line for line in done.stdout.splitlines() if "bytes  " in line}
    assert found["0.png"].split()[0] == "keep"
    assert "same bytes" in next(line for line in done.stdout.splitlines() if "0 copy.png" in line)
    assert "same picture" in found["small.jpg"]
    assert "mirrored or rotated" in found["mirrored.jpg"]
    document = json.loads(lookalike("duplicates", "--json", cwd=album).stdout)
    size = (album / "small.jpg").stat().st_size
    assert {"kind": "same picture", "files": 1, "bytes": size} in document["summary"]
    only = json.loads(lookalike("duplicates", "--json", "--kind", "bytes", cwd=album).stdout)
    assert [[i["path"] for i in g["duplicates"]] for g in only["groups"]] == [["0 copy.png"]]
    page = tmp_path / "page.html"
    (album / "best").mkdir()
    shutil.copy(album / "0.png", album / "best")
    lookalike("update", cwd=album)
    for words, kept in (
        (["--keep", "smallest"], "small.jpg"),
        (["--keep-name", "m*"], "mirrored.jpg"),
        (["--keep-folder", "best"], "best/0.png"),
    ):
        done = lookalike("duplicates", "--json", *words, "--sheet", page, cwd=album)
        assert [i["path"] for g in json.loads(done.stdout)["groups"] for i in g["keep"]] == [kept]
    assert page.read_text().count("<img ") == 5 and "mirrored or rotated" in page.read_text()


def test_the_undo_that_is_named_works_where_it_was_named(album: Path, tmp_path: Path) -> None:
    before = {*album.glob("*.*g")}
    words = ("duplicates", "--gallery", album, "--move-to", tmp_path / "aside", "--yes")
    said = lookalike(*words, cwd=tmp_path).stderr
    assert len({*album.glob("*.*g")}) == len(before) - 3
    named = said.partition("undo it with: lookalike ")[2].partition(";")[0]
    assert "3 files put back" in lookalike(*shlex.split(named), cwd=tmp_path).stderr
    assert {*album.glob("*.*g")} == before


def test_copies_are_moved_only_with_yes_and_come_back(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookalike("duplicates", cwd=album)  # which keeps what it has compared
    before = listing(album)
    aside = tmp_path / "aside"
    done = lookalike("duplicates", "--move-to", aside, cwd=album)
    assert "this was a dry run; add --yes to do it" in done.stderr
    (planned,) = {
        lookalike("duplicates", "--move-to", aside, "--json", cwd=album).stdout for _ in range(2)
    }
    assert {(Path(each["file"]).name, each["problem"]) for each in json.loads(planned)} == {
        (name, "not confirmed") for name in ("0 copy.png", "mirrored.jpg", "small.jpg")
    }
    assert listing(album) == before and not aside.exists()
    done = lookalike("duplicates", "--move-to", aside, "--yes", cwd=album)
    assert "3 files moved; undo it with: lookalike duplicates --undo; then run" in done.stderr
    assert sorted(os.listdir(aside)) == ["0 copy.png", "mirrored.jpg", "small.jpg"]
    done = lookalike("duplicates", "--undo", "--json", cwd=album)
    assert "3 files put back" in done.stderr and len(json.loads(done.stdout)) == 3
    now = {name: state for name, state in listing(album).items() if Path(name).suffix}
    assert now == {name: state for name, state in before.items() if Path(name).suffix} | {
        name: state for name, state in now.items() if Path(name).name == "undo.jsonl"
    }
    done = lookalike("duplicates", "--undo", "--json", cwd=album, status=1)
    assert "nothing to undo" in done.stderr and json.loads(done.stdout) == []
    with monkeypatch.context() as patch:
        patch.setattr("lookalike.gallery.act.move", refused)
        moving = ("duplicates", "--move-to", aside, "--yes")
        assert "\n0 files moved\n" in lookalike(*moving, cwd=album, status=1).stderr
    undone = lookalike("duplicates", "--undo", cwd=album, status=1)
    assert undone.stderr.startswith("all files of the last action are in their places; run it")


def refused(*_: object) -> None:
    raise PermissionError


def test_delete_takes_no_yes_and_other_folders_are_refused(album: Path) -> None:
    done = lookalike("duplicates", "--delete", "--yes", cwd=album, status=2)
    assert "--delete asks for a word on a terminal" in done.stderr
    done = lookalike("duplicates", "--move-to", album / "aside", cwd=album, status=2)
    assert "is inside" in done.stderr
    both = lookalike("duplicates", "--trash", "--hardlink", cwd=album, status=2)
    assert "Only one of" in both.stderr
    assert len(list(album.glob("*.*g"))) == 6


@pytest.mark.parametrize("typed", ["y", "delete", "delete 33", "delete 3"])
def test_delete_on_a_terminal_is_confirmed_by_the_typed_count_alone(
    album: Path, typed: str
) -> None:
    leader, follower = pty.openpty()
    os.write(leader, f"{typed}\n".encode())
    words = [*COMMAND, "duplicates", "--delete", "--yes"]
    done = subprocess.run(words, stdin=follower, capture_output=True, cwd=album, text=True)
    os.close(follower)
    os.close(leader)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("delete  ") == 3
    assert "This can not be undone. Type 'delete 3' to go on" in done.stderr
    left = {path.name for path in album.glob("*.*g")}
    if typed == "delete 3":
        assert left == {"0.png", "1.png", "2.png"}
        assert "3 files deleted" in done.stderr
    else:
        assert len(left) == 6
        assert "nothing was done" in done.stderr


def test_marks_of_the_page_are_carried_out(album: Path, tmp_path: Path) -> None:
    marks = tmp_path / "duplicates.json"
    content = {
        "format": "lookalike duplicates",
        "version": 1,
        "threshold": 0.95,
        "groups": [{"keep": [{"path": "small.jpg"}], "could_go": [{"path": "0 copy.png"}]}],
        "not_duplicates": [["0.png", "mirrored.jpg"]],
    }
    marks.write_text(json.dumps(content))
    words = ("duplicates", "--apply", marks, "--move-to", tmp_path / "aside", "--yes")
    lookalike(*words, cwd=album)
    assert sorted(os.listdir(tmp_path / "aside")) == ["0 copy.png"]
    lookalike("update", cwd=album)
    listed = lookalike("duplicates", cwd=album).stdout
    assert "mirrored.jpg" not in listed and "small.jpg" in listed
    marks.write_text("[]")
    assert "is not what the page" in lookalike(*words, cwd=album, status=2).stderr


def test_marks_do_not_hold_for_another_image_in_the_same_place(album: Path, tmp_path: Path) -> None:
    """Or an export of last week would move the only copy of what was taken since."""
    rows = Gallery.open(album).rows_of(["0.png", "0 copy.png"])
    kept, copy = ({"path": path, "id": row.id} for path, row in rows.items())
    marks = tmp_path / "duplicates.json"
    content = {"format": "lookalike duplicates", "version": 1}
    marks.write_text(json.dumps({**content, "groups": [{"keep": [kept], "could_go": [copy]}]}))
    words = ("duplicates", "--apply", marks, "--move-to", tmp_path / "aside")
    assert "0 copy.png" in lookalike(*words, cwd=album).stdout
    texture(7).save(album / "0 copy.png")
    lookalike("update", cwd=album)
    done = lookalike(*words, "--yes", cwd=album, status=2)
    assert "0 copy.png is another image than the one that was marked" in done.stderr
    assert (album / "0 copy.png").exists()
