from __future__ import annotations

import json
import logging
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from command import COMMAND, lookalike
from fakes import embedding, images_of, listing, write_photo, write_photos

from lookalike.cli import SECTIONS, commands
from lookalike.cli.cluster import EXAMPLES
from lookalike.gallery import Gallery
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.store import Store


@pytest.fixture
def indexed(gallery: Gallery) -> Path:
    """The folder of `photos`, which has a gallery."""
    return gallery.root


@pytest.mark.parametrize(
    "command", ["", *commands.commands, *(f"model {name}" for name in ("adopt", "get", "info"))]
)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(commands, [*command.split(), "--help"])
    lines = done.output.splitlines()
    assert lines[0].startswith("Usage: ")
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines[1:] if line.endswith("...")]
    if command in {name for some in SECTIONS.values() for name in some}:
        assert f"Example:  lookalike {command} " in done.output
    options = [line for line in lines if line.strip().startswith("-")]
    assert all(len(line.split("  ")) > 1 for line in options)  # none without a word of help


@pytest.mark.parametrize(
    "example",
    [text for some in SECTIONS.values() for _, text in some.values()]
    + [f"cluster {name} {text}" for name, text in EXAMPLES.items()],
)
def test_every_command_has_an_example_that_its_options_allow(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("Pictures", "classes", "data", "corel", "parts", "holiday"):
        (tmp_path / folder).mkdir()
    for file in ("query.jpg", "photo.jpg", "mine.onnx"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    name, *words = example.replace("~", str(tmp_path)).split()
    command: click.Command = commands.commands[name]
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(name, words)


def test_every_command_is_in_one_section() -> None:
    listed = [name for some in SECTIONS.values() for name in some]
    offered = [name for name, command in commands.commands.items() if not command.hidden]
    assert sorted([*listed, "update"]) == sorted(offered)
    shown = lookalike("--help").stdout
    assert all(f"\n  {name} " in shown for name in listed)


def test_index_prints_counts_on_stdout_and_nothing_else(photos: Path, model: Path) -> None:
    done = lookalike("index", photos, "--model", model)
    assert done.stdout.startswith("12 images (12 added) in ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == f"indexing {photos}\n"
    shutil.rmtree(photos / "a")
    write_photo(photos / "b/new.png", 50)
    counts = json.loads(lookalike("update", photos, "--json").stdout)
    assert counts.pop("seconds") > 0
    zeros = ("changed", "moved", "skipped", "removed", "missing", "reused", "ignored")
    expected = {"images": 9, "added": 1, "dropped": 4, "passed_over": {}}
    assert counts == dict.fromkeys(zeros, 0) | expected
    done = lookalike("index", cwd=photos)  # the current folder, and says so
    assert done.stdout.startswith("9 images (no change) in ")
    assert done.stderr == f"indexing {photos}\n"


def test_search_prints_a_line_per_hit_with_a_path_that_can_be_opened(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = write_photo(tmp_path / "outside.png", 77)
    vector = embedding(query)
    nearest = sorted(
        images_of(indexed), key=lambda name: -float(vector @ embedding(indexed / name))
    )
    done = lookalike("search", query, "-k", "3", cwd=indexed)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[-1] for line in lines] == nearest[:3]
    for cosine, bits, share, percent, path in lines:
        assert float(cosine) == pytest.approx(vector @ embedding(indexed / path), abs=2e-3)
        assert 0 < int(bits.removesuffix("/256")) < 256
        assert 0 <= float(share) <= 100
        assert percent == "%"
    monkeypatch.setenv("LOOKALIKE_GALLERY", os.fspath(indexed))
    from_elsewhere = lookalike("search", query, "-k", "3", cwd=tmp_path).stdout
    assert [Path(line.split()[-1]) for line in from_elsewhere.splitlines()] == [
        Path("photos") / name for name in nearest[:3]
    ]


def test_search_reads_an_image_from_standard_input_and_gives_json(indexed: Path) -> None:
    content = (indexed / "b/001.png").read_bytes()
    words = ("search", "-", "--gallery", indexed, "-k", "2", "--json")
    first, _ = json.loads(lookalike(*words, stdin=content).stdout)
    assert isinstance(first.pop("rarity"), float) and isinstance(first.pop("id"), int)
    assert first.pop("cosine") == pytest.approx(1, abs=1e-3)
    assert [first.pop(name) for name in ("bits", "code_bits", "width", "height")] == [
        0,
        256,
        64,
        48,
    ]
    file = os.fspath(indexed / "b/001.png")
    assert first == {"path": "b/001.png", "file": file, "format": "PNG"}


def test_search_takes_several_images_and_what_hits_should_not_look_like(
    indexed: Path, tmp_path: Path
) -> None:
    outside = write_photo(tmp_path / "outside.png", 77)
    vectors = {name: embedding(indexed / name) for name in images_of(indexed)}
    direction = (embedding(outside) + vectors["b/001.png"]) / 2 - 0.25 * vectors["c/002.png"]
    words = ("search", outside, "b/001.png", "--not", "c/002.png", "-k", "12", "--json")
    hits = json.loads(lookalike(*words, cwd=indexed).stdout)
    nearest = sorted(vectors, key=lambda name: -float(vectors[name] @ direction))
    assert [hit["path"] for hit in hits] == nearest
    done = lookalike("search", "-", "a/000.png", "-", cwd=indexed, status=2)
    assert "standard input holds one image" in done.stderr
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not an image")
    done = lookalike("search", outside, bad, cwd=indexed, status=2)
    assert f"({bad}, number 2 of 2)" in done.stderr


def test_search_options_reach_the_search(indexed: Path) -> None:
    shutil.copy(indexed / "a/000.png", indexed / "c/copy.png")
    lookalike("update", cwd=indexed)

    def found(*options: str) -> list[str]:
        done = lookalike("search", "a/000.png", "--json", *options, cwd=indexed)
        return [hit["path"] for hit in json.loads(done.stdout)]

    assert set(found("-k", "2")) == {"a/000.png", "c/copy.png"}
    assert not {"a/000.png", "c/copy.png"} & set(found("--exclude-self"))
    assert set(found("--threshold", "0.999")) == {"a/000.png", "c/copy.png"}
    assert {name[0] for name in found("--filter", "b/*")} == {"b"}
    assert found("--exact", "-k", "13") == found("-k", "13")


def test_search_writes_a_sheet_that_the_next_update_does_not_take_in(
    indexed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.html"
    done = lookalike("search", "a/000.png", "-k", "4", "--sheet", out, cwd=indexed)
    assert "wrote" in done.stderr
    assert out.read_text().count("data:image/webp") == 5  # the query and its hits
    content = (indexed / "a/000.png").read_bytes()
    lookalike("search", "-", "b/001.png", "--sheet", out, cwd=indexed, stdin=content)
    assert "What looks like standard input and 1 more" in out.read_text()
    inside = lookalike("search", "a/000.png", "--sheet", "found.html", cwd=indexed)
    assert "wrote found.html" in inside.stderr
    assert lookalike("update", cwd=indexed).stdout.startswith("12 images (no change)")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("search a/000.png --sheet sheet.jpg", "sheet.jpg must end in .html or .htm"),
        ("tune --force --curve a/000.png", "000.png must end in .svg"),
        ("model adopt x.onnx --out a/000.png", "000.png must end in .onnx"),
        ("augment a/000.png --out a/001.png", "001.png must end in .html or .htm"),
        ("search a/000.png --sheet nowhere/x.html", "there is no folder {}/nowhere to write to"),
        ("tune --force --curve nowhere/x.svg", "there is no folder {}/nowhere to write to"),
        ("model adopt x.onnx --out nowhere/y.onnx", "there is no folder {}/nowhere to write to"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    indexed: Path, words: str, why: str
) -> None:
    done = lookalike(*words.split(), cwd=indexed, status=2)
    assert done.stdout == ""
    assert why.format(indexed) in done.stderr


def test_a_page_may_have_its_extension_in_capitals(indexed: Path) -> None:
    lookalike("search", "a/000.png", "--sheet", "FOUND.HTML", cwd=indexed)
    assert (indexed / "FOUND.HTML").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_nothing_found_is_status_1(indexed: Path, tmp_path: Path) -> None:
    words = ("search", write_photo(tmp_path / "outside.png", 77), "--threshold", "1")
    done = lookalike(*words, cwd=indexed, status=1)
    assert (done.stdout, done.stderr) == ("", "nothing found\n")
    assert json.loads(lookalike(*words, "--json", cwd=indexed, status=1).stdout) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("search text.jpg", "text.jpg: not-an-image: "),
        ("search -", "standard input: empty: "),
        ("search https://example.org//x.jpg", "https://example.org//x.jpg is neither a file nor"),
        ("search nowhere.jpg", "nowhere.jpg is neither a file nor an indexed image"),
        ("search a", "a is a folder; QUERY is one image; a gallery is named with --gallery DIR"),
        ("search a/000.png --filter=", "the filter is empty"),
        ("duplicates --filter=", "the filter is empty"),
    ],
)
def test_what_cannot_be_searched_for_is_status_2_with_the_reason(
    indexed: Path, words: str, message: str
) -> None:
    (indexed / "text.jpg").write_text("no image")
    done = lookalike(*words.split(), cwd=indexed, status=2)
    assert done.stdout == "" and message in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["search"],
        ["search", "x.png", "-k", "0"],
        ["search", "x.png", "--threshold", "2"],
        ["search", "x.png", "--threshold", "nan"],
        ["duplicates", "--threshold", "nan"],
        ["search", "x.png", "--unknown"],
        ["index", "nowhere"],
        ["index", ".", "--batch-size", "0"],
        ["index", ".", "--model", "nowhere.onnx"],
        ["nothing"],
        ["remove"],
        ["remove", ""],
        ["duplicates", "--move-to", ""],
        ["index", "--gallery", ""],
        ["index", ".", "--model", "nowhere"],
        ["serve", ""],
    ],
)
def test_bad_usage_is_status_2_on_stderr(words: list[str], tmp_path: Path) -> None:
    done = lookalike(*words, cwd=tmp_path, status=2)
    assert done.stdout == ""
    assert "Error: " in done.stderr


