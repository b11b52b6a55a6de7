"""What all shards answer together, in place of one gallery's table and index."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.client import LONG_SECONDS, Shards
from lookalike.errors import NoNeighboursError
from lookalike.gallery.filter import parse_filter
from lookalike.gallery.hits import smallest_cosine
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.rows import ORDERS, ImageRow
from lookalike.gallery.search import Found, NearOptions
from lookalike.lsh import LSHSettings
from lookalike.lsh.exact import Neighbors, best_of_all
from lookalike.lsh.join import Forest
from lookalike.progress import Progress

FRESH_SECONDS = 1.0
"""For which a snapshot is taken for the gallery as it is."""
JOINED_AT_ONCE = 1024
"""Images of one shard that another compares with its own in one call."""
JOB_SECONDS = 600.0
"""For what takes a shard minutes: comparing all its images, reading all its files."""


class Facts:
    """Sums of what shards say of themselves."""

    def __init__(self, shards: Shards) -> None:
        answers = shards.ask("counts")

        def total(name: str) -> int:
            return sum(answer[name] for answer in answers)

        self.images, self.skipped, self.removed = map(total, ("images", "skipped", "removed"))
        self.segments, self.disk_bytes = total("segments"), total("disk_bytes")
        settings = LSHSettings.from_dict(answers[0]["settings"])
        self.settings = replace(settings, key_bits=max(answer["key_bits"] for answer in answers))
        # Digests are random, so that each shard is a sample of all images.
        pairs = [answer["pairs"] for answer in answers if answer["pairs"] is not None]
        self.pairs = PairStatistics.from_dict(pairs[0]) if pairs else None
        self.state = (shards.deployment.id, repr(answers))


class ShardedReader:
    """See `lookalike.gallery.protocol.GalleryReader`."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._known: ShardedSnapshot | None = None
        self._until = 0.0
        self._looking = threading.Lock()

    def now(self) -> ShardedSnapshot:
        """The gallery as it was within the last second."""
        with self._looking:
            known = self.unchanged()
            if known is None:
                facts, known = Facts(self._shards), self._known
                if known is None or known.facts.state != facts.state:
                    known = self._known = ShardedSnapshot(self._shards, facts)
                self._until = time.monotonic() + FRESH_SECONDS
            return known

    def unchanged(self) -> ShardedSnapshot | None:
        """What `now` gave last, for a second."""
        return self._known if time.monotonic() < self._until else None


