"""POST /api/explain and /api/feedback, against the model by numpy and the feedback module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CELLS, HALF, MEAN, SIZE, embedding, vectors_of, write_model, write_photos
from hostile import encode, photo
from numpy.typing import NDArray
from PIL import Image
from webtools import TestClient, answer_of, client_of, error_of

from lookalike.feedback import Feedback
from lookalike.gallery import Gallery
from lookalike.images import read_image
from lookalike.web.routes.explain import NONE

TILE = 0.4  # of a side
STARTS = [0, 0.2, 0.4, 0.6]
ROUNDED = 5e-5


def tiles_of(path: Path, scratch: Path) -> NDArray[np.float64]:
    """Embeddings of the sixteen overlapping tiles of a 64 x 48 image, by Pillow and numpy."""
    image = Image.open(path).convert("RGB")
    found = []
    for y in STARTS:
        for x in STARTS:
            left, top = int(np.floor(x * 64 + 1e-4)), int(np.floor(y * 48 + 1e-4))
            right, bottom = ((x + TILE) * 64, (y + TILE) * 48)
            box = left, top, int(np.ceil(right - 1e-4)), int(np.ceil(bottom - 1e-4))
            tile = image.crop(box)
            tile.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0).save(scratch)
            found.append(embedding(scratch))
    return np.array(found)


def explain(client: TestClient, **asked: Any) -> dict[str, Any]:
    answer: dict[str, Any] = answer_of(client.post("/api/explain", json=asked))
    return answer


def test_regions_are_the_cosines_of_tiles(
    client: TestClient, folder: Path, ids: dict[str, int], tmp_path: Path
) -> None:
    paths = ["a/003.png", "b/007.png"]
    query, hit = (tiles_of(folder / path, tmp_path / "tile.png") for path in paths)
    cosines = query @ hit.T
    answer = explain(client, id=ids[paths[0]], hit=ids[paths[1]])
    assert (answer["attention"], answer["attention_note"]) == (None, NONE)
    whole = embedding(folder / paths[0]) @ embedding(folder / paths[1])
    assert answer["cosine"] == pytest.approx(whole, abs=HALF)
    regions = answer["regions"]
    for name, axis in (("query", 1), ("hit", 0)):
        grid = regions[name]
        assert (grid["rows"], grid["columns"]) == (4, 4)
        expected = cosines.max(axis=axis).reshape(4, 4)
        np.testing.assert_allclose(grid["values"], expected, atol=ROUNDED)
    best = regions["pairs"][0]
    places = [4 * row + column for row, column in (best["query"], best["hit"])]
    assert places == [*np.unravel_index(cosines.argmax(), cosines.shape)]
    assert len(regions["pairs"]) == 8
    assert len({tuple(pair["query"]) for pair in regions["pairs"]}) == 8
    assert len({tuple(pair["hit"]) for pair in regions["pairs"]}) == 8
    for pair in regions["pairs"]:
        row, column = (4 * cell[0] + cell[1] for cell in (pair["query"], pair["hit"]))
        assert pair["cosine"] == pytest.approx(cosines[row, column], abs=ROUNDED)
    ordered = [pair["cosine"] for pair in regions["pairs"]]
    assert ordered == sorted(ordered, reverse=True)


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    home = tmp_path_factory.mktemp("attentive")
    model = write_model(home / "m.onnx", "attentive", "channel_attention", "spatial_attention")
    write_photos(home / "photos", 3)
    gallery = Gallery.open(home / "photos", model=model)
    gallery.update()
    return gallery


def test_attention_is_the_gate_stretched_between_its_bounds(attentive: Gallery) -> None:
    names = ["a/000.png", "b/001.png"]
    ids = {hit.path: hit.id for hit in attentive.search(names[0], 10)}
    with client_of(attentive) as client:
        answer = explain(client, id=ids[names[0]], hit=ids[names[1]])
        assert answer["attention_note"] is None
        for which, name in zip(("query", "hit"), names, strict=True):
            pixels = (read_image(attentive.root / name, SIZE).pixels - MEAN) / 64
            squares = pixels.reshape(CELLS, SIZE // CELLS, CELLS, SIZE // CELLS, 3)
            gate = 1 / (1 + np.exp(-squares.mean(axis=(1, 3, 4))))
            grid = answer["attention"][which]
            assert (grid["rows"], grid["columns"]) == (CELLS, CELLS)
            assert grid["low"] == pytest.approx(gate.min(), abs=1e-5)
            assert grid["high"] == pytest.approx(gate.max(), abs=1e-5)
            stretched = (gate - gate.min()) / (gate.max() - gate.min())
            np.testing.assert_allclose(grid["values"], stretched, atol=2 * ROUNDED)
        assert answer_of(client.get("/api/stats"))["model"]["attention"] is True


def test_what_is_not_there_cannot_be_explained(client: TestClient, ids: dict[str, int]) -> None:
    number = ids["a/000.png"]
    for asked in ({"id": number, "hit": 999}, {"id": 999, "hit": number}):
        error_of(client.post("/api/explain", json=asked), 404, "not_found")
    error_of(client.post("/api/explain", json={"id": number}), 400, "bad_request")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("relevant", "irrelevant"),
    [([], []), (["b/001.png"], []), (["b/001.png", "a/006.png"], ["c/002.png", "a/009.png"])],
)
def test_feedback_is_that_of_the_feedback_module(
    client: TestClient,
    served: Gallery,
    ids: dict[str, int],
    relevant: list[str],
    irrelevant: list[str],
) -> None:
    number = ids["a/003.png"]
    asked = {
        "id": number,
        "relevant": [ids[name] for name in relevant],
        "irrelevant": [ids[name] for name in irrelevant],
        "k": 30,
        "ask": 4,
    }
    answer = answer_of(client.post("/api/feedback", json=asked))
    vectors = vectors_of(served)
    order = [hit.path for hit in served.search("a/003.png", 100, exclude_self=True)]
    feedback = Feedback([vectors[name] for name in order], vectors["a/003.png"])
    judged = [*relevant, *irrelevant]
    feedback.tell(
        np.array([order.index(name) for name in judged], np.int64),
        np.array([name in relevant for name in judged], np.bool_),
    )
    expected = [order[place] for place in feedback.rank(30).tolist()]
    assert [hit["path"] for hit in answer["hits"]] == expected
    questions = [order[place] for place in feedback.ask(4).tolist()]
    assert [hit["path"] for hit in answer["ask"]] == questions
    assert answer["judged"] == len(judged)
    hits = {hit.path: hit for hit in served.search("a/003.png", 100)}
    for hit in answer["hits"]:
        known = hits[hit["path"]]
        assert hit["cosine"] == pytest.approx(known.cosine, abs=1e-4)  # float16
        assert (hit["id"], hit["bits"]) == (known.id, known.bits)
    assert set(expected[len(expected) - len(irrelevant) :]) == set(irrelevant)


def test_contradicting_or_forged_answers(client: TestClient, ids: dict[str, int]) -> None:
    number = ids["a/003.png"]
    asked = {"id": number, "relevant": [5], "irrelevant": [5]}
    error = error_of(client.post("/api/feedback", json=asked), 400, "bad_request")
    assert "5 is called relevant and irrelevant" in error["message"]
    forged = {"id": number, "relevant": [2**62], "irrelevant": [ids["b/001.png"], 10**9]}
    assert len(answer_of(client.post("/api/feedback", json=forged))["hits"]) == 30
    error_of(client.post("/api/feedback", json={"id": 2**62}), 404, "not_found")


def test_an_empty_gallery_answers_everything(tmp_path: Path, model: Path) -> None:
    (tmp_path / "photos").mkdir()
    gallery = Gallery.open(tmp_path / "photos", model=model)
    with client_of(gallery) as client:
        png = {"content-type": "image/png"}
        sent = client.post("/api/queries", content=encode(photo(1), "PNG"), headers=png)
        name = answer_of(sent, 201)["query"]
        answer = answer_of(client.post("/api/search", json={"query": name}))
        assert answer["hits"] == [] and answer["nothing_similar"]
        answer = answer_of(client.post("/api/feedback", json={"query": name, "relevant": [1]}))
        assert answer["hits"] == [] and answer["ask"] == []
        listed = {"images": [], "total": 0, "gallery": ""}
        assert answer_of(client.get("/api/images")) == listed
        assert answer_of(client.post("/api/duplicates", json={}))["groups"] == []
        stats = answer_of(client.post("/api/stats/measure"))
        assert (stats["recall"], stats["curve"], stats["buckets"]) == (None, [], [])
        assert answer_of(client.get("/api/health"))["images"] == 0
