"""What is done with duplicates: no last whole copy goes, and undo puts bytes back."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes import updated, write_photo

from lookalike.errors import GalleryError
from lookalike.gallery import DuplicateGroup, Gallery
from lookalike.gallery.act import Removal, act
from lookalike.gallery.undo import Action, Done, undo
from lookalike.images import content_hash


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but the gallery's own."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if ".lookalike" not in path.parts
    }


def removals(groups: Sequence[DuplicateGroup]) -> list[Removal]:
    return [
        Removal(
            item.file,
            item.row.hash or b"",
            tuple((kept.file, kept.row.hash or b"") for kept in group.keep),
        )
        for group in groups
        for item in group.duplicates
    ]


@pytest.fixture
def copies(tmp_path: Path, model: Path) -> Gallery:
    """Five images: the first alone, the others with one to four copies."""
    folder = tmp_path / "photos"
    for n in range(5):
        original = write_photo(folder / f"{n}.png", n)
        for copy in range(n):
            (folder / f"copy {copy}").mkdir(exist_ok=True)
            shutil.copy2(original, folder / f"copy {copy}/{n}.png")
    return updated(folder, model=model)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trash: Path) -> Path:
    """A home with a trash of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def done_with(gallery: Gallery, action: Action, target: Path) -> list[Done]:
    found = removals(gallery.duplicates())
    folder = target if action is Action.MOVE else None
    return act(found, action, gallery.directory, gallery.root, target=folder)


@pytest.mark.parametrize("action", [Action.MOVE, Action.TRASH, Action.HARDLINK])
def test_undo_restores_every_file_with_its_bytes_and_its_time(
    copies: Gallery, home: Path, action: Action
) -> None:
    before = contents(copies.root)
    times = {name: (copies.root / name).stat().st_mtime_ns for name in before}
    done = done_with(copies, action, home / "aside")
    assert len(done) == 10
    assert [each.problem for each in done] == [None] * 10
    left = contents(copies.root)
    if action is Action.HARDLINK:
        assert left == before
        assert {(copies.root / name).stat().st_nlink for name in left} == {1, 2, 3, 4, 5}
    else:
        assert set(left) == {f"{n}.png" for n in range(5)}
    assert undo(copies.directory, copies.root)[0] is action
    assert contents(copies.root) == before
    assert {name: (copies.root / name).stat().st_mtime_ns for name in before} == times
    assert {(copies.root / name).stat().st_nlink for name in before} == {1}
    assert undo(copies.directory, copies.root) == (None, [])


def test_what_is_moved_lies_in_its_folders_and_overwrites_nothing(
    copies: Gallery, home: Path
) -> None:
    (home / "aside/copy 0").mkdir(parents=True)
    (home / "aside/copy 0/1.png").write_bytes(b"mine")
    expected = contents(copies.root)["copy 0/1.png"]
    done = done_with(copies, Action.MOVE, home / "aside")
    assert (home / "aside/copy 0/1.png").read_bytes() == b"mine"
    assert (home / "aside/copy 0/1 (2).png").read_bytes() == expected
    assert home / "aside/copy 0/1 (2).png" in {each.to for each in done}


def test_files_go_to_another_disk_by_a_copy_that_is_compared(
    copies: Gallery, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(copies.root)
    usual = os.rename

    def rename(path: Path, to: Path) -> None:
        if ("aside" in path.parts) != ("aside" in to.parts):
            raise OSError(errno.EXDEV, "another disk")
        usual(path, to)

    def link(path: Path, to: Path, follow_symlinks: bool = True) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "link", link)
    done_with(copies, Action.MOVE, home / "aside")
    assert set(contents(copies.root)) == {f"{n}.png" for n in range(5)}
    moved = contents(home / "aside")
    assert moved == {name: before[name] for name in moved} and len(moved) == 10
    undo(copies.directory, copies.root)
    assert contents(copies.root) == before


@pytest.mark.parametrize("seed", range(20))
def test_no_content_is_lost_whatever_happens_between_the_search_and_the_action(
    copies: Gallery, home: Path, seed: int
) -> None:
    """Files vanish, change, and become links of others; every content that was whole then is there
    afterwards."""
    chance = random.Random(seed)
    found = removals(copies.duplicates())
    chance.shuffle(found)
    files = sorted(contents(copies.root))
    for name in chance.sample(files, 6):
        path = copies.root / name
        match chance.randrange(4):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(b"other")
            case 2:
                path.unlink()
                path.symlink_to(copies.root / chance.choice(files))
            case 3:
                other = copies.root / chance.choice(files)
                if other.exists() and other != path:
                    path.unlink()
                    os.link(other, path)
    before = {content_hash(path) for path in copies.root.rglob("*.png") if path.exists()}
    action = chance.choice([Action.MOVE, Action.DELETE, Action.TRASH, Action.HARDLINK])
    target = home / "aside" if action is Action.MOVE else None
    act(found, action, copies.directory, copies.root, target=target)
    after = {content_hash(path) for path in copies.root.rglob("*.png") if path.exists()}
    assert after == before


