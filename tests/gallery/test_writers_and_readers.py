from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fakes import HALF, assert_holds, embedding, updated, write_photo, write_photos
from holding import held_by_another_process

from lookalike.errors import GalleryError, GalleryLockedError
from lookalike.gallery import Gallery
from lookalike.gallery import update as update_module
from lookalike.gallery.schema import check_beside
from lookalike.gallery.store import Store


def test_a_gallery_that_two_machines_updated_is_right_again_after_the_next_update(
    gallery: Gallery, photos: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(photos, theirs)
    write_photos(photos / "mine", 6, 100)
    write_photos(theirs / "theirs", 6, 200)
    gallery.update()
    updated(theirs)
    shutil.copytree(theirs / "theirs", photos / "theirs")  # a program merges the two folders,
    for name in ("gallery.sqlite", "gallery.json"):  # and of each file the later one wins
        shutil.copy(theirs / ".lookalike" / name, gallery.directory / name)
    assert not [hit for hit in gallery.search(photos / "mine/a/000.png") if hit.cosine > 0.999]
    report = gallery.update()
    assert (report.images, report.added) == (24, 12)
    assert_holds(gallery, photos)


def test_a_second_writer_is_refused_with_the_pid_of_the_first(
    gallery: Gallery, photos: Path, model: Path
) -> None:
    with held_by_another_process(gallery.directory / "lock") as holder:
        message = f"is being written by process {holder.pid};"
        with pytest.raises(GalleryLockedError, match=message):
            gallery.update()
        with pytest.raises(GalleryLockedError, match=message):
            gallery.remove(["a/000.png"])
        with pytest.raises(GalleryLockedError, match=message):
            Gallery.repair(photos)
        with pytest.raises(GalleryLockedError, match=message):
            Gallery.rebuild(photos, model=model)
        assert gallery.search("a/000.png", 1)[0].path == "a/000.png"
    assert gallery.update().images == 12


def test_a_second_writer_that_waits_gets_its_turn_within_the_seconds_given(
    gallery: Gallery,
) -> None:
    with held_by_another_process(gallery.directory / "lock") as holder:
        began = time.monotonic()
        with pytest.raises(GalleryLockedError):
            gallery.update(wait=0.3)
        assert time.monotonic() - began >= 0.3
        timer = threading.Timer(0.5, holder.kill)
        timer.start()
        assert gallery.update(wait=120).images == 12
        assert time.monotonic() - began > 0.7
        timer.join()


Answer = list[tuple[str, float]]
READ = """
import json, sys, time
from lookalike.gallery import Gallery
gallery = Gallery.open(sys.argv[1], create=False)
end = time.monotonic() + float(sys.argv[2])
seen = []
while time.monotonic() < end:
    hits = gallery.search("a/000.png", 500)
    seen.append([[hit.path, hit.cosine] for hit in hits])
print(json.dumps(seen))
"""


def test_a_commit_between_any_two_questions_to_a_table_is_not_taken_for_damage(
    gallery: Gallery,
) -> None:
    """Before each of the reader's statements, a writer adds a row, if nothing locks the table."""
    path = gallery.directory / "gallery.sqlite"
    with closing(Store.open(path, write=True)) as writer, closing(Store.open(path)) as reader:
        writer.connection.execute("PRAGMA busy_timeout = 0")
        (like,) = reader.by_paths([b"a/000.png"])
        added = 0

        def commit(_: str) -> None:
            nonlocal added
            number = writer.next_id()
            row = replace(like, id=number, path=b"new %d" % number)
            try:
                with writer.transaction():
                    writer.put([row])
            except GalleryError:  # locked by the reader
                return
            added += 1

        reader.connection.set_trace_callback(commit)
        assert reader.integrity() == []
        before = added
        assert before > 1
        assert reader.next_id() > like.id + before
        assert added > before


def test_a_journal_that_begins_while_the_table_is_looked_at_is_not_taken_for_damage(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has grown by a commit after its status was read, and the next one begun."""
    path = gallery.directory / "gallery.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    true_access = os.access

    def busy(*arguments: Any) -> bool:
        for size in (100_000, 1):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO meta VALUES (?, zeroblob(?), 0)", (str(size), size))
            if size > 1:
                connection.execute("COMMIT")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("UPDATE meta SET value = zeroblob(50000)")  # spills to the journal
        return true_access(*arguments)

    with closing(connection), monkeypatch.context() as patch:
        patch.setattr(os, "access", busy)
        check_beside(path)
        journal = Path(f"{path}-journal").read_bytes()
        assert int.from_bytes(journal[16:20]) * 4096 > 100_000
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize(("module", "call"), [(os, "access"), (sqlite3, "connect")])
def test_a_gallery_that_a_rebuild_replaces_while_it_is_opened_is_read_in_its_successor(
    gallery: Gallery,
    photos: Path,
    module: ModuleType,
    call: str,
    is_killed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old one steps aside after a look at its table, the new one comes unless the rebuild is
    killed."""
    home, aside = gallery.directory, gallery.directory.with_name(".lookalike.old")
    incoming = shutil.copytree(home, home.with_name(".lookalike.rebuild"))
    true_call = getattr(module, call)

    def late(*arguments: Any, **options: Any) -> Any:
        if aside.exists():
            return true_call(*arguments, **options)
        home.rename(aside)
        try:
            return true_call(*arguments, **options)
        finally:
            if not is_killed:
                incoming.rename(home)

    reader = Gallery.open(photos, create=False)
    reader.close()
    monkeypatch.setattr(module, call, late)
    assert len(reader) == 12
    assert aside.exists() and not incoming.exists()


@contextmanager
def searching(gallery: Gallery, threads: int) -> Iterator[list[Answer]]:
    """Threads that search all the while; what they have found."""
    answers: list[Answer] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                hits = gallery.search("a/000.png", 500)
                answers.append([(hit.path, hit.cosine) for hit in hits])
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=search) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in running:
            thread.join()
    assert list(map(str, failures)) == []


@pytest.mark.slow
def test_searches_in_threads_and_processes_see_committed_states_while_files_come_and_go(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer adds, changes, moves and drops; each answer must be right for some moment."""
    monkeypatch.setattr(update_module, "COMMIT_IMAGES", 3)
    folder = tmp_path / "photos"
    write_photos(folder, 30)
    gallery = updated(folder, model=model)
    steady = {f"{'abc'[n % 3]}/{n:03}.png" for n in range(15)}
    query = embedding(folder / "a/000.png")
    versions: dict[str, list[np.ndarray]] = {}  # every content that a path ever has

    def note(path: Path) -> None:
        versions.setdefault(path.relative_to(folder).as_posix(), []).append(embedding(path))

    for path in folder.rglob("*.png"):
        note(path)
    seconds = 4.0
    command = [sys.executable, "-c", READ, str(folder), str(seconds)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with searching(gallery, 2) as answers:
        writer = Gallery.open(folder)
        end, step = time.monotonic() + seconds, 0
        while time.monotonic() < end or step < 4 or len(answers) < 51:
            step += 1
            for n in range(6):
                note(write_photo(folder / f"new/{step}-{n}.png", 1000 + 10 * step + n))
            for n in (15, 18):
                note(write_photo(folder / f"a/{n:03}.png", 5000 + 10 * step + n))
            for old in (folder / "new").glob(f"{step - 1}-[01].png"):
                moved = old.with_name(f"moved {old.name}")
                old.rename(moved)
                note(moved)
            for old in (folder / "new").glob(f"{step - 1}-[23].png"):
                old.unlink()
            writer.update()
    stdout, _ = reader.communicate()
    assert reader.returncode == 0
    answers += [[(name, cosine) for name, cosine in answer] for answer in json.loads(stdout)]
    for answer in answers:
        paths = [name for name, _ in answer]
        assert len(paths) == len(set(paths))
        assert steady <= set(paths)  # what did not change is always there
        assert {"a/015.png", "a/018.png"} <= set(paths)  # in their old or new version
        for name, cosine in answer:
            right = [query @ vector for vector in versions[name]]
            assert min(abs(cosine - value) for value in right) < 2 * HALF, name
    assert_holds(gallery, folder)


@pytest.mark.slow
def test_searches_go_on_while_a_gallery_is_rebuilt_with_another_model(
    tmp_path: Path, model: Path, other_model: Path
) -> None:
    folder = tmp_path / "photos"
    paths = write_photos(folder, 60)
    Gallery.open(folder, model=model).update()
    with searching(Gallery.open(folder, create=False), 1) as answers:
        for turn in range(6):
            Gallery.rebuild(folder, model=(other_model, model)[turn % 2])
    oracles = []
    for cells in (4, 2):
        query = embedding(folder / "a/000.png", cells)
        found = {path: float(query @ embedding(path, cells)) for path in paths}
        oracles.append({p.relative_to(folder).as_posix(): value for p, value in found.items()})
    matched = set()
    for answer in answers:
        fits = [dict(answer) == pytest.approx(oracle, abs=2 * HALF) for oracle in oracles]
        assert len(answer) == 60 and any(fits)
        matched.add(fits.index(True))
    assert matched == {0, 1}
    assert not [path for path in folder.iterdir() if "rebuild" in path.name or "old" in path.name]