@pytest.mark.parametrize("name", ["info", "verify", "tune", "groups", "duplicates", "watch"])
def test_a_gallery_named_without_its_option_is_answered_with_the_option(name: str) -> None:
    done = lookalike(name, "photos", status=2)
    assert "extra argument (photos); a gallery is named with --gallery DIR" in done.stderr


def test_control_characters_of_a_path_reach_no_terminal(tmp_path: Path) -> None:
    name = "red\x1b[31m\r\nlookalike: done"
    (tmp_path / name).mkdir()
    query = tmp_path / "bell\x07.jpg"
    query.write_bytes(b"not an image")
    commands: list[list[str | Path]] = [
        ["index", tmp_path / name / "nothing"],
        ["search", query, "--gallery", tmp_path / name],
        ["info", "--gallery", tmp_path / name],
        ["verify", "--gallery", tmp_path / name],
    ]
    for words in commands:
        stderr = lookalike(*words, status=2).stderr
        assert "\\x1b[31m\\r\\nlookalike: done" in stderr, stderr
        assert "\x1b" not in stderr and "\r" not in stderr and "\x07" not in stderr


def test_without_a_gallery_every_command_names_the_one_that_makes_it(tmp_path: Path) -> None:
    for words in (["search", "x.png"], ["info"], ["duplicates"], ["verify"], ["remove", "x.png"]):
        done = lookalike(*words, cwd=tmp_path, status=2)
        assert done.stdout == ""
        assert "lookalike index FOLDER" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_index_and_info_list_what_was_skipped_with_reason_and_remedy(
    photos: Path, model: Path
) -> None:
    bad = {"empty.jpg": b"", "text\n.png": b"no image", "half.png": b"\x89PNG\r\n\x1a\n"}
    for name, content in bad.items():
        (photos / name).write_bytes(content)
    done = lookalike("index", photos, "--model", model, status=1)
    assert "12 images" in done.stdout
    assert sum(line.startswith("skipped ") for line in done.stderr.splitlines()) == 3
    assert "3 files are skipped" in done.stderr
    listed = json.loads(lookalike("info", "--skipped", "--json", cwd=photos).stdout)
    assert {entry["path"]: entry["reason"] for entry in listed} == {
        "empty.jpg": "empty",
        "text\n.png": "not-an-image",
        "half.png": "truncated",
    }
    assert all(entry["detail"] and entry["remedy"] for entry in listed)
    lines = lookalike("info", "--skipped", cwd=photos).stdout.splitlines()
    assert len(lines) == 3  # a line break in a name makes no second line


