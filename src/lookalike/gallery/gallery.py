"""The gallery: a folder of images, its table and its index on disk, in one object."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from lookalike.atomic import attempts
from lookalike.encoder import Encoder, EncoderSettings
from lookalike.errors import GalleryError
from lookalike.gallery.duplicates import Duplicates, find_duplicates
from lookalike.gallery.files import made_with
from lookalike.gallery.hits import check_count
from lookalike.gallery.identity import read_identity
from lookalike.gallery.ignore import add_patterns
from lookalike.gallery.keep import COPIES, ORIGINAL, KeepRule, Kind
from lookalike.gallery.listing import Hits
from lookalike.gallery.opening import GalleryOnDisk, lsh_settings_for
from lookalike.gallery.places import COMPARED, FOLDER, root_from
from lookalike.gallery.protocol import Path_
from lookalike.gallery.query import Query, embed_queries, row_of, several
from lookalike.gallery.reader import Reader, Snapshot
from lookalike.gallery.removal import restore_rows, take_out_rows
from lookalike.gallery.report import GalleryInfo, UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import SearchOptions, as_hits, measured
from lookalike.gallery.store import Store
from lookalike.gallery.themes import (
    Outlier,
    Theme,
    find_neighbours,
    find_outliers,
    find_themes,
)
from lookalike.lsh import LSHSettings
from lookalike.progress import Progress

if TYPE_CHECKING:
    from lookalike.lsh.tuning import TuneReport

TUNE_FROM = 10_000
"""Images below which tuning is refused: a search looks at nearly all of them anyway."""


class Gallery(GalleryOnDisk):
    """Images below a folder, searchable by what they look like. Made by `open`.

    Searches may run in several threads and processes while one writes; each sees a committed state.
    What it has read stays open. Pickled are its folder and settings, with which it is opened again.
    """

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
        if stored is not None or gallery.directory.name == FOLDER:
            gallery._root = root_from(stored, gallery.directory, Path(folder))
        else:
            with suppress(GalleryError), gallery._files.reading() as store:  # if it can be read
                gallery._find_root(store, Path(folder))
        gallery._check_root()
        encoder = gallery._model.open()
        report = rebuild(
            gallery._files,
            gallery.root,
            gallery._meta(encoder.info),
            encoder,
            lsh_settings_for(lsh, encoder.info),
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
            add_patterns(self.directory, several(patterns))

    def remove(self, paths: Sequence[Path_]) -> int:
        """Take images out of the gallery and keep them out; no file is touched.

        Args:
            paths: of indexed images or skipped files, relative to the gallery's folder or any other
                path to them; folders with such; or shell patterns (see `glob_matcher`).

        Raises:
            GalleryError: one is not in the gallery; none is removed then.
        """
        with self._files.writing() as (store, index):
            rows = take_out_rows(store, self.root, several(paths))
            index.remove([row.id for row in rows if row.skipped is None])
            index.save(self._files.index_folder)
            return len(rows)

    def restore(self, paths: Sequence[Path_]) -> int:
        """Undo `remove`; the next update indexes the images again.

        Raises:
            GalleryError: one was not removed; none is restored then.
        """
        with self._files.writing() as (store, _):
            return restore_rows(store, self.root, several(paths))

    # ---- search ----------------------------------------------------------------------------------

    def find(self, queries: Sequence[Query], k: int, how: SearchOptions) -> list[Hits]:
        """See `search`; once more if a writer has changed the gallery meanwhile."""
        for last in attempts():
            with self._files.reading_all() as (store, index):
                known = made_with(store)
                self._model.check(known, self._rebuild_command)
                graph = None if how.get("expand") is False else self._files.graph(index)
                snapshot = Snapshot(
                    self._files, index, store.pairs(), (), True, graph, measured(known), store
                )
                try:
                    encoder, limits = partial(self._matching_encoder, known), self._limits()
                    found = snapshot.find(store, index, self.root, queries, k, encoder, limits, how)
                except GalleryError:
                    self._files.check_table(large=True)  # which may hide a row
                    raise
            is_whole = all(len(near) == k for near in found) and self._files.index_is(index)
            if last or is_whole or not snapshot.strangers:
                break
        if snapshot.strangers:  # of an update that was killed, or of a table that hides rows
            self._files.check_table(large=True)
        return found

    def encode(self, images: Iterable[Query]) -> NDArray[np.float32]:
        """The unit embeddings of images, (n, dim): files, in the gallery or not, and whatever else
        `search` takes. Raises as `search`."""
        with self._files.reading_all() as (store, index):
            encoder = partial(self._matching_encoder, made_with(store))
            embedded = embed_queries(
                store, index, self.root, several(images), encoder, self._limits()
            )
            rows = [query.vector for query in embedded]
            return np.array(rows, np.float32).reshape(len(rows), index.settings.dim)

    def duplicates(
        self,
        threshold: float = 0.95,
        *,
        kinds: Collection[Kind] = COPIES,
        keep: KeepRule = ORIGINAL,
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
            progress: called with how far each step is, whose ``stage`` says what it counts.

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
                compared=self.directory / COMPARED,
            )

    def themes(self, *, depth: int = 10, smallest: int = 5) -> list[Theme]:
        """What the images show: groups of them, each around its most central image, largest first.

        Args:
            depth: nearest images of each that count, at most 50; more make larger themes.
            smallest: images of a theme, at least.

        Raises:
            GalleryError: there is no neighbour graph.
            ValueError: a number below 1 or not whole.
        """
        check_count("depth", depth)
        check_count("smallest", smallest)
        with self._files.reading_all() as (store, index):
            return find_themes(self._files, store, index, depth, smallest)

    def outliers(self, k: int = 20, *, depth: int = 10) -> list[Outlier]:
        """The ``k`` images whose ``depth`` nearest are farthest, farthest first; raises as
        `themes`."""
        check_count("k", k)
        check_count("depth", depth)
        with self._files.reading_all() as (store, index):
            return find_outliers(self._files, store, index, k, depth)

    def neighbours(self, path: Path_, k: int = 10) -> Hits:
        """The ``k`` nearest others of an indexed image, at most 50, without a search: best first.

        Raises:
            GalleryError: it is not an indexed image, or newer than the neighbour graph, or there
                is none.
            ValueError: k below 1 or not whole.
        """
        check_count("k", k)
        with self._files.reading_all() as (store, index):
            row = self._indexed(store, path)
            found = find_neighbours(self._files, store, index, row.id, k)
            bits = index.settings.code_bits
            return as_hits(found, self.root, bits, store.pairs())

    def _indexed(self, store: Store, path: Path_) -> ImageRow:
        row = row_of(store, self.root, path)
        if row is None or row.skipped is not None:
            raise GalleryError(f"{os.fspath(path)} is not an indexed image of {self.root}")
        return row

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
                hashes = [self._indexed(store, path).hash or b"" for path in pair]
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
            if len(index) < TUNE_FROM and not force:
                raise GalleryError(
                    f"the gallery has {len(index):,} images; below {TUNE_FROM:,} the default "
                    f"settings look at nearly all of them anyway, and settings chosen now would "
                    f"hurt when it grows (--force, or force=True, tunes all the same)"
                )
            before = (store.meta("tuning") or {}).get("before", index.settings.as_dict())
            try:
                report = index.tune(target_recall, k)
            except ValueError as error:
                raise GalleryError(f"cannot tune: {error}") from error
            index.save(self._files.index_folder)
            tuning = {"before": before, "target_recall": target_recall, "k": k}
            tuning |= {"recall": report.expected.recall, "images": len(index)}
            with store.transaction():
                store.set_meta({"tuning": tuning})
            return report

    def reset_tuning(self) -> LSHSettings:
        """Undo `tune`: return to the settings from before the first time, and return them."""
        with self._files.writing() as (store, index):
            settings, tuning = index.settings, store.meta("tuning")
            if tuning is None:  # lost with a table, if there was any
                plain = LSHSettings(settings.dim)
                usual = {name: getattr(plain, name) for name in ("tables", "key_bits", "search")}
                settings = replace(settings, **usual)
            else:
                settings = LSHSettings.from_dict(tuning["before"])
                if settings.dim != index.settings.dim:
                    raise store.damaged("its entry 'tuning' is of another index")
            if settings != index.settings:
                index.with_settings(settings).save(self._files.index_folder)
            with store.transaction():
                store.set_meta({"tuning": None})
            return settings

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
        self._files.check_table(large=True)
        with self._files.reading_all() as (store, index):
            tuning = store.meta("tuning")
            return GalleryInfo(
                root=self.root,
                directory=self.directory,
                **store.counts()._asdict(),
                model=made_with(store),
                lsh=index.settings,
                segments=len(index.segments()),
                disk_bytes=self._files.disk_bytes(),
                pairs=store.pairs(),
                tuning=tuning and {name: tuning[name] for name in tuning if name != "before"},
                unfinished=bool(store.meta("unfinished")),
            )

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
