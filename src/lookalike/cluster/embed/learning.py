"""Hash functions learned from a sample of a job's images, before its chunks are embedded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lookalike.cluster.embed.reading import Item, Read, items_of, read_item
from lookalike.cluster.job.descriptor import Chunk, ChunkList
from lookalike.cluster.job.folder import Folder
from lookalike.encoder import Encoded, Encoder
from lookalike.errors import GalleryError
from lookalike.images import DEFAULT_MAX_PIXELS
from lookalike.lsh import LSHSettings
from lookalike.lsh.hashing import Hasher

__all__ = ["learned_hasher"]

SAMPLE = 1024
"""At least so many images; and one for each bucket, which may be a cell around it."""
PER_CHUNK = 64


def learned_hasher(
    settings: LSHSettings,
    folder: Folder,
    count: int,
    root: str,
    encoder: Encoder,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Hasher:
    """Hash functions fitted on some of a job's images, drawn by the seed: a sixteenth of them, or
    1,024. Fewer key bits than ``settings`` says come of fewer images than buckets.

    Args:
        folder: of the job, which has its list of ``count`` chunks already.
        root: the folder that paths are relative to.

    Raises:
        GalleryError: none of them can be read.
    """
    rng = np.random.default_rng(settings.seed)
    sample = max(SAMPLE, 1 << (settings.key_bits or 0))
    number = min(count, max(1, sample // PER_CHUNK))
    chosen = np.sort(rng.permutation(count)[:number])
    each = -(-sample // number)
    found: list[NDArray[np.float32]] = []
    for chunk in ChunkList(folder, chosen.tolist()):
        found += _embedded(chunk, root, encoder, max_pixels, rng, each)
    if not found:
        raise GalleryError(
            f"none of the images of {number} chunks could be read, so there is nothing to learn "
            f"from; leave out --learn to see why each was skipped"
        )
    hasher = Hasher.fit(settings, np.stack(found[:sample]))
    if settings.key_bits is None or settings.key_bits <= hasher.max_key_bits:
        return hasher
    return replace(hasher, settings=replace(settings, key_bits=hasher.max_key_bits))


def _embedded(
    chunk: Chunk,
    root: str,
    encoder: Encoder,
    max_pixels: int,
    rng: np.random.Generator,
    number: int,
) -> list[NDArray[np.float32]]:
    """Embeddings, each (dim,), of at most so many images of a chunk."""
    items = list(items_of(chunk, root))
    some = [items[i] for i in np.sort(rng.permutation(len(items))[:number])]

    def read(item: Item) -> Read:
        return read_item(item, encoder.info.input_size, max_pixels)

    outcomes = encoder.encode(some, read)
    return [outcome.embedding for outcome in outcomes if isinstance(outcome, Encoded)]
