"""What is particular to a gallery in a cluster; what it shares with others is in ``behaviour``."""

from __future__ import annotations

import inspect
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fakes import embedding, images_of, write_photo, write_photos
from jobs import embedded
from served import load_parts, opened, serve
from servers import Servers, free_port

from lookalike.cluster.collection.collection import Collection
from lookalike.cluster.collection.index import ClusterIndex
from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.loading import drop
from lookalike.cluster.collection.register import Register
from lookalike.cluster.embed.importing import import_gallery
from lookalike.cluster.gallery import ClusterGallery
from lookalike.cluster.job.parts import Parts
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.errors import ClusterError, GalleryError, ModelMismatchError
from lookalike.gallery import Gallery

# ---- searching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["inline", "packed"])
def test_hits_are_to_the_last_digit_those_of_a_local_gallery_of_the_same_parts(
    tmp_path: Path, where: Path, uri: str, model: Path, layout: str
) -> None:
    folder = tmp_path / "many"
    write_photos(folder, 150)
    shutil.copy(folder / "a/000.png", folder / "c/copy.png")
    served = serve(folder, where, uri, model, layout=layout)
    import_gallery(Parts.open(os.fspath(where)), folder, model=model)
    local = Gallery.open(folder)
    outside = write_photo(tmp_path / "outside.png", 5000)
    for query in (outside, outside.read_bytes(), "a/000.png", folder / "b/001.png"):
        for k in (1, 10, 200):
            assert served.search(query, k) == local.search(query, k)
        options: dict[str, Any]
        for options in ({"exclude_self": True}, {"threshold": 0.2}):
            assert served.search(query, 7, **options) == local.search(query, 7, **options)
        # Compared in other batches, whose sums may be rounded otherwise:
        for options in ({"exact": True}, {"filter": "b/*"}, {"filter": "*/0*", "exact": True}):
            found = served.search(query, 7, **options)
            expected = local.search(query, 7, **options)
            assert [(h.path, h.bits) for h in found] == [(h.path, h.bits) for h in expected]
            cosines = [hit.cosine for hit in expected]
            assert [hit.cosine for hit in found] == pytest.approx(cosines, abs=1e-6)
    assert served.search(outside, 3)[0].rarity is not None


def test_a_client_without_the_files_searches_by_stored_vectors_and_by_files_of_its_own(
    served: ClusterGallery, photos: Path, where: Path, tmp_path: Path
) -> None:
    before = served.search("a/000.png", 12)
    outside = write_photo(tmp_path / "outside.png", 77)
    by_file = served.search(outside, 12)
    photos.rename(tmp_path / "gone")
    where.rename(tmp_path / "gone too")
    assert served.search("a/000.png", 12) == before
    assert served.search(photos / "a/000.png", 12) == before
    assert served.search(outside, 12) == by_file
    assert before[0].file == photos / "a/000.png"


def test_a_collection_without_vectors_is_searched_with_the_pictures_themselves(
    photos: Path, where: Path, uri: str, model: Path, tmp_path: Path
) -> None:
    served = serve(photos, where, uri, model, vectors="none")
    best = served.search("a/000.png", 1)[0]
    assert (best.path, best.bits) == ("a/000.png", 0)
    assert "a/000.png" not in {
        hit.path for hit in served.search("a/000.png", 12, exclude_self=True)
    }
    with pytest.raises(GalleryError, match=r"an exact search .* keeps none"):
        served.search("a/000.png", 3, exact=True)
    (photos / "a/000.png").rename(tmp_path / "own copy.png")
    with pytest.raises(GalleryError, match=r"keeps no vectors and the file is not here"):
        served.search("a/000.png")
    assert served.search(tmp_path / "own copy.png", 1)[0].path == "a/000.png"


def test_a_search_during_which_another_generation_was_loaded_is_repeated(
    served: ClusterGallery,
    photos: Path,
    where: Path,
    uri: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = tmp_path / "others"
    write_photos(others, 12, first_seed=300)
    embedded(others, tmp_path / "other parts", model)
    search, loads = ClusterIndex.search, [1]

    def late(index: ClusterIndex, *arguments: object, **options: object) -> object:
        found = search(index, *arguments, **options)  # type: ignore[arg-type]
        if loads and loads.pop():
            load_parts(tmp_path / "other parts", uri)
        return found

    monkeypatch.setattr(ClusterIndex, "search", late)
    query = write_photo(tmp_path / "outside.png", 77)
    hits = served.search(query, 20)
    assert {hit.path for hit in hits} == images_of(others)
    cosines = [embedding(query) @ embedding(others / hit.path) for hit in hits]
    assert [hit.cosine for hit in hits] == pytest.approx(cosines, abs=1e-3)
    assert loads == []


def test_searches_while_generations_change_see_one_of_them_whole(
    photos: Path, where: Path, uri: str, model: Path, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    for n in range(20):
        write_photo(others / f"{n}.png", 300 + n)
    embedded(others, tmp_path / "other parts", model)
    serve(photos, where, uri, model)
    query = embedding(write_photo(tmp_path / "outside.png", 77)).astype("float32")
    seen, errors, over = set[frozenset[str]](), list[BaseException](), threading.Event()

    def ask() -> None:
        gallery = opened(uri)
        try:
            while not over.is_set():
                seen.add(frozenset(hit.path for hit in gallery.search(query, 50)))
        except BaseException as error:
            errors.append(error)
        gallery.close()

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for parts in (tmp_path / "other parts", where, tmp_path / "other parts"):
        load_parts(parts, uri)
    over.set()
    for asker in askers:
        asker.join(timeout=30)
    assert errors == []
    assert seen == {frozenset(images_of(photos)), frozenset(images_of(others))}


def test_threads_share_a_gallery(served: ClusterGallery, photos: Path) -> None:
    queries = sorted(images_of(photos))
    expected = [served.search(query, 12) for query in queries]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda query: served.search(query, 12), queries * 4))
    assert found == expected * 4


