from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import updated
from towers import COLOURS, write_colours
from webtools import TestClient, answer_of, client_of, error_of

from lookalike.gallery import Gallery

K = 6


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory, towers: Path) -> Gallery:
    folder = tmp_path_factory.mktemp("photos")
    write_colours(folder, K)
    return updated(folder, model=towers)


@pytest.fixture(scope="module")
def words(coloured: Gallery) -> Iterator[TestClient]:
    with client_of(coloured) as opened:
        yield opened


def test_words_alone_and_beside_an_image_find_as_the_library_does(
    words: TestClient, coloured: Gallery
) -> None:
    for colour in COLOURS:
        answer = answer_of(words.post("/api/search", json={"text": f"a {colour}", "k": K}))
        hits = coloured.search(text=f"a {colour}", k=K)
        assert [hit["path"] for hit in answer["hits"]] == [hit.path for hit in hits]
        assert [hit["rarity"] for hit in answer["hits"]] == [
            pytest.approx(hit.rarity, abs=1e-6) for hit in hits
        ]
        assert not answer["nothing_similar"] and answer["seconds"]["encode"] > 0
        assert answer["hits"][0]["words"].endswith(" % of unrelated words")
    asked = {"id": coloured.search("red/00.png", 1)[0].id, "text": "blue", "k": 2 * K}
    answer = answer_of(words.post("/api/search", json={**asked, "exclude_self": True}))
    hits = coloured.search("red/00.png", 2 * K, text="blue", exclude_self=True)
    assert [hit["path"] for hit in answer["hits"]] == [hit.path for hit in hits]


@pytest.mark.parametrize(
    "body",
    [{"text": ""}, {"text": "x" * 1001}, {"text": "a", "crop": [0, 0, 1, 1]}, {"text": 5}, {}],
)
def test_a_request_without_words_or_with_too_many_is_a_bad_request(
    words: TestClient, body: dict[str, object]
) -> None:
    error_of(words.post("/api/search", json=body), 400, "bad_request")


def test_a_gallery_without_words_says_which_model_has_them(client: TestClient) -> None:
    error = error_of(client.post("/api/search", json={"text": "a red bus"}), 409, "conflict")
    assert "clip-vit-base-patch32" in error["remedy"]
