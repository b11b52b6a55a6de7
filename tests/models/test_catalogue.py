"""The way from a host to a gallery that is searched offline, with small models of the shapes that
the catalogue's have. The pinned files themselves are on no machine that runs these tests."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import lookalike
from fakes import write_photos
from hub import Hub, served
from test_adopt import transformer
from towers import LENGTH, SIZE, STATISTICS, write_colours, write_towers

from lookalike.encoder import DEFAULT_MODEL, INT8_MODEL, Encoder
from lookalike.errors import ModelError
from lookalike.gallery import Gallery
from lookalike.models import catalogue, download
from lookalike.models.catalogue import BUNDLED, CATALOGUE, Entry, Source, get, model_file, remove
from lookalike.words import words_file

NAME = "tiny-vit"
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def source(path: str, content: bytes) -> Source:
    return Source(path, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A host of one vision transformer, which is the only entry of the catalogue."""
    content = transformer(tmp_path / "published.onnx").read_bytes()
    entry = Entry(
        "someone/tiny",
        "c0ffee00c0ffee00",
        "a test",
        "MIT",
        source("onnx/model.onnx", content),
        16,
        (MEAN, STD),
        "last_hidden_state",
        "cls",
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", {NAME: entry})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_PIECE", 64)
    with served() as hub:
        hub.files = {"/someone/tiny/resolve/c0ffee00c0ffee00/onnx/model.onnx": content}
        monkeypatch.setenv("LOOKALIKE_MODELS_URL", hub.address)
        yield hub


def published(hub: Hub) -> bytes:
    (content,) = hub.files.values()
    return content


def in_cache(tmp_path: Path) -> set[str]:
    folder = tmp_path / "cache"
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_a_model_is_downloaded_once_and_a_gallery_made_with_it_works_offline(
    hub: Hub, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 5)
    lookalike("model", "get", NAME)
    asked = len(hub.requests)
    hub.files.clear()
    lookalike("model", "get", NAME)
    lookalike("index", photos, "--model", NAME)
    hits = json.loads(
        lookalike("search", photos / "a/000.png", "--gallery", photos, "--json").stdout
    )
    assert hits[0]["path"] == "a/000.png" and len(hub.requests) == asked
    info = json.loads(lookalike("model", "info", NAME, "--json").stdout)
    assert (info["name"], info["version"], info["dim"]) == (NAME, "c0ffee00c0ff", 8)


def test_a_model_that_comes_along_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "lookalike-general-2"
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "lookalike.models.adopt", raising=False)
    assert json.loads(lookalike("model", "get", name, "--json").stdout)["version"] == "2"
    said = lookalike("model", "get", "dinov2-small", status=2).stderr
    assert "this command needs onnx: pip install" in said


def test_the_models_that_come_along_are_listed_and_are_not_removed(hub: Hub) -> None:
    listed = json.loads(lookalike("model", "list", "--json").stdout)
    assert [entry["name"] for entry in listed] == [*BUNDLED, NAME]
    assert {Path(entry["file"]) for entry in listed[:-1]} == set(
        DEFAULT_MODEL.parent.glob("*.onnx")
    )
    for entry in listed[:-1]:
        info = Encoder.open(model_file(entry["name"])).info
        assert f"{info.name}-{info.version}" == entry["name"]
    with pytest.raises(ModelError, match="lookalike-general-3-int8 comes with lookalike"):
        remove("lookalike-general-3-int8")
    assert INT8_MODEL.exists()


LOCK = {f"lookalike/models/{NAME}/lock"}
PART = {f"lookalike/models/{NAME}/downloads/.model.onnx.part"}


def test_a_cut_connection_goes_on_where_it_ended(hub: Hub) -> None:
    hub.cuts = [1000, 500]
    get(NAME)
    assert [asked for _, asked in hub.requests] == [None, "bytes=1000-", "bytes=1500-"]


def test_connections_that_bring_nothing_end_it_and_the_next_call_goes_on(
    hub: Hub, tmp_path: Path
) -> None:
    hub.cuts = [700, 0]
    with pytest.raises(ModelError, match="run the command again to go on where it stopped"):
        get(NAME)
    assert in_cache(tmp_path) == {*LOCK, *PART}
    get(NAME)
    assert hub.requests[-1][1] == "bytes=700-"


def changed(hub: Hub, content: bytes) -> None:
    (path,) = hub.files
    hub.files[path] = content


def test_a_file_with_another_checksum_is_deleted(hub: Hub, tmp_path: Path) -> None:
    right = published(hub)
    changed(hub, right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"its SHA-256 begins with \w{16}, not \w{16}; what came"):
        get(NAME)
    assert in_cache(tmp_path) == LOCK
    changed(hub, right)
    get(NAME)


@pytest.mark.parametrize("by", [-1, 1])
def test_a_file_of_another_size_is_refused_before_it_is_read(
    hub: Hub, tmp_path: Path, by: int
) -> None:
    right = published(hub)
    changed(hub, right[:by] if by < 0 else right + b"x")
    message = re.escape(f"has {len(right) + by:,} bytes, not {len(right):,}")
    with pytest.raises(ModelError, match=message):
        get(NAME)
    assert in_cache(tmp_path) == LOCK