def test_duplicates_prints_groups_and_deletes_nothing(indexed: Path) -> None:
    done = lookalike("duplicates", cwd=indexed, status=1)
    assert done.stdout == "" and "0 groups" in done.stderr  # after how far it is, on a busy machine
    shutil.copy(indexed / "a/000.png", indexed / "z.png")
    lookalike("update", cwd=indexed)
    before = listing(indexed)
    done = lookalike("duplicates", cwd=indexed)
    keep, other = done.stdout.splitlines()[:2]
    assert keep.split()[0] == "keep" and keep.endswith("  a/000.png")
    assert other.startswith("same bytes ") and other.endswith("  z.png")
    assert "1 group, 1 file that could go; nothing was deleted" in done.stderr
    summary = json.loads(lookalike("duplicates", "--json", cwd=indexed).stdout)
    ((group),) = summary["groups"]
    found = [[item["path"] for item in group[part]] for part in ("keep", "duplicates")]
    assert (summary["threshold"], found) == (0.95, [["a/000.png"], ["z.png"]])
    assert listing(indexed) == before


def test_info_shows_what_made_the_gallery(indexed: Path) -> None:
    words = lookalike("info", cwd=indexed).stdout
    assert "12 indexed, 0 skipped" in words
    assert "pooled 1, 16 x 16 pixels -> 48 dimensions" in words
    facts = json.loads(lookalike("info", "--json", cwd=indexed).stdout)
    assert (facts["images"], facts["skipped"]) == (12, 0)
    assert facts["folder"] == os.fspath(indexed)
    assert facts["gallery"] == os.fspath(indexed / ".lookalike")
    assert facts["model"]["name"] == "pooled"
    assert facts["lsh"]["dim"] == 48
    assert facts["pairs"]["images"] == 12
    sizes = [path.stat().st_size for path in (indexed / ".lookalike").rglob("*") if path.is_file()]
    assert facts["disk_bytes"] == sum(sizes)