def test_a_generation_of_another_model_is_not_searched_with_vectors_of_the_first(
    served: ClusterGallery, photos: Path, uri: str, other_model: Path, tmp_path: Path
) -> None:
    embedded(photos, tmp_path / "other parts", other_model)
    load_parts(tmp_path / "other parts", uri)
    with pytest.raises(ModelMismatchError, match="coarse 1, it was opened with those of pooled 1"):
        served.search("a/000.png")
    with pytest.raises(ModelMismatchError, match=r"lookalike cluster embed .* cluster load"):
        opened(uri).search((photos / "a/000.png").read_bytes())
    assert opened(uri).search("a/000.png", 1)[0].path == "a/000.png"


# ---- facts ---------------------------------------------------------------------------------------


def test_info_tells_what_is_there_and_where(
    served: ClusterGallery, servers: Servers, photos: Path, where: Path, uri: str, model: Path
) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    served.update()
    served.remove(["a/000.png"])
    facts = served.info()
    assert (facts.images, facts.skipped, facts.removed, len(served)) == (11, 1, 1, 11)
    assert (facts.root, facts.parts, facts.uri) == (photos, os.fspath(where), uri)
    assert (facts.generation, facts.layout, facts.unfinished) == (1, "inline", False)
    assert set(facts.nodes) == {node.address for node in servers.masters()}
    assert facts.model == Gallery.open(photos, model=model).info().model
    assert (facts.lsh.tables, facts.lsh.key_bits, facts.lsh.keys) == (8, 4, "hyperplanes")
    assert facts.memory["vectors"] >= 11 * 48 * 2
    assert facts.pairs is not None and facts.pairs.images == 12
    load_parts(where, uri)
    assert served.info().generation == 2


def test_all_that_is_public_in_a_gallery_is_done_or_refused(served: ClusterGallery) -> None:
    made_on_disk = {"open", "rebuild", "find_damage", "repair"}
    for name in made_on_disk - {"open"}:
        with pytest.raises(GalleryError, match="only a gallery on disk is rebuilt or repaired"):
            getattr(Gallery, name)(str(served.info().uri))
    with pytest.raises(ValueError, match="directory and lsh are for a gallery on disk"):
        Gallery.open(served.info().uri, directory="elsewhere")
    own = {name for one in ClusterGallery.__mro__ if one is not Gallery for name in vars(one)}
    public = {name for name in vars(Gallery) if not name.startswith("_")}
    assert public - own - made_on_disk == {"directory", "max_pixels"}
    for name in ("duplicates", "tune", "reset_tuning", "reader", "verify"):
        assert not inspect.signature(getattr(served, name)).parameters.keys() - {
            *inspect.signature(getattr(Gallery, name)).parameters
        }
        with pytest.raises(GalleryError, match=r"in a cluster; .* lookalike index FOLDER --from"):
            getattr(served, name)()


# ---- what cannot be opened -----------------------------------------------------------------------


def test_an_unknown_collection_is_told_with_those_that_there_are(
    served: ClusterGallery, servers: Servers, name: str
) -> None:
    with pytest.raises(GalleryError, match=rf"no collection 'nothing'.*; those .*\b{name}\b"):
        Gallery.open(servers.uri("nothing"))


def test_a_collection_that_is_being_loaded_is_told_from_one_that_is_not_there(
    servers: Servers, name: str, uri: str
) -> None:
    with closing(Connection.open(ClusterURI.parse(uri))) as connection:
        Register(connection, name).begin(1)
    with pytest.raises(GalleryError, match="still being loaded") as raised:
        Gallery.open(uri)
    assert "those that there are" not in str(raised.value)


def test_a_collection_that_was_dropped_is_gone_for_open_galleries(
    served: ClusterGallery, name: str, uri: str
) -> None:
    with closing(Connection.open(ClusterURI.parse(uri))) as connection:
        drop(connection, name)
        assert not list(connection.scan(Keys(name, 1, 1).meta + "*"))
    with pytest.raises(GalleryError, match=f"there is no collection '{name}'"):
        served.search("a/000.png")


def test_wrong_addresses_and_silent_servers_are_errors_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(GalleryError, match="Example: valkey://"):
        Gallery.open("valkey://127.0.0.1:70000/photos")
    open_connection = Connection.open
    monkeypatch.setattr(Connection, "open", lambda uri: open_connection(uri, deadline=0.5))
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1"):
        Gallery.open(f"valkey://127.0.0.1:{free_port()}/photos")


def test_a_closed_gallery_says_so(served: ClusterGallery) -> None:
    served.close()
    with pytest.raises(ClusterError, match="has been closed"):
        len(served)


def test_a_collection_of_a_later_format_is_refused(
    served: ClusterGallery, uri: str, name: str
) -> None:
    connection = served._index.collection.connection
    connection.write([("HSET", f"m:{name}", "format", "99")])
    with pytest.raises(GalleryError, match="format 99"):
        Collection.open(connection, name)
