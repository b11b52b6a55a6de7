from __future__ import annotations

import os
import threading
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import images_of, write_photos
from jobs import embedded, finish, reasons, stored

from lookalike.cluster.embed import prepare
from lookalike.cluster.job import write_list
from lookalike.cluster.source import open_source, rows_of
from lookalike.cluster.storage import Storage
from lookalike.errors import GalleryError
from lookalike.gallery.scan import scan


def listed(source: Path | str) -> tuple[str, list[str]]:
    """Root and names of a source of files."""
    found = open_source(str(source))
    items = list(found.items())
    assert {row for _, row in items} <= {-1}
    return found.root, [os.fsdecode(name) for name, _ in items]


def write_table(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file, row_group_size=5)
    return file


@pytest.fixture
def memory() -> Iterator[str]:
    """The URI of an empty folder in memory."""
    filesystem, uri = fsspec.filesystem("memory"), f"memory://{uuid.uuid4().hex}"
    filesystem.mkdir(uri)
    yield uri
    filesystem.rm(uri, recursive=True)


# ---- folders -------------------------------------------------------------------------------------


def test_a_folder_is_walked_as_a_gallery_walks_it(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 12)
    for name in (".hidden.png", "notes.txt", ".trash/a.png", os.fsdecode(b"caf\xe9.jpg")):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"")
    (photos / "link").symlink_to(photos / "a")
    (photos / "loop").symlink_to(photos)
    root, names = listed(photos)
    assert root == str(photos)
    found = scan(os.fsencode(photos), lambda *_: None)
    assert names == [os.fsdecode(file.path) for file in found]
    assert "caf\udce9.jpg" in names and ".hidden.png" not in names


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path, 3)
    list_folder = os.scandir

    def refusing(path: str | bytes) -> Any:
        if os.fsencode(path).endswith(b"/b"):
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(GalleryError, match="cannot list b: Permission denied"):
        listed(tmp_path)
    with pytest.raises(GalleryError, match=r"cannot list .*/b: .*Permission denied"):
        listed(tmp_path / "b")


# ---- lists ---------------------------------------------------------------------------------------


def test_a_list_names_files_relative_to_its_own_folder_once_each(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "list.txt").write_bytes(
        b"\xef\xbb\xbfphotos/a/000.png\r\n\nphotos/b/001.png\nphotos/c/../a/000.png\n"
        + os.fsencode(tmp_path)
        + b"/photos/b/001.png\nphotos/caf\xe9 #1.jpg\n"
    )
    names = ["photos/a/000.png", "photos/b/001.png", "photos/caf\udce9 #1.jpg"]
    assert listed(tmp_path / "list.txt") == (str(tmp_path), names)


# ---- tables --------------------------------------------------------------------------------------


def test_every_kind_of_source_embeds_like_the_folder(
    tmp_path: Path, memory: str, model: Path
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 13)
    (photos / "b/empty.png").write_bytes(b"")
    names = sorted(images_of(photos))
    (photos / "list.txt").write_text("\n".join(names))  # which a walk passes over
    (photos / ".hidden.png").write_bytes(b"")
    (tmp_path / "far.txt").write_text("\n".join(f"{memory}/photos/{name}" for name in names))
    paths = write_table(tmp_path / "paths.parquet", path=[f"photos/{name}" for name in names])
    content = [(photos / name).read_bytes() for name in names]
    table = write_table(tmp_path / "t.parquet", path=names, bytes=content, label=[1] * 14)
    far = fsspec.filesystem("memory")
    far.put(f"{photos}/", f"{memory}/photos/", recursive=True)
    far.put(str(table), f"{memory}/t.parquet")
    assert listed(f"{memory}/photos/") == (f"{memory}/photos", listed(photos)[1])
    expected = embedded(photos, tmp_path / "expected", model)
    sources: list[Path | str] = [f"{memory}/photos", f"{memory}/photos/list.txt"]
    sources += [photos / "list.txt", tmp_path / "far.txt", paths, table]
    sources += [f"{memory}/t.parquet", table.as_uri()]
    for number, source in enumerate(sources):
        parts = embedded(source, f"{memory}/{number}", model, chunk_images=4)  # row groups have 5
        assert (parts.job.root == "") == ("t.parquet" in str(source))
        found, why = (
            {name.removeprefix("photos/"): value for name, value in of.items()}
            for of in (stored(parts), reasons(parts))
        )
        assert found == stored(expected), source
        assert {name: reason[0] for name, reason in why.items()} == {"b/empty.png": "empty"}


