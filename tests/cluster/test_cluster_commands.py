"""The commands of galleries in a cluster, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from fakes import embedding, images_of, write_photo
from servers import Servers, free_port

from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.gallery import Gallery

MAIN = "from lookalike.cli import main; main()"
WITHOUT_CLIENT = f"import sys; sys.modules['valkey'] = None; {MAIN}"
HASTY = (
    "from lookalike.cluster.wire.connection import Connection; real = Connection.open; "
    f"Connection.open = lambda uri: real(uri, deadline=0.5); {MAIN}"
)
Done = subprocess.CompletedProcess[str]


def run(*words: object, status: int = 0, cwd: Path | None = None, program: str = MAIN) -> Done:
    line = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=cwd)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def parts(photos: Path, model: Path, tmp_path: Path) -> Path:
    """Of `photos`, made by the command."""
    out = tmp_path / "parts"
    run("cluster", "embed", photos, "--out", out, "--model", model)
    return out


@pytest.fixture
def loaded(parts: Path, uri: str) -> str:
    """The URI of the gallery of `photos`, loaded by the command."""
    run("cluster", "load", parts, "--uri", uri)
    return uri


def test_a_folder_becomes_a_gallery_in_a_cluster_by_two_commands(
    photos: Path, model: Path, uri: str, tmp_path: Path
) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    run("cluster", "embed", photos, "--out", tmp_path / "parts", "--model", model, status=1)
    done = run("cluster", "load", tmp_path / "parts", "--uri", uri)
    assert done.stdout.startswith("12 images, 1 file skipped of 1 part in ")
    assert done.stdout.endswith(f"; {uri} is generation 1\n")
    assert done.stderr == ""
    again = run("cluster", "load", tmp_path / "parts", "--uri", uri, "--layout", "packed", "--json")
    report = json.loads(again.stdout)
    assert report.pop("seconds") > 0
    assert report == {
        "gallery": uri,
        "name": uri.rpartition("/")[2],
        "generation": 2,
        "images": 12,
        "skipped": 1,
        "parts": 1,
        "resumed": 0,
    }


def test_search_prints_what_it_prints_for_a_local_gallery(
    loaded: str, parts: Path, photos: Path, model: Path, tmp_path: Path
) -> None:
    run("index", photos, "--from", parts, "--model", model)
    query = write_photo(tmp_path / "outside.png", 77)
    here = ("--gallery", loaded, "--model", model)
    there = ("--gallery", photos, "--model", model)
    words: tuple[object, ...]
    for cwd, words in (
        (photos, ("search", query, "-k", 3)),
        (tmp_path, ("search", "a/000.png", "--exclude-self", "--filter", "b/*", "--json")),
    ):
        assert run(*words, *here, cwd=cwd).stdout == run(*words, *there, cwd=cwd).stdout
    for status, words in (
        (1, ("search", query, "--threshold", 1)),
        (2, ("search", "nowhere.jpg")),
        (2, ("remove", "nowhere.jpg")),
    ):
        count = 2 if words[0] == "remove" else 4
        done = run(*words, *here[:count], status=status)
        local = run(*words, *there[:count], status=status)
        assert (done.stdout, done.stderr) == (local.stdout, local.stderr)
    hits = json.loads(run("search", query, *here, "-k", 12, "--json").stdout)
    vector = embedding(query)
    nearest = sorted(images_of(photos), key=lambda path: -vector @ embedding(photos / path))
    assert [hit["path"] for hit in hits] == nearest


def test_update_and_remove_follow_the_folder(loaded: str, photos: Path, model: Path) -> None:
    write_photo(photos / "new.png", 100)
    (photos / "a/000.png").unlink()
    done = run("update", "--gallery", loaded, "--model", model)
    assert done.stdout.startswith("12 images (1 added, 1 dropped) in ")
    first, *progress = done.stderr.splitlines()
    assert first == f"indexing {photos}"
    assert progress in ([], ["1 of 1 read, 0 skipped"])  # told when a machine is slow
    assert run("remove", "new.png", "--gallery", loaded).stdout == "1 image removed\n"
    done = run("update", photos, "--gallery", loaded, "--model", model, "--json")
    counts = json.loads(done.stdout)
    assert (counts["images"], counts["removed"], counts["added"]) == (11, 1, 0)
    listed = run("info", "--skipped", "--gallery", loaded).stdout
    assert listed.startswith("new.png: removed: ")
    done = run("remove", "--undo", "new.png", "--gallery", loaded)
    assert done.stdout == "1 image may come back at the next update\n"
    done = run("update", "--gallery", loaded, "--model", model)
    assert done.stdout.startswith("12 images (1 added) in ")
    (photos / "bad.png").write_bytes(b"")
    done = run("update", "--gallery", loaded, "--model", model, status=1)
    assert "skipped bad.png: empty: " in done.stderr
    assert f"list them with: lookalike info --skipped --gallery {loaded}; " in done.stderr


def test_info_tells_where_the_gallery_is(loaded: str, parts: Path, photos: Path) -> None:
    facts = json.loads(run("info", "--gallery", loaded, "--json").stdout)
    assert (facts["gallery"], facts["folder"], facts["parts"]) == (loaded, str(photos), str(parts))
    assert (facts["images"], facts["generation"], facts["layout"]) == (12, 1, "inline")
    assert facts["memory_bytes"]["vectors"] > 12 * 48 * 2
    assert len(facts["nodes"]) == 3
    lines = dict(
        line.split(maxsplit=1) for line in run("info", "--gallery", loaded).stdout.splitlines()
    )
    assert lines["gallery"].startswith(f"{loaded}, generation 1, loaded 20")
    assert lines["folder"] == str(photos)
    assert lines["nodes"].split(", ") == facts["nodes"]
    assert lines["images"] == "12 indexed, 0 skipped"


def test_a_local_gallery_is_exported_loaded_and_found_alike(
    photos: Path, model: Path, uri: str, tmp_path: Path
) -> None:
    run("index", photos, "--model", model)
    done = run("cluster", "export", photos, "--out", tmp_path / "out")
    assert done.stdout == f"12 images in 1 part in {tmp_path / 'out'}\n"
    run("cluster", "load", tmp_path / "out", "--uri", uri)
    query = write_photo(tmp_path / "outside.png", 77)
    local, served = Gallery.open(photos), Gallery.open(uri, model=model)
    found, expected = served.search(query, 12), local.search(query, 12)
    assert [(hit.path, hit.bits) for hit in found] == [(hit.path, hit.bits) for hit in expected]
    cosines = [hit.cosine for hit in expected]
    assert [hit.cosine for hit in found] == pytest.approx(cosines, abs=1e-6)
    assert served.info().lsh.keys == "voronoi"


def test_a_dropped_collection_is_gone_and_its_parts_are_not(loaded: str, parts: Path) -> None:
    assert run("cluster", "drop", loaded).stdout == f"dropped {loaded}\n"
    done = run("search", "a/000.png", "--gallery", loaded, status=2)
    assert "there is no collection" in done.stderr
    assert "there is no collection" in run("cluster", "drop", loaded, status=2).stderr
    run("cluster", "load", parts, "--uri", loaded)
    assert run("search", "a/000.png", "-k", 1, "--gallery", loaded).stdout


def test_what_only_galleries_on_disk_do_is_refused_with_the_way_out(
    loaded: str, tmp_path: Path
) -> None:
    for words in (["duplicates", "--gallery"], ["verify", "--gallery"], ["serve", "--port", "0"]):
        done = run(*words, loaded, status=2)
        assert done.stdout == ""
        assert "lookalike index FOLDER --from" in done.stderr
    done = run("cluster", "export", loaded, "--out", tmp_path / "out", status=2)
    assert "was loaded from parts" in done.stderr
    done = run("index", "--rebuild", "--gallery", loaded, status=2)
    assert "lookalike cluster load" in done.stderr


def test_bad_addresses_folders_and_silent_servers_are_told_in_one_line(
    loaded: str, servers: Servers, name: str, parts: Path, photos: Path, tmp_path: Path
) -> None:
    silent = f"valkey://127.0.0.1:{free_port()}/photos"
    for words, program, why in (
        (("search", "x.png", "--gallery", "valkey://host"), MAIN, "Example: valkey://"),
        (("search", "x.png", "--gallery", silent), HASTY, "127.0.0.1"),
        (("info", "--gallery", servers.uri("nothing")), MAIN, f"those that there are: {name}"),
        (("cluster", "load", tmp_path, "--uri", loaded), MAIN, "holds no job"),
        (("update", tmp_path, "--gallery", loaded), MAIN, f"that gallery is of {photos}, not of"),
        (("info", "--gallery", loaded), WITHOUT_CLIENT, "pip install 'lookalike[cluster]'"),
        (("cluster", "drop", loaded), WITHOUT_CLIENT, "pip install 'lookalike[cluster]'"),
    ):
        done = run(*words, status=2, program=program)
        assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
        assert why in done.stderr
    parts.rename(tmp_path / "elsewhere")
    done = run("remove", "a/000.png", "--gallery", loaded, status=2)
    assert "nothing was changed" in done.stderr
    done = run("remove", "a/000.png", "--gallery", f"{loaded}?parts={tmp_path / 'elsewhere'}")
    assert done.stdout == "1 image removed\n"


def test_a_second_writer_is_told_the_first(loaded: str, name: str) -> None:
    with closing(Connection.open(ClusterURI.parse(loaded))) as connection:
        with WriterLock(connection, name):
            done = run("remove", "a/000.png", "--gallery", loaded, status=2)
        assert f"is being written by process {os.getpid()}" in done.stderr


def test_a_password_is_never_shown() -> None:
    secret = f"valkey://user:hunter2@127.0.0.1:{free_port()}/photos"
    assert "hunter2" not in run("info", "--gallery", secret, status=2, program=HASTY).stderr


def test_commands_without_a_cluster_do_not_import_its_client(photos: Path, model: Path) -> None:
    run("index", photos, "--model", model, program=WITHOUT_CLIENT)
    for words in (("cluster", "--help"), ("info",), ("search", "a/000.png")):
        run(*words, cwd=photos, program=WITHOUT_CLIENT)