def test_remove_and_its_undoing(indexed: Path) -> None:
    def updated() -> str:
        return str(lookalike("update", cwd=indexed).stdout)

    (indexed / "bad.png").write_text("no image")
    done = lookalike("update", cwd=indexed, status=1)
    assert "1 file is skipped; list them with: lookalike info --skipped" in done.stderr
    both = lookalike("remove", "bad.png", "a/000.png", "c/002.png", cwd=indexed).stdout
    assert both == "2 images removed, 1 skipped file dismissed\n"
    assert "10 indexed, 0 skipped, 3 removed by you" in lookalike("info", cwd=indexed).stdout
    assert lookalike("remove", "--undo", "c/002.png", cwd=indexed).stdout.startswith("1 file may")
    assert updated().startswith("11 images (1 added, 2 removed by you)")
    done = lookalike("remove", "a/000.png", cwd=indexed, status=2)
    assert "a/000.png is not an indexed image" in done.stderr
    (indexed / "bad.png").unlink()
    updated()
    lookalike("remove", "--undo", "a/000.png", "bad.png", cwd=indexed)  # a mark outlasts its file
    assert updated().startswith("12 images (1 added)")


@pytest.mark.parametrize(
    ("file", "encoded"),
    [("gallery.sqlite", "12 images"), ("index/manifest.json", "1 image")],
)
def test_damage_is_reported_with_the_command_that_repairs_it(
    indexed: Path, file: str, encoded: str
) -> None:
    before = lookalike("search", "a/000.png", cwd=indexed).stdout
    assert lookalike("verify", cwd=indexed).stderr == "the gallery is whole\n"
    (indexed / ".lookalike" / file).write_bytes(b"rubbish")
    for words in (["search", "a/000.png"], ["info"], ["update"]):
        done = lookalike(*words, cwd=indexed, status=2)
        assert done.stdout == ""
        assert "lookalike verify --repair --gallery" in done.stderr
    done = lookalike("verify", cwd=indexed, status=1)
    assert Path(file).name in done.stdout
    assert "lookalike verify --repair" in done.stderr
    done = lookalike("verify", "--repair", cwd=indexed)
    assert "the gallery is whole" in done.stderr
    after = lookalike("search", "a/000.png", cwd=indexed).stdout
    assert [line.split()[::4] for line in after.splitlines()] == [
        line.split()[::4] for line in before.splitlines()
    ]
    assert json.loads(lookalike("verify", "--json", cwd=indexed).stdout) == {"problems": []}
    write_photo(indexed / "b/001.png", 99)
    (indexed / ".lookalike" / file).write_bytes(b"rubbish")
    said = lookalike("verify", "--repair", cwd=indexed).stdout
    assert said.endswith(f"{encoded} encoded\n")


