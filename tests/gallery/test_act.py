"""What is done with duplicates: no last whole copy goes, and undo puts bytes back, also when an
action is killed, or refused by the disk, at any of its steps.

A step is a call to the file system, as Python's audit events report it. A child process ends itself
in place of one, without any clean-up, as by SIGKILL; or the call fails.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from PIL import Image
from test_full_disk import file_size_limit, mounted

from lookalike.errors import GalleryError, GalleryLockedError
from lookalike.gallery import Gallery
from lookalike.gallery.act import SHARING, Removal, act
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.moves import FICLONE
from lookalike.gallery.undo import Action, Done, undo
from lookalike.images import content_hash

STEPS = {
    *("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.utime", "os.chmod", "os.chown"),
    *("os.truncate", "shutil.copystat", "fcntl.ioctl"),
}
FINISHED, KILLED, CRASHED = 0, 9, 2
WAYS = [
    (Action.MOVE, "one disk"),
    (Action.MOVE, "two disks"),
    (Action.MOVE, "no hard links"),
    (Action.TRASH, "one disk"),
    (Action.TRASH, "two disks"),
    (Action.HARDLINK, "one disk"),
    (Action.REFLINK, "one disk"),
    (Action.DELETE, "one disk"),
]
KEPT, SAME, LIKE, ALSO = "kept.jpg", "sub/same bytes.jpg", "sub/small.jpg", "deep/er/also.jpg"


def kill(_: str) -> NoReturn:
    os._exit(KILLED)


def refuse(event: str) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), event)


def in_child(work: Callable[[], object], top: Path, at: int, fault: Callable[[str], object]) -> int:
    """Do the work in another process, with a fault in the place of one step; its exit status.

    Counted are the steps on paths below ``top``, from 1 on, and calls of ioctl. What the work
    returns may be a check of its outcome, which is called without faults.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads do not go on there
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count, is_over = 0, False

    def hook(event: str, values: tuple[object, ...]) -> None:
        nonlocal count
        if event not in STEPS or is_over:
            return
        paths = (os.fsdecode(v) for v in values if isinstance(v, str | bytes | os.PathLike))
        if event == "fcntl.ioctl" or any(path.startswith(str(top)) for path in paths):
            count += 1
            if count == at:
                fault(event)

    try:
        sys.addaudithook(hook)
        check = work()
        is_over = True
        if callable(check):
            check()
        os._exit(FINISHED if count < at else KILLED)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(CRASHED)


