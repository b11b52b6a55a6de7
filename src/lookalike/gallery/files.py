"""A gallery's files as one thing: the table, the index, and the lock of whoever writes them."""

from __future__ import annotations

import errno
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.encoder import ModelInfo
from lookalike.errors import (
    GalleryDamagedError,
    GalleryError,
    IndexFormatError,
    StorageFullError,
)
from lookalike.gallery.identity import identity_of, read_identity, write_identity
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import (
    FULL,
    INCOMING,
    INDEX,
    LOCK,
    NO_SPACE,
    OUTGOING,
    TABLE,
    has_gallery,
    repair_command,
)
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.manifest import MANIFEST

__all__ = ["GalleryFiles", "made_with", "recover"]

ATTEMPTS = 5
"""How often reading begins anew because the gallery was replaced meanwhile."""
CHECKED_ON_OPEN = 8 << 20
"""Bytes of a table that is checked whole when a gallery is opened, in under a tenth of a second."""


class GalleryFiles:
    """The directory of one gallery."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.table = directory / TABLE
        self.index_folder = directory / INDEX
        self._index: tuple[bytes, LSHIndex] | None = None

    def exist(self) -> bool:
        """Whether there is a gallery; ends a rebuild that was killed while it took its place."""
        outgoing, incoming = self.beside(OUTGOING), self.beside(INCOMING)
        if not self.directory.exists() and outgoing.exists() and incoming.exists():
            with suppress(OSError):  # somebody else may be doing the same
                incoming.rename(self.directory)
        return has_gallery(self.directory)

    def beside(self, suffix: str) -> Path:
        return self.directory.with_name(self.directory.name + suffix)

    def create(self, meta: dict[str, Any], settings: LSHSettings, first_id: int = 1) -> None:
        """Write an empty gallery, unless somebody else does meanwhile."""
        with self.explained():
            self.directory.mkdir(parents=True, exist_ok=True)
            with writer_lock(self.directory / LOCK):
                if not has_gallery(self.directory):
                    LSHIndex(settings=settings).save(self.index_folder)
                    Store.create(self.table, meta, first_id)
                    write_identity(self.directory, {**meta, "removed": []})

    @contextmanager
    def reading(self) -> Iterator[Store]:
        store = Store.open(self.table)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def reading_all(self) -> Iterator[tuple[Store, LSHIndex]]:
        """Table and index of the same gallery, also while a rebuild takes the old one's place."""
        store, index = self._open_both()
        try:
            yield store, index
        finally:
            store.close()

    def _open_both(self) -> tuple[Store, LSHIndex]:
        for last in (*[False] * ATTEMPTS, True):
            before = self._table_inode()
            try:
                store = Store.open(self.table)
                try:
                    index = self.current_index()
                except BaseException:
                    store.close()
                    raise
            except GalleryDamagedError:
                if last or (before is not None and self._table_inode() == before):
                    raise
                self.exist()
                continue
            except FileNotFoundError:  # a writer deleted what it had replaced, between two looks
                if last:
                    raise
                continue
            if last or self._table_inode() == before:
                return store, index
            store.close()
        raise AssertionError("unreachable")

    def _table_inode(self) -> tuple[int, int] | None:
        try:
            status = self.table.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    @contextmanager
    def writing(self, wait: float = 0.0) -> Iterator[tuple[Store, LSHIndex]]:
        """Hold the writer's lock, with table and index open and in agreement."""
        with self.explained(), ExitStack() as stack:
            stack.enter_context(writer_lock(self.directory / LOCK, wait))
            store = Store.open(self.table, write=True)
            stack.callback(store.close)
            if found := store.integrity(rows=False):
                raise GalleryDamagedError(found[0])
            index = self.open_index()
            recover(store, index)
            shutil.rmtree(self.beside(OUTGOING), ignore_errors=True)
            if read_identity(self.directory) is None:  # never lacking once there are images
                write_identity(self.directory, identity_of(store))
            yield store, index
            identity = identity_of(store)
            if read_identity(self.directory) != identity:
                write_identity(self.directory, identity)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the disk refuses into errors with a remedy."""
        try:
            yield
        except OSError as error:
            if error.errno in NO_SPACE:
                raise StorageFullError(FULL.format(self.directory)) from error
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise GalleryError(
                    f"cannot write in {self.directory} ({error.strerror}); put the gallery "
                    f"elsewhere with --gallery DIR"
                ) from error
            raise

    def check_table(self) -> None:
        """Raises GalleryDamagedError; large tables are checked by those who write and by verify."""
        with self.reading() as store:
            whole = self.table.stat().st_size <= CHECKED_ON_OPEN
            if whole and (found := store.integrity(rows=False)):
                raise GalleryDamagedError(found[0])

    def open_index(self) -> LSHIndex:
        try:
            return LSHIndex.open(self.index_folder)
        except IndexFormatError as error:
            raise GalleryDamagedError(
                f"the index in {self.index_folder} cannot be used: {error}; run: "
                f"{repair_command(self.directory)}"
            ) from error

    def current_index(self) -> LSHIndex:
        """The index as last committed, opened again only when it has changed."""
        known, state = self._index, self._index_state()
        if known is None or known[0] != state:
            known = self._index = (state, self.open_index())
        return known[1]

    def index_is(self, index: LSHIndex) -> bool:
        """Whether ``index``, of `current_index`, is still what was committed last."""
        return self._index is not None and self._index == (self._index_state(), index)

    def _index_state(self) -> bytes:
        try:
            return (self.index_folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            return b""

    def disk_bytes(self) -> int:
        total = 0
        for path in self.directory.rglob("*"):
            with suppress(FileNotFoundError):  # others may be writing and deleting
                status = path.stat()
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return total


def made_with(store: Store) -> ModelInfo:
    """The model of a gallery's embeddings."""
    try:
        return ModelInfo.from_dict(store.meta("model"))
    except (TypeError, ValueError) as error:
        raise store.damaged(f"it does not tell which model it was made with ({error})") from error


def recover(store: Store, index: LSHIndex) -> int:
    """Make table and index agree again after an interruption; returns the rows forgotten.

    The index is written first and the table second, so an item that only the index has is from a
    batch that was not committed. A row without a vector (a repaired index) is read again.
    """
    known, hashed = np.array(store.ids(), np.int64), index.ids
    index.remove(np.setdiff1d(hashed, known, assume_unique=True))
    lost = np.setdiff1d(known, hashed, assume_unique=True)
    if lost.size:
        with store.transaction():
            store.delete(lost.tolist())
    return len(lost)