def test_rows_without_a_path_are_named_after_their_place(tmp_path: Path, model: Path) -> None:
    photos, tables = tmp_path / "photos", tmp_path / "tables"
    tables.mkdir()
    content = [path.read_bytes() for path in write_photos(photos, 12)]
    write_table(tables / "x.parquet", bytes=[*content[:7], None])
    write_table(tables / "y.parquet", bytes=[b"no image", *content[7:]], path=[None, *"abcde"])
    expected = stored(embedded(photos, tmp_path / "0", model))
    parts = embedded(tables, tmp_path / "1", model, chunk_images=4)
    found = stored(parts)
    assert list(found) == [f"x.parquet#{n}" for n in range(7)] + list("abcde")
    by_content = {value.hash: value for value in expected.values()}
    assert all(by_content[value.hash] == value for value in found.values())
    why = {name: reason[0] for name, reason in reasons(parts).items()}
    assert why == {"x.parquet#7": "empty", "y.parquet#0": "not-an-image"}


def test_rows_of_a_table_are_read_from_anywhere_in_its_row_groups(tmp_path: Path) -> None:
    content = [bytes([n]) for n in range(12)]
    table = write_table(tmp_path / "t.parquet", bytes=content)  # groups of 5, 5 and 2
    assert list(open_source(str(table)).items()) == [(os.fsencode(table), n) for n in range(12)]
    for start in range(12):
        for end in range(start + 1, 13):
            found = list(rows_of(str(table), start, end - start))
            assert found == [(b"t.parquet#%d" % n, content[n]) for n in range(start, end)]


def test_a_table_that_has_shrunk_or_gone_is_an_error(tmp_path: Path, model: Path) -> None:
    table = write_table(tmp_path / "t.parquet", bytes=[b""] * 12)
    parts = prepare(str(table), str(tmp_path / "parts"), model=str(model))
    write_table(table, bytes=[b""] * 11)
    with pytest.raises(GalleryError, match="has changed since the job was made"):
        finish(parts, model)
    table.unlink()
    with pytest.raises(GalleryError, match="cannot read the table"):
        finish(parts, model)
    assert parts.names() == []


def test_a_far_image_that_cannot_be_read_ends_the_reading_of_all_others(
    tmp_path: Path, model: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", 100)
    filesystem = fsspec.filesystem("memory")
    filesystem.put(f"{tmp_path}/photos/", memory, recursive=True)
    parts = prepare(memory, str(tmp_path / "parts"), model=str(model))

    def refusing(_: object, path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(type(filesystem), "cat_file", refusing)
    before = set(threading.enumerate())
    with pytest.raises(GalleryError, match=r"cannot read .*/000.png: .*Permission denied") as error:
        finish(parts, model)
    # What holds the error holds the stream that it came from, and must not hold its threads.
    begun = set(threading.enumerate()) - before
    assert error.tb and not [t for t in begun if t.name.startswith("lookalike-")]


# ---- what is not a source ------------------------------------------------------------------------


BAD: dict[str, tuple[Any, str]] = {
    "empty.txt": (b"", "lists no files"),
    "one.jpg": (b"\xff\xd8\xff", "for a single image, give its folder"),
    "archive.zip": (b"PK\x03\x04\0\0", "neither a folder, nor a text file"),
    "cut.parquet": (b"PAR1\x15\x04", "cannot read the table"),
    "url.parquet": ({"url": ["x"], "label": [1]}, "has the columns url, label; a table of images"),
    "text.parquet": ({"bytes": ["x"]}, "column 'bytes' of .* is string; it must be binary"),
    "twice.parquet": ({"bytes": [b"x"] * 2, "path": ["a"] * 2}, "two rows of .* have the path 'a'"),
    "web.parquet": (
        {"bytes": [b"x"] * 2, "path": ["a", "https://a.org/b.jpg"]},
        "row 1 of .*web.parquet has the path 'https://a.org/b.jpg'.* leave the column out",
    ),
    "up.parquet": ({"bytes": [b"x"], "path": ["../b"]}, "row 0 of .* has the path '../b'"),
    "gap.parquet": ({"path": ["a", None]}, "has no path"),
    "nothing": (None, "there are no images in"),
    "job": (None, "holds the parts of a job"),
    "nowhere": (None, "does not exist; give a folder of images"),
}
"""Name -> content or columns, and what is said of it."""


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_a_source_is_an_error_that_says_why(
    tmp_path: Path, model: Path, name: str
) -> None:
    content, message = BAD[name]
    for folder in ("nothing", "job"):
        (tmp_path / folder).mkdir()
    (tmp_path / "job/job.json").write_text("{}")
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        write_table(tmp_path / name, **content)
    with pytest.raises(GalleryError, match=message):
        prepare(str(tmp_path / name), str(tmp_path / "parts"), model=str(model))
    assert not (tmp_path / "parts/job.json").exists()


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    def peak(images: int) -> int:
        path = tmp_path / f"{images}.txt"
        path.write_text("".join(f"folder/{n:060}.jpg\n" for n in range(images)))
        tracemalloc.start()
        source = open_source(str(path))
        count = write_list(Storage(str(tmp_path / f"{images}")), source.items())
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == images
        return highest

    peak(1000)  # whatever is made once
    assert peak(40_000) < peak(20_000) + 200_000  # 20,000 paths take 2 MB
