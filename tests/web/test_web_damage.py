"""A server whose gallery's files are damaged under it: it says so, and goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from webtools import answer_of, client_of, error_of, wait_until

from lookalike.gallery import Gallery


@pytest.mark.parametrize("name", ["gallery.sqlite", "index/manifest.json", "index/segment"])
def test_a_damaged_file_is_an_error_and_not_the_end_of_the_server(
    gallery: Gallery, name: str
) -> None:
    path = gallery.directory / name
    if name == "index/segment":
        (path,) = path.parent.glob("segment-*")
    whole = path.read_bytes()
    with client_of(gallery) as client:
        before = answer_of(client.get("/api/images"))
        damaged = bytearray(whole)
        for at in range(300, len(whole), 100):
            damaged[at] ^= 0xFF
        replace(path, bytes(damaged))
        # A segment is opened again when the manifest changes.
        manifest = gallery.directory / "index/manifest.json"
        replace(manifest, manifest.read_bytes() + b"\n")
        for url in ("/api/images", "/api/stats", "/api/skipped"):
            response = client.get(url)
            if response.status_code != 200:
                error = error_of(response, 500, "internal")
                assert "lookalike verify" in error["remedy"]
        assert client.get("/api/images").status_code == 500
        replace(path, whole)
        assert answer_of(client.get("/api/images")) == before


@pytest.mark.parametrize("name", ["gallery.sqlite", "index/manifest.json"])
def test_a_pipe_in_place_of_a_file_does_not_stop_the_server(gallery: Gallery, name: str) -> None:
    path = gallery.directory / name
    whole = path.read_bytes()
    with client_of(gallery) as client:
        before = answer_of(client.get("/api/images"))
        path.unlink()
        os.mkfifo(path)
        error = error_of(client.get("/api/images"), 500, "internal")
        assert error["remedy"] == "run on the server: lookalike verify --repair"
        path.unlink()
        path.write_bytes(whole)
        assert answer_of(client.get("/api/images")) == before


def replace(path: Path, content: bytes) -> None:
    """As a program that synchronises folders does it."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def test_a_folder_that_is_gone_is_said_to_be_and_is_searched_once_it_is_back(
    gallery: Gallery, photos: Path
) -> None:
    with client_of(gallery) as client:
        found = answer_of(client.post("/api/search", json={"id": 1}))
        photos.rename(photos.with_name("unmounted"))
        answer_of(client.post("/api/update"), 202)
        wait_until(lambda: not answer_of(client.get("/api/update"))["updating"])
        errors = [
            answer_of(client.get("/api/update"))["error"],
            error_of(client.post("/api/search", json={"id": 1}), 404, "not_found"),
            error_of(client.get("/api/images"), 404, "not_found"),
        ]
        assert {error["remedy"] for error in errors} == {
            "put it back on the server, then try again"
        }
        photos.with_name("unmounted").rename(photos)
        again = answer_of(client.post("/api/search", json={"id": 1}))
    assert again["hits"] == found["hits"] != []