def test_an_unfinished_update_is_reported_by_search_and_info(indexed: Path) -> None:
    table = indexed / ".lookalike/gallery.sqlite"
    with closing(Store.open(table, write=True)) as store, store.transaction():
        store.set_meta({"unfinished": True})
    for words in (["search", "a/000.png"], ["info"]):
        done = lookalike(*words, cwd=indexed)
        assert "the last update did not finish, or is still running: 12 images so far" in (
            done.stderr
        )
    lookalike("update", cwd=indexed)
    assert lookalike("info", cwd=indexed).stderr == ""


def test_another_model_is_refused_and_a_rebuild_takes_it(indexed: Path, other_model: Path) -> None:
    done = lookalike("update", "--model", other_model, cwd=indexed, status=2)
    assert "lookalike index --rebuild" in done.stderr
    done = lookalike("search", "a/000.png", "--model", other_model, cwd=indexed, status=2)
    assert "their embeddings cannot be compared" in done.stderr
    own = indexed / ".lookalike"
    done = lookalike("index", "--rebuild", "--model", other_model, "--gallery", own)
    assert f"indexing {indexed}\n" in done.stderr
    assert done.stdout.startswith("12 images (12 added)")
    assert "coarse 1" in lookalike("info", cwd=indexed).stdout


def test_a_gallery_of_an_earlier_version_is_not_called_damaged(indexed: Path, model: Path) -> None:
    own = indexed / ".lookalike"
    with closing(sqlite3.connect(own / "gallery.sqlite")) as table, table:
        table.execute("PRAGMA user_version = 3")
    for words in (["verify"], ["verify", "--json"], ["info"]):
        done = lookalike(*words, cwd=indexed, status=2)
        assert done.stdout == "" and "verify --repair" not in done.stderr
        assert done.stderr.endswith(f"lookalike index --rebuild --gallery {own}\n")
    done = lookalike("index", "--rebuild", "--gallery", own, "--model", model)
    assert done.stderr == f"indexing {indexed}\n"
    assert lookalike("verify", cwd=indexed).stderr == "the gallery is whole\n"


def test_a_command_says_that_code_is_compiled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lookalike("--version")
    compiler = logging.getLogger("lookalike.lsh.compiled")
    monkeypatch.setattr(compiler, "disabled", False)
    compiler.info("compiling")
    assert capsys.readouterr().err == "compiling\n"


