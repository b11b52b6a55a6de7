"""One generation of a collection in Valkey, opened: its rows put, taken out and read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.layouts import Layout
from lookalike.cluster.collection.lookups import Lookups
from lookalike.cluster.collection.memory import memory_by_kind
from lookalike.cluster.collection.meta import Meta, load_command, pairs_text
from lookalike.cluster.collection.register import Register
from lookalike.cluster.collection.writing import Writer
from lookalike.encoder import ModelInfo
from lookalike.errors import ClusterError, GalleryDamagedError, GalleryError, ModelMismatchError
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.store import ImageRow
from lookalike.lsh.hashing import Hasher

if TYPE_CHECKING:
    from lookalike.cluster.job.schema import Rows
    from lookalike.cluster.wire.connection import Connection

__all__ = ["Collection", "ReplacedError", "Snapshot"]

ATTEMPTS = 5


class ReplacedError(ClusterError):
    """The collection was loaded anew, or dropped, since it was opened: call `reopened`."""


class Snapshot(NamedTuple):
    """What writers change: the number of images, the ids whose removal has begun, ascending (m,),
    and a token that no two changes share.
    """

    images: int
    removing: NDArray[np.int64]
    version: bytes

    def same_as(self, other: Snapshot) -> bool:
        """Whether no writer has changed anything from one to the other."""
        return self.version == other.version and np.array_equal(self.removing, other.removing)


class Collection(Lookups):
    """A generation of a collection: it stays the one that was opened, also after another was
    loaded; then `ClusterIndex.search` and `refresh` raise ReplacedError, `is_current` is False, and
    `reopened` gives the new one. Any number of threads may read; one process may write, and holds
    `lock.WriterLock` while it does.

    A search of several questions (ids, then their records) asks `is_current` when it has all
    answers, and is repeated if not, since the old generation's keys are deleted after a switch.

    Attributes:
        connection, name, generation: where it is.
        model: what made the embeddings.
        settings, key_bits, hasher: of the hash functions; ``settings.vectors`` is what is kept.
        layout: "inline" or "packed".
        root: the folder that paths are relative to, "" if none.
        parts: the DIR that it was loaded from.
        pairs: statistics of random pairs, None for fewer than two images.
        created: seconds since the epoch.
        codes: where the codes lie.
        snapshot: as of the last `refresh`, `put` or `delete`.
    """

    def __init__(self, connection: Connection, name: str, generation: int, meta: Meta) -> None:
        """Use `open`."""
        super().__init__(connection, meta.keys(name, generation), meta.settings)
        self.name = name
        self.generation = generation
        self.model: ModelInfo = meta.model
        self.key_bits = meta.key_bits
        self.hasher: Hasher = meta.hasher
        self.layout = meta.layout
        self.root = meta.root
        self.parts = meta.parts
        self.pairs: PairStatistics | None = meta.pairs
        self.created = meta.created
        self.codes: Layout = meta.layout_in(self._keys)
        self._register = Register(connection, name)
        self._writer = Writer(connection, self._register, self._keys, meta)
        self.snapshot = Snapshot(0, np.empty(0, np.int64), b"")

    @classmethod
    def open(cls, connection: Connection, name: str) -> Collection:
        """The current generation of ``name``.

        Raises:
            GalleryError: no such collection, it is still being loaded, or of another format.
        """
        for _ in range(ATTEMPTS):
            entry = Register(connection, name).read()
            if entry is None:
                raise GalleryError(
                    f"there is no collection '{name}' in this cluster; "
                    f"make it with: {load_command(name)}"
                )
            generation = entry.to_open(name)
            (reply,) = connection.run([("HGETALL", Keys(name, generation, 1).meta)])
            if not reply:  # replaced this very moment
                continue
            meta = Meta.from_fields(dict(zip(reply[::2], reply[1::2], strict=True)), name)
            collection = cls(connection, name, generation, meta)
            with suppress(ReplacedError):
                collection.refresh()
                return collection
        raise GalleryDamagedError(
            f"collection '{name}' was loaded anew {ATTEMPTS} times while it was opened, or its "
            f"description is lost; if opening fails again: {load_command(name)}"
        )

    def reopened(self) -> Collection:
        """The generation that is current now. ModelMismatchError: another model made it."""
        fresh = Collection.open(self.connection, self.name)
        if fresh.model.sha256 != self.model.sha256:
            raise ModelMismatchError(
                f"collection '{self.name}' was loaded anew with embeddings of {fresh.model.name} "
                f"{fresh.model.version}, it was opened with those of {self.model.name} "
                f"{self.model.version}; open it again, with that model"
            )
        return fresh

    def refresh(self) -> None:
        """Take a new `snapshot`.

        ReplacedError: the generation is not the current one any more.
        """
        current, (removing,) = self._register.current(("HKEYS", self._keys.removing))
        if current.which != (self.generation, self.created):
            raise ReplacedError(
                f"collection '{self.name}' was loaded anew or dropped since it was opened; "
                f"open it again"
            )
        ids = np.sort(np.array([int(number) for number in removing], np.int64))
        self.snapshot = Snapshot(current.images, ids, current.version)

    def is_current(self) -> bool:
        """Whether no other generation took its place."""
        return self._register.current()[0].which == (self.generation, self.created)

    def __len__(self) -> int:
        """Images, as of the last `refresh`, `put` or `delete`."""
        return self.snapshot.images

    def memory(self) -> dict[str, int]:
        """Bytes of one copy by kind of key, estimated from a sample of keys. Reads all names."""
        return memory_by_kind(self.connection, self.name, self.generation)

    # ---- writing (with the writer's lock held) ---------------------------------------------------

    def put(self, rows: Rows) -> None:
        """Add rows of a part, skipped files included; the same rows again change nothing.

        An image whose path was there with another id does not take the old one out: `delete` it.
        ReplacedError: as `refresh`.
        """
        self.refresh()
        self._writer.put(rows)
        self.refresh()

    def delete(self, ids: Iterable[int]) -> None:
        """Take images out. Unknown ids are passed over. Interrupted removals are finished, too.

        ReplacedError: as `refresh`.
        """
        self.refresh()
        self._writer.delete(ids)
        self.refresh()

    def put_skipped(self, rows: Iterable[ImageRow]) -> None:
        """Note files that are skipped or were taken out, in place of what was noted of them."""
        self._writer.put_skipped(rows)

    def drop_skipped(self, paths: Iterable[bytes]) -> None:
        """Forget what was noted of these paths, if anything."""
        self._writer.drop_skipped(paths)

    def mark_loaded(self, names: Iterable[str]) -> None:
        """Note that the parts (or removals) of these names are in, whole."""
        for name in names:
            self.connection.write([("HSET", self._keys.loaded, name, b"")])

    def set_pairs(self, pairs: PairStatistics | None) -> None:
        """Replace the statistics of random pairs."""
        self.connection.write([("HSET", self._keys.meta, "pairs", pairs_text(pairs))])
        self.pairs = pairs