class ShardedSnapshot(GallerySnapshot):
    """Of all shards; also `search.Table` and `StoredVectors`,
    as far as a query and duplicates need them.
    """

    local_index = None
    changed = None

    def __init__(self, shards: Shards, facts: Facts) -> None:
        self.facts = facts
        self.pairs = facts.pairs
        self.code_bits = facts.settings.code_bits
        self._shards = shards
        self._rows = {}

    def __len__(self) -> int:
        return self.facts.images

    # ---- rows ------------------------------------------------------------------------------------

    def by_path(self, path: bytes) -> ImageRow | None:
        return next((row for row in self._shards.ask("by_path", path) if row is not None), None)

    def by_hash(self, digest: bytes) -> list[ImageRow]:
        found = (row for some in self._shards.ask("by_hash", digest) for row in some)
        return sorted(found, key=lambda row: row.id)

    def by_ids(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        return {n: row for some in self._shards.ask("by_ids", list(ids)) for n, row in some.items()}

    def indexed(self) -> Iterator[ImageRow]:
        """With id and path alone."""
        found = (pair for some in self._shards.ask("paths", deadline=LONG_SECONDS) for pair in some)
        return (ImageRow(number, path, 0, 0) for number, path in sorted(found))

    def skipped(self) -> list[ImageRow]:
        found = (row for some in self._shards.ask("skipped") for row in some)
        return sorted(found, key=lambda row: row.path)

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def has(self, number: int) -> bool:
        return self.row(number) is not None

    def read_rows(self, ids: list[int]) -> dict[int, ImageRow]:
        return self.by_ids(ids)

    def page(
        self, pattern: str | None, offset: int, limit: int, order: str = "path"
    ) -> tuple[list[ImageRow], int]:
        answers = self._shards.ask("page", pattern, 0, offset + limit, order)
        rows = sorted((row for some, _ in answers for row in some), key=ORDERS[order])
        chosen = rows[offset : offset + limit]
        self.keep(chosen)
        return chosen, sum(count for _, count in answers)

    # ---- vectors ---------------------------------------------------------------------------------

    def contains(self, ids: Sequence[int]) -> NDArray[np.bool_]:
        there = [here for here, _ in self._shards.ask("vectors_here", list(ids))]
        return np.isin(np.asarray(ids, np.int64), np.concatenate(there))

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """KeyError for an id that no shard has."""
        found = dict[int, NDArray[np.float32]]()
        for here, vectors in self._shards.ask("vectors_here", list(ids)):
            found |= zip(here.tolist(), vectors, strict=True)
        rows = np.array([found[number] for number in ids], np.float32)
        return rows.reshape(len(ids), self.facts.settings.dim)

    def sample(self, count: int) -> NDArray[np.float32]:
        """About as many of each shard, whose images are random ones."""
        each = -(-count // self._shards.deployment.shards)
        return np.concatenate(self._shards.ask("sample", each))

    def near(self, queries: NDArray[np.float32], k: int, exact: bool = False) -> Neighbors:
        """As `LSHIndex.search`, of a batch (q, dim), by one call to each shard."""
        answers = self._shards.ask("near", queries, k, exact=exact, deadline=LONG_SECONDS)
        return best_of_all([Neighbors(*answer) for answer in answers], len(queries), k)

    def nearest(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.near(query[np.newaxis], k).ids[0]
        return found[found >= 0]

    def bits(self, query: NDArray[np.float32], ids: Sequence[int]) -> list[int]:
        found = dict[int, int]()
        for some in self._shards.ask("bits_here", query, list(ids)):
            found |= some
        return [found[number] for number in ids]

    def search(
        self, query: NDArray[np.float32], k: int, **options: Unpack[NearOptions]
    ) -> list[Found]:
        """The ``k`` images most like an embedding (dim,), best first, of all shards."""
        asked: dict[str, Any] = {n: options.get(n) for n in ("without", "filter")}
        asked["exact"] = bool(options.get("exact"))
        threshold, pattern = options.get("threshold"), asked["filter"]
        if options.get("expand"):
            raise NoNeighboursError(
                "a gallery in shards keeps no neighbour graph to expand searches with; leave it at "
                "'auto' or 'off'"
            )
        if pattern is not None:
            parse_filter(pattern)  # one that cannot be understood is refused here
        deadline = LONG_SECONDS if asked["exact"] or pattern is not None else None
        answers = self._shards.ask("matches", query, k, deadline=deadline, **asked)
        found = [match for some in answers for match in some]
        found.sort(key=lambda match: (-match[0], match[2][0]))
        limit = -2.0 if threshold is None else smallest_cosine(threshold)
        best = [
            Found(ImageRow(*values), cosine, bits)
            for cosine, bits, values in found[:k]
            if cosine >= limit
        ]
        self.keep([item.row for item in best])
        return best


def near_groups(
    shards: Shards, limit: float, progress: Callable[[Progress], None] | None
) -> list[NDArray[np.int64]]:
    """Ids of images that pairs with at least that cosine connect, each (m,): every shard finds its
    own groups, and compares the images of the shards before it with its own, some at a time."""
    number = shards.deployment.shards
    within = shards.ask("groups", limit, deadline=JOB_SECONDS)
    pairs = [np.empty((0, 2), np.int64)]
    pairs += [np.stack([ids[:-1], ids[1:]], axis=1) for groups in within for ids in groups]
    total, done = Facts(shards).images, 0
    for shard in range(number - 1):
        last = -1
        while True:
            (items,) = shards.ask("items", last, JOINED_AT_ONCE, of=[shard])
            if not len(items[0]):
                break
            last = int(items[0][-1])
            others = range(shard + 1, number)
            pairs += shards.ask("alike", items, limit, of=others, deadline=JOB_SECONDS)
            done += len(items[0])
            if progress is not None:
                progress(Progress(done, total, 0))
    return connected(np.concatenate(pairs))


def connected(pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The ids (m,) that pairs (n, 2) connect, each group ascending; by their first id."""
    ids, rows = np.unique(pairs, return_inverse=True)
    forest = Forest(len(ids))
    forest.unite(rows.reshape(-1, 2))
    return forest.groups(ids)
