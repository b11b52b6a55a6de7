"""The gallery: a folder of images, its table and its index on disk, in one object."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder, EncoderSettings, ModelInfo
from lookalike.errors import (
    GalleryDamagedError,
    GalleryError,
    IndexFormatError,
    ModelMismatchError,
    StorageFullError,
)
from lookalike.gallery.duplicates import DuplicateGroup, group_pairs, propose
from lookalike.gallery.hits import Hit, glob_matcher
from lookalike.gallery.lock import writer_lock
from lookalike.gallery.rarity import PairStatistics
from lookalike.gallery.scan import GALLERY_FOLDER
from lookalike.gallery.store import ImageRow, Store
from lookalike.gallery.update import REMOVED, Progress, Update, UpdateReport, recover
from lookalike.gallery.verify import RepairReport, repair_index, repair_table, verify
from lookalike.images import DEFAULT_MAX_PIXELS, content_hash, read_picture
from lookalike.lsh import LSHIndex, LSHSettings
from lookalike.lsh.manifest import MANIFEST

__all__ = ["Gallery", "GalleryInfo", "Query"]

Query = str | os.PathLike[str] | bytes | NDArray[np.floating[Any]]
TABLE = "gallery.sqlite"
INDEX = "index"
LOCK = "lock"


@dataclass(frozen=True)
class GalleryInfo:
    """Facts about a gallery: where it is, what it holds, what made it."""

    root: Path
    directory: Path
    images: int
    skipped: int
    model: ModelInfo
    lsh: LSHSettings
    segments: int
    disk_bytes: int
    pairs: PairStatistics | None


class Gallery:
    """Images below a folder, searchable by what they look like.

    Made by :meth:`open`. Searches may run in several threads and processes while one writes; each
    sees the last committed state.
    """

    def __init__(
        self,
        root: Path,
        directory: Path,
        *,
        model: Path | None,
        encoder_settings: EncoderSettings,
        max_pixels: int,
    ) -> None:
        self.root = root
        self.directory = directory
        self._model_path = model
        self._encoder_settings = encoder_settings
        self._max_pixels = max_pixels
        self._encoder: Encoder | None = None
        self._index: tuple[tuple[int, int], LSHIndex] | None = None

    # ---- opening ---------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        directory: str | os.PathLike[str] | None = None,
        model: str | os.PathLike[str] | None = None,
        create: bool = True,
        lsh: LSHSettings | None = None,
        encoder_settings: EncoderSettings | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Self:
        """Open the gallery of ``folder``, making an empty one if there is none.

        Args:
            folder: the images' folder, or a gallery's own directory.
            directory: where the gallery's files are; None: ``folder/.lookalike``.
            model: an ONNX model file; None: the one the gallery was made with, for a new one the
                default.
            create: whether to make a gallery where there is none.
            lsh: settings of a new gallery's index; ``dim`` must be the model's.
            encoder_settings: batch size and threads.
            max_pixels: larger pictures are skipped.

        Raises:
            GalleryError: no such folder, no gallery, or it cannot be written.
            GalleryDamagedError: the gallery's table is damaged.
        """
        root, home = _places(Path(folder), None if directory is None else Path(directory))
        outgoing = home.with_name(home.name + ".old")
        if not home.exists() and outgoing.exists():
            outgoing.rename(home)  # a rebuild was killed between its two renames
        table = home / TABLE
        made = table.exists() and table.stat().st_size > 0
        gallery = cls(
            root,
            home,
            model=None if model is None else Path(model).absolute(),
            encoder_settings=encoder_settings or EncoderSettings(),
            max_pixels=max_pixels,
        )
        if made:
            gallery._adopt_root(given=Path(folder))
        elif create:
            gallery._create(lsh)
        else:
            raise GalleryError(
                f"there is no gallery in {home}; make one with: lookalike index {root}"
            )
        return gallery

    def _adopt_root(self, given: Path) -> None:
        """Where the images are: beside a ``.lookalike``, or where the table says."""
        with self._reading() as store:
            root = store.meta("root")
            if self._model_path is None and store.meta("model_path") is not None:
                self._model_path = Path(store.meta("model_path"))
        if root is None:
            self.root = self.directory.parent
            return
        stored = Path(os.fsdecode(bytes.fromhex(root)))
        asked = given.absolute()
        if asked.resolve() not in (self.directory.resolve(), stored.resolve()):
            if stored.is_dir():
                raise GalleryError(
                    f"the gallery in {self.directory} belongs to {stored}, not to {asked}; choose "
                    f"another --gallery for {asked}"
                )
            stored = asked  # the photographs moved; the next update finds them by content
        self.root = stored

    def _create(self, lsh: LSHSettings | None) -> None:
        if not self.root.is_dir():
            raise GalleryError(f"{self.root} is not a folder")
        info = self._open_encoder().info
        if lsh is not None and lsh.dim != info.dim:
            raise ValueError(f"lsh.dim is {lsh.dim}; the model's embeddings have {info.dim}")
        inside = self.directory == self.root / os.fsdecode(GALLERY_FOLDER)
        meta = {
            "model": info.as_dict(),
            "model_path": None if self._model_path is None else os.fspath(self._model_path),
            "root": None if inside else os.fsencode(self.root).hex(),
        }
        with self._storage():
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                with writer_lock(self.directory / LOCK):
                    settings = lsh or LSHSettings(dim=info.dim)
                    LSHIndex(settings=settings).save(self.directory / INDEX)
                    Store.create(self.directory / TABLE, meta).close()
            except PermissionError as error:
                raise self._not_writable(error) from error

    # ---- access to the parts ---------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Store]:
        store = Store.open(self.directory / TABLE)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def _writing(self, wait: float) -> Iterator[tuple[Store, LSHIndex]]:
        """Hold the writer's lock with table and index open and in agreement."""
        with self._storage():
            try:
                lock = writer_lock(self.directory / LOCK, wait)
                lock.__enter__()
            except PermissionError as error:
                raise self._not_writable(error) from error
            try:
                store = Store.open(self.directory / TABLE, write=True)
                try:
                    index = self._load_index()
                    recover(store, index)
                    yield store, index
                finally:
                    store.close()
            finally:
                lock.__exit__(None, None, None)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(
                    f"the disk of {self.directory} is full; free some space and run the command "
                    f"again, everything committed before is kept"
                ) from error
            if error.errno == errno.EROFS:
                raise self._not_writable(error) from error
            raise

    def _not_writable(self, error: OSError) -> GalleryError:
        return GalleryError(
            f"cannot write in {self.directory} ({error.strerror}); put the gallery elsewhere with "
            f"--gallery DIR"
        )

    def _load_index(self) -> LSHIndex:
        try:
            return LSHIndex.open(self.directory / INDEX)
        except IndexFormatError as error:
            raise GalleryDamagedError(
                f"the index in {self.directory / INDEX} cannot be used: {error}; run: lookalike "
                f"verify --repair --gallery {self.directory}"
            ) from error

    def _current_index(self) -> LSHIndex:
        """The index as last committed, opened again only when it has changed."""
        try:
            status = (self.directory / INDEX / MANIFEST).stat()
            stamp = (status.st_mtime_ns, status.st_ino)
        except FileNotFoundError:
            stamp = (0, 0)
        if self._index is None or self._index[0] != stamp:
            self._index = (stamp, self._load_index())
        return self._index[1]

    def _open_encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder.open(self._model_path, self._encoder_settings)
        return self._encoder

    def _matching_encoder(self) -> Encoder:
        """The encoder, after checking that the gallery's embeddings are its own."""
        encoder = self._open_encoder()
        with self._reading() as store:
            made_with = ModelInfo.from_dict(store.meta("model"))
        if made_with.sha256 != encoder.info.sha256:
            raise ModelMismatchError(
                f"the gallery was made with model {_name(made_with)}, the one in use is "
                f"{_name(encoder.info)}; their embeddings cannot be compared. Use the first with "
                f"--model FILE, or encode everything anew: lookalike index --rebuild {self.root}"
            )
        return encoder

    # ---- change ----------------------------------------------------------------------------------

    def update(
        self, progress: Callable[[Progress], None] | None = None, *, wait: float = 0.0
    ) -> UpdateReport:
        """Bring the gallery up to date with its folder; resumes where an earlier run stopped.

        Args:
            progress: called after each file that was read.
            wait: seconds to wait for another writer.

        Raises:
            GalleryLockedError, ModelMismatchError, GalleryDamagedError, StorageFullError: nothing
                committed before is lost.
        """
        if not self.root.is_dir():
            raise GalleryError(f"{self.root} is not there; is its disk mounted?")
        with self._writing(wait) as (store, index):
            made_with = store.meta("model")["sha256"]
            if self._encoder is not None and self._encoder.info.sha256 != made_with:
                self._matching_encoder()
            run = Update(
                self.root,
                store,
                index,
                self.directory / INDEX,
                self._matching_encoder,
                self._max_pixels,
            )
            return run.run(self.directory, progress)

    def remove(self, paths: Sequence[str | os.PathLike[str]]) -> int:
        """Take images out of the gallery and keep them out; no file is touched.

        Args:
            paths: of indexed images, relative to the gallery's folder or absolute.

        Raises:
            GalleryError: one is not in the gallery; none is removed then.
        """
        with self._writing(0.0) as (store, index):
            rows = []
            for path in paths:
                row = self._row_of(store, path)
                if row is None or row.skipped is not None:
                    raise GalleryError(f"{os.fspath(path)} is not an indexed image")
                rows.append(row)
            removed = [
                ImageRow(
                    *(row.id, row.path, row.size, row.mtime_ns),
                    skipped=REMOVED,
                    detail="taken out by 'lookalike remove'",
                    remedy="lookalike remove --undo brings it back",
                )
                for row in rows
            ]
            with store.transaction():
                store.put(removed)
            index.remove([row.id for row in rows])
            index.save(self.directory / INDEX)
            return len(rows)

    def restore(self, paths: Sequence[str | os.PathLike[str]]) -> int:
        """Undo :meth:`remove`; the next update indexes the images again."""
        with self._writing(0.0) as (store, _):
            rows = [self._row_of(store, path) for path in paths]
            found = [row.id for row in rows if row is not None and row.skipped == REMOVED]
            if len(found) < len(rows):
                raise GalleryError("not every path given was removed from this gallery")
            with store.transaction():
                store.delete(found)
            return len(found)

    # ---- search ----------------------------------------------------------------------------------

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        threshold: float | None = None,
        filter: str | None = None,
        exclude_self: bool = False,
        exact: bool = False,
    ) -> list[Hit]:
        """The ``k`` images most like the query, best first; fewer if there are fewer.

        Args:
            query: path of an image file (in the gallery or not), an image file's bytes, or an
                embedding, float (dim,).
            threshold: smallest cosine of a hit.
            filter: shell pattern on the relative path (see :func:`glob_matcher`), applied before
                the cut to k.
            exclude_self: leave out the query itself and files of the same content.
            exact: compare with every image instead of those in the probed buckets.

        Raises:
            ValueError: k < 1.
            SkippedImageError: the query cannot be read.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        with self._reading() as store:
            index = self._current_index()
            embedding, own = self._embed(store, index, query, exclude_self)
            allowed = None
            if filter is not None:
                matches = glob_matcher(filter)
                fits = [row.id for row in store.indexed() if matches(row.path)]
                allowed = np.array(fits, np.int64)
            pairs = self._pairs(store)
            wanted = k + len(own)
            while True:
                ids, cosines, bits = index.search(embedding, wanted, allowed=allowed, exact=exact)
                found = int(np.count_nonzero(ids >= 0))
                rows = store.by_ids(ids[:found].tolist())
                picked = [
                    (rows[number], float(cosine), int(differ))
                    for number, cosine, differ in zip(ids.tolist(), cosines, bits, strict=True)
                    if number in rows and number not in own
                ][:k]
                # An id without a row belongs to a commit in progress: look further.
                if len(picked) == k or found < wanted:
                    break
                wanted += k + len(own)
        return [
            self._hit(row, cosine, differ, index.settings.code_bits, pairs)
            for row, cosine, differ in picked
            if threshold is None or cosine >= threshold
        ]

    def _hit(
        self, row: ImageRow, cosine: float, bits: int, code_bits: int, pairs: PairStatistics | None
    ) -> Hit:
        path = os.fsdecode(row.path)
        rarity = None if pairs is None else pairs.share_below(cosine)
        shape = (row.width or 0, row.height or 0, row.format or "")
        return Hit(path, self.root / path, cosine, bits, code_bits, rarity, row.id, *shape)

    def _embed(
        self, store: Store, index: LSHIndex, query: Query, with_copies: bool
    ) -> tuple[NDArray[np.float32], set[int]]:
        """The query's embedding, and the ids that are the query itself."""
        if isinstance(query, np.ndarray):
            return np.asarray(query, np.float32), set()
        source: io.BytesIO | str | os.PathLike[str]
        source = io.BytesIO(query) if isinstance(query, bytes) else query
        if not isinstance(source, io.BytesIO):
            row = self._row_of(store, source)
            if row is not None and row.skipped is None and self._unchanged(row):
                vector = index.vectors([row.id])[0]
                copies = store.by_hash(row.hash) if with_copies and row.hash else []
                return vector, {copy.id for copy in copies}
        encoder = self._matching_encoder()
        size = encoder.info.input_size
        picture = read_picture(source, size, max_pixels=self._max_pixels)
        copies = store.by_hash(content_hash(source)) if with_copies else []
        return encoder.embed(picture.pixels[np.newaxis])[0], {row.id for row in copies}

    def _row_of(self, store: Store, path: str | os.PathLike[str]) -> ImageRow | None:
        """The row of a file, given by any path to it or by its path in the gallery."""
        given = Path(path)
        spellings = [Path(os.path.abspath(given)), given.resolve()]
        for spelling in spellings:
            for root in (self.root.absolute(), self.root.resolve()):
                if spelling.is_relative_to(root):
                    row = store.by_path(os.fsencode(spelling.relative_to(root)))
                    if row is not None:
                        return row
        if given.is_absolute() or given.exists():
            return None
        return store.by_path(os.fsencode(given))

    def _unchanged(self, row: ImageRow) -> bool:
        """False only if the file is there with another size or time than when it was indexed."""
        try:
            status = (self.root / os.fsdecode(row.path)).stat()
        except OSError:
            return True
        return (status.st_size, status.st_mtime_ns) == (row.size, row.mtime_ns)

    @staticmethod
    def _pairs(store: Store) -> PairStatistics | None:
        values = store.meta("pairs")
        return None if values is None else PairStatistics.from_dict(values)

    def duplicates(
        self,
        threshold: float = 0.95,
        *,
        reference: str | os.PathLike[str] | None = None,
        filter: str | None = None,
    ) -> list[DuplicateGroup]:
        """Groups of near duplicates and which file of each to keep; deletes nothing.

        Args:
            threshold: smallest cosine between two files of a group (or a chain of them).
            reference: a folder of the gallery whose files are always kept.
            filter: shell pattern on the relative path; only such files are considered.
        """
        protected = None
        if reference is not None:
            given = Path(reference)
            inside = given.absolute().resolve() if given.is_absolute() or given.exists() else None
            root = self.root.resolve()
            if inside is not None and not inside.is_relative_to(root):
                raise GalleryError(f"{given} is not inside {self.root}, the gallery's folder")
            relative = given if inside is None else inside.relative_to(root)
            protected = b"" if relative == Path() else os.fsencode(relative)
            if not (self.root / relative).is_dir():
                raise GalleryError(f"{self.root / relative} is not a folder")
        index = self._current_index()
        pairs, _ = index.join(threshold)
        matches = glob_matcher(filter or "*")
        groups = []
        with self._reading() as store:
            rows = store.by_ids(np.unique(pairs).tolist())
            known = {number for number, row in rows.items() if matches(row.path)}
            pairs = pairs[np.isin(pairs, sorted(known)).all(axis=1)]
            for ids in group_pairs(pairs):
                group = propose([rows[i] for i in ids], index.vectors(ids), protected)
                if group is not None:
                    groups.append(group)
        return groups

    @classmethod
    def rebuild(
        cls,
        folder: str | os.PathLike[str],
        *,
        directory: str | os.PathLike[str] | None = None,
        model: str | os.PathLike[str] | None = None,
        lsh: LSHSettings | None = None,
        encoder_settings: EncoderSettings | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Callable[[Progress], None] | None = None,
    ) -> tuple[Self, UpdateReport]:
        """Encode everything anew, for another model or settings, then take the old one's place.

        Until then the old gallery serves searches; an interrupted rebuild resumes.
        """
        root, home = _places(Path(folder), None if directory is None else Path(directory))
        beside = home.with_name(home.name + ".rebuild")
        kept: list[ImageRow] = []
        if (home / TABLE).exists():
            with suppress(GalleryError):
                old = cls.open(folder, directory=directory, create=False)
                root = old.root
                kept = [row for row in old.skipped() if row.skipped == REMOVED]
        options: dict[str, Any] = {
            "model": model,
            "lsh": lsh,
            "encoder_settings": encoder_settings,
            "max_pixels": max_pixels,
        }
        gallery = cls.open(root, directory=beside, **options)
        try:
            gallery._matching_encoder()
        except ModelMismatchError:  # left by an interrupted rebuild with another model
            shutil.rmtree(beside)
            gallery = cls.open(root, directory=beside, **options)
        with gallery._writing(0.0) as (store, _), store.transaction():
            store.put(replace(row, id=store.next_id() + n) for n, row in enumerate(kept))
        report = gallery.update(progress)
        with gallery._writing(0.0) as (store, _), store.transaction():
            inside = home == root / os.fsdecode(GALLERY_FOLDER)
            store.set_meta({"root": None if inside else os.fsencode(root).hex()})
        outgoing = home.with_name(home.name + ".old")
        if outgoing.exists():
            shutil.rmtree(outgoing)
        if home.exists():
            home.rename(outgoing)
        beside.rename(home)
        shutil.rmtree(outgoing, ignore_errors=True)
        return cls.open(root, directory=home, **options), report

    # ---- damage -----------------------------------------------------------------------------

    def verify(self, *, contents: bool = False) -> list[str]:
        """What is wrong with the gallery's files, in sentences; [] if nothing is.

        Args:
            contents: also read every image and compare it with what was indexed.
        """
        table, index = self.directory / TABLE, self.directory / INDEX
        return verify(self.root, table, index, contents=contents)

    @classmethod
    def repair(
        cls,
        folder: str | os.PathLike[str],
        *,
        directory: str | os.PathLike[str] | None = None,
    ) -> RepairReport:
        """Rebuild what can be rebuilt of a damaged gallery; the next update reads the rest again.

        Raises:
            GalleryDamagedError: the table does not even tell which model made the gallery.
        """
        _, home = _places(Path(folder), None if directory is None else Path(directory))
        if not home.is_dir():
            raise GalleryError(f"there is no gallery in {home}")
        report = RepairReport()
        with writer_lock(home / LOCK):
            repair_table(home / TABLE, report)
            store = Store.open(home / TABLE, write=True)
            try:
                index = repair_index(home / INDEX, int(store.meta("model")["dim"]), report)
                report.to_read = recover(store, index)
                index.save(home / INDEX)
            finally:
                store.close()
        return report

    # ---- facts -----------------------------------------------------------------------------------

    def info(self) -> GalleryInfo:
        with self._reading() as store:
            images, skipped = store.counts()
            model = ModelInfo.from_dict(store.meta("model"))
            pairs = self._pairs(store)
        index = self._current_index()
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        return GalleryInfo(
            root=self.root,
            directory=self.directory,
            images=images,
            skipped=skipped,
            model=model,
            lsh=index.settings,
            segments=sum(1 for _ in index.segments()),
            disk_bytes=sum(path.stat().st_size for path in files),
            pairs=pairs,
        )

    def skipped(self) -> list[ImageRow]:
        """The files that could not be indexed, with reason and remedy, by path."""
        with self._reading() as store:
            return store.skipped()

    def __len__(self) -> int:
        with self._reading() as store:
            return store.counts()[0]


def _places(folder: Path, directory: Path | None) -> tuple[Path, Path]:
    """The images' folder and the gallery's directory, as far as the names tell."""
    folder = folder.absolute()
    if directory is not None:
        return folder, directory.absolute()
    if (folder / TABLE).exists():
        return folder.parent, folder
    return folder, folder / os.fsdecode(GALLERY_FOLDER)


def _name(info: ModelInfo) -> str:
    return f"{info.name} {info.version} (sha256 {info.sha256[:12]})"
