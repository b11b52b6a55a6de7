"""A shard: the images of some digests, as an ordinary gallery on this machine's disk, free of Ray.

It is built from the parts, opened again from the cache when it was built before, and takes in what
was committed since. Searches see the state after one commit or the next, never one between.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.lease import is_unfinished
from lookalike.cluster.parts import Parts, Share
from lookalike.errors import GalleryError, GalleryLockedError, IndexFormatError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.hits import glob_matcher
from lookalike.gallery.importing import Embedded, write_gallery
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.store import Counts, ImageRow, Store
from lookalike.lsh import LSHIndex, LSHSettings

__all__ = ["Match", "Place", "Shard", "row_values", "values_row"]

HOLDS = "holds.json"
KEPT_ROWS = 20_000
KEPT_FILTERS = 16
RECALL = 0.999
"""Chance that a pair right at the threshold of duplicates is found."""
NEAR = 32
"""Neighbours of an item that are asked of another shard at first, for duplicates."""
row_values = attrgetter(*ImageRow.__dataclass_fields__)
Match = tuple[float, int, tuple[Any, ...]]
"""Cosine, bits of the code that differ, and `row_values` of the image."""


def values_row(values: Sequence[Any]) -> ImageRow:
    """The reverse of `row_values`."""
    return ImageRow(*values)


Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Place:
    """Which shard of how many, which copy of it, of which parts, and where its files go."""

    where: str
    shard: int
    shards: int
    replica: int
    cache: str

    def directory(self, parts: Parts) -> Path:
        """Named after the parts that it is made of and those that fall to the shard."""
        name = hashlib.blake2b(f"{self.where} {parts.job.fingerprint}".encode(), digest_size=8)
        return Path(self.cache) / name.hexdigest() / f"{self.shard}-of-{self.shards}-{self.replica}"


Build = Callable[[Place, Show | None], int]


class _Gate:
    """Many searches at once, or one change alone."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._inside = 0
        self._changing = False

    @contextmanager
    def searching(self) -> Iterator[None]:
        with self._turn:
            while self._changing:
                self._turn.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._turn:
                self._inside -= 1
                if not self._inside:
                    self._turn.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self._turn:
            self._changing = True
            try:
                while self._inside:
                    self._turn.wait()
                yield
            finally:
                self._changing = False
                self._turn.notify_all()


