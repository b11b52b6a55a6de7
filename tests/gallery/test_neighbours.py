from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fakes import updated, write_photo, write_photos

from lookalike.errors import GalleryDamagedError, GalleryError
from lookalike.gallery import Gallery, search
from lookalike.gallery.query import Query
from lookalike.lsh import linking
from lookalike.lsh.expand import Expansion
from lookalike.lsh.graph import NeighbourGraph


def order(gallery: Gallery, query: Query, expand: bool | None) -> list[tuple[str, float]]:
    return [(hit.path, hit.cosine) for hit in gallery.search(query, 12, expand=expand)]


def assert_up_to_date(gallery: Gallery) -> None:
    """Its graph holds all images, each with all others, nearest first."""
    index = gallery.reader().now().index
    graph = NeighbourGraph.open(gallery.directory / "neighbours.lka", index.owner)
    cosines = index.vectors(index.ids) @ index.vectors(index.ids).T
    assert graph.ids.tolist() == index.ids.tolist()
    np.fill_diagonal(cosines, -2)
    expected = -np.sort(-cosines, axis=1)[:, :-1]
    np.testing.assert_allclose(graph.cosines, expected, atol=2e-3)


def test_an_update_keeps_the_neighbours_of_every_image(gallery: Gallery, photos: Path) -> None:
    assert_up_to_date(gallery)
    write_photos(photos / "more", 5, 40)
    (photos / "a/000.png").unlink()
    gallery.update()
    assert_up_to_date(gallery)
    state = (gallery.directory / "neighbours.lka").stat()
    gallery.update()
    assert (gallery.directory / "neighbours.lka").stat().st_ino == state.st_ino  # not written again
    gallery.remove(["b/001.png"])
    gallery.update()
    assert_up_to_date(gallery)


def test_a_gallery_of_one_image_has_no_graph(tmp_path: Path, model: Path) -> None:
    write_photo(tmp_path / "photos/a.png", 1)
    gallery = updated(tmp_path / "photos", model=model)
    assert not (gallery.directory / "neighbours.lka").exists()
    assert len(gallery.search(tmp_path / "photos/a.png", expand=True)) == 1
    write_photo(tmp_path / "photos/b.png", 2)
    gallery.update()
    assert_up_to_date(gallery)


def test_expansion_is_off_unless_it_was_measured_to_help(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = photos / "c/011.png"
    off, on = order(gallery, query, False), order(gallery, query, True)
    assert on != off
    assert sorted(on) == sorted(off)  # the same images, with the same cosines
    assert off == sorted(off, key=lambda hit: -hit[1])
    assert on[0] == off[0]
    assert order(gallery, query, None) == off
    monkeypatch.setattr(search, "MEASURED", {("pooled", "1"): Expansion()})
    assert order(gallery, query, None) == on
    assert order(gallery, query, False) == off


def test_a_threshold_a_filter_and_exclude_self_hold_for_expanded_searches(
    gallery: Gallery, photos: Path
) -> None:
    query = photos / "c/011.png"
    off = gallery.search(query, 12, expand=False)
    limit = off[5].cosine
    near = {hit.path for hit in off[:6]}
    for count in (12, 6):
        found = gallery.search(query, count, expand=True, threshold=limit)
        assert {hit.path for hit in found} == near
        snapshot = gallery.reader().now()
        (vector,) = snapshot.vectors([off[0].id])
        rows = snapshot.search(vector, count, expand=True, threshold=limit)
        assert {os.fsdecode(item.row.path) for item in rows} == near
    others = gallery.search(query, 12, expand=True, exclude_self=True)
    assert {hit.path for hit in others} == {hit.path for hit in off} - {"c/011.png"}
    found = gallery.search(query, 12, expand=True, filter="a/*", exclude_self=True)
    assert {hit.path for hit in found} == {f"a/{n:03}.png" for n in (0, 3, 6, 9)}


DAMAGE = ["cut", "changed", "emptied", "link", "folder", "of another gallery"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_searches_work_without_a_graph_and_repair_makes_it_again(
    gallery: Gallery, photos: Path, tmp_path: Path, model: Path, damage: str
) -> None:
    path, query = gallery.directory / "neighbours.lka", photos / "c/011.png"
    off = order(gallery, query, False)
    content = path.read_bytes()
    path.unlink()
    if damage == "link":
        (tmp_path / "elsewhere.lka").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere.lka")
    elif damage == "folder":
        path.mkdir()
    elif damage == "of another gallery":
        write_photos(tmp_path / "others", 12)
        other = updated(tmp_path / "others", model=model)
        path.write_bytes((other.directory / path.name).read_bytes())
    else:
        altered = bytearray(content)
        altered[-200] ^= 1
        damaged = {"cut": content[:-64], "changed": bytes(altered), "emptied": b""}
        path.write_bytes(damaged[damage])
    assert order(gallery, query, None) == off
    assert order(gallery, query, False) == off
    with pytest.raises(GalleryError, match=r"no neighbour graph .* lookalike update"):
        gallery.search(query, expand=True)
    (problem,) = gallery.verify()
    assert "neighbours" in problem
    if damage == "folder":
        with pytest.raises(GalleryDamagedError, match="verify --repair"):
            gallery.update()
    else:
        gallery.update()
        assert_up_to_date(gallery)
        assert gallery.verify() == []
        path.unlink()
        path.write_bytes(b"damaged again")
    report = Gallery.repair(photos)
    assert report.done[-1] == "the neighbour graph was made again"
    assert len(report.done) == 1 + (damage == "folder")
    gallery.update()
    assert_up_to_date(gallery)
    assert gallery.verify() == []
    if damage == "link":
        assert (tmp_path / "elsewhere.lka").read_bytes() == content


def test_an_update_links_near_images_and_a_damaged_link_is_named_and_repaired(
    photos: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linking, "LINKED_FROM", 4)
    monkeypatch.setattr(linking, "SCANNED", 1)
    gallery = Gallery.open(photos, model=model)
    gallery.update()
    (links,) = (gallery.directory / "index").glob("links-*.lka")
    expected = [hit.path for hit in gallery.search("a/000.png", 5, exact=True)]
    assert [hit.path for hit in gallery.search("a/000.png", 5)] == expected
    assert gallery.verify() == []
    content = links.read_bytes()
    links.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = Gallery.open(photos, create=False)
    assert "links do not match their checksums, in links-" in " ".join(again.verify())
    Gallery.repair(photos)
    again = Gallery.open(photos, model=model)
    again.update()
    assert again.verify() == []
    assert [hit.path for hit in again.search("a/000.png", 5)] == expected
    assert list((gallery.directory / "index").glob("links-*.lka"))
