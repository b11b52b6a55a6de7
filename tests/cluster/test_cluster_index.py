"""A search in a cluster finds what a local index finds, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
from made import DIM, Cut, CutError, MadeParts, local_index, rows_of, take, unit_vectors
from numpy.typing import NDArray
from servers import Servers

from lookalike.cluster.collection.collection import Collection, ReplacedError
from lookalike.cluster.collection.index import ClusterIndex
from lookalike.cluster.collection.loading import drop, load
from lookalike.cluster.job.schema import Rows
from lookalike.cluster.uri import ClusterURI
from lookalike.cluster.wire.connection import Connection
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.search import EXACT_ROWS
from lookalike.lsh.settings import SearchSettings

IMAGES = 2000
PAPER = LSHSettings.paper(DIM, tables=8, key_bits=7)
SETTINGS = {
    "paper": PAPER,
    "few candidates": replace(PAPER, search=SearchSettings(candidates=150, rerank=40)),
    "cross-polytope": LSHSettings(
        DIM,
        tables=2,
        key_bits=6,
        keys="cross-polytope",
        codes="orthogonal",
        center=False,
        search=SearchSettings(candidates=300),
    ),
    "orthogonal, asymmetric": LSHSettings(
        DIM,
        tables=3,
        key_bits=6,
        code_bits=128,
        keys="orthogonal",
        codes="orthogonal",
        search=SearchSettings(candidates=300),
    ),
    "learned": LSHSettings(DIM, key_bits=5, search=SearchSettings(candidates=400)),
}
Layout = Literal["inline", "packed"]
Vectors = Literal["float16", "none"]


@pytest.fixture
def connection(servers: Servers, name: str) -> Iterator[Connection]:
    opened = Connection.open(ClusterURI.parse(servers.uri(name)))
    yield opened
    opened.close()


@dataclass
class Both:
    """The same images in a cluster and in the oracle, a local index."""

    collection: Collection
    index: ClusterIndex
    local: LSHIndex
    rows: Rows

    @classmethod
    def make(
        cls,
        connection: Connection,
        name: str,
        settings: LSHSettings,
        layout: Layout = "inline",
        vectors: Vectors = "float16",
        images: int = IMAGES,
    ) -> Both:
        embeddings = unit_vectors(images)
        local = local_index(replace(settings, vectors=vectors), embeddings)
        assert local.hasher is not None and settings.key_bits is not None
        hasher = replace(local.hasher, settings=replace(settings, vectors="float16"))
        rows = rows_of(hasher, settings.key_bits, embeddings)
        parts = MadeParts.of(hasher.settings, rows, hasher, settings.key_bits)
        load(parts, connection, name, layout=layout, vectors=vectors)
        collection = Collection.open(connection, name)
        return cls(collection, ClusterIndex(collection), local, rows)

    def compare(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> None:
        for query in queries:
            ours, theirs = (
                index.search(query, k, allowed=allowed) for index in (self.index, self.local)
            )
            assert ours.ids.tolist() == theirs.ids.tolist()
            if allowed is not None and len(allowed) <= EXACT_ROWS:
                # A local index compares so few by a product of matrices, which adds in its own way.
                np.testing.assert_allclose(ours.cosines, theirs.cosines, atol=1e-6)
            else:
                assert ours.cosines.tobytes() == theirs.cosines.tobytes()


QUERIES = unit_vectors(6, seed=5)


@pytest.mark.parametrize("vectors", ["float16", "none"])
@pytest.mark.parametrize("layout", ["inline", "packed"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_ids_and_cosines_are_those_of_a_local_index(
    connection: Connection, name: str, kind: str, layout: Layout, vectors: Vectors
) -> None:
    both = Both.make(connection, name, SETTINGS[kind], layout, vectors)
    rng = np.random.default_rng(1)
    some = rng.choice(IMAGES, 1500, replace=False) + 1
    few = np.append(rng.choice(IMAGES, 60, replace=False) + 1, IMAGES + 5)

    def compare_all() -> None:
        for k, query in zip((1, 10, 200), QUERIES, strict=False):
            both.compare(query[np.newaxis], k)
        both.compare(QUERIES[3:4], 10, some)
        both.compare(QUERIES[4:5], 10, few)

    compare_all()
    assert both.index.hamming(QUERIES[0], few[:60]).tolist() == (
        both.local.hamming(QUERIES[0], few[:60]).tolist()
    )
    gone = rng.choice(IMAGES, 300, replace=False) + 1
    both.collection.delete(gone.tolist())
    both.local.remove(gone)
    both.local.compact()
    assert len(both.index) == len(both.local) == IMAGES - 300
    assert both.index.ids.tolist() == both.local.ids.tolist()
    compare_all()


def test_a_batch_of_queries_finds_what_single_queries_find(
    connection: Connection, name: str
) -> None:
    both = Both.make(connection, name, SETTINGS["few candidates"], images=700)
    found = both.index.search(QUERIES, 5)
    theirs = both.local.search(QUERIES, 5)
    assert found.ids.tolist() == theirs.ids.tolist()
    assert found.cosines.tobytes() == theirs.cosines.tobytes()


def test_an_exact_search_compares_with_every_image(connection: Connection, name: str) -> None:
    both = Both.make(connection, name, SETTINGS["few candidates"], "packed", images=900)
    for allowed in (None, np.arange(1, 400, 3)):
        found = both.index.search(QUERIES, 20, allowed=allowed, exact=True)
        theirs = both.local.search(QUERIES, 20, allowed=allowed, exact=True)
        assert found.ids.tolist() == theirs.ids.tolist()
        # A product of matrices may add in another order.
        np.testing.assert_allclose(found.cosines, theirs.cosines, atol=1e-6)


def test_an_exact_search_without_vectors_is_refused(connection: Connection, name: str) -> None:
    both = Both.make(connection, name, PAPER, vectors="none", images=50)
    with pytest.raises(ValueError, match="keeps no vectors"):
        both.index.search(QUERIES[0], 3, exact=True)


def test_what_is_asked_wrongly_is_refused(connection: Connection, name: str) -> None:
    index = Both.make(connection, name, PAPER, images=50).index
    with pytest.raises(ValueError, match="k is 0"):
        index.search(QUERIES[0], 0)
    with pytest.raises(ValueError, match="zero"):
        index.search(np.zeros(DIM, np.float32), 3)
    with pytest.raises(ValueError, match=r"this index takes \(n, 48\)"):
        index.search(np.ones(5, np.float32), 3)
    with pytest.raises(KeyError, match="99"):
        index.vectors([1, 99])


def test_fewer_images_than_asked_for_leave_places_empty(connection: Connection, name: str) -> None:
    both = Both.make(connection, name, PAPER, images=7)
    both.compare(QUERIES, 10)
    both.compare(QUERIES, 10, np.empty(0, np.int64))
    both.collection.delete(range(1, 8))
    found = both.index.search(QUERIES[0], 3)
    assert found.ids.tolist() == [-1, -1, -1]
    assert found.cosines.tolist() == [-np.inf] * 3


@pytest.mark.parametrize("layout, vectors", [("inline", "none"), ("packed", "float16")])
def test_an_image_whose_removal_was_interrupted_is_never_found(
    connection: Connection, name: str, layout: Layout, vectors: Vectors
) -> None:
    both = Both.make(connection, name, PAPER, layout, vectors, images=300)
    vector = both.rows.vectors[16].astype(np.float32)
    second = both.index.search(vector, 2).ids[1]
    seen = []
    for left in range(60):
        cut = Collection.open(Cut(connection, 10**6), name)  # type: ignore[arg-type]
        cut.connection.left = left  # type: ignore[attr-defined]
        try:
            cut.delete([17])
        except CutError:
            first = both.index.search(vector, 1).ids[0]
            assert first in (17, second)
            seen.append(first == 17)
            assert (17 in both.index.search(vector, 300).ids) == seen[-1]
            both.collection.put(take(both.rows, [16]))  # finishes the removal, then adds
            assert both.index.search(vector, 1).ids.tolist() == [17]
            assert both.index.search(vector, 300).ids.tolist().count(17) == 1
        else:
            break
    # Found up to some moment, and never again after it.
    assert seen == sorted(seen, reverse=True) and set(seen) == {True, False}


def test_what_another_client_added_or_removed_is_seen_by_the_next_search(
    connection: Connection, name: str
) -> None:
    # One table: whoever counts on fewer images than there are does not visit all buckets.
    settings = replace(SETTINGS["learned"], key_bits=7, search=SearchSettings())
    both = Both.make(connection, name, settings, images=300)
    other = Collection.open(connection, name)
    more = rows_of(both.collection.hasher, 7, unit_vectors(20, seed=3), first=301)
    other.put(more)
    both.local.add(more.ids, unit_vectors(20, seed=3))
    both.local.compact()
    both.compare(unit_vectors(20, seed=3), 320)
    other.delete([301])
    both.local.remove([301])
    both.local.compact()
    both.compare(unit_vectors(20, seed=3), 320)


def test_the_code_of_an_image_that_is_gone_differs_in_minus_one_bits(
    connection: Connection, name: str
) -> None:
    both = Both.make(connection, name, PAPER, images=50)
    distance = both.local.hamming(QUERIES[0], [3])[0]
    assert both.index.hamming(QUERIES[0], [99, 3]).tolist() == [-1, distance]
    assert both.index.hamming(QUERIES[0], []).tolist() == []


def test_a_search_notices_that_the_collection_was_loaded_anew(
    connection: Connection, name: str
) -> None:
    both = Both.make(connection, name, PAPER, images=100)
    again = Both.make(connection, name, SETTINGS["few candidates"], "packed", images=120)
    with pytest.raises(ReplacedError, match="open it again"):
        both.index.search(QUERIES[0], 3)
    index = ClusterIndex(both.collection.reopened())
    assert index.search(QUERIES[0], 3).ids.tolist() == (
        again.local.search(QUERIES[0], 3).ids.tolist()
    )


def test_a_search_notices_that_it_was_dropped_and_made_again(
    connection: Connection, name: str
) -> None:
    both = Both.make(connection, name, PAPER, images=100)
    drop(connection, name)
    with pytest.raises(ReplacedError):
        both.index.search(QUERIES[0], 3)
    again = Both.make(connection, name, PAPER, images=110)
    assert again.collection.generation == both.collection.generation
    with pytest.raises(ReplacedError):
        both.index.search(QUERIES[0], 3)
    assert not both.collection.is_current()
