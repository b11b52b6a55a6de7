from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import lookalike
from fakes import write_photos
from jobs import embedded, finish, of_gallery, reasons, stored
from killing import killing

from lookalike.cluster.chunk import EmbedSettings, embed_chunk
from lookalike.cluster.embed import prepare
from lookalike.cluster.parts import Parts, part_name
from lookalike.errors import GalleryError, ModelMismatchError
from lookalike.gallery import Gallery
from lookalike.progress import Progress

EMBED = """
import sys
sys.modules["ray"] = None  # importing it fails
from lookalike.cluster.chunk import EmbedSettings
from lookalike.cluster.embed import embed_all, prepare
source, where, model, size = sys.argv[1:]
parts = prepare(source, where, model=model, chunk_images=int(size))
print(len(embed_all(parts, settings=EmbedSettings(model=model, threads=1))))
"""


@pytest.mark.slow
def test_parts_hold_what_a_local_index_holds_to_the_byte(tmp_path: Path, model: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 300)
    local = Gallery.open(photos, model=model)
    local.update()
    found = stored(embedded(photos, tmp_path / "parts", model, chunk_images=64))
    assert len(found) == 300
    assert found == of_gallery(local)


def test_running_again_does_only_what_is_missing(tmp_path: Path, model: Path) -> None:
    photos, where = tmp_path / "photos", tmp_path / "parts"
    write_photos(photos, 20)
    before = stored(embedded(photos, where, model, chunk_images=6))
    seen: list[Progress] = []
    parts = prepare(str(photos), str(where), model=str(model))
    assert finish(parts, model, seen.append) == []
    for first in (7, 19):
        (where / part_name(first)).unlink()
    reports = finish(parts, model, seen.append)
    assert [(report.number, report.images) for report in reports] == [(1, 6), (3, 2)]
    assert seen == [Progress(6, 8, 0), Progress(8, 8, 0)]
    assert stored(parts) == before


def test_a_damaged_part_is_embedded_again(tmp_path: Path, model: Path) -> None:
    photos, where = tmp_path / "photos", tmp_path / "parts"
    write_photos(photos, 20)
    embedded(photos, where, model, chunk_images=6)
    paths = sorted(where.glob("part-*"))
    whole = [path.read_bytes() for path in paths]
    half = len(whole[2]) // 2
    paths[2].write_bytes(whole[2][:half] + bytes([whole[2][half] ^ 1]) + whole[2][half + 1 :])
    again = lookalike("cluster", "embed", photos, "--out", where, "--model", model)
    assert again.stderr == (
        "1 damaged part deleted, to be embedded again\n"
        "20 images in 4 chunks, 1 of them to do\n"
        "what earlier runs skipped is in the column skipped of their parts\n"
    )
    assert [path.read_bytes() for path in paths] == whole


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_only_whole_parts_and_all_rows_come_once(
    tmp_path: Path, model: Path
) -> None:
    photos, where = tmp_path / "photos", tmp_path / "parts"
    write_photos(photos, 20)
    expected = stored(embedded(photos, tmp_path / "whole", model, chunk_images=4))
    # A whole run makes something durable 21 times: 3 times for the list of chunks, 3 for job.json,
    # and 3 for each of 5 parts.
    left: set[int] = set()
    for kill_at in (2, 4, 6, 8, 9, 14, 17, 20):
        shutil.rmtree(where, ignore_errors=True)
        words = ["-c", killing(kill_at) + EMBED, str(photos), str(where), str(model), "4"]
        done = subprocess.run([sys.executable, *words], capture_output=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
        names = sorted(path.name for path in where.glob("part-*"))
        assert names == [part_name(1 + 4 * n) for n in range(len(names))]
        if (where / "job.json").exists():
            found = stored(Parts.open(str(where)))
            assert found == {name: expected[name] for name in found}
            assert len(found) == 4 * len(names)
        parts = prepare(str(photos), str(where), model=str(model), chunk_images=4)
        assert len(finish(parts, model)) == 5 - len(names)
        assert stored(parts) == expected
        left.add(len(names))
    assert left == {0, 1, 2, 3, 4}


def test_another_model_source_or_chunk_size_is_refused_and_nothing_is_written(
    tmp_path: Path, model: Path, other_model: Path
) -> None:
    for name in ("photos", "others"):
        write_photos(tmp_path / name, 3)
    source, where = str(tmp_path / "photos"), str(tmp_path / "parts")
    parts = prepare(source, where, model=str(model), chunk_images=2)
    with pytest.raises(ModelMismatchError, match=r"pooled 1 .*coarse 1 .*--model FILE"):
        embed_chunk(where, next(parts.chunks([0])), EmbedSettings(str(other_model)))
    with pytest.raises(ModelMismatchError, match=r"pooled 1 .*coarse 1"):
        prepare(source, where, model=str(other_model))
    assert prepare(source + "/", where, model=str(model), chunk_images=2).job == parts.job
    with pytest.raises(GalleryError, match=r"holds the parts of .*photos, not of .*others"):
        prepare(str(tmp_path / "others"), where, model=str(model))
    with pytest.raises(GalleryError, match="has chunk_images 2, not 3"):
        prepare(source, where, model=str(model), chunk_images=3)
    assert parts.names() == []


def test_a_file_that_is_gone_is_skipped_and_a_folder_that_is_gone_is_an_error(
    tmp_path: Path, model: Path
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 3)
    parts = prepare(str(photos), str(tmp_path / "parts"), model=str(model))
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(GalleryError, match="disk is not mounted on this machine"):
        finish(parts, model)
    assert parts.names() == []
    (tmp_path / "elsewhere").rename(photos)
    (photos / "a/000.png").unlink()
    (report,) = finish(parts, model)
    assert (report.images, report.skipped) == (2, 1)
    assert {name: why[0] for name, why in reasons(parts).items()} == {"a/000.png": "vanished"}
