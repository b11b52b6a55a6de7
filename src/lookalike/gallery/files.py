"""A gallery's files as one thing: the table, the index, and the lock of their writer."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lookalike.atomic import NO_SPACE, IrregularFileError, attempts, read_regular
from lookalike.encoder import ModelInfo
from lookalike.errors import (
    GalleryDamagedError,
    GalleryError,
    GalleryGoneError,
    IndexFormatError,
    ReadOnlyError,
    StorageFullError,
)
from lookalike.gallery.identity import identity_of, read_identity, write_identity
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.places import (
    FULL,
    GONE,
    INCOMING,
    INDEX,
    LOCK,
    NEIGHBOURS,
    OUTGOING,
    TABLE,
    delete_gallery,
    explain_unreadable,
    has_gallery,
    is_real_folder,
    repair_command,
    require_own,
)
from lookalike.gallery.schema import check_beside
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.arrayfile import new_owner
from lookalike.lsh.graph import NeighbourGraph
from lookalike.lsh.index import EXACT_AT_ONCE
from lookalike.lsh.manifest import MANIFEST

T = TypeVar("T")
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a file may cause that no check has foreseen. What opening raises is the file's doing."""
LARGEST_MANIFEST = 1 << 28
CHECKED_ON_OPEN = 8 << 20
"""Bytes of a table that is checked whole when a gallery is opened, in under a tenth of a second."""


class _Open(NamedTuple):
    """A table that was opened, by which process, and what its file was then."""

    store: Store
    state: tuple[int, int, int] | None
    process: int


