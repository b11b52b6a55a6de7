"""What a gallery in shards does otherwise than one on disk, without Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from both import stored_vectors
from command import lookalike
from fakes import counts, write_photo, write_photos
from inprocess import InProcess
from jobs import embedded
from towers import write_colours

from lookalike.cluster import gallery as sharded
from lookalike.cluster import view
from lookalike.cluster.parts import part_name
from lookalike.cluster.writer import NewVectors
from lookalike.errors import GalleryError
from lookalike.gallery import Gallery

Serve = Callable[[Path], Gallery]


@pytest.fixture
def serve(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Embeds a source and opens it in two shards, as ray://photos."""
    known: list[InProcess] = []

    def served(source: Path) -> Gallery:
        parts = embedded(source, tmp_path / "parts", model, chunk_images=5)
        known.append(InProcess(parts.where, 2, tmp_path / "cache"))
        return Gallery.open("ray://photos", model=model)

    monkeypatch.setattr(sharded, "Shards", lambda name, address: known[0])
    monkeypatch.setattr(view, "FRESH_SECONDS", 0.0)
    yield served
    for shards in known:
        shards.close()


def test_a_gallery_of_a_list_is_brought_up_to_date_with_the_files_that_it_names(
    serve: Serve, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    names = [path.relative_to(photos).as_posix() for path in write_photos(photos, 12)]

    def listed(given: list[str]) -> Path:
        (photos / "list.txt").write_text("\n".join(given))
        return photos / "list.txt"

    gallery = serve(listed(names[:8]))
    assert set(stored_vectors(gallery)) == set(names[:8])
    assert counts(gallery.update()) == {}
    (photos / names[0]).unlink()
    write_photo(photos / names[1], 99)
    listed([*names[:7], *names[8:10]])
    assert counts(gallery.update()) == {"added": 2, "changed": 1, "dropped": 2}
    assert set(stored_vectors(gallery)) == {*names[1:7], *names[8:10]}
    listed(["../elsewhere.png"])
    with pytest.raises(GalleryError, match=r"are relative to .*photos, but the files .* switch"):
        gallery.update()


def test_an_update_searches_no_vectors_of_a_large_gallery_in_shards(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 4)
    gallery = serve(photos)
    write_photo(photos / "new.png", 99)
    monkeypatch.setattr(NewVectors, "__len__", lambda self: 10**6)
    assert counts(gallery.update()) == {"added": 1}


def test_damage_to_parts_and_to_shards_is_found(serve: Serve, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 12)
    gallery = serve(photos)
    assert gallery.verify(contents=True) == []

    def problems(*words: str, status: int = 1) -> list[str]:
        verify = ("verify", "--gallery", "ray://photos", "--json")
        found: list[str] = json.loads(lookalike(*verify, *words, status=status).stdout)["problems"]
        return found

    assert problems(status=0) == []
    image = photos / "a/000.png"
    before, content = image.stat(), bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert problems(status=0) == []
    (problem,) = problems("--contents")
    assert problem.startswith(f"{image}: the content")
    segment = next((tmp_path / "cache").glob("*/1of2-0/index/segment-*"))
    segment.write_bytes(segment.read_bytes()[:-64] + bytes(64))
    part = tmp_path / "parts" / part_name(6)
    part.write_bytes(part.read_bytes()[:500])
    first, second = problems()
    assert first.startswith(f"{part.name} ")
    assert second.startswith("shard 1: ") and segment.name in second
    done = lookalike("verify", "--gallery", "ray://photos", "--repair", status=2)
    assert "only a gallery on disk is rebuilt or repaired" in done.stderr


def test_words_find_in_shards_what_they_find_in_a_gallery_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, towers: Path
) -> None:
    photos = tmp_path / "photos"
    write_colours(photos)
    local = Gallery.open(photos, directory=tmp_path / "local", model=towers)
    local.update()
    parts = embedded(photos, tmp_path / "parts", towers)
    shards = InProcess(parts.where, 2, tmp_path / "cache")
    monkeypatch.setattr(sharded, "Shards", lambda name, address: shards)
    gallery = Gallery.open("ray://photos", model=towers)
    for query in (None, photos / "red/00.png"):
        found = gallery.search(query, k=12, text="blue")
        expected = local.search(query, k=12, text="blue")
        assert [hit.path for hit in found] == [hit.path for hit in expected]
        cosines = [hit.cosine for hit in expected]
        assert [hit.cosine for hit in found] == pytest.approx(cosines, abs=1e-4)
        assert found[0].rarity == pytest.approx(expected[0].rarity, abs=0.02)
    shards.close()
