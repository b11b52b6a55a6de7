"""A shard: the images of some digests, as an ordinary gallery on this machine's disk, free of Ray.

It is built from the parts, opened again from the cache when it was built before, and takes in what
was committed since. An answer is of the state after one commit or the next, never of one between.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.atomic import atomic_writer, cache_directory
from lookalike.cluster.lease import is_unfinished
from lookalike.cluster.parts import Parts, Share
from lookalike.errors import GalleryError, GalleryLockedError, IndexFormatError
from lookalike.gallery.duplicates import RECALL
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.ingest import Embedded, write_gallery
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import LOCK
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.reader import Snapshot
from lookalike.gallery.repair import verify
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.exact import Neighbors
from lookalike.lsh.segment import AS_DEFAULT

HOLDS = "holds.json"
ENDING_SECONDS = 30.0
"""In which the process that had a shard's files open before has ended."""
VISITED, RERANKED = 2.2, 1.2
"""What a search looks at in all shards together, in terms of one index of all images, but for each
shard not more than an index of its size would. Measured with 4 and 20 shards of 10^6 images: recall
is not below that of the one index; it needs the visits, as a shard's buckets are coarser."""
NEAR = 32
"""Neighbours of an item that are asked of another shard at first, for duplicates."""
QUESTIONS = (
    *("matches", "near", "bits_here", "vectors_here", "page", "counts", "is_unfinished", "verify"),
    *("groups", "items", "alike", "sample"),
)
"""Methods of a `_State` that may be asked."""
TABLE = ("by_path", "by_hash", "by_ids", "skipped", "paths")
"""Those of a `Store`."""
_row_values = attrgetter(*ImageRow.__dataclass_fields__)
Match = tuple[float, int, tuple[Any, ...]]
"""Cosine, bits of the code that differ, and the values of an `ImageRow`."""


@dataclass(frozen=True)
class Place:
    """Which shard of how many, which copy of it, of which parts, and where its files go."""

    where: str
    shard: int
    shards: int
    replica: int
    cache: str

    @property
    def directory(self) -> Path:
        """On this machine."""
        return _home(self.cache, self.where) / f"{self.shard}of{self.shards}-{self.replica}"


def default_cache() -> str:
    """Where the nodes keep their shards: LOOKALIKE_CACHE, or the user's cache folder."""
    return os.environ.get("LOOKALIKE_CACHE") or os.fspath(cache_directory())


def _home(cache: str, where: str) -> Path:
    """Of all shards that are made of the parts in ``where``."""
    name = hashlib.blake2b(where.encode(), digest_size=8).hexdigest()
    return Path(cache or default_cache()) / name


def delete_cached(cache: str, where: str, shards: int, kept: int) -> None:
    """Delete this machine's files of the replicas from number ``kept`` on, but for those in use."""
    home = _home(cache, where)
    for directory in home.glob(f"*of{shards}-*"):
        if int(directory.name.rpartition("-")[2]) >= kept:
            # OSError: a node on the same machine is deleting it.
            with suppress(GalleryError, OSError), writer_lock(directory / LOCK, ENDING_SECONDS):
                shutil.rmtree(directory)
    with suppress(OSError):  # others are in it
        home.rmdir()


Show = Callable[[int, int], None]
"""Called with how many parts are read, and of how many."""


