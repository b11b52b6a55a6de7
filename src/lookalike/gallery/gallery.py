"""The gallery: a folder of images, its table and its index on disk, in one object."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from lookalike.atomic import attempts
from lookalike.encoder import Encoder, EncoderSettings, ModelInfo
from lookalike.errors import GalleryError
from lookalike.gallery.duplicates import Duplicates, find_duplicates
from lookalike.gallery.expansion import expanded, measured
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.hits import smallest_cosine
from lookalike.gallery.identity import read_identity
from lookalike.gallery.ignore import add_patterns
from lookalike.gallery.keep import COPIES, LARGEST, KeepRule, Kind
from lookalike.gallery.listing import Hits, ImageCollection
from lookalike.gallery.model import GalleryModel
from lookalike.gallery.places import has_gallery, places, root_from, stored_root
from lookalike.gallery.query import Query, embed_queries, row_of, with_text
from lookalike.gallery.reader import Reader
from lookalike.gallery.remote import check_on_disk, is_remote, open_remote
from lookalike.gallery.removal import restore_rows, take_out_rows
from lookalike.gallery.repair import RepairReport, repair
from lookalike.gallery.report import GalleryInfo, Progress, UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import SearchOptions, find, hits
from lookalike.gallery.store import Store
from lookalike.gallery.themes import (
    Outlier,
    Theme,
    find_neighbours,
    find_outliers,
    find_themes,
)
from lookalike.gallery.tuning import reset_tuning, tune
from lookalike.lsh import LSHSettings

if TYPE_CHECKING:
    from lookalike.images.decoder import Limits
    from lookalike.lsh.tuning import TuneReport

__all__ = ["Gallery", "GalleryInfo"]

Path_ = str | os.PathLike[str]


class Gallery(ImageCollection):
    """Images below a folder, searchable by what they look like. Made by `open`.

    Searches may run in several threads and processes while one writes; each sees a committed state.
    What it has read stays open. Pickled are its folder and settings, with which it is opened again.
    """

    def __init__(
        self,
        folder: Path_,
        directory: Path_ | None,
        model: Path_ | None,
        encoder_settings: EncoderSettings | None,
        max_pixels: int,
        max_seconds: float,
    ) -> None:
        """As `open`, but opens nothing."""
        self._root, home = _places(folder, directory)
        self._files = GalleryFiles(home)
        file = None if model is None else Path(model).absolute()
        self._model = GalleryModel(file, encoder_settings or EncoderSettings())
        self.max_pixels = max_pixels
        self._max_seconds = max_seconds

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": GalleryFiles(self.directory)}

    @property
    def root(self) -> Path:
        """The images' folder."""
        return self._root

    @property
    def directory(self) -> Path:
        """Where the gallery's files are."""
        return self._files.directory

    def _limits(self) -> Limits:
        from lookalike.images.decoder import Limits

        return Limits(self.max_pixels, self._max_seconds)

    # ---- opening ---------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        folder: Path_,
        *,
        directory: Path_ | None = None,
        model: Path_ | None = None,
        create: bool = True,
        lsh: LSHSettings | None = None,
        encoder_settings: EncoderSettings | None = None,
        max_pixels: int = 200_000_000,
        max_seconds: float = 10.0,
    ) -> Self:
        """Open the gallery of ``folder``, making an empty one if there is none.

        Args:
            folder: the images' folder, or a gallery's own directory; or "ray://NAME", the address
                of a gallery in shards, which is never made here. What comes back then has the
                same methods, see `lookalike.gallery.protocol`.
            directory: where the gallery's files are; None: ``folder/.lookalike``.
            model: an ONNX model file; None: the one the gallery was made with, for a new one the
                default.
            create: whether to make a gallery where there is none.
            lsh: settings of a new gallery's index; ``dim`` must be the model's.
            encoder_settings: batch size and threads.
            max_pixels: larger images are skipped, and those that take more memory than 1 GiB or
                5 bytes for each of these pixels, whichever is more.
            max_seconds: images that take more processor time to decode are skipped.

        Raises:
            GalleryError: no such folder, no gallery, or it cannot be written.
            GalleryDamagedError: the gallery's table is damaged.
        """
        if is_remote(folder):
            if directory is not None or lsh is not None:
                raise ValueError("directory and lsh are for a gallery on disk")
            found: Self = open_remote(
                folder,
                model=model,
                encoder_settings=encoder_settings,
                max_pixels=max_pixels,
                max_seconds=max_seconds,
            )
            return found
        gallery = cls(folder, directory, model, encoder_settings, max_pixels, max_seconds)
        if gallery._files.exist():
            with gallery._files.proven() as store:
                gallery._adopt(store, Path(folder))
        elif create:
            gallery._create(lsh)
        else:
            command = f"lookalike index {shlex.quote(os.fspath(gallery.root))}"
            raise GalleryError(f"there is no gallery in {gallery.directory}; make one: {command}")
        return gallery

    def _create(self, lsh: LSHSettings | None) -> None:
        self._check_root()
        info = self._model.open().info
        self._files.create(self._meta(info), _lsh_settings(lsh, info))

    def _adopt(self, store: Store, given: Path) -> None:
        """Take model and root from the table."""
        stored, model = store.meta("root"), store.meta("model_path")
        if self._model.path is None and model is not None:
            self._model.path = Path(model)
        self._root = root_from(stored, self.directory, given)

    def _meta(self, info: ModelInfo) -> dict[str, Any]:
        """What the table says of the gallery as a whole."""
        return {
            "model": info.as_dict(),
            "model_path": self._model.path and os.fspath(self._model.path),
            "root": stored_root(self.root, self.directory),
        }

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise GalleryError(f"{self.root} is not a folder, or its disk is not mounted")
        if self.root.resolve() == self.directory.resolve():
            raise GalleryError(
                f"{self.root} cannot hold the images as well as the gallery's own files; name "
                f"another folder, or another directory with --gallery"
            )

    def _matching_encoder(self, known: ModelInfo) -> Encoder:
        return self._model.matching(known, self._rebuild_command)

    def _rebuild_command(self) -> str:
        words = ["lookalike", "index", "--rebuild", os.fspath(self.root)]
        if stored_root(self.root, self.directory) is not None:
            words += ["--gallery", os.fspath(self.directory)]
        if self._model.path is not None:
            words += ["--model", os.fspath(self._model.path)]
        return shlex.join(words)

    # ---- change ----------------------------------------------------------------------------------

    def update(
        self,
        progress: Callable[[Progress], None] | None = None,
        *,
        wait: float = 0.0,
        accept_missing: bool = False,
    ) -> UpdateReport:
        """Bring the gallery up to date with its folder; resumes where an earlier run stopped.

        What is known of files that are gone is dropped, unless a disk that is not mounted explains
        it better: the folder is empty; or a folder that was on a disk of its own has none of its
        files and is not on that disk; or at least 10 files are gone and they are more than half of
        all. Then it is kept, and ``absent`` of the report says so. What `remove` took out stays out
        also while its file is gone.

        Args:
            progress: called after each file that was read.
            wait: seconds to wait for another writer.
            accept_missing: drop what is known of all files that are gone.

        Raises:
            GalleryLockedError, ModelMismatchError, GalleryDamagedError, StorageFullError: nothing
                committed before is lost.
        """
        from lookalike.gallery.update import Update  # with all image formats

        self._check_root()
        with self._files.writing(wait) as (store, index):
            known = made_with(store)
            self._model.check_now(known, self._rebuild_command)
            meta = self._meta(known)
            if any(store.meta(name) != meta[name] for name in ("root", "model_path")):
                with store.transaction():
                    store.set_meta(meta)

            run = Update(
                self.root,
                self._files,
                store,
                index,
                partial(self._matching_encoder, known),
                self._limits(),
                accept_missing=accept_missing,
            )
            report = run.run(progress)
            self._files.update_graph(index)
            return report

    @classmethod
    def rebuild(
        cls,
        folder: Path_,
        *,
        directory: Path_ | None = None,
        model: Path_ | None = None,
        lsh: LSHSettings | None = None,
        encoder_settings: EncoderSettings | None = None,
        max_pixels: int = 200_000_000,
        max_seconds: float = 10.0,
        progress: Callable[[Progress], None] | None = None,
        wait: float = 0.0,
        accept_missing: bool = False,
    ) -> tuple[Self, UpdateReport]:
        """Encode all images again, for another model or settings, or because of damage.

        Until it is done the old gallery serves searches; an interrupted rebuild resumes.

        Arguments are those of `open` and `update`, but ``model`` None is the default model.

        Raises:
            GalleryError: files are missing that `update` would keep; the old gallery stays.
        """
        from lookalike.gallery.rebuild import rebuild

        gallery = cls(folder, directory, model, encoder_settings, max_pixels, max_seconds)
        if not gallery._files.exist():
            gallery._create(lsh)
            return gallery, gallery.update(progress, wait=wait, accept_missing=accept_missing)
        stored = (read_identity(gallery.directory) or {}).get("root")
        if stored is not None:
            gallery._root = root_from(stored, gallery.directory, Path(folder))
        gallery._check_root()
        encoder = gallery._model.open()
        report = rebuild(
            gallery._files,
            gallery.root,
            gallery._meta(encoder.info),
            encoder,
            _lsh_settings(lsh, encoder.info),
            gallery._limits(),
            wait,
            progress,
            accept_missing,
        )
        return gallery, report

    def exclude(self, patterns: Iterable[str]) -> None:
        """Remember patterns, as in a .gitignore file, of files and folders that updates leave out;
        the next one drops those that are indexed. A pattern after "!" takes others back.

        Beside these, a file `.lookalikeignore` in any folder of images holds patterns of what is
        below it.

        Raises:
            GalleryError: a pattern is invalid.
        """
        with self._files.writing():
            add_patterns(self.directory, patterns)

    def remove(self, paths: Sequence[Path_]) -> int:
        """Take images out of the gallery and keep them out; no file is touched.

        Args:
            paths: of indexed images or skipped files, relative to the gallery's folder or any other
                path to them; folders with such; or shell patterns (see `glob_matcher`).

        Raises:
            GalleryError: one is not in the gallery; none is removed then.
        """
        with self._files.writing() as (store, index):
            rows = take_out_rows(store, self.root, paths)
            index.remove([row.id for row in rows if row.skipped is None])
            index.save(self._files.index_folder)
            return len(rows)

    def restore(self, paths: Sequence[Path_]) -> int:
        """Undo `remove`; the next update indexes the images again.

        Raises:
            GalleryError: one was not removed; none is restored then.
        """
        with self._files.writing() as (store, _):
            return restore_rows(store, self.root, paths)

    # ---- search ----------------------------------------------------------------------------------

    @overload
    def search(self, query: list[Any], k: int = 10, **how: Unpack[SearchOptions]) -> list[Hits]: ...

    @overload
    def search(
        self, query: Query | None = None, k: int = 10, **how: Unpack[SearchOptions]
    ) -> Hits: ...

    def search(
        self,
        query: Query | list[Any] | None = None,
        k: int = 10,
        *,
        threshold: float | None = None,
        filter: str | None = None,
        exclude_self: bool = False,
        exact: bool | None = False,
        text: str | None = None,
        expand: bool | None = None,
    ) -> Hits | list[Hits]:
        """The ``k`` images most like the query, best first; fewer if there are fewer.

        Args:
            query: path of an image file (in the gallery or not), an image file's bytes, an open
                file, a Pillow image, pixels uint8 (height, width, 3), or an embedding, float
                (dim,); `Words`, if the gallery's model knows them; a `Blend` of several; or a list
                of any of these, whose images are read side by side, for a list with the hits of
                each.
            threshold: smallest cosine of a hit; 1: what is equal but for rounding, see
                `smallest_cosine`.
            filter: words or patterns of the path, dates, sizes (see `parse_filter`), applied
                before the cut to k.
            exclude_self: leave out the query itself and files of the same content.
            exact: compare with every image instead of those in the probed buckets. None: if they
                are few, for a process that searches once; see `LSHIndex.search`. Words are
                compared with every image of up to 100,000.
            text: words, instead of a query or together with one, as a `Blend` of both.
            expand: reorder the hits by what their own neighbours are, see
                `lookalike.lsh.expand.Expansion`; False: by cosine alone. None: where that was
                measured to find more with the gallery's model, and there is a neighbour graph.
                Hits of words stay as they are.

        Raises:
            ValueError: k < 1, or a threshold that is not from -1 to 1; an array that is neither
                pixels nor an embedding; queries of a `Blend` that cancel each other.
            GalleryError: the query is neither a file nor an indexed image; a filter that cannot be
                understood; no neighbour graph to ``expand`` with.
            ModelMismatchError: a model was given to `open` that is not the gallery's.
            SkippedImageError: the query cannot be read.
            NoWordsError: the gallery's model knows images alone; MissingExtraError: the package
                tokenizers is missing.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        if threshold is not None:
            smallest_cosine(threshold)
        queries = with_text(query, text)
        for last in attempts():
            with self._files.reading_all() as (store, index):
                known, pairs = made_with(store), store.pairs()
                self._model.check(known, self._rebuild_command)
                graph = None if expand is False else self._files.graph(index)
                search = expanded(index, graph, measured(known), expand, threshold)
                try:
                    answers = find(
                        store,
                        index,
                        self.root,
                        queries,
                        min(k, len(index) + 1),
                        filter=filter,
                        exclude_self=exclude_self,
                        exact=exact,
                        encoder=partial(self._matching_encoder, known),
                        limits=self._limits(),
                        search=search,
                    )
                except GalleryError:
                    self._files.check_table(large=True)  # which may hide a row
                    raise
            short = [len(found) < k for found, strangers, _ in answers if strangers]
            if last or not (any(short) or (short and not self._files.index_is(index))):
                break
        if short:  # ids of an update that was killed, or of a table that hides rows
            self._files.check_table(large=True)
        code_bits = index.settings.code_bits
        results = [
            hits(found, self.root, code_bits, scale or pairs, threshold)
            for found, _, scale in answers
        ]
        return results if isinstance(query, list) else results[0]

    def encode(self, images: Iterable[Query]) -> NDArray[np.float32]:
        """The unit embeddings of images, (n, dim): files, in the gallery or not, and whatever else
        `search` takes. Raises as `search`."""
        with self._files.reading_all() as (store, index):
            encoder = partial(self._matching_encoder, made_with(store))
            embedded = embed_queries(store, index, self.root, list(images), encoder, self._limits())
            rows = [query.vector for query in embedded]
            return np.array(rows, np.float32).reshape(len(rows), index.settings.dim)

    def duplicates(
        self,
        threshold: float = 0.95,
        *,
        kinds: Collection[Kind] = COPIES,
        keep: KeepRule = LARGEST,
        reference: Path_ | None = None,
        filter: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Duplicates:
        """Groups of files that show the same picture and which of each to keep; deletes nothing.

        How each is like a kept one is its `Kind`: the images themselves are compared, part by
        part, and a kind is what they prove. Kind.SHOT is what has a near embedding and is nothing
        else: another shot of a scene perhaps; such groups are made of what no other kind takes.

        Every file of a group is read and holds what was indexed. Files that have changed or gone
        since the last update are left out and listed apart, and of links to the same file all but
        one are left out, so that deleting what is proposed loses no image.

        Args:
            threshold: of Kind.SHOT: smallest cosine to a kept file of its group, above -1 and at
                most 1; 1: what is equal but for rounding, see `smallest_cosine`.
            kinds: those that are looked for.
            keep: what makes a file the better one.
            reference: a folder of the gallery whose files are always kept.
            filter: as of `search`; only such files are considered.
            progress: called after each file that was read.

        Returns:
            a list of groups; its ``changed`` are the paths that were left out.

        Raises:
            ValueError: the threshold is out of range.
            GalleryError: no such reference folder in the gallery; a filter that cannot be
                understood.
        """
        self._check_root()
        self._files.check_table(large=True)
        with self._files.reading_all() as (store, index):
            return find_duplicates(
                store,
                index,
                self.root,
                threshold,
                reference,
                filter,
                progress,
                kinds=kinds,
                keep=keep,
                limits=self._limits(),
            )

    def themes(self, *, depth: int = 10, smallest: int = 5) -> list[Theme]:
        """What the images show: groups of them, each around its most central image, largest first.

        Args:
            depth: nearest images of each that count, at most 50; more make larger themes.
            smallest: images of a theme, at least.

        Raises:
            GalleryError: there is no neighbour graph.
        """
        with self._files.reading_all() as (store, index):
            return find_themes(self._files, store, index, depth, smallest)

    def outliers(self, k: int = 20, *, depth: int = 10) -> list[Outlier]:
        """The ``k`` images whose ``depth`` nearest are farthest, farthest first; raises as
        `themes`."""
        with self._files.reading_all() as (store, index):
            return find_outliers(self._files, store, index, k, depth)

    def neighbours(self, path: Path_, k: int = 10) -> Hits:
        """The ``k`` nearest others of an indexed image, at most 50, without a search: best first.

        Raises:
            GalleryError: it is not an indexed image, or newer than the neighbour graph, or there
                is none.
        """
        with self._files.reading_all() as (store, index):
            row = row_of(store, self.root, path)
            if row is None or row.skipped is not None:
                raise GalleryError(f"{os.fspath(path)} is not an indexed image of {self.root}")
            found = find_neighbours(self._files, store, index, row.id, k)
            bits = index.settings.code_bits
            return Hits(hits(found, self.root, bits, store.pairs(), None))

    def rows_of(self, paths: Iterable[str]) -> dict[str, ImageRow]:
        """The rows of images, by their paths in the gallery.

        Raises:
            GalleryError: one is not an indexed image.
        """
        wanted = {os.fsencode(path): path for path in paths}
        with self._files.reading() as store:
            rows = {row.path: row for row in store.by_paths(wanted) if row.skipped is None}
        if missing := sorted(wanted.keys() - rows.keys()):
            raise GalleryError(f"{wanted[missing[0]]} is not an indexed image of {self.root}")
        return {path: rows[name] for name, path in wanted.items()}

    def set_distinct(self, pairs: Iterable[tuple[Path_, Path_]], distinct: bool = True) -> int:
        """Remember of pairs of files that they are not duplicates, wherever their contents are; or
        forget it. Returns how many pairs are remembered now.

        Raises:
            GalleryError: a file is not an indexed image.
        """
        with self._files.writing() as (store, _):
            known = {tuple(sorted(pair)) for pair in store.distinct()}
            for pair in pairs:
                found = [row_of(store, self.root, path) for path in pair]
                hashes = [row.hash for row in found if row is not None and row.hash is not None]
                if len(hashes) < 2:
                    raise GalleryError(
                        f"{os.fspath(pair[0])} or {os.fspath(pair[1])} is not an indexed image of "
                        f"{self.root}"
                    )
                (known.add if distinct else known.discard)(tuple(sorted(hashes)))
            with store.transaction():
                store.set_meta({"distinct": sorted([a.hex(), b.hex()] for a, b in known)})
            return len(known)

    def tune(self, target_recall: float = 0.95, k: int = 10, *, force: bool = False) -> TuneReport:
        """Choose the index's settings by measuring, and keep them; see `LSHIndex.tune`.

        Args:
            force: also with fewer than TUNE_FROM images.

        Raises:
            GalleryError: fewer than TUNE_FROM or 2 k images, or the target is out of reach.
        """
        with self._files.writing() as (store, index):
            return tune(self._files, store, index, target_recall, k, force)

    def reset_tuning(self) -> LSHSettings:
        """Undo `tune`: return to the settings from before the first time, and return them."""
        with self._files.writing() as (store, index):
            return reset_tuning(self._files, store, index)

    def reader(self) -> Reader:
        """For many small queries: by id, and without opening the files for each."""
        return Reader(self._files)

    def encoder(self) -> Encoder:
        """The gallery's model, opened once.

        Raises:
            ModelMismatchError: the gallery was made with another.
            ModelError: it cannot be opened.
        """
        with self._files.reading() as store:
            return self._matching_encoder(made_with(store))

    # ---- facts and damage ------------------------------------------------------------------------

    def info(self) -> GalleryInfo:
        """Counts, model, index and size."""
        return self._files.info(self.root)

    def unfinished(self) -> bool:
        """Whether the last update did not finish, or is still running."""
        with self._files.reading() as store:
            return bool(store.meta("unfinished"))

    def skipped(self) -> list[ImageRow]:
        """The files that were skipped or taken out, with reason and remedy, by path."""
        self._files.check_table(large=True)
        with self._files.reading() as store:
            return store.skipped()

    def __len__(self) -> int:
        with self._files.reading() as store:
            return store.counts()[0]

    def __contains__(self, path: object) -> bool:
        """Whether a path, to the file or in the gallery, is of an indexed image."""
        if not isinstance(path, str | os.PathLike):
            return False
        with self._files.reading() as store:
            row = row_of(store, self.root, path)
        return row is not None and row.skipped is None

    def close(self) -> None:
        """Let go of open files; the next call opens them again."""
        self._files.close()

    def verify(self, *, contents: bool = False) -> list[str]:
        """What is wrong with the gallery's files, in sentences; [] if nothing is.

        Args:
            contents: also read every image and compare it with what was indexed.
        """
        from lookalike.gallery.verify import changed_contents, verify

        problems = verify(self._files)
        if contents:
            with self._files.reading() as store:
                problems += changed_contents(store.indexed(), self.root)
        return problems

    @classmethod
    def find_damage(cls, folder: Path_, *, directory: Path_ | None = None) -> list[str]:
        """As `verify`, for a gallery that is too damaged to be opened."""
        from lookalike.gallery.verify import verify

        return verify(_existing(folder, directory))

    @classmethod
    def repair(cls, folder: Path_, *, directory: Path_ | None = None) -> RepairReport:
        """Rebuild what can be rebuilt of a damaged gallery; the next update reads the rest again.

        Raises:
            GalleryDamagedError: no file names the model that made the gallery any more.
        """
        return repair(_existing(folder, directory))


def _places(folder: Path_, directory: Path_ | None) -> tuple[Path, Path]:
    """Folder of the images and directory of the gallery, which is one on disk."""
    check_on_disk(folder)
    return places(Path(folder), None if directory is None else Path(directory))


def _existing(folder: Path_, directory: Path_ | None) -> GalleryFiles:
    _, home = _places(folder, directory)
    if not has_gallery(home):
        raise GalleryError(f"there is no gallery in {home}")
    return GalleryFiles(home)


def _lsh_settings(given: LSHSettings | None, info: ModelInfo) -> LSHSettings:
    if given is not None and given.dim != info.dim:
        raise ValueError(f"lsh.dim is {given.dim}; the model's embeddings have {info.dim}")
    return given or LSHSettings(dim=info.dim)
