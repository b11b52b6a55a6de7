"""POST /api/search, /api/queries: what is found, compared with `Gallery.search` and with Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import HALF, SIZE, embedding
from hostile import encode, photo
from PIL import Image
from webtools import TestClient, answer_of, client_of, error_of

from lookalike.gallery import Blend, Gallery, Hit
from lookalike.gallery.hits import likeness_in_words
from lookalike.gallery.reader import Snapshot
from lookalike.gallery.search import Found
from lookalike.web import ServeSettings

PNG = {"content-type": "image/png"}


def objects(hits: list[Hit]) -> list[dict[str, Any]]:
    """What the API should make of them."""
    return [
        {
            "id": hit.id,
            "path": hit.path,
            "cosine": round(hit.cosine, 6),
            "bits": hit.bits,
            "code_bits": hit.code_bits,
            "rarity": None if hit.rarity is None else round(hit.rarity, 6),
            "likeness": likeness_in_words(hit.cosine, hit.rarity),
            "words": hit.describe(),
            "width": hit.width,
            "height": hit.height,
            "format": hit.format,
            "thumbnail": f"/api/images/{hit.id}/thumbnail",
            "original": f"/api/images/{hit.id}",
        }
        for hit in hits
    ]


def send(client: TestClient, content: bytes) -> str:
    name: str = answer_of(client.post("/api/queries", content=content, headers=PNG), 201)["query"]
    return name


@pytest.fixture
def outside() -> bytes:
    return encode(photo(777), "PNG")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"exclude_self": False},
        {"filter": "b/*"},
        {"filter": "*1?.png", "k": 9},
        {"filter": "nothing/*"},
        {"threshold": 0.2, "k": 200},
        {"threshold": 0.9999},
    ],
)
def test_a_search_by_id_finds_what_the_gallery_finds(
    client: TestClient, served: Gallery, ids: dict[str, int], asked: dict[str, Any]
) -> None:
    """Without the image and its copies, unless ``exclude_self`` is false."""
    options = {"exclude_self": True, "k": 12, **asked}
    for path in ("a/000.png", "b/001.png", "copy of 000.png"):
        answer = answer_of(client.post("/api/search", json={"id": ids[path], "k": 12, **asked}))
        expected = served.search(path, **options)
        assert answer["hits"] == objects(expected)
        more = len(served.search(path, **{**options, "k": options["k"] + 1})) > len(expected)
        assert (answer["k"], answer["offset"], answer["more"]) == (options["k"], 0, more)
        assert answer["nothing_similar"] or expected
        assert (answer["note"] == "no file matches the filter") == ("nothing/*" in asked.values())
        assert answer["seconds"]["encode"] == 0


def test_pages_are_parts_of_one_ranking(client: TestClient, ids: dict[str, int]) -> None:
    def page(k: int, offset: int = 0) -> dict[str, Any]:
        asked = {"id": ids["c/002.png"], "k": k, "offset": offset}
        answer: dict[str, Any] = answer_of(client.post("/api/search", json=asked))
        assert answer["more"] == (offset + k < 30)
        return answer

    pages = [hit for offset in range(0, 40, 7) for hit in page(7, offset)["hits"]]
    assert pages == page(200)["hits"] and len(pages) == 30


def test_no_hit_comes_twice_or_never_where_later_pages_are_searched_for_more_deeply(
    client: TestClient, ids: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = Snapshot.search

    def shallow(self: Snapshot, query: Any, k: int, **how: Any) -> list[Found]:
        """Misses every third of the best 15 unless twice as many are wanted."""
        missed = {place for place in range(0, 15, 3) if 2 * place >= k}
        best = everything(self, query, 30, **how)
        return [hit for place, hit in enumerate(best) if place not in missed][:k]

    monkeypatch.setattr(Snapshot, "search", shallow)
    asked = {"id": ids["c/002.png"], "k": 5}
    pages = [
        answer_of(client.post("/api/search", json={**asked, "offset": offset}))
        for offset in range(0, 30, 5)
    ]
    shown = [hit["id"] for page in pages for hit in page["hits"]]
    assert len(shown) == len(set(shown))
    last = answer_of(client.post("/api/search", json={**asked, "k": 29}))["hits"]
    assert {hit["id"] for hit in last} <= set(shown)
    assert [page["more"] for page in pages] == [True] * 5 + [False]


def test_an_uploaded_image_finds_what_its_bytes_find(
    client: TestClient, served: Gallery, outside: bytes, folder: Path
) -> None:
    expected = objects(served.search(outside, 7))
    by_body = client.post("/api/search?k=7", content=outside, headers=PNG)
    by_form = client.post("/api/search?k=7", files={"image": ("x.png", outside, "image/png")})
    by_name = client.post("/api/search", json={"query": send(client, outside), "k": 7})
    for response in (by_body, by_form, by_name):
        assert answer_of(response)["hits"] == expected
    assert answer_of(by_body)["seconds"]["encode"] > 0
    known = (folder / "a/003.png").read_bytes()
    for exclude in (False, True):
        url = f"/api/search?k=7&exclude_self={str(exclude).lower()}&filter=a/*"
        answer = answer_of(client.post(url, content=known, headers=PNG))
        hits = served.search(known, 7, filter="a/*", exclude_self=exclude)
        assert answer["hits"] == objects(hits)


def cosines_to(folder: Path, image: Image.Image) -> dict[str, float]:
    """Of an image to all of the folder, by Pillow and numpy."""
    path = folder.parent / "part.png"
    image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0).save(path)
    query = embedding(path)
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("[a-c]/*.png")}
    return {name: float(query @ embedding(file)) for name, file in found.items()}


@pytest.mark.parametrize("crop", [[0, 0, 0.5, 1], [0.25, 0.5, 0.5, 0.25], [0.9, 0.9, 0.1, 0.1]])
def test_a_part_is_cut_from_the_image_before_it_is_squeezed(
    client: TestClient, folder: Path, ids: dict[str, int], crop: list[float]
) -> None:
    content = (folder / "b/004.png").read_bytes()
    image = Image.open(io.BytesIO(content)).convert("RGB")  # 64 x 48
    x, y, width, height = crop
    box = (
        int(np.floor(64 * x + 1e-6)),
        int(np.floor(48 * y + 1e-6)),
        int(np.ceil(64 * (x + width) - 1e-6)),
        int(np.ceil(48 * (y + height) - 1e-6)),
    )
    expected = cosines_to(folder, image.crop(box))
    url = f"/api/search?k=5&filter=[a-c]/*&crop={','.join(map(str, crop))}"
    asked = {"crop": crop, "k": 5, "filter": "[a-c]/*", "exclude_self": False}
    responses = [
        client.post(url, content=content, headers=PNG),
        client.post("/api/search", json={"id": ids["b/004.png"], **asked}),
        client.post("/api/search", json={"query": send(client, content), **asked}),
    ]
    best = sorted(expected, key=lambda name: -expected[name])[:5]
    for answer in map(answer_of, responses):
        assert [hit["path"] for hit in answer["hits"]] == best
        for hit in answer["hits"]:
            assert hit["cosine"] == pytest.approx(expected[hit["path"]], abs=HALF)


def test_a_turned_photograph_is_set_upright_before_it_is_cut(
    client: TestClient, folder: Path
) -> None:
    upright = Image.fromarray(photo(31, 80, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned left by a quarter
    turned = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif.tobytes())
    name = send(client, turned)
    shown = Image.open(io.BytesIO(client.get(f"/api/queries/{name}/image").content))
    assert shown.size == (60, 80)
    asked = {"query": name, "crop": [0, 0, 1, 0.25], "k": 3, "filter": "[a-c]/*"}
    answer = answer_of(client.post("/api/search", json=asked))
    expected = cosines_to(folder, upright.crop((0, 0, 60, 20)))
    best = sorted(expected, key=lambda path: -expected[path])[:3]
    assert [hit["path"] for hit in answer["hits"]] == best


@pytest.mark.parametrize("bound", ["count", "bytes"])
def test_the_oldest_image_is_forgotten_and_says_so(
    served: Gallery, outside: bytes, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    each = 3 * SIZE**2 + 3 * 64 * 48  # what the model sees, and what is shown
    if bound == "bytes":
        monkeypatch.setattr("lookalike.web.query_images.KEPT_BYTES", 2 * each)
    settings = ServeSettings(max_queries=2 if bound == "count" else 64)
    with client_of(served, settings) as client:
        first, second = send(client, outside), send(client, outside)
        answer_of(client.post("/api/search", json={"query": first}))  # is the last one used now
        third = send(client, outside)
        error = error_of(client.get(f"/api/queries/{second}/image"), 404, "not_found")
        assert "send it again" in error["remedy"]
        error_of(client.post("/api/search", json={"query": second}), 404, "not_found")
        for name in (first, third):
            answer_of(client.post("/api/search", json={"query": name}))


def test_nothing_is_similar_when_random_pairs_are_as_alike(
    client: TestClient, served: Gallery, ids: dict[str, int]
) -> None:
    seen = set()
    for path, number in ids.items():
        answer = answer_of(client.post("/api/search", json={"id": number}))
        assert answer["nothing_similar"] == served.search(path, exclude_self=True).is_chance
        assert (answer["note"] is None) != answer["nothing_similar"]
        seen.add(answer["nothing_similar"])
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({}, "give id, query or text"),
        ({"id": 1, "query": "q_" + "0" * 32}, "give either id or query"),
        ({"id": 0}, "id"),
        ({"id": "one"}, "id"),
        ({"id": 1.5}, "id"),
        ({"id": 1, "exclude_self": 2}, "exclude_self"),
        ({"id": 1, "crop": "0,0,1,1"}, "crop"),
        ({"id": 2**63}, "id"),
        ({"id": 1, "k": 201}, "k"),
        ({"id": 1, "offset": -1}, "offset"),
        ({"id": 1, "threshold": 1.5}, "threshold"),
        ({"id": 1, "crop": [0.5, 0, 0.6, 1]}, "crop"),
        ({"id": 1, "crop": [0, 0.5, 1, 0.6]}, "crop"),
        ({"id": 1, "crop": [0, 0, 0, 1]}, "crop"),
        ({"id": 1, "filter": ""}, "filter"),
        ({"id": 1, "filter": "**/a/" * 30}, "filter"),
        ({"id": 1, "path": "/etc/passwd"}, "path"),
        ({"query": "../../etc/passwd"}, "query"),
        ({"id": 1, "filter": "date:soon"}, "the filter's date:soon cannot be understood"),
        ({"id": 1, "filter": " "}, "the filter is empty"),
    ],
)
def test_wrong_values_are_named(client: TestClient, asked: dict[str, Any], what: str) -> None:
    response = client.post("/api/search", json=asked)
    assert what in error_of(response, 400, "bad_request")["message"]


def test_what_is_not_json_or_of_another_type_is_refused(client: TestClient) -> None:
    as_json = {"content-type": "application/json"}
    for body in (b"{", b"\xff", b"[1]", b'{"id": NaN}', b'{"id": 1, "threshold": NaN}'):
        response = client.post("/api/search", content=body, headers=as_json)
        error_of(response, 400, "bad_request")
    for kind in ("text/plain", "text/html", "application/x-www-form-urlencoded", ""):
        response = client.post("/api/search", content=b"x", headers={"content-type": kind})
        error_of(response, 415, "unsupported_type")
    response = client.post("/api/search?k=3", json={"id": 1})
    error_of(response, 400, "bad_request")
    for url in ("?k=0", "?crop=1,2,3", "?crop=a,b,c,d", "?K=1", "?filter="):
        response = client.post(f"/api/search{url}", content=b"x", headers=PNG)
        error_of(response, 400, "bad_request")


def test_further_images_are_looked_for_or_against(
    client: TestClient, served: Gallery, ids: dict[str, int]
) -> None:
    like, unlike = [ids["a/003.png"]], [ids["b/004.png"]]
    asked: dict[str, Any] = {"id": ids["a/000.png"], "like": like, "unlike": unlike, "k": 5}
    answer = answer_of(client.post("/api/search", json=asked))
    blend = Blend(["a/000.png", "a/003.png"], ["b/004.png"])
    expected = [
        hit for hit in served.search(blend, 8) if hit.id not in {asked["id"], *like, *unlike}
    ]
    assert [hit["path"] for hit in answer["hits"]] == [hit.path for hit in expected[:5]]
    for unknown in (
        {**asked, "like": [10**6]},
        {"id": 2**63 - 1},
        {"id": 10**6, "crop": [0, 0, 1, 1]},
    ):
        error_of(client.post("/api/search", json=unknown), 404, "not_found")


def test_a_form_needs_a_file_named_image(client: TestClient) -> None:
    for files in ({"photo": ("x", b"x")}, {"image": (None, b"x")}):
        error_of(client.post("/api/queries", files=files), 400, "bad_request")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = client.post("/api/queries", content=b"x", headers={"content-type": kind})
        error_of(response, 400, "bad_request")