class _State(Snapshot):
    """What is searched between two commits, and what else is asked of it."""

    def __init__(self, shard: Shard, index: LSHIndex, pairs: PairStatistics | None) -> None:
        super().__init__(shard.files, index, pairs, (shard.version,), True)
        self._parts, self._shards = shard.parts, shard.place.shards

    def near(self, queries: NDArray[np.float32], k: int, **options: Any) -> Neighbors:
        candidates, rerank = effort(len(self.index), self._shards, k, self.index.settings.dim)
        known, segments = self.index.settings.search, self.index.segments()
        wider, deeper = (max(segments, key=len).factors or AS_DEFAULT).of(k) if segments else (1, 1)
        return self.index.search(
            queries,
            k,
            candidates=known.candidates or math.ceil(wider * candidates),
            rerank=known.rerank or math.ceil(deeper * rerank),
            **options,
        )

    def matches(self, query: NDArray[np.float32], k: int, **options: Any) -> list[Match]:
        """As `search`."""
        found = self.search(query, k, **options)
        return [(item.cosine, item.bits, _row_values(item.row)) for item in found]

    def _here(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Those of the ``ids`` that are in the shard."""
        wanted = np.asarray(ids, np.int64)
        return wanted[self.index.contains(wanted)]

    def bits_here(self, query: NDArray[np.float32], ids: Sequence[int]) -> dict[int, int]:
        """As `bits`, of those of the ``ids`` that are here."""
        here = self._here(ids).tolist()
        return dict(zip(here, self.bits(query, here), strict=True))

    def vectors_here(self, ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Those of the ``ids`` that are here (m,), and their embeddings, float32 (m, dim)."""
        here = self._here(ids)
        return here, self.index.vectors(here)

    def counts(self) -> dict[str, Any]:
        """Of files, settings and sizes."""
        return self._counts

    @cached_property
    def _counts(self) -> dict[str, Any]:
        with self._files.reading() as store:
            counts = store.counts()._asdict()
        segments = self.index.segments()
        return {
            **counts,
            "settings": self.index.settings.as_dict(),
            "key_bits": max((segment.key_bits for segment in segments), default=0),
            "segments": len(segments),
            "pairs": None if self.pairs is None else self.pairs.as_dict(),
            "disk_bytes": self._files.disk_bytes(),
        }

    def is_unfinished(self) -> bool:
        """Whether the last writer did not finish, or is still at work."""
        return is_unfinished(self._parts.storage)

    def verify(self) -> list[str]:
        """What is wrong with the shard's files, in sentences."""
        return verify(self._files)

    # ---- duplicates ------------------------------------------------------------------------------

    def groups(self, threshold: float) -> list[NDArray[np.int64]]:
        """Ids of images here that pairs with at least that cosine connect, as `LSHIndex` does."""
        return self.index.groups(threshold, recall=RECALL)

    def items(self, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most ``count`` images here, of ids above ``start``: ids (m,), embeddings (m, dim)."""
        at = int(np.searchsorted(self.index.ids, start, side="right"))
        some = self.index.ids[at : at + count]
        return some, self.index.vectors(some)

    def alike(
        self, items: tuple[NDArray[np.int64], NDArray[np.float32]], threshold: float
    ) -> NDArray[np.int64]:
        """Pairs of images of another shard, as `items` gave them, and those here: ids (m, 2)."""
        theirs, vectors = items
        pairs = [np.empty((0, 2), np.int64)]
        left, k, total = np.arange(len(theirs)), NEAR, len(self.index)
        while len(left) and total:
            found = self.index.search(vectors[left], min(k, total), candidates=max(4096, 64 * k))
            near = found.cosines >= threshold
            at, column = np.nonzero(near)
            full = near[:, -1] & (k < total)  # there may be more of them
            keep = ~full[at]
            pairs.append(np.stack([theirs[left[at[keep]]], found.ids[at, column][keep]], axis=1))
            left, k = left[full], 4 * k
        return np.concatenate(pairs)


def effort(own: int, shards: int, k: int, dim: int) -> tuple[int, int]:
    """Items that a search for ``k`` images visits in one of so many shards, which has ``own``, and
    those of them that it re-ranks."""
    from lookalike.lsh.search import default_candidates, default_rerank

    total = own * shards
    visited = math.ceil(VISITED * default_candidates(total, k) / shards)
    reranked = math.ceil(RERANKED * default_rerank(total, k, dim) / shards)
    return min(default_candidates(own, k), visited), min(default_rerank(own, k, dim), reranked)


class Shard:
    """Threads may share it; `catch_up` is for one at a time."""

    def __init__(self, place: Place, build: Callable[[Place, Show], None] | None = None) -> None:
        """Opens nothing but the job; then call `catch_up`.

        Args:
            build: builds the shard, in another process; None: it is built here.
        """
        self.place = place
        self._build = build or (lambda place, progress: self.build(progress))
        self.parts = Parts.open(place.where)
        self.share = Share(place.shard, place.shards)
        self.directory = place.directory
        self.version = -1
        self.files = GalleryFiles(self.directory)
        self._store: Store | None = None
        self._state: _State | None = None
        self._is_steady = threading.Event()  # else a commit is becoming visible
        self._open_files = ExitStack()

    # ---- what it holds ---------------------------------------------------------------------------

    def catch_up(self, progress: Show = lambda done, total: None) -> int:
        """Build or open the gallery, and take in all that was committed; returns the version.

        Raises:
            GalleryError: the parts are incomplete, or one cannot be read.
        """
        if self._store is None:
            try:
                self._open()
            except GalleryLockedError:  # a replica of that name is still ending
                raise
            except (OSError, ValueError, KeyError, TypeError, GalleryError, IndexFormatError):
                self._build(self.place, progress)
                self._open()
        for name in self.parts.names():
            if self.parts.version(name) > self.version:
                self._take_in(name)
        return self.version

    def _open(self) -> None:
        """Open table and index, and hold the lock of the directory from now on."""
        holds = json.loads((self.directory / HOLDS).read_bytes())
        version, newest = int(holds["version"]), max(map(self.parts.version, self.parts.names()))
        if version > newest or holds["job"] != self.parts.job.fingerprint:
            raise ValueError("it holds parts that are not there any more")
        stack = ExitStack()
        store, index = stack.enter_context(self.files.writing(ENDING_SECONDS))
        self._store, self._open_files = store, stack
        self._show(index, version)

    def _show(self, index: LSHIndex, version: int) -> None:
        """What is in the table now, and this index, is what is searched."""
        assert self._store is not None
        self.version = version
        self._state = _State(self, index, self._store.pairs())
        self._is_steady.set()

    def close(self) -> None:
        """Let go of the files."""
        self._open_files.close()

    def build(self, progress: Show) -> None:
        """Make the gallery of all parts that there are now."""
        self.parts.check_complete()
        shutil.rmtree(self.directory, ignore_errors=True)
        names, job = self.parts.refresh(), self.parts.job
        newest = max(map(self.parts.version, names), default=0)

        def batches() -> Iterator[Embedded]:
            # In another order than the source's, so that hash functions are learned from all of it.
            for done, at in enumerate(np.random.default_rng(0).permutation(len(names)).tolist()):
                yield self.parts.live(names[at], share=self.share)
                progress(done + 1, len(names))

        settings, meta = LSHSettings(job.model.dim), {"model": job.model.as_dict(), "root": None}
        first = self.parts.next_id()
        write_gallery(self.files, meta, settings, batches(), first, ENDING_SECONDS)
        self._note(newest)

    def _take_in(self, name: str) -> None:
        """Index first, table second, as in any gallery; both become visible at once."""
        state, store = self._state, self._store
        assert state is not None and store is not None
        rows, version = self.parts.read(name), self.parts.version(name)
        everything, own = [*rows.images, *rows.skipped], self.share.of(rows)
        old = {row.id for row in store.by_paths(row.path for row in everything)}
        old |= store.by_ids(row.id for row in everything).keys()
        index = state.index.with_settings(state.index.settings)  # the same items
        gone = np.array(sorted(old - {row.id for row in own.images}), np.int64)
        index.remove(gone[index.contains(gone)])
        new = np.flatnonzero(~index.contains([row.id for row in own.images]))
        index.add_stored([own.images[at].id for at in new], own.vectors[new])
        index.compact(only_if_worth_it=True)
        index.save(self.files.index_folder)
        meta = {}
        if state.pairs is None or not state.pairs.fits(index.ids):
            pairs = PairStatistics.of_index(index)
            meta = {"pairs": None if pairs is None else pairs.as_dict()}
        self._is_steady.clear()
        try:
            with store.transaction():
                store.delete(old)
                store.put([*own.images, *own.skipped])
                store.set_meta(meta)
            self._show(index, version)
        finally:
            self._is_steady.set()
        self._note(version)

    def _note(self, version: int) -> None:
        holds = {"version": version, "job": self.parts.job.fingerprint}
        with atomic_writer(self.directory / HOLDS) as file:
            file.write(json.dumps(holds).encode())

    # ---- queries ---------------------------------------------------------------------------------

    def ask(self, question: str, *arguments: Any, **options: Any) -> tuple[int, Any]:
        """The version of a state and its answer, of one of QUESTIONS or TABLE.

        Raises what they raise; ValueError for another question.
        """
        if question not in (*QUESTIONS, *TABLE):
            raise ValueError(f"a shard has no answer to {question!r}")
        while True:
            self._is_steady.wait()
            state = self._state
            assert state is not None
            try:
                answer = self._answer(state, question, arguments, options)
            except Exception:
                if state is self._state and self._is_steady.is_set():
                    raise
                continue
            if state is self._state and self._is_steady.is_set():
                return state.state[0], answer

    def _answer(self, state: _State, question: str, arguments: Any, options: Any) -> Any:
        if question in TABLE:
            with self.files.reading() as store:
                found = getattr(store, question)(*arguments)
                return list(found) if question == "paths" else found
        return getattr(state, question)(*arguments, **options)

    def warm(self) -> None:
        """Load the compiled kernels, for which the first search would wait."""
        queries = np.eye(2, self.parts.job.model.dim, dtype=np.float32)
        for query in queries:
            self.ask("matches", query, 1)
        self.ask("near", queries, 1)
