"""A gallery whose table and index lie in a Valkey Cluster, with the methods of a local one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lookalike.cluster.collection.collection import Collection, ReplacedError
from lookalike.cluster.collection.index import ClusterIndex
from lookalike.cluster.collection.lock import WriterLock
from lookalike.cluster.facts import ClusterInfo
from lookalike.cluster.refusing import ServedGallery
from lookalike.cluster.store import ClusterStore
from lookalike.cluster.uri import ClusterURI
from lookalike.encoder import Encoder, EncoderSettings
from lookalike.errors import ClusterError, GalleryError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.gallery import Path_
from lookalike.gallery.hits import Hit
from lookalike.gallery.report import Progress, UpdateReport
from lookalike.gallery.searching import Query, find, hits, row_of
from lookalike.gallery.store import OWN_SHEET, REMOVED, ImageRow

if TYPE_CHECKING:
    from lookalike.cluster.truth import Writing

__all__ = ["ClusterGallery"]

ATTEMPTS = 5
"""How often a question is asked anew because the collection was loaded anew meanwhile."""
Answer = TypeVar("Answer")


class ClusterGallery(ServedGallery):
    """A collection in a cluster as a gallery. Made by `Gallery.open` of its URI.

    Threads may share it. Searches need neither the pictures nor the parts; what changes the gallery
    writes to the parts first, and needs them.
    """

    def __init__(
        self,
        uri: ClusterURI,
        collection: Collection,
        *,
        model: Path | None,
        encoder_settings: EncoderSettings,
        max_pixels: int,
    ) -> None:
        self._uri = uri
        self._index = ClusterIndex(collection)
        super().__init__(
            Path(collection.root),
            GalleryFiles(Path(self.parts)),
            model=model,
            encoder_settings=encoder_settings,
            max_pixels=max_pixels,
        )

    @property
    def parts(self) -> str:
        """Folder or URI of the parts, the truth."""
        return self._uri.parts or self._index.collection.parts

    def close(self) -> None:
        """Close the connections to the servers."""
        self._index.collection.connection.close()

    def _ask(self, question: Callable[[ClusterIndex], Answer]) -> Answer:
        """The answer of one generation: asked again if another took its place meanwhile."""
        reason: Exception | None = None
        for _ in range(ATTEMPTS):
            index = self._index
            try:
                answer = question(index)
                if index.collection.is_current():
                    return answer
            except (ReplacedError, KeyError) as error:  # KeyError: an image that was removed
                reason = error
            except ClusterError:
                raise
            except GalleryError as error:
                if index.collection.is_current():
                    raise
                reason = error
            self._index = ClusterIndex(index.collection.reopened())
        raise ClusterError(
            f"{self._uri} was loaded anew or changed {ATTEMPTS} times while it was asked; try "
            f"again when that is over"
        ) from reason

    def _rebuild_command(self) -> str:
        model = [] if self._model is None else ["--model", os.fspath(self._model)]
        embed = ["lookalike", "cluster", "embed", os.fspath(self.root), "--out", "NEW_DIR"]
        load = ["lookalike", "cluster", "load", "NEW_DIR", "--uri", str(self._uri)]
        return f"{shlex.join([*embed, *model])}; {shlex.join(load)}"

    # ---- change ----------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, wait: float = 0.0) -> Iterator[Writing]:
        """Hold the writer's lock, with the parts at hand and nothing left half done."""
        from lookalike.cluster.truth import Writing  # with pyarrow

        connection = self._index.collection.connection
        with WriterLock(connection, self._uri.name, wait) as lock:
            collection = self._ask(lambda index: index.collection)
            yield Writing.open(self.parts, collection, lock)

    def update(
        self,
        progress: Callable[[Progress], None] | None = None,
        *,
        wait: float = 0.0,
        accept_missing: bool = False,
    ) -> UpdateReport:
        """As `Gallery.update`: what is new is embedded here, and written to the parts first. Files
        that are gone are always dropped."""
        from lookalike.cluster.relisting import check_here
        from lookalike.cluster.updating import Update

        check_here(self._index.collection.root)
        self._check_root()
        with self._writing(wait) as writing:
            self._check_given_model(writing.collection.model)
            encoder = partial(self._matching_encoder, writing.collection.model)
            return Update(writing, encoder, self._max_pixels).run(progress)

    def remove(self, paths: Sequence[Path_]) -> int:
        """As `Gallery.remove`."""
        with self._writing() as writing:
            rows = self._rows_of(paths, writing.collection)
            for path, row in zip(paths, rows, strict=True):
                if row is None or row.skipped in (REMOVED, OWN_SHEET):
                    raise GalleryError(f"{os.fspath(path)} is not an indexed image")
            found = {row.id: row for row in rows if row is not None}
            writing.dismiss(found.values())
            return len(found)

    def restore(self, paths: Sequence[Path_]) -> int:
        """As `Gallery.restore`."""
        with self._writing() as writing:
            rows = self._rows_of(paths, writing.collection)
            for path, row in zip(paths, rows, strict=True):
                if row is None or row.skipped != REMOVED:
                    raise GalleryError(f"{os.fspath(path)} was not removed from this gallery")
            found = {row.id: row for row in rows if row is not None}
            writing.drop(found.values())
            return len(found)

    def _rows_of(self, paths: Sequence[Path_], collection: Collection) -> list[ImageRow | None]:
        store = ClusterStore(collection)
        return [row_of(store, self.root, path) for path in paths]

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
        """As `Gallery.search`, of one generation: what was loaded meanwhile is searched anew.

        Raises:
            GalleryError: also where the collection keeps no vectors, for an exact search, and for
                an indexed image whose file is not here.
            ClusterError: the servers do not answer.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")

        def search(index: ClusterIndex) -> list[Hit]:
            collection = index.collection
            store = ClusterStore(collection)
            self._check_given_model(collection.model)
            source = query
            if collection.settings.vectors == "none":
                if exact:
                    raise GalleryError(
                        f"an exact search compares vectors, and {self._uri} keeps none; load it "
                        f"with --vectors float16"
                    )
                source = self._picture_of(store, query)
            found, _ = find(
                store,
                index,
                self.root,
                source,
                k,
                filter=filter,
                exclude_self=exclude_self,
                exact=exact,
                encoder=partial(self._matching_encoder, collection.model),
                limits=self._limits(),
            )
            code_bits = collection.settings.code_bits
            return hits(found, self.root, code_bits, collection.pairs, threshold)

        return self._ask(search)

    def _picture_of(self, store: ClusterStore, query: Query) -> Query:
        """An indexed image's file, which has to be read again where no vectors are kept."""
        if not isinstance(query, str | os.PathLike):
            return query
        row = row_of(store, self.root, query)
        if row is None or row.skipped is not None:
            return query
        try:
            return (self.root / os.fsdecode(row.path)).read_bytes()
        except OSError as error:
            raise GalleryError(
                f"{os.fspath(query)} is indexed, but {self._uri} keeps no vectors and the file is "
                f"not here ({error.strerror}); search with a copy of the picture, or load the "
                f"collection with --vectors float16"
            ) from error

    # ---- facts -----------------------------------------------------------------------------------

    def encoder(self) -> Encoder:
        """As `Gallery.encoder`."""
        return self._matching_encoder(self._index.collection.model)

    def info(self) -> ClusterInfo:
        """Counts, model, index, and where it lies."""
        return self._ask(self._info)

    def _info(self, index: ClusterIndex) -> ClusterInfo:
        collection = index.collection
        collection.refresh()
        store = ClusterStore(collection)
        return ClusterInfo(
            root=self.root,
            directory=self.directory,
            **store.counts()._asdict(),
            model=collection.model,
            lsh=replace(collection.settings, key_bits=collection.key_bits),
            segments=1,
            disk_bytes=0,
            pairs=collection.pairs,
            tuning=None,
            unfinished=store.unfinished(),
            uri=str(self._uri),
            parts=self.parts,
            generation=collection.generation,
            layout=collection.layout,
            created=collection.created,
            nodes=tuple(collection.connection.primaries()),
            memory=collection.memory(),
        )

    def unfinished(self) -> bool:
        """As `Gallery.unfinished`."""
        return self._ask(lambda index: ClusterStore(index.collection).unfinished())

    def skipped(self) -> list[ImageRow]:
        """As `Gallery.skipped`."""
        return self._ask(lambda index: ClusterStore(index.collection).skipped())

    def __len__(self) -> int:
        def count(index: ClusterIndex) -> int:
            index.collection.refresh()
            return len(index)

        return self._ask(count)
