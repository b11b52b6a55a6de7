"""What the page changes: images taken out and let back in, duplicates moved and put back."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes import write_photo
from webtools import TestClient, answer_of, client_of, error_of, wait_until

from lookalike.gallery import Gallery
from lookalike.web import ServeSettings


def ids_of(client: TestClient) -> dict[str, int]:
    images = answer_of(client.get("/api/images?limit=200"))["images"]
    return {image["path"]: image["id"] for image in images}


def updated(client: TestClient) -> None:
    answer_of(client.post("/api/update"), 202)
    wait_until(lambda: not answer_of(client.get("/api/update"))["updating"])


def test_nothing_is_done_to_images_of_a_gallery_that_was_made_again_since(
    photos: Path, model: Path
) -> None:
    """Its ids are those of other images."""
    made = Gallery.open(photos, model=model)
    made.update()
    with client_of(made) as client:
        listed = answer_of(client.get("/api/images?limit=200"))
        found = answer_of(client.post("/api/duplicates", json={}))
        one, two = (image["id"] for image in listed["images"][:2])
    assert listed["gallery"] == found["gallery"] != ""
    shutil.rmtree(photos / ".lookalike")
    write_photo(photos / "0.png", 99)  # before all others
    again = Gallery.open(photos, model=model)
    again.update()
    marks = {"action": "trash", "groups": [{"keep": [one], "could_go": [two]}]}
    with client_of(again) as client:
        files = ids_of(client).keys()
        for address, asked in (
            ("/api/duplicates/apply", marks),
            ("/api/remove", {"ids": [one]}),
            ("/api/restore", {"ids": [one]}),
        ):
            stale = {**asked, "gallery": listed["gallery"]}
            error = error_of(client.post(address, json=stale), 409, "conflict")
            assert error["remedy"] == "load the page again"
        assert ids_of(client).keys() == files
        now = answer_of(client.get("/api/images"))["gallery"]
        asked = {"ids": [one], "gallery": now}
        assert answer_of(client.post("/api/remove", json=asked)) == {"images": 1}


def test_as_many_images_are_taken_out_as_were_chosen(tmp_path: Path, model: Path) -> None:
    """More than a list shows at once."""
    content = write_photo(tmp_path / "000.png", 1).read_bytes()
    for number in range(1, 250):
        (tmp_path / f"{number:03}.png").write_bytes(content)
    gallery = Gallery.open(tmp_path, model=model)
    gallery.update()
    with client_of(gallery) as client:
        (group,) = answer_of(client.post("/api/duplicates", json={}))["groups"]
        going = [item["id"] for item in group["others"]]
        marks = {
            "action": "hardlink",
            "groups": [{"keep": [group["keep"]["id"]], "could_go": going}],
        }
        files = answer_of(client.post("/api/duplicates/apply", json=marks))["files"]
        assert [file["problem"] for file in files] == [None] * 249
        updated(client)
        asked = {"ids": list(range(1, 251))}
        assert answer_of(client.post("/api/remove", json=asked)) == {"images": 250}


def test_images_are_taken_out_and_let_back_in_and_no_file_is_touched(
    gallery: Gallery, photos: Path
) -> None:
    (photos / "bad.png").write_text("no image")
    gallery.update()
    with client_of(gallery) as client:
        before = ids_of(client)
        unknown = {"ids": [before["c/002.png"], 999_999]}  # takes none of them out
        error_of(client.post("/api/remove", json=unknown), 404, "not_found")
        gone = {"ids": [before["a/000.png"], before["b/001.png"]]}
        assert answer_of(client.post("/api/remove", json=gone)) == {"images": 2}
        assert ids_of(client).keys() == before.keys() - {"a/000.png", "b/001.png"}
        error_of(client.post("/api/remove", json=gone), 404, "not_found")
        updated(client)
        assert ids_of(client).keys() == before.keys() - {"a/000.png", "b/001.png"}
        read, taken = (
            answer_of(client.get(f"/api/skipped{query}")) for query in ("", "?removed=true")
        )
        assert [item["path"] for item in read["skipped"]] == ["bad.png"]
        assert [each["reason"] for each in read["reasons"]] == ["not-an-image"]
        assert [item["path"] for item in taken["skipped"]] == ["a/000.png", "b/001.png"]
        listed = {"ids": [item["id"] for item in taken["skipped"]]}
        assert answer_of(client.post("/api/restore", json=listed)) == {"images": 2}
        assert answer_of(client.get("/api/skipped?removed=true"))["total"] == 0
        error_of(client.post("/api/restore", json=listed), 404, "not_found")
        updated(client)
        assert ids_of(client).keys() == before.keys()
    assert len(list(photos.rglob("*.png"))) == 13


def test_duplicates_go_to_the_trash_and_come_back(
    gallery: Gallery, photos: Path, trash: Path
) -> None:
    copy = photos / "copy.png"
    copy.write_bytes((photos / "a/000.png").read_bytes())
    gallery.update()
    with client_of(gallery) as client:
        ids = ids_of(client)
        group = {"keep": [ids["a/000.png"]], "could_go": [ids["copy.png"]]}
        asked = {"action": "trash", "groups": [group]}
        done = answer_of(client.post("/api/duplicates/apply", json=asked))
        assert done == {"action": "trash", "files": [{"path": "copy.png", "problem": None}]}
        assert not copy.exists() and (photos / "a/000.png").exists()
        assert [file.name for file in trash.iterdir()] == ["copy.png"]
        done = answer_of(client.post("/api/duplicates/undo"))
        assert done == {"action": "trash", "files": [{"path": "copy.png", "problem": None}]}
        assert copy.read_bytes() == (photos / "a/000.png").read_bytes()
        assert answer_of(client.post("/api/duplicates/undo")) == {"action": None, "files": []}


def test_a_file_that_has_changed_is_left_alone_and_no_path_of_the_server_is_shown(
    gallery: Gallery, photos: Path, trash: Path
) -> None:
    with client_of(gallery) as client:
        ids = ids_of(client)
        (photos / "b/001.png").write_bytes(b"another")
        group = {"keep": [ids["a/000.png"]], "could_go": [ids["b/001.png"]]}
        asked = {"action": "trash", "groups": [group]}
        (file,) = answer_of(client.post("/api/duplicates/apply", json=asked))["files"]
    assert file["path"] == "b/001.png" and "no longer holds" in file["problem"]
    assert str(photos) not in str(file) and not trash.exists()
    assert (photos / "b/001.png").read_bytes() == b"another"


@pytest.mark.parametrize(
    "reached", [{"host": "0.0.0.0"}, {"allowed_hosts": ("photos.example",)}], ids=["host", "proxy"]
)
def test_files_are_moved_only_for_this_machine(
    gallery: Gallery, photos: Path, reached: dict[str, Any]
) -> None:
    settings = ServeSettings(token="known-to-both", **reached)
    with client_of(gallery, settings) as client:
        client.headers["Authorization"] = "Bearer known-to-both"
        ids = ids_of(client)
        group = {"keep": [ids["a/000.png"]], "could_go": [ids["b/001.png"]]}
        asked = {"action": "trash", "groups": [group]}
        error = error_of(client.post("/api/duplicates/apply", json=asked), 403, "forbidden")
        assert "lookalike duplicates --apply" in error["remedy"]
        error_of(client.post("/api/duplicates/undo"), 403, "forbidden")
    assert (photos / "b/001.png").exists()


@pytest.mark.parametrize(
    ("number", "message", "remedy"),
    [
        (errno.EACCES, "the server cannot write to the gallery", "run it as a user who may"),
        (errno.EROFS, "the server cannot write to the gallery", "run it as a user who may"),
        (errno.ENOSPC, "the server cannot write to the gallery: its disk is full", "make room"),
    ],
)
def test_what_a_disk_refuses_is_said_and_no_path_of_the_server(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, number: int, message: str, remedy: str
) -> None:
    def refused(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("lookalike.gallery.lock.open_locked", refused)
    with client_of(gallery) as client:
        chosen = {"ids": [next(iter(ids_of(client).values()))]}
        answer_of(client.post("/api/update"), 202)
        wait_until(lambda: not answer_of(client.get("/api/update"))["updating"])
        errors = [
            answer_of(client.get("/api/update"))["error"],
            error_of(client.post("/api/remove", json=chosen), 409, "conflict"),
        ]
    for error in errors:
        assert (error["code"], error["message"]) == ("conflict", message)
        assert error["remedy"].startswith(remedy)
