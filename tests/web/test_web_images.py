"""GET /api/images and below: lists, originals, thumbnails, compared with the files."""

from __future__ import annotations

import io
import os
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from fakes import write_photo
from hostile import encode, make_good_files, photo
from PIL import Image
from webtools import TestClient, answer_of, client_of, error_of

from lookalike.gallery import Gallery
from lookalike.images import read_rgb
from lookalike.web import ServeSettings


def test_the_list_is_by_path_and_in_pages(
    client: TestClient, folder: Path, ids: dict[str, int]
) -> None:
    names = sorted(ids)
    found = []
    for offset in range(0, 40, 8):
        answer = answer_of(client.get(f"/api/images?offset={offset}&limit=8"))
        assert answer["total"] == 31
        found += answer["images"]
    assert [image["path"] for image in found] == names
    assert [image["id"] for image in found] == [ids[name] for name in names]
    assert {(i["width"], i["height"], i["format"]) for i in found} == {(64, 48, "PNG")}
    answer = answer_of(client.get("/api/images?filter=b/*&limit=200"))
    assert [i["path"] for i in answer["images"]] == [n for n in names if n.startswith("b/")]
    assert answer["total"] == 10
    assert answer_of(client.get(f"/api/images?offset={2**63 - 1}"))["images"] == []
    one = answer_of(client.get(f"/api/images/{found[3]['id']}/info"))
    file = (folder / names[3]).stat()
    assert one.pop("bytes") == file.st_size and one.pop("note") is None
    assert datetime.fromisoformat(one.pop("changed")).timestamp() == int(file.st_mtime)
    assert one == found[3]


def test_an_original_is_the_file(client: TestClient, folder: Path, ids: dict[str, int]) -> None:
    for path in ("a/000.png", "copy of 000.png", "c/029.png"):
        response = client.get(f"/api/images/{ids[path]}")
        assert response.content == (folder / path).read_bytes()
        assert response.headers["content-type"] == "image/png"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in response.headers["content-security-policy"]
        name = path.rpartition("/")[2].replace(" ", "%20")
        assert response.headers["content-disposition"] == f"inline; filename*=UTF-8''{name}"
        headers = {"if-none-match": response.headers["etag"]}
        again = client.get(f"/api/images/{ids[path]}", headers=headers)
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("size", [128, 256, 512])
def test_a_thumbnail_is_a_small_webp_made_once(gallery: Gallery, photos: Path, size: int) -> None:
    pixels = photo(4, 900, 600)
    (photos / "tall.jpg").write_bytes(encode(pixels, "JPEG", quality=95))
    gallery.update()
    number = gallery.search(photos / "tall.jpg", 1)[0].id
    with client_of(gallery) as client:
        response = client.get(f"/api/images/{number}/thumbnail?size={size}")
        assert response.headers["content-type"] == "image/webp"
        shown = Image.open(io.BytesIO(response.content))
        assert (shown.format, shown.size) == ("WEBP", (round(size * 2 / 3), size))
        expected = read_rgb(photos / "tall.jpg", longest_side=size)
        assert np.abs(np.asarray(shown).astype(int) - np.asarray(expected)).mean() < 4
        (file,) = (gallery.directory / "thumbnails").rglob("*.webp")
        assert file.read_bytes() == response.content
        assert not list((gallery.directory / "thumbnails").rglob("*.tmp"))
        etag = response.headers["etag"]
        assert etag.startswith('"') and response.headers["cache-control"].startswith("private")
        url = f"/api/images/{number}/thumbnail?size={size}"
        assert client.get(url, headers={"if-none-match": f'"x", {etag}'}).status_code == 304
        os.rename(photos / "tall.jpg", photos / "moved.jpg")
        gallery.update()
        os.unlink(photos / "moved.jpg")
        again = client.get(url)  # from the cache: the file is gone
        assert (again.content, again.headers["etag"]) == (response.content, etag)
        file.write_bytes(response.content[:-10])
        error_of(client.get(url), 404, "not_found")  # half of one counts as none


def test_thumbnails_take_no_more_room_than_they_may(gallery: Gallery) -> None:
    folder = gallery.directory / "thumbnails"
    with client_of(gallery) as client:
        made = [client.get(f"/api/images/{i}/thumbnail").content for i in range(1, 13)]
    whole = sum(file.stat().st_size for file in folder.rglob("*.webp"))
    assert whole == sum(map(len, made))
    shutil.rmtree(folder)
    with client_of(gallery, ServeSettings(max_thumbnail_bytes=whole // 2)) as client:
        again = [client.get(f"/api/images/{i}/thumbnail").content for i in range(1, 13)]
    assert again == made
    assert whole / 4 < sum(file.stat().st_size for file in folder.rglob("*.webp")) <= whole // 2


def test_a_gallery_that_cannot_be_written_has_thumbnails_all_the_same(gallery: Gallery) -> None:
    (gallery.directory / "thumbnails").write_bytes(b"in the way")
    with client_of(gallery) as client:
        response = client.get("/api/images/1/thumbnail")
        assert Image.open(io.BytesIO(response.content)).size == (64, 48)


@pytest.mark.slow
def test_every_format_and_odd_name_is_served(tmp_path: Path, model: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    made = make_good_files(photos)
    gallery = Gallery.open(photos, model=model)
    gallery.update()
    with client_of(gallery) as client:
        images = answer_of(client.get("/api/images?limit=200"))["images"]
        assert len(images) == len(made)
        for image in images:
            response = client.get(image["original"])
            path = photos / image["path"]
            assert response.content == path.read_bytes()
            assert response.headers["content-type"].startswith("image/"), image
            shown = client.get(image["thumbnail"]).content
            assert Image.open(io.BytesIO(shown)).size == (image["width"], image["height"])


def test_a_file_that_changed_or_went_after_it_was_indexed_is_not_served(
    gallery: Gallery, photos: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    names = ["a/000.png", "b/001.png", "c/002.png", "a/003.png", "b/004.png"]
    gone, changed, linked, forged, folder = (photos / name for name in names)
    found = {hit.path: hit.id for hit in gallery.search("a/000.png", 100)}
    os.unlink(gone)
    write_photo(changed, 99)
    secret.write_bytes(b"S" * 100)
    os.unlink(linked)
    linked.symlink_to(secret)
    status = forged.stat()  # the same size and time, elsewhere: only the content differs
    secret_of_size = tmp_path / "other.png"
    secret_of_size.write_bytes(b"S" * status.st_size)
    os.utime(secret_of_size, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.unlink(forged)
    forged.symlink_to(secret_of_size)
    os.unlink(folder)
    folder.mkdir()
    with client_of(gallery) as client:
        for name, code, status_code in zip(
            names,
            ["not_found", *["conflict"] * 4],
            [404, *[409] * 4],
            strict=True,
        ):
            for url in ("", "/thumbnail"):
                error_of(client.get(f"/api/images/{found[name]}{url}"), status_code, code)
            crop = {"id": found[name], "crop": [0, 0, 1, 1]}
            error_of(client.post("/api/search", json=crop), status_code, code)
            # What was indexed is still known, and asks for no file:
            answer_of(client.post("/api/search", json={"id": found[name]}))
