"""A gallery whose images are searched by shards, with the methods of a local one."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.cluster.client import Shards
from lookalike.cluster.deployment import Deployment
from lookalike.cluster.parts import Parts
from lookalike.cluster.shard import default_cache
from lookalike.cluster.view import (
    JOB_SECONDS,
    Facts,
    ShardedReader,
    ShardedSnapshot,
    near_groups,
)
from lookalike.encoder import Encoder, ModelInfo, model_name
from lookalike.errors import ClusterError, GalleryError
from lookalike.gallery.duplicates import Duplicates, Proposals
from lookalike.gallery.hits import smallest_cosine
from lookalike.gallery.keep import COPIES, ORIGINAL, KeepRule, Kind
from lookalike.gallery.listing import Hits
from lookalike.gallery.opening import GalleryModel
from lookalike.gallery.protocol import ImageGallery, Path_
from lookalike.gallery.query import Query, embed_queries, row_of
from lookalike.gallery.removal import restore_rows, take_out_rows
from lookalike.gallery.repair import changed_contents
from lookalike.gallery.report import GalleryInfo, UpdateReport
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import SearchOptions
from lookalike.images.decoder import Limits
from lookalike.lsh.exact import Neighbors
from lookalike.progress import Progress

ANNOUNCE_SECONDS = 60.0


def open_uri(
    uri: str, model: GalleryModel | None = None, limits: Limits | None = None
) -> ShardedGallery:
    """Open the gallery that ``ray://NAME`` or ``ray://NAME@HOST:PORT`` names.

    Raises:
        ClusterError: no Ray there, or no gallery of that name.
    """
    name, at, address = uri.removeprefix("ray://").partition("@")
    if not name or "/" in name or (at and not address):
        raise ClusterError(
            f"{uri!r} is not the address of a gallery in shards; write ray://NAME, or "
            f"ray://NAME@HOST:PORT with the address of Ray's head"
        )
    shards = Shards(name, address or None)
    return ShardedGallery(shards, uri, model or GalleryModel(), limits or Limits())


class ShardedGallery(ImageGallery):
    """What `Gallery` does, which explains each method; made by `Gallery.open` of its URI.

    Threads may share it. Searches need neither the image files nor the parts; what changes the
    gallery writes to the parts first, and needs both.
    """

    def __init__(self, shards: Shards, uri: str, model: GalleryModel, limits: Limits) -> None:
        self._shards = shards
        self._uri = uri
        self._model = model
        self._limits, self.max_pixels = limits, limits.max_pixels
        self._reader = ShardedReader(shards)

    @property
    def deployment(self) -> Deployment:
        """Where it is served."""
        return self._shards.deployment

    @property
    def root(self) -> Path:
        """What paths are relative to; need not be on this machine."""
        return Path(self.deployment.root)

    @property
    def directory(self) -> Path:
        """A folder of this machine, made now, for what can be made again: thumbnails."""
        name = hashlib.blake2b(f"{self._uri} {self.deployment.where}".encode(), digest_size=8)
        folder = Path(default_cache()) / f"client-{name.hexdigest()}"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def _known_model(self) -> ModelInfo:
        return self.deployment.known_model

    def encoder(self) -> Encoder:
        return self._model.matching(self._known_model, self._rebuild_command)

    def _rebuild_command(self) -> str:
        made = self.deployment
        embed = ["lookalike", "cluster", "embed", made.root or "SOURCE", "--out", "NEW_DIR"]
        if self._model.path is not None:
            embed += ["--model", model_name(self._model.path)]
        name = self._shards.name
        new = f"lookalike cluster start NEW_DIR --name {name}-new --shards {made.shards}"
        return f"{shlex.join(embed)}; {new}; lookalike cluster switch {name} {name}-new"

    # ---- change ----------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, wait: float = 0.0) -> Iterator[Any]:
        """Files, table and index of `writer.writing`; the shards have taken all in at the end."""
        from lookalike.cluster.writer import writing

        newest = [0]

        def committed(version: int) -> None:
            newest[0] = version
            self._shards.announce(version, 0.0)

        with writing(Parts.open(self.deployment.where), wait, committed) as opened:
            yield opened
        if newest[0] and (late := self._shards.announce(newest[0], ANNOUNCE_SECONDS)):
            raise ClusterError(
                f"the change is written and safe, but {', '.join(late)} did not take it in within "
                f"{ANNOUNCE_SECONDS:.0f} s; see: lookalike cluster status {self._shards.name}"
            )

    def update(
        self,
        progress: Callable[[Progress], None] | None = None,
        *,
        wait: float = 0.0,
        accept_missing: bool = False,
    ) -> UpdateReport:
        """As `Gallery.update`: what is new is embedded here, and written to the parts first.

        A gallery that was embedded from a list is compared with the files that the list names now.
        """
        from lookalike.cluster.writer import listed_files
        from lookalike.gallery.update import Update

        listed = listed_files(Parts.open(self.deployment.where).job)
        self._model.check(self._known_model, self._rebuild_command)
        with self._writing(wait) as (files, store, index):
            run = Update(
                self.root,
                files,
                store,
                index,
                self.encoder,
                self._limits,
                accept_missing=accept_missing,
                listed=listed,
            )
            return run.run(progress)

    def remove(self, paths: Sequence[Path_]) -> int:
        with self._writing() as (_, store, _index):
            return len(take_out_rows(store, self.root, paths))

    def restore(self, paths: Sequence[Path_]) -> int:
        with self._writing() as (_, store, _index):
            return restore_rows(store, self.root, paths)

    # ---- search ----------------------------------------------------------------------------------

    def find(self, queries: Sequence[Query], k: int, how: SearchOptions) -> list[Hits]:
        """See `search`.

        Raises:
            ClusterBusyError: a shard has too much to do.
            ClusterError: shards do not answer; the message names them.
            GalleryError: ``expand``, which shards cannot.
        """
        self._model.check(self._known_model, self._rebuild_command)
        shards = self._reader.now()
        return shards.find(shards, shards, self.root, queries, k, self.encoder, self._limits, how)

    def encode(self, images: Iterable[Query]) -> NDArray[np.float32]:
        shards, queries = self._reader.now(), list(images)
        embedded = embed_queries(shards, shards, self.root, queries, self.encoder, self._limits)
        rows = np.array([query.vector for query in embedded], np.float32)
        return rows.reshape(len(queries), self._known_model.dim)

    def nearest(self, queries: ArrayLike, k: int = 10, *, exact: bool = False) -> Neighbors:
        """Ids and cosines of the nearest images of a batch of embeddings (q, dim), by one call to
        each shard; as `LSHIndex.search`."""
        return self._reader.now().near(np.atleast_2d(np.asarray(queries, np.float32)), k, exact)

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
        """By embedding alone, within each shard and between them: what is not of the same bytes is
        Kind.SHOT, whatever ``kinds``; the largest is kept.

        Where the images' folder is not on this machine, files cannot be compared with what was
        indexed, and none is left out for it.
        """
        if not -1 < threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it must be above -1 and at most 1")
        near = near_groups(self._shards, smallest_cosine(threshold), progress)
        shards, root, here = self._reader.now(), self.root, self.root.is_dir()
        found = Proposals(shards, shards, root, reference, filter, progress, here=here)
        return found.made(found.of(near, found.by_cosine(threshold)))

    # ---- facts -----------------------------------------------------------------------------------

    def info(self) -> GalleryInfo:
        """Counts, model, index, and where it lies. ``disk_bytes`` are those of one copy."""
        made, facts = self.deployment, Facts(self._shards)
        served = {"parts": made.where, "shards": made.shards, "replicas": made.replicas}
        return GalleryInfo(
            root=self.root,
            directory=Path(made.where),
            images=facts.images,
            skipped=facts.skipped,
            removed=facts.removed,
            model=self._known_model,
            lsh=facts.settings,
            segments=facts.segments,
            disk_bytes=facts.disk_bytes,
            pairs=facts.pairs,
            tuning=None,
            unfinished=self.unfinished(),
            served={"gallery": self._uri, **served},
        )

    def unfinished(self) -> bool:
        return any(self._shards.ask("is_unfinished", of=[0]))

    def skipped(self) -> list[ImageRow]:
        return ShardedSnapshot(self._shards, Facts(self._shards)).skipped()

    def __len__(self) -> int:
        return Facts(self._shards).images

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str | os.PathLike):
            return False
        row = row_of(self._reader.now(), self.root, path)
        return row is not None and row.skipped is None

    def close(self) -> None:
        """As `Gallery.close`: the next call connects again."""
        self._shards.close()

    def reader(self) -> ShardedReader:
        """For the web page."""
        return ShardedReader(self._shards)

    def verify(self, *, contents: bool = False) -> list[str]:
        """As `Gallery.verify`: the parts, each read whole, and one replica of every shard."""
        parts = Parts.open(self.deployment.where)
        problems = parts.verify()
        for shard, found in enumerate(self._shards.ask("verify", deadline=JOB_SECONDS)):
            problems += [f"shard {shard}: {problem}" for problem in found]
        if contents and not problems:
            for name in parts.refresh():
                problems += changed_contents(parts.live(name, vectors=False).images, self.root)
        return problems

    def tune(self, target_recall: float = 0.95, k: int = 10, *, force: bool = False) -> NoReturn:
        """Raises GalleryError: hash functions and settings are each shard's own."""
        raise GalleryError(
            "shards are not tuned: each has hash functions of its own, is built again wherever "
            "Ray starts it, and searches by the defaults. Tune a gallery on disk that is made of "
            f"the parts: lookalike index FOLDER --from {shlex.quote(self.deployment.where)}, then "
            "lookalike tune"
        )

    def reset_tuning(self) -> NoReturn:
        """Raises GalleryError."""
        self.tune()