class GalleryFiles:
    """The directory of one gallery.

    A table that was read stays open for the next who reads or writes it, unless it has changed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.table = directory / TABLE
        self.index_folder = directory / INDEX
        self.neighbours = directory / NEIGHBOURS
        self._graph: tuple[tuple[object, ...], NeighbourGraph | None] | None = None
        self._index: tuple[bytes, str | None, LSHIndex] | None = None
        self._sound: tuple[int, int, int] | None = None
        self._idle = deque[_Open](maxlen=1)

    def close(self) -> None:
        """Let go of the table and the index; the next who reads opens them again."""
        self._index = None
        with suppress(IndexError):
            self._idle.pop().store.close()

    def exist(self) -> bool:
        """Whether there is a gallery; ends a rebuild that was killed while it took its place."""
        with explain_unreadable(self.directory):
            if not self.directory.exists() and all(
                is_real_folder(folder) and has_gallery(folder)
                for folder in (self.beside(OUTGOING), self.beside(INCOMING))
            ):
                with suppress(OSError):  # another process may be doing the same
                    self.beside(INCOMING).rename(self.home)
            return has_gallery(self.directory)

    @property
    def home(self) -> Path:
        """The directory itself, to which a link may lead that the user has made."""
        link = self.directory.is_symlink()
        return Path(os.path.realpath(self.directory)) if link else self.directory

    def beside(self, suffix: str) -> Path:
        """A folder on the same disk as the gallery, for a rebuild."""
        return self.home.with_name(self.home.name + suffix)

    def create(self, meta: dict[str, Any], settings: LSHSettings, first_id: int = 1) -> None:
        """Write an empty gallery, unless another process does so first."""
        with self.explained():
            require_own(self.directory)
            self.directory.mkdir(parents=True, exist_ok=True)
            with writer_lock(self.directory / LOCK):
                if not has_gallery(self.directory):
                    meta = {"gallery_id": new_owner(), **meta}
                    self.check_index_folder()
                    index = LSHIndex(settings=settings, owner=meta["gallery_id"])
                    index.save(self.index_folder)
                    Store.create(self.table, meta, first_id)
                    write_identity(self.directory, {**meta, "removed": []})

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """The table, also while a rebuild takes the old gallery's place."""
        table, _ = self._open_with(lambda _: None)
        with self._in_use(table):
            yield table.store

    def _open_table(self) -> _Open:
        """Also an idle one is only used after proving again what lies beside it."""
        state = self._table_state()
        with suppress(IndexError):
            idle = self._idle.pop()
            if idle[1:] == (state, os.getpid()):
                check_beside(self.table)
                return idle
            idle.store.close()
        return _Open(Store.open(self.table), state, os.getpid())

    @contextmanager
    def _in_use(self, table: _Open) -> Iterator[None]:
        try:
            yield
        except BaseException:
            table.store.close()
            raise
        self._idle.append(table)

    @contextmanager
    def reading_all(self, *, again: bool = False) -> Iterator[tuple[Store, LSHIndex]]:
        """Table and index of the same gallery, also while a rebuild takes the old one's place.

        ``again``: open, and prove, an index too that has been opened before.
        """
        table, index = self._open_with(self.open_index if again else self.current_index)
        with self._in_use(table), self.index_explained():
            yield table.store, index

    def _open_with(self, open_more: Callable[[Store], T]) -> tuple[_Open, T]:
        for last in attempts():
            before = self._table_state()
            try:
                table = self._open_table()
                try:
                    opened = open_more(table.store)
                except BaseException:
                    table.store.close()
                    raise
            except GalleryError:
                if last or (before is not None and self._table_state() == before):
                    raise
                self.exist()
                continue
            except FileNotFoundError:  # a writer deleted what it had replaced, between two looks
                if last:
                    raise
                continue
            now = self._table_state()
            if last or (now is not None and before is not None and now[:2] == before[:2]):
                return table, opened
            table.store.close()
        raise AssertionError("unreachable")

    def _table_state(self) -> tuple[int, int, int] | None:
        return _file_state(self.table)

    @contextmanager
    def writing(self, wait: float = 0.0) -> Iterator[tuple[Store, LSHIndex]]:
        """Hold the writer's lock, with table and index open and in agreement."""
        with self.explained(), ExitStack() as stack:
            stack.enter_context(writer_lock(self.directory / LOCK, wait))
            store = self._open_table().store
            stack.callback(store.close)
            store.allow_writing()
            if found := store.integrity(rows=False):
                raise GalleryDamagedError(found[0])
            index = self.open_index(store)
            recover(store, index)
            delete_gallery(self.beside(OUTGOING))
            if read_identity(self.directory) is None:  # never lacking once there are images
                write_identity(self.directory, identity_of(store))
            with self.index_explained():
                yield store, index
            identity = identity_of(store)
            if read_identity(self.directory) != identity:
                write_identity(self.directory, identity)

    @contextmanager
    def index_explained(self) -> Iterator[None]:
        """Turn damage to the index that is met while it is used into an error with a remedy."""
        try:
            yield
        except IndexFormatError as error:
            raise self._unusable(str(error).partition("; build the index")[0]) from error

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the disk refuses into errors with a remedy."""
        try:
            yield
        except OSError as error:
            if error.errno in NO_SPACE:
                raise StorageFullError(FULL.format(self.directory)) from error
            if error.errno == errno.ENOENT and not self.directory.is_dir():
                raise GalleryGoneError(GONE.format(self.directory)) from error
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                remedy = "put the gallery elsewhere with --gallery DIR"
                if has_gallery(self.directory):
                    remedy = "the gallery there can be searched, but not changed"
                raise ReadOnlyError(
                    f"cannot write in {self.directory} ({error.strerror}); {remedy}"
                ) from error
            raise

    def check_table(self, *, large: bool = False) -> None:
        """As `proven`, with nothing to read."""
        with self.proven(large=large):
            pass

    @contextmanager
    def proven(self, *, large: bool = False) -> Iterator[Store]:
        """Prove that the table's pages and indexes agree, so that no row is passed over.

        Args:
            large: also above CHECKED_ON_OPEN bytes, which takes some seconds per gigabyte; once for
                each state of the table.

        Raises:
            GalleryDamagedError: they do not.
        """
        state = self._table_state()
        with self.reading() as store:
            small = self.table.lstat().st_size <= CHECKED_ON_OPEN
            if small or (large and self._sound != state):
                if found := store.integrity(rows=False):
                    raise GalleryDamagedError(found[0])
                self._sound = state
            yield store

    def open_index(self, store: Store) -> LSHIndex:
        """The index, which belongs to the table.

        Raises:
            GalleryDamagedError: it is damaged, or of another gallery.
        """
        owner, model = store.meta("gallery_id"), made_with(store)
        self.check_index_folder()
        try:
            index = LSHIndex.open(self.index_folder, owner)
            if index.settings.dim != model.dim:
                raise IndexFormatError(
                    f"its vectors have dimension {index.settings.dim}, those of the gallery's "
                    f"model {model.dim}"
                )
        except IndexFormatError as error:
            inner = error.__cause__  # which does not name the folder as well
            why = inner if isinstance(inner, IndexFormatError) else error
            raise self._unusable(str(why)) from why
        except PermissionError as error:
            with explain_unreadable(self.directory):
                raise
            raise AssertionError("unreachable") from error
        except FileNotFoundError:  # replaced meanwhile: see `_open_with`
            raise
        except DAMAGE as error:
            raise self._unusable(f"{type(error).__name__}: {error}") from error
        return index

    def check_index_folder(self) -> None:
        """Raises GalleryDamagedError if the index's folder is a link or no folder."""
        if os.path.lexists(self.index_folder) and not is_real_folder(self.index_folder):
            raise self._unusable("it is not a folder")

    def _unusable(self, why: str) -> GalleryDamagedError:
        return GalleryDamagedError(
            f"the index in {self.index_folder} cannot be used: {why}; run: "
            f"{repair_command(self.directory)}"
        )

    def current_index(self, store: Store) -> LSHIndex:
        """The index as last committed, opened again only when it, or the gallery, has changed."""
        known, state = self._index, self._index_state()
        owner = store.meta("gallery_id")
        if known is None or known[:2] != (state, owner):
            known = self._index = (state, owner, self.open_index(store))
        return known[2]

    def index_is(self, index: LSHIndex) -> bool:
        """Whether ``index``, of `current_index`, is still what was committed last."""
        known = self._index
        return known is not None and known[0] == self._index_state() and known[2] is index

    def _index_state(self) -> bytes:
        try:
            return read_regular(self.index_folder / MANIFEST, LARGEST_MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except IrregularFileError as error:
            raise self._unusable(f"{MANIFEST} {error.strerror}") from error
        except PermissionError:
            with explain_unreadable(self.directory):
                raise

    def graph(self, index: LSHIndex) -> NeighbourGraph | None:
        """The neighbour graph as written last; None if it is missing, damaged or of another index,
        in which case the next update makes another."""
        state = index.owner, _file_state(self.neighbours)
        if self._graph is None or self._graph[0] != state:
            graph = None
            with suppress(IndexFormatError, *DAMAGE):
                graph = NeighbourGraph.open(self.neighbours, index.owner)
            self._graph = state, graph
        return self._graph[1]

    def update_graph(self, index: LSHIndex) -> None:
        """Bring the neighbour graph, and the links in the index, up to date; for the writer."""
        known = self.graph(index)
        if known is not None and known.problem() is not None:
            known = None
        if len(index) < 2 or index.settings.vectors == "none":
            self.neighbours.unlink(missing_ok=True)
            return
        graph = NeighbourGraph.build(index) if known is None else known.updated(index)
        if graph is not known:
            if is_real_folder(self.neighbours):
                raise GalleryDamagedError(
                    f"{self.neighbours} is a folder, where the neighbour graph should be; run: "
                    f"{repair_command(self.directory)}"
                )
            graph.save(self.neighbours, index.owner)
        index.link(graph)
        if not index.is_saved:
            index.save(self.index_folder)
        if graph is not known and len(index) > EXACT_AT_ONCE:
            # Compiles, once for an installation, what the first search would wait for.
            index.search(index.vectors(index.ids[:1])[0], 1)

    def disk_bytes(self) -> int:
        return sum(map(_size, self.directory.rglob("*")))


def _file_state(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, and when it was written."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _size(path: Path) -> int:
    """Of a regular file in bytes; 0 for anything else, and for what others have just deleted."""
    with suppress(FileNotFoundError):
        status = path.lstat()
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0


def made_with(store: Store) -> ModelInfo:
    """The model of a gallery's embeddings."""
    return ModelInfo.from_dict(store.meta("model"))


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