def test_without_a_network_the_error_says_where_the_file_may_be_put(hub: Hub) -> None:
    done = lookalike("model", "get", NAME, "--host", "http://127.0.0.1:1", status=2)
    where = model_file(NAME).parent / "downloads" / "model.onnx"
    assert "refused" in done.stderr and f"put it at {where}" in done.stderr
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_bytes(published(hub))
    assert get(NAME).dim == 8 and not hub.requests


def test_a_proxy_of_the_environment_is_used_and_named(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", hub.address.replace("//", "//user:secret@"))
    get(NAME, host="http://models.test")
    assert hub.requests[0][0].startswith("http://models.test/cdn/someone/tiny")
    remove(NAME)
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:1")
    with pytest.raises(ModelError, match=r"by way of the proxy 127\.0\.0\.1 .*refused") as caught:
        get(NAME, host="http://models.test")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("limit", [1000, 2500])
def test_a_full_disk_keeps_what_came_and_goes_on_when_there_is_space(
    hub: Hub, tmp_path: Path, limit: int
) -> None:
    """A limit on the size of files stands in for the disk; the larger one ends the conversion."""
    limit = min(limit, len(published(hub)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(ModelError, match=r"no space|free some space"):
            get(NAME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not model_file(NAME).exists()
    hub.requests.clear()
    get(NAME)
    assert [asked for _, asked in hub.requests] == ([f"bytes={limit}-"] if limit == 1000 else [])


def test_a_process_that_was_killed_half_way_leaves_what_the_next_one_completes(
    hub: Hub, tmp_path: Path
) -> None:
    hub.cuts, hub.stall = [800], True
    entry = catalogue.CATALOGUE[NAME]
    code = (
        "from lookalike.models import catalogue, download\n"
        "from lookalike.models.catalogue import Entry, Source\n"
        f"catalogue.CATALOGUE = {{{NAME!r}: {entry!r}}}\n"
        f"download._PIECE = 64\ncatalogue.get({NAME!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert hub.stalled.wait(60)
        with pytest.raises(ModelError, match="another process is writing"):
            get(NAME)
        (part,) = (tmp_path / "cache" / name for name in PART)
        while part.stat().st_size < 800:
            assert process.poll() is None
        process.kill()
    unfinished = model_file(NAME).parent / ".lookalike-killed"
    unfinished.mkdir()
    get(NAME)
    assert hub.requests[-1][1] == "bytes=800-"
    assert in_cache(tmp_path) == {f"lookalike/models/{NAME}/{NAME}.onnx", *LOCK}
    assert not unfinished.exists()


def test_list_says_what_is_here_and_remove_deletes_it(hub: Hub, tmp_path: Path) -> None:
    assert lookalike("model", "list").stdout.splitlines()[-1].split()[:3] == [NAME, "0", "MB"]
    done = lookalike("index", tmp_path, "--model", NAME, status=2)
    assert f"lookalike model get {NAME}" in done.stderr
    lookalike("model", "get", NAME)
    assert lookalike("model", "list").stdout.splitlines()[-1].split()[:2] == [NAME, "downloaded"]
    *_, facts = json.loads(lookalike("model", "list", "--json").stdout)
    assert facts["file"] == str(model_file(NAME)) and facts["bytes"] == len(published(hub))
    lookalike("model", "remove", NAME)
    assert not model_file(NAME).parent.exists()
    lookalike("model", "remove", NAME, status=1)
    with pytest.raises(ModelError, match=f"no model is called 'other'; there are: .*, {NAME}"):
        get("other")


def test_a_model_of_both_towers_is_searched_by_words_offline(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, text = write_towers(tmp_path)
    paths = {"onnx/v.onnx": vision, "onnx/t.onnx": text.file, "tokenizer.json": text.tokenizer}
    parts = [source(path, file.read_bytes()) for path, file in paths.items()]
    entry = Entry(
        "some/towers", "f00d", "a test", "MIT", parts[0], SIZE, STATISTICS, "image_embeds",
        text=(parts[1], parts[2]), length=LENGTH,
    )  # fmt: skip
    monkeypatch.setattr(catalogue, "CATALOGUE", {NAME: entry})
    hub.files = {
        f"/some/towers/resolve/f00d/{path}": file.read_bytes() for path, file in paths.items()
    }
    hub.cuts = [100, 10_000, 200]
    lookalike("model", "get", NAME)
    hub.files.clear()
    photos = tmp_path / "photos"
    write_colours(photos)
    lookalike("index", photos, "--model", NAME)
    found = lookalike("search", "a blue photo", "--gallery", photos, "--json", "-k", "12").stdout
    assert {hit["path"].partition("/")[0] for hit in json.loads(found)} == {"blue"}
    assert f"in {words_file(model_file(NAME))}\n" in lookalike("model", "info", NAME).stdout
    lookalike("model", "remove", NAME)
    with pytest.raises(ModelError, match=f"lookalike model get {NAME}"):
        Gallery.open(photos).encoder()


def test_entries_are_pinned_to_revisions_and_checksums() -> None:
    for name, entry in CATALOGUE.items():
        assert re.fullmatch("[0-9a-f]{40}", entry.revision), name
        for part in entry.sources:
            assert re.fullmatch("[0-9a-f]{64}", part.sha256) and part.bytes > 1_000_000, name
