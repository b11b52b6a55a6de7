from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import COMMAND, lookalike
from fakes import counts, write_photo, write_photos
from jobs import embedded, of_gallery, stored
from killing import killing

from lookalike.cluster.convert import import_gallery
from lookalike.cluster.parts import GONE, Parts, part_name
from lookalike.errors import GalleryError, ModelMismatchError
from lookalike.gallery import Gallery
from lookalike.gallery.ingest import Embedded
from lookalike.gallery.rows import ImageRow
from lookalike.progress import Progress


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty images and one file that is not an image."""
    photos = tmp_path / "photos"
    write_photos(photos, 30)
    (photos / "bad.jpg").write_bytes(b"nothing")
    return photos


@pytest.fixture
def parts(folder: Path, tmp_path: Path, model: Path) -> Parts:
    return embedded(folder, tmp_path / "parts", model, chunk_images=8)


def answers(gallery: Gallery, queries: list[Path], exact: bool = False) -> list[object]:
    return [
        [(hit.path, hit.cosine, hit.bits, hit.rarity) for hit in gallery.search(q, 7, exact=exact)]
        for q in queries
    ]


def table(gallery: Gallery) -> list[ImageRow]:
    """What the table says of each file, but for the id and what only this machine knows."""
    with gallery._files.reading() as store:
        rows = store.rows("1 ORDER BY path")
        return [replace(row, id=0, inode=None, ctime_ns=None) for row in rows]


def test_a_gallery_of_parts_answers_as_one_of_the_folder(
    folder: Path, parts: Parts, tmp_path: Path, model: Path
) -> None:
    local = Gallery.open(folder, directory=tmp_path / "local", model=model)
    local.update()
    seen: list[Progress] = []
    report = import_gallery(parts, folder, model=model, progress=seen.append)
    assert (report.images, report.skipped) == (30, 1)
    assert seen[-1] == Progress(31, 31, 1)
    made = Gallery.open(folder, create=False)
    assert of_gallery(made) == of_gallery(local) == stored(parts)
    assert table(made) == table(local)
    assert made.info().lsh == local.info().lsh
    assert made.info().model == local.info().model
    assert made.info().pairs is not None
    strangers = [write_photo(tmp_path / "strangers" / f"{n}.png", 900 + n) for n in range(5)]
    queries = [*strangers, folder / "a/000.png", folder / "c/002.png"]
    for exact in (False, True):
        assert answers(made, queries, exact) == answers(local, queries, exact)
    assert made.verify() == []


def test_what_was_removed_or_superseded_since_stays_out(
    folder: Path, parts: Parts, model: Path
) -> None:
    rows = parts.read(part_name(9))
    changed, gone = rows.images[0].path, rows.images[2]
    first = parts.next_id()
    new = ImageRow(first, changed, 1, 2, b"h" * 16, 3, 4, "PNG")
    removed = ImageRow(gone.id, gone.path, 1, 2, skipped=GONE)
    parts.append(first, Embedded([new], rows.vectors[1:2], [removed]))
    import_gallery(parts, folder, model=model)
    made = Gallery.open(folder, create=False)
    found = of_gallery(made)
    assert len(found) == 29
    assert os.fsdecode(gone.path) not in found
    assert found[os.fsdecode(changed)].vector == rows.vectors[1].tobytes()


def test_an_unfinished_or_damaged_job_makes_no_gallery_and_a_whole_one_one_that_goes_on(
    folder: Path, parts: Parts, model: Path
) -> None:
    path = Path(parts.where) / part_name(9)
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(GalleryError, match=r"1 of 4 parts .* are missing; go on with: lookalike"):
        import_gallery(parts, folder, model=model)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GalleryError, match=r"part-000000000009.parquet .* damaged"):
        import_gallery(parts, folder, model=model)
    assert not (folder / ".lookalike").exists()
    path.write_bytes(whole)
    import_gallery(parts, folder, model=model)
    gallery = Gallery.open(folder, create=False)
    assert counts(gallery.update()) == {"skipped": 1}
    write_photo(folder / "new.png", 77)
    (folder / "a/000.png").unlink()
    assert counts(gallery.update()) == {"added": 1, "dropped": 1, "skipped": 1}
    assert gallery.search(folder / "new.png", 1)[0].path == "new.png"
    with gallery._files.reading() as store:
        row = store.by_path(b"new.png")
        assert row is not None and row.id >= parts.next_id()


NOT_UNIT = "row of id {id} has an embedding that is not of unit length"
ALTERED: dict[str, tuple[str, Callable[[list[Any]], Any], str]] = {
    "NaN": ("embedding", lambda rows: [float("nan")] * len(rows[1]), NOT_UNIT),
    "zero": ("embedding", lambda rows: [0.0] * len(rows[1]), NOT_UNIT),
    "long": ("embedding", lambda rows: [2 * value for value in rows[1]], NOT_UNIT),
    "outside": ("path", lambda rows: b"../../x", "row of id {id} has the path b'../../x'"),
    "nothing": ("path", lambda rows: None, "row of id {id} has the path None"),
    "path again": ("path", lambda rows: rows[0], "row of id .* repeats an id or a path"),
    "id again": ("id", lambda rows: rows[0], "row of id .* repeats an id or a path"),
    "another part's id": ("id", lambda rows: 3, "ids are from 9 to 16, and a row has 3"),
}
"""Column of a part, what becomes of it in the second row, and what is said."""


def alter(path: Path, column: str, altered: Callable[[list[Any]], Any]) -> int:
    """Write a part again; returns the id that its second row had."""
    table = pq.read_table(path)
    number: int = table["id"][1].as_py()
    rows, field = table[column].to_pylist(), table.schema.field(column).with_nullable(True)
    rows[1] = altered(rows)
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, field, pa.array(rows, field.type)), path)
    return number


@pytest.mark.parametrize("what", ALTERED)
def test_a_part_altered_by_hand_is_an_error_that_names_it_its_row_and_what_to_do(
    folder: Path, parts: Parts, model: Path, what: str
) -> None:
    column, altered, message = ALTERED[what]
    path = Path(parts.where) / part_name(9)
    said = message.format(id=alter(path, column, altered))
    match = rf"{path.name} .*{said}.*; delete it, and run again: lookalike cluster embed"
    with pytest.raises(GalleryError, match=match):
        import_gallery(parts, folder, model=model)
    assert not (folder / ".lookalike").exists()


def test_two_parts_that_name_the_same_path_make_no_gallery(
    folder: Path, parts: Parts, model: Path
) -> None:
    first = parts.read(part_name(1)).images[0]
    alter(Path(parts.where) / part_name(9), "path", lambda rows: first.path)
    with pytest.raises(GalleryError, match=rf"image of id {first.id} has the path of another"):
        import_gallery(parts, folder, model=model)
    assert not (folder / ".lookalike").exists()


def test_the_wrong_folder_or_model_is_refused(
    folder: Path, parts: Parts, tmp_path: Path, other_model: Path, model: Path
) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(GalleryError, match=r"has none of the first 30 images .*which was .*photos"):
        import_gallery(parts, tmp_path / "other", model=model)
    with pytest.raises(ModelMismatchError, match="pooled 1"):
        import_gallery(parts, folder, model=other_model)
    with pytest.raises(ModelMismatchError, match="--model FILE"):
        import_gallery(parts, folder)
    shutil.copytree(folder, tmp_path / "moved", dirs_exist_ok=True)
    report = import_gallery(parts, tmp_path / "moved", model=model)
    assert report.images == 30


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_makes_the_gallery_and_says_so(
    folder: Path, parts: Parts, tmp_path: Path, model: Path
) -> None:
    words = ("index", folder, "--from", parts.where, "--model", model)
    elsewhere = ("--gallery", tmp_path / "made")
    done = lookalike(*words, *elsewhere, "--json", status=1)  # something was skipped
    summary = json.loads(done.stdout)
    assert (summary["images"], summary["added"], summary["skipped"]) == (30, 30, 1)
    assert "1 file is skipped" in done.stderr
    found = lookalike("search", folder / "a/003.png", *elsewhere, "--json")
    assert json.loads(found.stdout)[0]["path"] == "a/003.png"
    assert "there is a gallery" in lookalike(*words, *elsewhere, status=2).stderr
    assert "give one only" in lookalike(*words, "--rebuild", status=2).stderr


@pytest.mark.slow
def test_a_killed_command_leaves_no_gallery_and_can_be_run_again(
    folder: Path, parts: Parts, model: Path
) -> None:
    words = ["index", str(folder), "--from", parts.where, "--model", str(model)]
    home = folder / ".lookalike"
    seen = set[bool]()
    for kill_at in range(1, 60, 4):  # the process makes something durable, for the nth time
        command = [sys.executable, "-c", killing(kill_at) + COMMAND[2], *words]
        done = subprocess.run(command, capture_output=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
        is_whole = (home / "gallery.sqlite").exists()
        seen.add(is_whole)
        if is_whole:
            break
        with pytest.raises(GalleryError, match="there is no gallery"):
            Gallery.open(folder, create=False)
    assert seen == {False, True}
    whole = Gallery.open(folder, create=False)
    whole.update()
    assert whole.verify() == [] and of_gallery(whole) == stored(parts)
    (home / "gallery.sqlite").unlink()  # as if it had been killed before
    (home / "gallery.json").unlink()
    import_gallery(parts, folder, model=model)
    made = Gallery.open(folder, create=False)
    assert made.verify() == [] and of_gallery(made) == stored(parts)
    names = ["gallery.json", "gallery.sqlite", "index", "lock", "neighbours.lka"]
    assert sorted(path.name for path in home.iterdir()) == names
