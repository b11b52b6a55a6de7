"""Stats, skipped files, duplicates, updates, health and metrics, against counts and the gallery."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import write_photo
from holding import held_by_another_process
from webtools import (
    TestClient,
    answer_of,
    client_of,
    connect,
    error_of,
    running,
    service_of,
    wait_until,
)

from lookalike.gallery import Gallery, Kind
from lookalike.images.decoder import Decoder
from lookalike.lsh import LSHIndex
from lookalike.web.routes.info import _read_facts
from lookalike.web.statistics import measure


def test_stats_are_those_of_the_gallery(client: TestClient, served: Gallery) -> None:
    answer = answer_of(client.get("/api/stats"))
    facts = served.info()
    gallery = answer["gallery"]
    assert (gallery["images"], gallery["skipped"]) == (facts.images, facts.skipped) == (31, 2)
    assert gallery["directory_name"] == "photos" and gallery["updated"].endswith("+00:00")
    model = answer["model"]
    assert model["sha256"] == facts.model.sha256
    assert (model["name"], model["dim"], model["input_size"]) == ("pooled", 48, 16)
    assert model["attention"] is False
    index = answer["index"]
    assert index["code_bits"] == 256 and index["segments"] == facts.segments
    assert index["tables"] == facts.lsh.tables
    files = (served.directory / "index").glob("segment-*.lka")
    assert index["bytes"] == sum(path.stat().st_size for path in files)
    assert (answer["recall"], answer["curve"]) == (None, [])
    counted = sum(bucket["count"] * bucket["size_from"] for bucket in answer["buckets"])
    assert counted <= 31 and answer["largest_bucket"] == 31  # one bucket: few images need no more


def test_stats_of_a_state_whose_files_an_update_has_replaced(gallery: Gallery) -> None:
    with client_of(gallery) as client:
        service = service_of(client)
        before = service.reader.now()
        (file,) = (gallery.directory / "index").glob("segment-*.lka")
        size = file.stat().st_size
        for number in range(20):
            write_photo(gallery.root / f"{number}.png", 900 + number)
        gallery.update()
        assert not file.exists()
        assert _read_facts(service, before, False).index["bytes"] == size


def test_measuring_gives_recall_against_exact_search() -> None:
    index = LSHIndex(dim=16)
    vectors = np.random.default_rng(1).standard_normal((4000, 16)).astype(np.float32)
    index.add(np.arange(4000), vectors)
    measured = measure(index)
    recalls = [point["recall"] for point in measured["curve"]]
    assert recalls[-1] >= 0.99 and recalls[0] < 0.8  # all candidates, and ten
    assert all(b >= a - 0.02 for a, b in itertools.pairwise(recalls))
    assert 0.9 < measured["recall"]["recall"] <= 1 and measured["recall"]["k"] == 10
    assert all(0 < point["microseconds"] < 1e6 for point in measured["curve"])


def test_duplicates_are_the_gallerys(client: TestClient, served: Gallery) -> None:
    answer = answer_of(client.post("/api/duplicates", json={"threshold": 0.95}))
    (group,) = served.duplicates(0.95, kinds=frozenset(Kind))
    (listed,) = answer["groups"]
    assert answer["threshold"] == 0.95
    items = [*group.keep, *group.duplicates]
    for item, shown in zip(items, [listed["keep"], *listed["others"]], strict=True):
        assert (shown["id"], shown["path"]) == (item.row.id, item.path)
        assert shown["bytes"] == item.row.size
        assert shown["kind"] == (None if item in group.keep else "same bytes")
        assert shown["cosine"] == pytest.approx(item.cosine, abs=1e-6)
    assert {item.path for item in items} == {"a/000.png", "copy of 000.png"}
    assert answer_of(client.post("/api/duplicates", json={})) == answer
    for threshold in (0.5, 1.01, "x"):
        response = client.post("/api/duplicates", json={"threshold": threshold})
        error_of(response, 400, "bad_request")


def test_an_update_runs_while_searches_go_on(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    true_read = Decoder.read_images

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert gate.wait(20)
        return true_read(*args, **kwargs)

    monkeypatch.setattr(Decoder, "read_images", slow)
    for n in range(3):
        write_photo(photos / f"new/{n}.png", 300 + n)
    (photos / "bad.png").write_bytes(b"x")
    with client_of(gallery) as client:
        idle = answer_of(client.get("/api/update"))
        expected = {"updating": False, "done": 0, "total": None, "report": None, "error": None}
        assert idle == expected
        assert answer_of(client.post("/api/update"), 202) == {"updating": True}
        error_of(client.post("/api/update"), 409, "conflict")
        health = {"status": "ok", "images": 12, "updating": True, "words": False}
        assert answer_of(client.get("/api/health")) == health
        assert len(answer_of(client.post("/api/search", json={"id": 1}))["hits"]) == 11
        assert "lookalike_updating 1.0" in client.get("/metrics").text
        gate.set()
        wait_until(lambda: not answer_of(client.get("/api/update"))["updating"])
        update = answer_of(client.get("/api/update"))
        assert (update["done"], update["total"], update["error"]) == (4, 4, None)
        report = update["report"]
        assert (report["added"], report["images"], report["skipped"]) == (3, 15, 1)
        assert len(answer_of(client.post("/api/search", json={"id": 1}))["hits"]) == 14
        assert answer_of(client.get("/api/images"))["total"] == 15
        assert "lookalike_updating 0.0" in client.get("/metrics").text
        assert "lookalike_images 15.0" in client.get("/metrics").text


def events_of(port: int, count: int) -> Iterator[dict[str, Any]]:
    """The first events of a stream, as they come."""
    asked = b"GET /api/update/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(port, asked) as opened, opened.makefile("rb") as lines:
        head = b"".join(iter(lines.readline, b"\r\n"))
        assert b"text/event-stream" in head
        events = (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
        yield from itertools.islice(events, count)


def test_events_report_an_update_as_it_goes(gallery: Gallery, photos: Path) -> None:
    for n in range(3):
        write_photo(photos / f"new/{n}.png", 300 + n)
    with running(gallery, max_streams=2) as (port, service):
        (first,) = events_of(port, 1)
        assert not first["updating"]
        wait_until(lambda: service.streams == 0)
        found: list[dict[str, Any]] = []
        watcher = threading.Thread(target=lambda: found.extend(events_of(port, 2)))
        watcher.start()
        wait_until(lambda: len(found) == 1)
        service.updates.start()
        watcher.join(20)
        assert found[0] == first
        assert found[-1]["updating"] or found[-1]["report"]["added"] == 3
        wait_until(lambda: service.streams == 0)
        others = [
            connect(port, b"GET /api/update/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for _ in range(3)
        ]
        answered = [opened.recv(12) for opened in others]
        for opened in others:
            opened.close()
        assert sorted(answered) == [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 503"]


def test_metrics_count_requests_by_route_and_status(served: Gallery) -> None:
    with client_of(served) as client:
        for _ in range(3):
            client.post("/api/search", json={"id": 1})
        client.post("/api/search", json={"id": 10**6})
        client.get("/api/images/1")
        client.get("/nowhere/at/all")
        client.request("BREW", "/api/images/1")
        text = client.get("/metrics").text
        for line in (
            'lookalike_requests_total{method="POST",route="/api/search",status="200"} 3.0',
            'lookalike_requests_total{method="POST",route="/api/search",status="404"} 1.0',
            'lookalike_requests_total{method="GET",route="/api/images/{id}",status="200"} 1.0',
            'lookalike_requests_total{method="GET",route="none",status="404"} 1.0',
            'lookalike_request_seconds_count{route="/api/search"} 4.0',
            "lookalike_search_seconds_count 3.0",
            "lookalike_encode_seconds_count 0.0",
            "lookalike_images 31.0",
            "lookalike_busy_total 0.0",
        ):
            assert line in text, line
        assert "BREW" not in text and "nowhere" not in text


def test_a_gallery_rebuilt_with_another_model_asks_for_another_start(
    gallery: Gallery, photos: Path, other_model: Path
) -> None:
    content = (photos / "a/000.png").read_bytes()
    png = {"content-type": "image/png"}
    with client_of(gallery) as client:
        answer_of(client.post("/api/search", content=content, headers=png))
        Gallery.rebuild(photos, model=other_model)
        number = answer_of(client.get("/api/images"))["images"][0]["id"]
        assert len(answer_of(client.post("/api/search", json={"id": number}))["hits"]) == 11
        error = error_of(client.post("/api/search", content=content, headers=png), 409, "conflict")
        assert "start the server again" in error["remedy"]


def test_another_process_that_writes_is_a_conflict(gallery: Gallery) -> None:
    with held_by_another_process(gallery.directory / "lock"), client_of(gallery) as client:
        answer_of(client.post("/api/update"), 202)
        wait_until(lambda: not answer_of(client.get("/api/update"))["updating"])
        update = answer_of(client.get("/api/update"))
        assert update["error"]["code"] == "conflict" and update["report"] is None
        assert "/" not in update["error"]["message"]
