"""What all shards answer together: hits, rows, vectors, counts, and pairs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.shards import Shards
from lookalike.gallery.hits import glob_matcher
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.report import Progress
from lookalike.gallery.searching import Found
from lookalike.gallery.store import ImageRow
from lookalike.lsh import LSHSettings
from lookalike.lsh.join import Forest

__all__ = ["LONG_SECONDS", "Facts", "ShardedTable", "find", "near_groups"]

JOINED_AT_ONCE = 1024
"""Images of one shard that another compares with its own in one call."""
JOIN_SECONDS = 600.0
LONG_SECONDS = 60.0
"""For what looks at every image of a shard, and for batches."""


def find(
    shards: Shards,
    query: NDArray[np.float32],
    k: int,
    without: tuple[Sequence[int], bytes | None],
    filter: str | None,
    exact: bool = False,
) -> list[Found]:
    """The ``k`` images most like an embedding (dim,), best first, of all shards."""
    if filter is not None:
        glob_matcher(filter)  # an empty one is refused here
    deadline = LONG_SECONDS if exact or filter is not None else None
    answers = shards.ask("search", query, k, without, filter, exact, deadline=deadline)
    found = [match for some in answers for match in some]
    found.sort(key=lambda match: (-match[0], match[2][0]))
    return [Found(ImageRow(*values), cosine, bits) for cosine, bits, values in found[:k]]


class Facts:
    """Sums of what shards say of themselves."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        def total(name: str) -> int:
            return sum(answer[name] for answer in answers)

        self.images, self.skipped, self.removed = map(total, ("images", "skipped", "removed"))
        self.segments, self.disk_bytes = total("segments"), total("disk_bytes")
        first = answers[0]
        settings = LSHSettings.from_dict(first["settings"])
        self.settings = replace(settings, key_bits=max(answer["key_bits"] for answer in answers))
        self.code_bits = settings.code_bits
        # Digests are random, so that each shard is a sample of all images.
        pairs = [answer["pairs"] for answer in answers if answer["pairs"] is not None]
        self.pairs = PairStatistics.from_dict(pairs[0]) if pairs else None


class ShardedTable:
    """`searching.Table` and `searching.Index` of all shards, as far as a query needs them."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def _rows(self, **which: Any) -> list[ImageRow]:
        return [ImageRow(*v) for some in self._shards.ask("rows", **which) for v in some]

    def by_path(self, path: bytes) -> ImageRow | None:
        return next(iter(self._rows(paths=[path])), None)

    def by_hash(self, digest: bytes) -> list[ImageRow]:
        return sorted(self._rows(digest=digest), key=lambda row: row.id)

    def by_ids(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        return {row.id: row for row in self._rows(ids=list(ids))}

    def indexed(self) -> Iterator[ImageRow]:
        """With id and path alone."""
        found = (pair for some in self._shards.ask("every") for pair in some)
        return (ImageRow(number, path, 0, 0) for number, path in sorted(found))

    def skipped(self) -> list[ImageRow]:
        return [ImageRow(*v) for some in self._shards.ask("skipped") for v in some]

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def contains(self, ids: Sequence[int]) -> NDArray[np.bool_]:
        there = [here for here, _ in self._shards.ask("vectors", list(ids))]
        return np.isin(np.asarray(ids, np.int64), np.concatenate(there))

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """KeyError for an id that no shard has."""
        answers = self._shards.ask("vectors", list(ids))
        there = np.concatenate([here for here, _ in answers])
        rows = np.concatenate([vectors for _, vectors in answers])
        order = np.argsort(there)
        wanted = np.asarray(ids, np.int64)
        at = np.searchsorted(there, wanted, sorter=order)
        if (len(there) == 0 and len(wanted)) or (at >= len(there)).any():
            raise KeyError(f"an id of {len(wanted)} is in no shard")
        found = order[at] if len(wanted) else np.empty(0, np.int64)
        if not np.array_equal(there[found], wanted):
            raise KeyError(f"an id of {len(wanted)} is in no shard")
        chosen: NDArray[np.float32] = rows[found]
        return chosen


def near_groups(
    shards: Shards, limit: float, progress: Callable[[Progress], None] | None
) -> list[NDArray[np.int64]]:
    """Ids of images that pairs with at least that cosine connect, each (m,): every shard finds its
    own groups, and compares the images of the shards before it with its own, some at a time."""
    number = shards.deployment.shards
    within = shards.ask("groups", limit, deadline=JOIN_SECONDS)
    pairs = [np.empty((0, 2), np.int64)]
    pairs += [np.stack([ids[:-1], ids[1:]], axis=1) for groups in within for ids in groups]
    total = sum(answer["images"] for answer in shards.ask("facts"))
    done = 0
    for shard in range(number - 1):
        last = -1
        while True:
            (items,) = shards.ask("items", last, JOINED_AT_ONCE, of=[shard])
            ids = items[0]
            if not len(ids):
                break
            last = int(ids[-1])
            others = range(shard + 1, number)
            pairs += shards.ask("alike", items, limit, of=others, deadline=JOIN_SECONDS)
            done += len(ids)
            if progress is not None:
                progress(Progress(done, total, 0))
    return _connected(np.concatenate(pairs))


def _connected(pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The ids (m,) that pairs (n, 2) connect, each group ascending; by their first id."""
    ids, rows = np.unique(pairs, return_inverse=True)
    forest = Forest(len(ids))
    forest.unite(rows.reshape(-1, 2))
    labels = forest.labels()
    order = np.argsort(labels, kind="stable")
    parts = np.split(ids[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted((np.sort(part) for part in parts if len(part)), key=lambda part: int(part[0]))