def test_a_second_writer_gets_the_pid_of_the_first(indexed: Path) -> None:
    lock = indexed / ".lookalike/lock"
    with writer_lock(lock):
        done = lookalike("update", cwd=indexed, status=2)
        assert f"process {os.getpid()};" in done.stderr
        words = [*COMMAND, "update", "--wait", "120"]
        waiting = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=indexed)
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith(b"indexing ")
    waiting.communicate()
    assert waiting.returncode == 0


@pytest.mark.slow
def test_a_terminal_sees_a_bar_while_stdout_has_only_the_result(
    tmp_path: Path, model: Path
) -> None:
    write_photos(tmp_path / "photos", 60)
    master, slave = pty.openpty()
    words = [*COMMAND, "index", os.fspath(tmp_path / "photos"), "--model", os.fspath(model)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # Linux says that the other end is closed in this way
            break
        if not part:
            break
        seen += part
    os.close(master)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert stdout.startswith(b"60 images (60 added) in ")
    assert b"/60" in seen
    assert b"\x1b[" in seen


def test_index_without_a_folder_uses_the_nearest_gallery_above(
    indexed: Path, tmp_path: Path
) -> None:
    (indexed / "a/000.png").unlink()
    done = lookalike("update", cwd=indexed / "b")
    assert done.stderr == f"indexing {indexed}\n"
    assert done.stdout.startswith("11 images (1 dropped)")
    done = lookalike("update", "--gallery", indexed, cwd=tmp_path)
    assert (done.stderr, done.stdout[:21]) == (f"indexing {indexed}\n", "11 images (no change)")
    assert not (indexed / "b/.lookalike").exists()
    lookalike("index", indexed / "b", "--gallery", tmp_path / "gal")
    done = lookalike("index", "--gallery", tmp_path / "gal", cwd=tmp_path)
    assert done.stdout.startswith("4 images (no change)")


def test_galleries_inside_one_another_are_named(indexed: Path, model: Path) -> None:
    done = lookalike("index", "b", "--model", model, cwd=indexed)
    assert f"b is inside {indexed}, which has a gallery as well" in done.stderr
    done = lookalike("index", cwd=indexed)
    assert "b has a gallery of its own" in done.stderr
    lookalike("index", "c", "--gallery", "c/gal", "--model", model, cwd=indexed)
    done = lookalike("index", cwd=indexed)
    assert "c/gal holds the files of a gallery; it was not entered" in done.stderr
    done = lookalike("index", "c", "--gallery", "c", "--model", model, cwd=indexed, status=2)
    assert "cannot hold the images as well as the gallery's own files" in done.stderr


def test_index_says_what_is_missing_and_which_option_accepts_it(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    gallery = ("--gallery", "gal")
    lookalike("index", photos, *gallery, "--model", model, cwd=tmp_path)
    shutil.rmtree(photos)
    photos.mkdir()
    done = lookalike("index", photos, *gallery, cwd=tmp_path, status=1)
    assert done.stdout.startswith("12 images (12 missing but kept) in")
    accept = f"lookalike index {photos} --gallery gal --accept-missing"
    assert "12 files of the folder missing" in done.stderr
    assert done.stderr.endswith(f"if they are gone for good: {accept}\n")
    done = lookalike(*accept.split()[1:], cwd=tmp_path)
    assert done.stdout.startswith("0 images (12 dropped) in")


def test_index_counts_files_in_formats_that_are_not_read(indexed: Path) -> None:
    names = ("a.jp2", "b.jp2", "c.ppm", "d.jpg~", "README", "film.mpg")
    for name in names:
        (indexed / name).write_bytes(b"")
    done = lookalike("index", "--json", cwd=indexed)
    said = "5 files of other kinds passed over: jp2, jpg~, ppm, 1 without extension\n"
    assert said in done.stderr
    counted = {"jp2": 2, "ppm": 1, "jpg~": 1, "": 1, "others": 1}
    assert json.loads(done.stdout)["passed_over"] == counted
    for name in names[:4]:
        (indexed / name).unlink()
    assert "passed over" not in lookalike("index", cwd=indexed).stderr


def test_index_leaves_out_what_is_excluded_and_remove_takes_folders(indexed: Path) -> None:
    done = lookalike("index", "--exclude", "b/", "--exclude", "*9.png", cwd=indexed)
    assert done.stdout.startswith("7 images (5 dropped)")
    assert "2 paths left out by patterns" in done.stderr
    assert lookalike("update", cwd=indexed).stdout.startswith("7 images (no change)")
    assert "left out      b/, *9.png\n" in lookalike("info", cwd=indexed).stdout
    assert lookalike("remove", "c", cwd=indexed).stdout == "4 images removed\n"
    assert lookalike("remove", "c", "--undo", cwd=indexed).stdout.startswith("4 files may come")


def test_odd_names_are_found_and_printed_as_the_bytes_that_they_are(indexed: Path) -> None:
    names = [os.fsdecode(b"not utf-8 \xff.png"), "new\nline.png", "-rf.png", '"caf\u00e9".png']
    for old, name in zip(sorted((indexed / "b").iterdir()), names, strict=True):
        old.rename(indexed / name)
    lookalike("update", cwd=indexed)
    for name in names:
        done = lookalike("search", "-k", "1", "-0", "--", name, cwd=indexed, text=False)
        assert done.stdout == os.fsencode(indexed / name) + b"\0"
    done = lookalike("search", names[0], "-k", "1", cwd=indexed, text=False)
    assert done.stdout.endswith(b"  " + os.fsencode(names[0]) + b"\n")
    done = lookalike("search", "a/003.png", "-k", "12", "-0", cwd=indexed, text=False)
    paths = {os.fsencode(indexed / name) for name in images_of(indexed)}
    assert {*done.stdout.split(b"\0")} == {*paths, b""}
    done = lookalike("search", "a/003.png", "-k", "2", "--paths", cwd=indexed)
    assert done.stdout.splitlines()[0] == "a/003.png"
    lookalike("search", "a/003.png", "-0", "--json", cwd=indexed, status=2)


@pytest.mark.slow
def test_watch_updates_when_files_come_and_go(indexed: Path, tmp_path: Path) -> None:
    hasty = "import sys, lookalike.cli as c; sys.modules['lookalike.cli.index'].SETTLED_MS = 50; "
    words = [*COMMAND[:2], f"{hasty} c.main()", "watch", "--gallery", os.fspath(indexed)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert process.stderr.readline().startswith(f"watching {indexed}")
    write_photo(tmp_path / "new.png", 99).rename(indexed / "a/new.png")
    assert process.stdout.readline() == "13 images (1 added)\n"
    (indexed / "a/new.png").unlink()
    assert process.stdout.readline() == "12 images (1 dropped)\n"
    write_photo(tmp_path / "far/0.png", 100)
    (indexed / "link").symlink_to(tmp_path / "far")
    assert process.stdout.readline() == "13 images (1 added)\n"
    write_photo(tmp_path / "1.png", 101).rename(tmp_path / "far/1.png")
    assert process.stdout.readline() == "14 images (1 added)\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and out == "" and err == "stopped\n"


@pytest.mark.slow
def test_watch_goes_on_after_the_disk_was_full(indexed: Path, tmp_path: Path) -> None:
    full = (
        "import lookalike.cli as c, sys; from lookalike.gallery import Gallery as G; "
        "from lookalike.errors import StorageFullError as E; real = G.update\n"
        "def update(*_, **__): G.update = real; raise E('the disk is full')\n"
        "G.update = update; sys.modules['lookalike.cli.index'].SETTLED_MS = 50; c.main()"
    )
    words = [*COMMAND[:2], full, "watch", "--gallery", os.fspath(indexed)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    said = process.stderr.readline()
    assert said == "the disk is full; trying again at the next change\n"
    assert process.stderr.readline().startswith(f"watching {indexed}")
    write_photo(tmp_path / "new.png", 99).rename(indexed / "a/new.png")
    assert process.stdout.readline() == "13 images (1 added)\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "stopped\n")