class Album(NamedTuple):
    """Four files: one that is kept, two of its bytes, and one that is like it."""

    top: Path
    root: Path
    aside: Path
    directory: Path

    @classmethod
    def make(cls, top: Path) -> Album:
        shutil.rmtree(top, ignore_errors=True)
        album = cls(top, top / "photos", top / "aside", top / "photos/.lookalike")
        album.directory.mkdir(parents=True)
        chance = random.Random(0)
        large, small = chance.randbytes(3000), chance.randbytes(500)
        for number, name in enumerate((KEPT, SAME, LIKE, ALSO)):
            path = album.root / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(small if name == LIKE else large)
            os.utime(path, ns=(0, 10**18 + number))
            path.chmod(0o600 + number)
        return album

    def removals(self, action: Action) -> list[Removal]:
        going = [SAME, ALSO] if action in (Action.HARDLINK, Action.REFLINK) else [SAME, LIKE, ALSO]
        kept = self.root / KEPT, content_hash(self.root / KEPT)
        files = [path for path in (self.root / name for name in going) if path.exists()]
        files = [path for path in files if not path.samefile(kept[0])]
        return [Removal(path, content_hash(path), (kept,)) for path in files]

    def act(self, action: Action, removals: list[Removal] | None = None) -> list[Done]:
        target = self.aside if action is Action.MOVE else None
        found = self.removals(action) if removals is None else removals
        return act(found, action, self.directory, self.root, target=target)

    def undo(self) -> list[Done]:
        return undo(self.directory, self.root)[1]

    def files(self) -> dict[str, tuple[bytes, int, int, int]]:
        """Content, times, rights and number of names of the files in the gallery's folder."""
        found = {}
        for path in self.root.rglob("*"):
            if path.is_file() and self.directory not in path.parents:
                state = path.stat()
                facts = state.st_mtime_ns, state.st_mode & 0o777, state.st_nlink
                found[path.relative_to(self.root).as_posix()] = (path.read_bytes(), *facts)
        return found

    def elsewhere(self) -> set[bytes]:
        """Contents of all files outside of it."""
        paths = (path for path in self.top.rglob("*") if self.root not in path.parents)
        return {path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for an album, its trash, and what is moved."""
    from send2trash import plat_other

    top = tmp_path / "top"
    for name, value in (("HOME", top), ("XDG_DATA_HOME", top / "data")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(plat_other, "XDG_DATA_HOME", os.fsencode(top / "data"))
    monkeypatch.setattr(plat_other, "HOMETRASH_B", os.fsencode(top / "data/Trash"))
    return top


@pytest.fixture(params=WAYS, ids=lambda way: " ".join(way))
def action(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Action:
    """On a file system of some kind; all can clone."""
    found, disk = request.param
    usual = os.rename

    def rename(path: str | bytes | Path, to: str | bytes | Path) -> None:
        sides = ["photos" in Path(os.fsdecode(each)).parts for each in (path, to)]
        if disk == "two disks" and sides[0] != sides[1]:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        usual(path, to)

    def link(path: Path, to: Path, **_: bool) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)

    def ioctl(to: int, what: int, source: int) -> None:
        sys.audit("fcntl.ioctl", to, what, source)
        assert what == FICLONE
        os.write(to, os.pread(source, 1 << 20, 0))

    monkeypatch.setattr(os, "rename", rename)
    if disk != "one disk":
        monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert isinstance(found, Action)
    return found


def steps(
    top: Path,
    prepare: Callable[[Album], object],
    work: Callable[[Album], object],
    fault: Callable[[str], object],
) -> Iterator[Album]:
    """An album in which ``work`` was stopped at each of its steps."""
    for at in itertools.count(1):
        album = Album.make(top)
        prepare(album)
        status = in_child(partial(work, album), top, at, fault)
        if status == FINISHED:
            assert at > 5
            return
        assert status == KILLED
        yield album


def assert_nothing_is_lost(album: Album, before: dict[str, tuple[bytes, int, int, int]]) -> None:
    contents = {content for content, *_ in album.files().values()} | album.elsewhere()
    assert {content for content, *_ in before.values()} <= contents


def assert_restored(
    album: Album, action: Action, before: dict[str, tuple[bytes, int, int, int]]
) -> None:
    while undo(album.directory, album.root)[0] is not None:
        pass
    files = album.files()
    if action is Action.DELETE:
        assert files[KEPT] == before[KEPT]
        assert files.items() <= before.items()
    else:
        assert files == before


def assert_done(
    album: Album, action: Action, before: dict[str, tuple[bytes, int, int, int]]
) -> None:
    files = album.files()
    if action in SHARING:
        assert {name: facts[0] for name, facts in files.items()} == {
            name: facts[0] for name, facts in before.items()
        }
        assert files[SAME][3] == (3 if action is Action.HARDLINK else 1)
    else:
        assert set(files) == {KEPT}
    moved = {path.relative_to(album.aside).as_posix() for path in album.aside.rglob("*.jpg")}
    assert action is not Action.MOVE or set(before) - {KEPT} <= moved


@pytest.mark.parametrize("action", [Action.MOVE, Action.TRASH])
def test_sidecars_go_with_their_image_and_come_back_but_not_those_of_another(
    top: Path, action: Action
) -> None:
    album = Album.make(top)
    for name in ("small.xmp", "small.jpg.xmp", "same bytes.AAE", "other.xmp", "small.raw.xmp"):
        (album.root / "sub" / name).write_text(f"edits of {name}")
    (album.root / "sub/same bytes.cr2").write_bytes(b"has these edits as well")
    (album.aside / "sub").mkdir(parents=True)
    (album.aside / "sub/small.jpg").write_bytes(b"of an earlier action")
    before = album.files()
    done = album.act(action)
    assert not any(each.problem for each in done)
    gone = {"sub/small.xmp", "sub/small.jpg.xmp", SAME, LIKE, ALSO}
    assert before.keys() - album.files().keys() == gone
    if action is Action.MOVE:
        names = {path.name for path in (album.aside / "sub").glob("small*")}
        expected = {"small (2).jpg", "small (2).jpg.xmp", "small (2).xmp", "small.jpg"}
        assert names == expected
    album.undo()
    assert album.files() == before


def test_undo_restores_every_file_with_its_time_and_its_rights(top: Path, action: Action) -> None:
    album = Album.make(top)
    before = album.files()
    assert {done.problem for done in album.act(action)} == {None}
    assert_done(album, action, before)
    what, undone = undo(album.directory, album.root)
    assert what is action
    if action is Action.DELETE:
        assert {done.problem for done in undone} == {"it was deleted for good"}
    else:
        assert album.files() == before
    assert undo(album.directory, album.root) == (None, [])


@pytest.mark.slow
@pytest.mark.parametrize("then", ["undone", "repeated"])
def test_a_killed_action_loses_nothing_and_can_be_undone_or_repeated(
    top: Path, action: Action, then: str
) -> None:
    whole = Album.make(top)
    before, removals = whole.files(), whole.removals(action)
    for album in steps(top, lambda _: None, lambda album: album.act(action, removals), kill):
        if action is not Action.DELETE:
            assert_nothing_is_lost(album, before)
        if then == "repeated":
            assert [done.problem for done in album.act(action) if done.problem] == []
            assert_done(album, action, before)
        assert_restored(album, action, before)
        if then == "undone":
            left = {path for path in album.aside.rglob("*") if path.is_file()}
            assert len(left) <= 1  # a copy on another disk


@pytest.mark.slow
@pytest.mark.parametrize("fault", [kill, refuse])
def test_an_undo_that_is_killed_or_refused_loses_nothing_and_is_repeated(
    top: Path, action: Action, fault: Callable[[str], object]
) -> None:
    before = Album.make(top).files()

    def work(album: Album) -> None:
        with suppress(GalleryError):  # of a step that was refused
            album.undo()

    for album in steps(top, lambda album: album.act(action), work, fault):
        if action is not Action.DELETE:
            assert_nothing_is_lost(album, before)
        assert_restored(album, action, before)


@pytest.mark.slow
def test_where_the_disk_refuses_a_step_nothing_is_lost_and_the_rest_is_done(
    top: Path, action: Action
) -> None:
    whole = Album.make(top)
    before, removals = whole.files(), whole.removals(action)

    def work(album: Album) -> Callable[[], None]:
        try:
            done = album.act(action, removals)
        except GalleryError:  # of the lock or the log
            done = []

        def check() -> None:
            problems = {each.file for each in done if each.problem}
            assert len(problems) <= 1
            for name, facts in album.files().items():
                if album.root / name in problems:
                    assert facts[:3] == before[name][:3]
            if not done:
                assert album.files() == before

        return check

    for album in steps(top, lambda _: None, work, refuse):
        if action is not Action.DELETE:
            assert_nothing_is_lost(album, before)
        assert_restored(album, action, before)


def test_a_log_whose_last_line_is_torn_anywhere_is_read_and_continued(top: Path) -> None:
    album = Album.make(top)
    before = album.files()
    act(album.removals(Action.MOVE)[:1], Action.MOVE, album.directory, album.root, target=top / "a")
    log = album.directory / "undo.jsonl"
    whole = log.read_bytes()
    for length in (
        *range(1, len(whole) - 1, 9),
        len(whole) - 2,
    ):  # of a second line, after which no file was touched
        log.write_bytes(whole + whole[:length])
        assert all(done.problem is None for done in album.act(Action.MOVE))
        assert set(album.files()) == {KEPT}
        assert len(album.undo()) == 2
        assert len(album.undo()) == 1
        assert album.files() == before
        act(album.removals(Action.MOVE)[:1], Action.MOVE, album.directory, album.root, target=top)
        (moved,) = top.glob("sub/*")
        (top / "a/sub").mkdir(parents=True, exist_ok=True)
        moved.rename(top / "a/sub" / moved.name)


@pytest.mark.parametrize("room", [0, 1, 100])
def test_where_the_log_has_no_room_no_file_is_touched(top: Path, room: int) -> None:
    album = Album.make(top)
    before = album.files()
    album.act(Action.MOVE)
    album.undo()
    log = album.directory / "undo.jsonl"
    content = log.read_bytes()
    with file_size_limit(len(content) + room):
        done = album.act(Action.MOVE)
    assert all("could not be undone" in str(each.problem) for each in done) and len(done) == 3
    assert log.read_bytes() == content
    assert album.files() == before
    assert [each.problem for each in album.act(Action.MOVE)] == [None] * 3


def test_on_a_full_disk_and_a_read_only_one_files_stay_and_are_named(top: Path) -> None:
    album = Album.make(top)
    before = album.files()
    with mounted(album.aside, "16k") as allowed:
        if not allowed:
            pytest.skip("file systems cannot be mounted here")
        (album.aside / "fill").write_bytes(bytes(8192))
        done = album.act(Action.MOVE)
        problems = {each.file.name: each.problem for each in done if each.problem}
        assert problems and all("No space left" in str(each) for each in problems.values())
        assert set(before) - set(album.files()) == {
            each.file.relative_to(album.root).as_posix() for each in done if not each.problem
        }
        assert not list(album.aside.rglob(".*"))
        album.undo()
        assert album.files() == before
        subprocess.run(["mount", "-o", "remount,ro", str(album.aside)], check=True)
        with pytest.raises(GalleryError, match=r"cannot move files to .*it cannot be written to"):
            album.act(Action.MOVE)
        assert album.files() == before


def test_an_action_that_was_refused_for_every_file_puts_nothing_back(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    album = Album.make(top)
    before = album.files()
    album.act(Action.MOVE, album.removals(Action.MOVE)[:1])
    with monkeypatch.context() as patch:
        patch.setattr("lookalike.gallery.act.move", refused)
        assert all(each.problem for each in album.act(Action.MOVE))
    assert undo(album.directory, album.root) == (Action.MOVE, [])
    assert [each.file for each in album.undo()] == [album.root / SAME]
    assert album.files() == before


def test_only_one_process_acts_on_a_gallery_at_a_time(top: Path) -> None:
    """Two with other rules of what is kept might each delete what the other one keeps."""
    album = Album.make(top)
    before = album.files()
    with writer_lock(album.directory / "lock"):
        with pytest.raises(GalleryLockedError):
            album.act(Action.DELETE)
        with pytest.raises(GalleryLockedError):
            album.undo()
    assert album.files() == before


@pytest.mark.parametrize("kind", [Action.MOVE, Action.TRASH, Action.HARDLINK])
def test_undo_follows_a_gallery_that_was_moved(top: Path, kind: Action) -> None:
    album = Album.make(top)
    before = album.files()
    album.act(kind)
    moved = album._replace(root=top / "renamed", directory=top / "renamed/.lookalike")
    album.root.rename(moved.root)
    assert {each.problem for each in moved.undo()} == {None}
    assert moved.files() == before


def test_forged_lines_of_the_log_are_passed_over(top: Path) -> None:
    album = Album.make(top)
    before = album.files()
    outside = top / "mine.jpg"
    outside.write_bytes(b"mine")
    album.act(Action.MOVE)
    log = album.directory / "undo.jsonl"
    line = log.read_text().splitlines()[0]
    path = os.fsencode(SAME).hex()
    assert path in line
    for other in (b"../mine.jpg", b"/etc/passwd", b"", b"a\0b"):
        with log.open("a") as file:
            file.write(line.replace(path, other.hex()) + "\n")
    with log.open("a") as file:
        file.write('[]\n{"undone": []}\n7\n{"path": 3}\n')
    assert [each.problem for each in album.undo()] == [None] * 3
    assert album.files() == before and outside.read_bytes() == b"mine"


def test_a_file_system_that_cannot_clone_is_named(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(to: int, what: int, source: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    album = Album.make(top)
    before = album.files()
    done = album.act(Action.REFLINK)
    assert all("the file system cannot clone it" in str(each.problem) for each in done)
    assert album.files() == before
    assert not list(album.root.rglob("*.part"))


# ---- which files are touched ---------------------------------------------------------------------


@pytest.fixture
def copies(top: Path) -> list[Removal]:
    """Of five contents, the first alone, the others with one to four copies: what could go."""
    found, root = list[Removal](), Album.make(top).root
    shutil.rmtree(root)
    for n in range(5):
        kept = root / f"{n}.jpg"
        for path in (kept, *(root / f"copy {copy}/{n}.jpg" for copy in range(n))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d" % n)
        digest = content_hash(kept)
        found += [
            Removal(root / f"copy {copy}/{n}.jpg", digest, ((kept, digest),)) for copy in range(n)
        ]
    (root / ".lookalike").mkdir()
    return found


def done_with(top: Path, removals: list[Removal], action: Action, **how: bytes) -> list[Done]:
    target = top / "aside" if action is Action.MOVE else None
    root = top / "photos"
    return act(removals, action, root / ".lookalike", root, target=target, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_no_content_is_lost_whatever_happens_between_the_search_and_the_action(
    top: Path, copies: list[Removal], seed: int
) -> None:
    """Files vanish, change, and become links of others; every content that was whole then is there
    afterwards."""
    chance = random.Random(seed)
    chance.shuffle(copies)
    files = sorted((top / "photos").rglob("*.jpg"))
    for path in chance.sample(files, 6):
        match chance.randrange(4):
            case 0:
                path.unlink()
            case 1:
                path.write_bytes(b"other")
            case 2:
                path.unlink()
                path.symlink_to(chance.choice(files))
            case 3:
                other = chance.choice(files)
                if other.exists() and other != path:
                    path.unlink()
                    os.link(other, path)
    before = {content_hash(path) for path in files if path.exists()}
    action = chance.choice([Action.MOVE, Action.DELETE, Action.TRASH, Action.HARDLINK])
    done_with(top, copies, action)
    assert {content_hash(path) for path in files if path.exists()} == before


def test_a_file_that_is_kept_for_another_does_not_go(top: Path, copies: list[Removal]) -> None:
    """As marks by hand may say."""
    two, digest, ((one, _),) = copies[0].file, copies[0].digest, copies[0].kept
    both = [copies[0], Removal(one, digest, ((two, digest),))]
    done = done_with(top, both, Action.DELETE)
    assert all("would go as well" in str(each.problem) for each in done)
    (alone,) = done_with(top, [Removal(one, digest, ())], Action.DELETE)
    assert "no copy is left" in str(alone.problem)
    assert one.exists() and two.exists()


def test_the_reference_folder_is_not_touched(top: Path, copies: list[Removal]) -> None:
    root = top / "photos"
    (root / "link").symlink_to(root / "copy 1")
    through = Removal(root / "link/2.jpg", copies[1].digest, copies[1].kept)
    done = done_with(top, [*copies, through], Action.DELETE, reference=b"copy 1")
    refused = {each.file.name for each in done if each.problem is not None}
    assert refused == {"2.jpg", "3.jpg", "4.jpg"}
    assert {path.name for path in (root / "copy 1").iterdir()} == refused
    assert not (root / "copy 0/1.jpg").exists()


def test_only_files_of_equal_bytes_are_linked_and_only_those_of_the_gallery_go(
    top: Path, copies: list[Removal]
) -> None:
    removal = replace(copies[0], kept=copies[1].kept)
    (done,) = done_with(top, [removal], Action.HARDLINK)
    assert done.problem == "only files of the same bytes can share them"
    outside = Path(shutil.copy(copies[0].file, top / "outside.jpg"))
    (done,) = done_with(top, [replace(copies[0], file=outside)], Action.DELETE)
    assert done.problem == f"it is not inside {top / 'photos'}" and outside.exists()


def test_files_are_not_moved_to_a_folder_inside_the_gallerys(top: Path) -> None:
    album = Album.make(top)
    before = album.files()
    with pytest.raises(GalleryError, match="would be found again"):
        album._replace(aside=album.root / "aside").act(Action.MOVE)
    assert album.files() == before


def test_neither_an_action_nor_its_undoing_takes_the_place_of_another_file(top: Path) -> None:
    album = Album.make(top)
    before = album.files()
    (album.aside / "sub").mkdir(parents=True)
    (album.aside / SAME).write_bytes(b"mine")
    numbered = album.aside / "sub/same bytes (2).jpg"
    assert numbered in {each.to for each in album.act(Action.MOVE)}
    assert (album.aside / SAME).read_bytes() == b"mine"
    assert numbered.read_bytes() == before[SAME][0]
    (album.root / SAME).write_bytes(b"new")
    (album.aside / LIKE).write_bytes(b"changed")
    problems = {each.file.name: each.problem for each in album.undo() if each.problem}
    assert problems["same bytes.jpg"] == f"another file is in its place; it is at {numbered}"
    assert "no longer holds" in str(problems["small.jpg"])
    assert (album.root / SAME).read_bytes() == b"new" and numbered.exists()


# ---- in a gallery --------------------------------------------------------------------------------


def test_actions_are_undone_one_after_the_other_and_survive_a_rebuild(
    gallery: Gallery, photos: Path, model: Path, tmp_path: Path
) -> None:
    for number in range(3):
        shutil.copy2(photos / "a/000.png", photos / f"{number}.png")
    gallery.update()
    (group,) = gallery.duplicates()
    kept = tuple((item.file, item.row.hash or b"") for item in group.keep)
    found = [Removal(item.file, item.row.hash or b"", kept) for item in group.duplicates]
    for some in (found[:2], found[2:]):
        act(some, Action.MOVE, gallery.directory, photos, target=tmp_path / "aside")
    assert not any(removal.file.exists() for removal in found)
    Gallery.rebuild(photos, model=model)
    assert [len(undo(gallery.directory, photos)[1]) for _ in range(2)] == [1, 2]
    assert all(removal.file.exists() for removal in found)


def test_a_pair_that_was_called_different_does_not_come_back(
    gallery: Gallery, photos: Path, model: Path
) -> None:
    with Image.open(photos / "a/000.png") as image:
        image.resize((48, 36)).save(photos / "small.png")
    gallery.update()

    def found() -> list[str]:
        return [item.path for group in gallery.duplicates() for item in group.duplicates]

    assert found() == ["small.png"]
    with pytest.raises(GalleryError, match=r"nothing\.png"):
        gallery.set_distinct([("small.png", "nothing.png")])
    assert gallery.set_distinct([(photos / "small.png", photos / "a/000.png")]) == 1
    assert found() == []
    (photos / "small.png").rename(photos / "moved.png")
    gallery.update()
    assert found() == []
    rebuilt, _ = Gallery.rebuild(photos, model=model)
    assert rebuilt.duplicates() == []
    assert gallery.set_distinct([("moved.png", "a/000.png")], distinct=False) == 0
    assert found() == ["moved.png"]
