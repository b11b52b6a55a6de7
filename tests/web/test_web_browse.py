"""What one browses by: folders, months, orders, facts of a file, the map."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from webtools import TestClient, answer_of, client_of, error_of, wait_until

from lookalike.gallery import Gallery
from lookalike.web import map as atlas
from lookalike.web.map import place


def test_what_the_camera_wrote_is_shown_and_nonsense_is_not(gallery: Gallery, photos: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    exif.get_ifd(0x8769).update({0x9003: "2019:07:21 14:03:55", 0x829A: 0.004, 0x8827: 200})
    exif.get_ifd(0x8825).update({1: "S", 2: (47.0, 22.0, 30.0), 3: "E", 4: (8.0, 30.0, 0.0)})
    gradient = Image.linear_gradient("L").convert("RGB")
    gradient.save(photos / "camera.jpg", exif=exif)
    exif.get_ifd(0x8825)[2] = (470.0, 0.0, 0.0)
    exif.get_ifd(0x8769)[0x9003] = "yesterday"
    gradient.rotate(90).save(photos / "nonsense.jpg", exif=exif)
    gallery.update()
    with client_of(gallery) as client:

        def shown(name: str) -> dict[str, object]:
            (image,) = answer_of(client.get(f"/api/images?filter={name}"))["images"]
            found: dict[str, object] = answer_of(client.get(f"/api/images/{image['id']}/exif"))
            return {key: value for key, value in found.items() if value is not None}

        known = {"camera": "Canon EOS 5D", "seconds": 0.004, "iso": 200}
        place_ = {"latitude": -47.375, "longitude": 8.5}
        assert shown("camera.jpg") == {**known, **place_, "taken": "2019-07-21T14:03:55"}
        assert shown("nonsense.jpg") == known
        assert shown("000.png") == {}


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (90, 32) around three directions, and which of them each is near to."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(3), (40, 30, 20))
    vectors = rng.standard_normal((3, 32))[of] + 0.4 * rng.standard_normal((90, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of


def test_images_of_a_cluster_lie_together_on_the_map() -> None:
    vectors, of = clusters()
    at = place(vectors, 8)
    assert at.min() >= 0 and at.max() <= 1 and np.array_equal(at, place(vectors, 8))
    centres = np.stack([at[of == i].mean(axis=0) for i in range(3)])
    nearest = np.linalg.norm(at[:, None] - centres[None], axis=2).argmin(axis=1)
    assert np.array_equal(nearest, of)


@pytest.mark.parametrize("path", ["/nowhere", "/page/none.js", "/api/images/999", "/api/none"])
def test_an_address_that_is_unknown_is_a_page_for_browsers_and_json_for_programs(
    client: TestClient, path: str
) -> None:
    error = error_of(client.get(path), 404, "not_found")
    page = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert f"<h1>{error['message'].capitalize()}</h1>" in page.text
    url = "/api/images?filter=date:<script>alert(1)</script>"
    shown = client.get(url, headers={"Accept": "text/html"})
    assert shown.status_code == 400
    assert "<script>" not in shown.text and "&lt;script&gt;" in shown.text


def photographed(path: Path, moment: str, changed: datetime) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    exif.get_ifd(0x8769)[0x9003] = moment
    Image.linear_gradient("L").convert("RGB").rotate(len(path.stem)).save(path, exif=exif)
    os.utime(path, (changed.timestamp(), changed.timestamp()))


def test_the_date_of_the_camera_orders_filters_and_counts_before_that_of_the_file(
    gallery: Gallery, photos: Path
) -> None:
    copied = datetime(2024, 6, 1)
    photographed(photos / "may.jpg", "2019:05:31 23:59:59", copied)
    photographed(photos / "june.png", "2019:06:01 00:00:00", copied)
    photographed(photos / "reset.jpg", "0000:00:00 00:00:00", copied)
    gallery.update()
    with client_of(gallery) as client:

        def found(query: str) -> list[str]:
            return [i["path"] for i in answer_of(client.get(f"/api/images?{query}"))["images"]]

        assert found("sort=oldest")[:3] == ["may.jpg", "june.png", "reset.jpg"]
        assert found("filter=date:2019-05") == ["may.jpg"]
        assert found("filter=date:2019-06-01..2024") == ["june.png", "reset.jpg"]
        months = {m["month"]: m["images"] for m in answer_of(client.get("/api/folders"))["months"]}
        assert (months["2019-05"], months["2019-06"], months["2024-06"]) == (1, 1, 1)
    images = {image.path: image.taken for image in gallery.images()}
    assert images["may.jpg"] == datetime(2019, 5, 31, 23, 59, 59)
    assert images["reset.jpg"] is None and images["a/000.png"] is None


def test_the_map_holds_every_image_and_is_made_again_when_its_file_does_not_fit(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(vectors: np.ndarray, k: int) -> np.ndarray:
        made.append(len(vectors))
        return place(vectors, k)

    monkeypatch.setattr(atlas, "place", counted)

    def drawn(client: TestClient) -> dict[str, Any]:
        wait_until(lambda: answer_of(client.get("/api/map"))["ready"])
        answer: dict[str, Any] = answer_of(client.get("/api/map"))
        return answer

    with client_of(gallery) as client:
        first = drawn(client)
        images = answer_of(client.get("/api/images?limit=200"))["images"]
        assert first["ids"] == [image["id"] for image in images]
        for axis in ("x", "y"):
            assert len(first[axis]) == 12 and all(0 <= value <= 1 for value in first[axis])
        themes = gallery.themes()
        assert [t["images"] for t in first["themes"]] == [len(theme) for theme in themes]
        of = {i["path"]: n for i, n in zip(images, first["themes_of"], strict=True)}
        for number, theme in enumerate(themes):
            assert {of[path] for path in theme.paths} == {number}
        assert made == [12]
        gallery.remove(["a/000.png"])
        wait_until(lambda: len(answer_of(client.get("/api/map"))["ids"]) == 11)
    missing = gallery.directory / "missing"
    ids = np.array(first["ids"][1:])
    assert atlas._layout(gallery.reader().now(), ids, missing).shape == (11, 2)
    assert not missing.exists()  # where a gallery has gone, none of its folders is made
    file = gallery.directory / "map.lka"
    content = bytearray(file.read_bytes())
    content[-1 - len(content) % 64] ^= 1
    for damaged, times in ((None, 0), (bytes(content[:-64]), 1), (b"", 1), (b"rubbish", 1)):
        if damaged is not None:
            file.write_bytes(damaged)
        made.clear()
        with client_of(gallery) as client:
            assert len(drawn(client)["x"]) == 11
        assert made == [11] * times
    file.unlink()
    file.mkdir()  # where it cannot be written
    with client_of(gallery) as client:
        assert len(drawn(client)["x"]) == 11