def test_a_file_that_is_kept_for_another_does_not_go(copies: Gallery, home: Path) -> None:
    """As marks by hand may say."""
    one, two = copies.root / "1.png", copies.root / "copy 0/1.png"
    digest = content_hash(one)
    both = [Removal(one, digest, ((two, digest),)), Removal(two, digest, ((one, digest),))]
    done = act(both, Action.DELETE, copies.directory, copies.root)
    assert all("would go as well" in str(each.problem) for each in done)
    (alone,) = act([Removal(one, digest, ())], Action.DELETE, copies.directory, copies.root)
    assert "no copy is left" in str(alone.problem)
    assert one.exists() and two.exists()


def test_the_reference_folder_is_not_touched(copies: Gallery, home: Path) -> None:
    found = removals(copies.duplicates())
    (copies.root / "link").symlink_to(copies.root / "copy 1")
    digest = content_hash(copies.root / "2.png")
    through = Removal(copies.root / "link/2.png", digest, ((copies.root / "2.png", digest),))
    done = act([*found, through], Action.DELETE, copies.directory, copies.root, reference=b"copy 1")
    refused = {each.file.name for each in done if each.problem is not None}
    assert refused == {"2.png", "3.png", "4.png"}
    assert {path.name for path in (copies.root / "copy 1").iterdir()} == refused
    assert not (copies.root / "copy 0/1.png").exists()


def test_only_files_of_equal_bytes_are_linked(copies: Gallery) -> None:
    one, two = copies.root / "1.png", copies.root / "2.png"
    removal = Removal(one, content_hash(one), ((two, content_hash(two)),))
    (done,) = act([removal], Action.HARDLINK, copies.directory, copies.root)
    assert done.problem == "only files of the same bytes can share them"


def test_files_are_not_moved_to_a_folder_inside_the_gallerys(copies: Gallery) -> None:
    with pytest.raises(GalleryError, match="would be found again"):
        done_with(copies, Action.MOVE, copies.root / "aside")
    assert len(contents(copies.root)) == 15


def test_undo_puts_nothing_in_the_place_of_another_file(copies: Gallery, home: Path) -> None:
    done_with(copies, Action.MOVE, home / "aside")
    (copies.root / "copy 0/1.png").write_bytes(b"new")
    (home / "aside/copy 0/2.png").write_bytes(b"changed")
    problems = {
        each.file.name: each.problem
        for each in undo(copies.directory, copies.root)[1]
        if each.problem
    }
    place = f"another file is in its place; it is at {home}/aside/copy 0/1.png"
    assert problems["1.png"] == place
    assert "no longer holds" in str(problems["2.png"])
    assert (copies.root / "copy 0/1.png").read_bytes() == b"new"
    assert (home / "aside/copy 0/1.png").exists()


def test_actions_are_undone_one_after_the_other_and_survive_a_rebuild(
    copies: Gallery, home: Path, model: Path
) -> None:
    before = contents(copies.root)
    found = removals(copies.duplicates())
    for some in (found[:4], found[4:]):
        act(some, Action.MOVE, copies.directory, copies.root, target=home / "aside")
    log = (copies.directory / "undo.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in log]) == 10
    gallery, _ = Gallery.rebuild(copies.root, model=model)
    assert len(undo(gallery.directory, gallery.root)[1]) == 6
    assert len(undo(gallery.directory, gallery.root)[1]) == 4
    assert contents(copies.root) == before


def test_a_pair_that_was_called_different_does_not_come_back(copies: Gallery, model: Path) -> None:
    from PIL import Image

    folder = copies.root
    with Image.open(folder / "0.png") as image:
        image.resize((48, 36)).save(folder / "small.png")
    copies.update()

    def found() -> set[str]:
        groups = copies.duplicates()
        return {
            i.path for group in groups for i in group.duplicates if "0.png" in group.keep[0].path
        }

    assert found() == {"small.png"}
    assert copies.set_distinct([(folder / "small.png", folder / "0.png")]) == 1
    assert found() == set()
    (folder / "small.png").rename(folder / "moved.png")
    copies.update()
    assert found() == set()
    gallery, _ = Gallery.rebuild(folder, model=model)
    assert all(g.keep[0].path != "0.png" for g in gallery.duplicates())
    assert copies.set_distinct([("moved.png", "0.png")], distinct=False) == 0
    assert found() == {"moved.png"}