class Shard:
    """Threads may share it; `catch_up` is for one at a time."""

    def __init__(self, place: Place, build: Build | None = None) -> None:
        """Opens nothing but the job; then call `catch_up`.

        Args:
            build: what builds the gallery; None: this process does.
        """
        self.place = place
        self._build_apart = build
        self.parts = Parts.open(place.where)
        self.share = Share(place.shard, place.shards)
        self.directory = place.directory(self.parts)
        self.version = -1
        self._files = GalleryFiles(self.directory)
        self._gate = _Gate()
        self._index = LSHIndex(self.parts.job.model.dim)
        self._store: Store | None = None
        self._reading = threading.Lock()
        self._rows: dict[int, ImageRow] = {}
        self._matching: dict[str, NDArray[np.int64]] = {}
        self._facts: dict[str, Any] | None = None
        self._open_files = ExitStack()

    # ---- what it holds ---------------------------------------------------------------------------

    def catch_up(self, progress: Show | None = None) -> int:
        """Build or open the gallery, and take in all that was committed; returns the version.

        Args:
            progress: called with the parts that were read and all that there are.

        Raises:
            GalleryError: the parts are incomplete, or one cannot be read.
        """
        if self._store is None:
            self._open(progress)
        before = self.version
        for name in self.parts.names():
            if self.parts.version(name) > self.version:
                self._take_in(name)
        if self.version != before:
            self._table(self._measure)
        return self.version

    def _measure(self, store: Store) -> None:
        """Renew the pair statistics when more than a tenth of the images are others."""
        known = store.meta("pairs")
        if known is not None and PairStatistics.from_dict(known).fits(self._index.ids):
            return
        pairs = PairStatistics.of_index(self._index)
        with store.transaction():
            store.set_meta({"pairs": None if pairs is None else pairs.as_dict()})
        self._facts = None

    def _open(self, progress: Show | None) -> None:
        try:
            version = int(json.loads((self.directory / HOLDS).read_bytes())["version"])
            if version > max(map(self.parts.version, self.parts.names()), default=0):
                raise ValueError("it holds parts that are not there any more")
            self._enter(version)
        except GalleryLockedError:  # a replica of that name is still ending
            raise
        except (OSError, ValueError, KeyError, TypeError, GalleryError, IndexFormatError):
            if self._build_apart is None:
                self._enter(self.build(progress))
            else:
                self._enter(self._build_apart(self.place, progress))

    def _enter(self, version: int) -> None:
        """Open table and index, and hold the lock of the directory from now on."""
        stack = ExitStack()
        self._store, self._index = stack.enter_context(self._files.writing())
        self._open_files = stack
        self.version = version

    def close(self) -> None:
        """Let go of the files."""
        self._open_files.close()

    def build(self, progress: Show | None) -> int:
        """Make the gallery of all parts that there are now; returns the version."""
        self.parts.check_complete()
        shutil.rmtree(self.directory, ignore_errors=True)
        names = self.parts.refresh()
        newest = max(map(self.parts.version, names), default=0)
        job = self.parts.job

        def batches() -> Iterator[Embedded]:
            # In another order than the source's, so that hash functions are learned from all of it.
            for done, at in enumerate(np.random.default_rng(0).permutation(len(names)).tolist()):
                yield self.parts.live(names[at], share=self.share)
                if progress is not None:
                    progress(done + 1, len(names))

        meta = {"model": job.model.as_dict(), "root": None}
        write_gallery(
            self._files, meta, LSHSettings(job.model.dim), batches(), self.parts.next_id()
        )
        self._note(newest)
        return newest

    def _take_in(self, name: str) -> None:
        """Index first, table second, as in any gallery; both become visible at once."""
        rows = self.parts.read(name)
        own = self.share.of(rows)
        everything = [*rows.images, *rows.skipped]

        def known(store: Store) -> dict[int, ImageRow]:
            found = {row.id: row for row in store.by_paths(row.path for row in everything)}
            return found | store.by_ids(row.id for row in everything)

        old = self._table(known)
        index = self._index.with_settings(self._index.settings)  # the same items
        kept = {row.id for row in own.images}
        gone = np.array([number for number in old if number not in kept], np.int64)
        index.remove(gone[index.contains(gone)])
        new = np.flatnonzero(~index.contains([row.id for row in own.images]))
        index.add_stored([own.images[at].id for at in new], own.vectors[new])
        index.compact(only_if_worth_it=True)
        index.save(self._files.index_folder)
        with self._gate.changing():

            def change(store: Store) -> None:
                with store.transaction():
                    store.delete(old)
                    store.put([*own.images, *own.skipped])

            self._table(change)
            self._index, self._facts = index, None
            for number in old:
                self._rows.pop(number, None)
            self._matching.clear()
            self.version = self.parts.version(name)
        self._note(self.version)

    def _note(self, version: int) -> None:
        temporary = self.directory / f".{HOLDS}"
        temporary.write_text(json.dumps({"version": version}))
        os.replace(temporary, self.directory / HOLDS)

    # ---- search ----------------------------------------------------------------------------------

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        without: tuple[Sequence[int], bytes | None] = ((), None),
        filter: str | None = None,
        exact: bool = False,
    ) -> list[Match]:
        """The ``k`` images most like an embedding (dim,), best first.

        Args:
            without: ids to leave out, and a digest whose images are left out.
            filter: shell pattern on the path, see `glob_matcher`.
            exact: compare with every image.
        """
        left_out = set(without[0])
        with self._gate.searching():
            if (digest := without[1]) is not None:
                left_out |= {row.id for row in self._table(lambda store: store.by_hash(digest))}
            allowed = None if filter is None else self._fitting(filter)
            wanted = k + len(left_out)
            ids, cosines = self._index.search(query, wanted, allowed=allowed, exact=exact)
            pairs = zip(ids.tolist(), cosines.tolist(), strict=True)
            found = [(i, cosine) for i, cosine in pairs if i >= 0 and i not in left_out][:k]
            numbers = [number for number, _ in found]
            bits = self._index.hamming(query, numbers).tolist() if numbers else []
            rows = self._rows_of(numbers)
        return [
            (cosine, differ, row_values(rows[number]))
            for (number, cosine), differ in zip(found, bits, strict=True)
        ]

    def warm(self) -> None:
        """Load the compiled kernels, for which the first search would wait."""
        queries = np.eye(2, self.parts.job.model.dim, dtype=np.float32)
        for query in queries:
            self.search(query, 1)
        self.nearest(queries, 1)

    def nearest(
        self, queries: NDArray[np.float32], k: int, exact: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and cosines, (q, k), of a batch of queries (q, dim), as `LSHIndex.search`."""
        with self._gate.searching():
            found = self._index.search(queries, k, exact=exact)
        return found.ids, found.cosines

    def hamming(self, query: NDArray[np.float32], ids: Sequence[int]) -> dict[int, int]:
        """Bits in which the codes of those of the ``ids`` that are here differ from a query's."""
        with self._gate.searching():
            here = self._here(ids)
            bits = self._index.hamming(query, here).tolist() if len(here) else []
        return dict(zip(here.tolist(), bits, strict=True))

    def vectors(self, ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Those of the ``ids`` that are here (m,), and their embeddings, float32 (m, dim)."""
        with self._gate.searching():
            here = self._here(ids)
            return here, self._index.vectors(here)

    def _here(self, ids: Sequence[int]) -> NDArray[np.int64]:
        wanted = np.asarray(ids, np.int64)
        return wanted[self._index.contains(wanted)]

    def _fitting(self, pattern: str) -> NDArray[np.int64]:
        """Ids of the images whose path fits, by path."""
        known = self._matching.get(pattern)
        if known is None:
            matches = glob_matcher(pattern)

            def fitting(store: Store) -> list[int]:
                query = "SELECT id, path FROM images WHERE skipped IS NULL ORDER BY path"
                return [i for i, path in store.read(query) if matches(path)]

            known = np.array(self._table(fitting), np.int64)
            while len(self._matching) >= KEPT_FILTERS:
                with suppress(KeyError, RuntimeError, StopIteration):
                    self._matching.pop(next(iter(self._matching)))
            self._matching[pattern] = known
        return known

    # ---- the table -------------------------------------------------------------------------------

    def _table(self, question: Callable[[Store], Any]) -> Any:
        store = self._store
        assert store is not None
        with self._reading, store.guarded():
            return question(store)

    def _rows_of(self, ids: Sequence[int]) -> dict[int, ImageRow]:
        kept = self._rows
        unknown = [number for number in ids if number not in kept]
        if unknown:
            if len(kept) > KEPT_ROWS:
                self._rows = kept = {i: kept[i] for i in ids if i in kept}
            kept.update(self._table(lambda store: store.by_ids(unknown)))
        return {number: kept[number] for number in ids if number in kept}

    def rows(
        self,
        *,
        ids: Sequence[int] = (),
        paths: Iterable[bytes] = (),
        digest: bytes | None = None,
    ) -> list[tuple[Any, ...]]:
        """`row_values` of those rows, also of skipped files, that are here."""
        with self._gate.searching():
            found = list(self._rows_of(ids).values()) if ids else []
            if wanted := list(paths):
                found += self._table(lambda store: store.by_paths(wanted))
            if digest is not None:
                found += self._table(lambda store: store.by_hash(digest))
        return [row_values(row) for row in found]

    def page(self, pattern: str | None, count: int) -> tuple[list[tuple[Any, ...]], int]:
        """The first ``count`` images whose path fits, by path, and how many there are."""
        with self._gate.searching():
            ids = self._fitting("*" if pattern is None else pattern)
            rows = self._rows_of(ids[:count].tolist())
        return [row_values(row) for row in rows.values()], len(ids)

    def skipped(self) -> list[tuple[Any, ...]]:
        """Files that were skipped or taken out, by path."""
        with self._gate.searching():
            return [row_values(row) for row in self._table(lambda store: store.skipped())]

    def every(self) -> list[tuple[int, bytes]]:
        """Id and path of every image."""
        query = "SELECT id, path FROM images WHERE skipped IS NULL"
        with self._gate.searching():
            found: list[tuple[int, bytes]] = self._table(lambda store: list(store.read(query)))
        return found

    def unfinished(self) -> bool:
        """Whether the last writer did not finish, or is still at work."""
        return is_unfinished(self.parts.storage)

    def facts(self) -> dict[str, Any]:
        """Counts, settings and sizes."""
        with self._gate.searching():
            if self._facts is None:
                counts: Counts = self._table(lambda store: store.counts())
                segments = self._index.segments()
                self._facts = {
                    **counts._asdict(),
                    "settings": self._index.settings.as_dict(),
                    "key_bits": max((segment.key_bits for segment in segments), default=0),
                    "segments": len(segments),
                    "pairs": self._table(lambda store: store.meta("pairs")),
                    "disk_bytes": self._files.disk_bytes(),
                }
            return self._facts

    # ---- duplicates ------------------------------------------------------------------------------

    def groups(self, threshold: float) -> list[NDArray[np.int64]]:
        """Ids of images here that pairs with at least that cosine connect, as `LSHIndex` does."""
        with self._gate.searching():
            index = self._index
        return index.groups(threshold, recall=RECALL)

    def items(self, start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most ``count`` images here, of ids above ``start``: ids (m,), embeddings (m, dim)."""
        with self._gate.searching():
            ids = self._index.ids
            at = int(np.searchsorted(ids, start, side="right"))
            some = ids[at : at + count]
            return some, self._index.vectors(some)

    def alike(
        self, items: tuple[NDArray[np.int64], NDArray[np.float32]], threshold: float
    ) -> NDArray[np.int64]:
        """Pairs of images of another shard, as `items` gave them, and those here: ids (m, 2)."""
        theirs, vectors = items
        with self._gate.searching():
            index = self._index
        pairs = [np.empty((0, 2), np.int64)]
        left, k, total = np.arange(len(theirs)), NEAR, len(index)
        while len(left) and total:
            found = index.search(vectors[left], min(k, total), candidates=max(4096, 64 * k))
            near = found.cosines >= threshold
            at, column = np.nonzero(near)
            if k >= total or not near[:, -1].any():
                full = np.zeros(len(left), np.bool_)
            else:
                full = near[:, -1]  # there may be more of them
            keep = ~full[at]
            pairs.append(np.stack([theirs[left[at[keep]]], found.ids[at, column][keep]], axis=1))
            left, k = left[full], 4 * k
        return np.concatenate(pairs)
