"""Files that show the same picture: candidates by perceptual hash and embedding, each pair checked.

A candidate is a pair of contents whose hashes differ in a few bits, as they are, mirrored or
turned, or whose embeddings are near. Those that small outlines do not rule out are compared part by
part (`likeness.compare`); what agrees is connected, and within what is connected each file is
compared with the one to keep, once more and larger, before it is proposed.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike import __version__
from lookalike.errors import IndexFormatError
from lookalike.gallery.keep import KINDS, LOSSLESS, UNLIKE, Kind
from lookalike.gallery.outlines import Outlines
from lookalike.gallery.query import is_as_indexed
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.store import Store
from lookalike.images import SkippedImageError
from lookalike.images.decoder import Decoder
from lookalike.images.likeness import COMPARISON, adds_border, compare, hash_variants
from lookalike.images.outcome import Look
from lookalike.lsh import LSHIndex
from lookalike.lsh.arrayfile import open_arrays, write_arrays
from lookalike.lsh.join import Forest, hamming_pairs
from lookalike.progress import Progress
from lookalike.threads import cores

HASH_BOUND = 10
"""Bits in which the hashes of an image and its copy, mirrored perhaps, differ at most."""
NEAR = 8
"""Neighbours by embedding that are looked at."""
NEAR_COSINE = 0.8
"""From here on they are candidates; from FAR_COSINE on those that differ in FAR_BOUND bits."""
FAR_COSINE = 0.55
FAR_BOUND = 16
COMMON = 8
"""Contents of the same hash that each is compared with."""
CHECKED_SIDE = 160
CONFIRMED_SIDE = 640
"""Longest side, in pixels, of what is compared: of candidates, and of what is proposed."""
PIXELS_KEPT = 24 << 20
"""Of images that are kept in memory, at 4 bytes each."""
GREY = 8
"""Levels by which the channels of a pixel without colour differ at most."""
ROUNDING = 0.04
"""By which the width of a part may seem larger than it is."""
QUERIES = 1024
Pairs = NDArray[np.int64]
KIND, PAIR = "compared", 32
LAYOUT = {"pairs": (2, "|u1"), "places": (1, "<i2")}
"""Of the file of what was compared: the digests of two contents, and how they are alike."""


@dataclass(frozen=True)
class _Contents:
    """Different contents, each with the first row that has it.

    Attributes:
        ids: (n,) of those rows.
        hashes: (n,) perceptual, where there is one.
        known: (n,) whether there is.
        members: the ids of all rows of each content.
    """

    ids: NDArray[np.int64]
    hashes: NDArray[np.int64]
    known: NDArray[np.bool_]
    members: list[list[int]]


def _size(look: Look | None) -> int:
    return 0 if look is None else look.image.width * look.image.height


def _is_grey(look: Look) -> bool:
    return int(np.ptp(np.asarray(look.image), axis=2).max()) <= GREY


class Copies:
    """The copies of one gallery, as of one moment."""

    def __init__(
        self,
        store: Store,
        index: LSHIndex,
        root: Path,
        decoder: Decoder,
        kinds: Collection[Kind],
        progress: Callable[[Progress], None] | None = None,
        compared: Path | None = None,
    ) -> None:
        """``kinds``: those that count; ``compared``: the file of pairs that the last run has
        compared when they are small. What is proposed is compared each time, larger."""
        self._store, self._index, self._root = store, index, root
        self._decoder, self._progress = decoder, progress
        self._wanted = frozenset(kinds)
        self._distinct = {frozenset(pair) for pair in store.distinct()}
        self._looks: OrderedDict[tuple[int, int], Look | None] = OrderedDict()
        self._traits: dict[int, tuple[bool, bool]] = {}
        self._kinds: dict[tuple[int, int], Kind | None] = {}
        self._proven: dict[tuple[int, int], Kind | None] = {}
        self._digests: dict[int, bytes | None] = {}
        self._pixels = 0
        self._file = compared
        self._earlier = self._read_compared()
        self._compared: dict[bytes, int] = {}
        self._changing = threading.Lock()

    # ---- candidates ------------------------------------------------------------------------------

    def groups(self) -> list[NDArray[np.int64]]:
        """Ids of files that pairs of copies connect, each ascending (m,); by their first id."""
        contents = self._read_contents()
        forest = Forest(len(contents.ids))
        if self._wanted - {Kind.BYTES} and len(contents.ids) > 1:
            pairs = self._candidates(contents)
            self._connect(self._likely(pairs, contents.ids), contents.ids, forest)
        connected = defaultdict[int, list[int]](list)
        for at, label in enumerate(forest.labels().tolist()):
            connected[label] += contents.members[at]
        return [np.sort(np.array(ids, np.int64)) for ids in connected.values() if len(ids) > 1]

    def _read_contents(self) -> _Contents:
        """Those of which the embedding shows all, and others as far as they have equal files."""
        query = "SELECT id, hash, phash, note FROM images WHERE skipped IS NULL ORDER BY id"
        members: dict[bytes, list[int]] = {}
        found: dict[bytes, int | None] = {}
        for number, digest, phash, note in self._store.read(query):
            members.setdefault(digest, []).append(number)
            found.setdefault(digest, None if note is not None else phash)
        hashes = [value if isinstance(value, int) else None for value in found.values()]
        return _Contents(
            np.array([ids[0] for ids in members.values()], np.int64),
            np.array([value or 0 for value in hashes], np.int64),
            np.array([value is not None for value in hashes], np.bool_),
            list(members.values()),
        )

    def _candidates(self, contents: _Contents) -> Pairs:
        """Rows of pairs of contents (m, 2), the first below the second."""
        found = [np.empty((0, 2), np.int64)]
        found += self._near_hashes(contents)
        found += self._near_embeddings(contents)
        pairs: Pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
        apart: Pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        return apart

    def _near_hashes(self, contents: _Contents) -> Iterator[Pairs]:
        known = np.flatnonzero(contents.known)
        if len(known) < 2:
            return
        hashes, inverse = np.unique(contents.hashes[known], return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        for step in range(1, COMMON + 1):  # of equal hashes, each with the next few
            same = inverse[order[step:]] == inverse[order[:-step]]
            yield known[np.stack([order[:-step][same], order[step:][same]], axis=1)]
        first = known[order[np.searchsorted(inverse[order], np.arange(len(hashes)))]]
        variants = hash_variants(hashes)
        for number, turned in enumerate(variants):
            if number == 0:
                met = hamming_pairs(variants[0][:, np.newaxis], HASH_BOUND)
            else:
                both = np.concatenate([variants[0], turned])[:, np.newaxis]
                sides = np.repeat([0, 1], len(hashes))
                met = hamming_pairs(both, HASH_BOUND, labels=sides)
            for pairs in met:
                yield first[pairs % len(hashes)]

    def _near_embeddings(self, contents: _Contents) -> Iterator[Pairs]:
        """Of contents whose embedding is there, which a damaged gallery may lack, and shows all."""
        known = np.flatnonzero(contents.known & np.isin(contents.ids, self._index.ids))
        ids = contents.ids[known]
        allowed = None if len(ids) == len(self._index) else ids
        for start in range(0, len(ids), QUERIES):
            some = ids[start : start + QUERIES]
            found = self._index.search(
                self._index.vectors(some.tolist()), min(NEAR + 1, len(ids)), allowed=allowed
            )
            at, column = np.nonzero((found.cosines >= FAR_COSINE) & (found.ids >= 0))
            pairs = np.stack([at + start, np.searchsorted(ids, found.ids[at, column])], axis=1)
            one, two = (contents.hashes[known[pairs[:, side]]] for side in (0, 1))
            bits = np.bitwise_count(one ^ two)
            near = (found.cosines[at, column] >= NEAR_COSINE) | (bits <= FAR_BOUND)
            yield known[pairs[near]]

    # ---- the check -------------------------------------------------------------------------------

    def _likely(self, pairs: Pairs, ids: NDArray[np.int64]) -> Pairs:
        """Those of ``pairs`` whose images are roughly alike, by one small version of each."""
        places, at = np.unique(pairs, return_inverse=True)
        outlines = Outlines(len(places))

        def outline(place: int, row: ImageRow | None) -> None:
            look = None if row is None else self._look(row)
            if look is not None:
                outlines.set(place, look.image)

        with ThreadPoolExecutor(cores(), "lookalike") as pool:
            for start in range(0, len(places), QUERIES):
                some = ids[places[start : start + QUERIES]].tolist()
                rows = self._store.by_ids(some)
                for _ in pool.map(outline, itertools.count(start), map(rows.get, some)):
                    pass
                self._report(start + len(some), len(places), "images looked at")
        return pairs[outlines.may_agree(at.reshape(pairs.shape))]

    def _report(self, done: int, total: int, stage: str) -> None:
        if self._progress is not None:
            self._progress(Progress(done, total, stage=stage))

    def _connect(self, pairs: Pairs, ids: NDArray[np.int64], forest: Forest) -> None:
        """Unite those of ``pairs`` that are alike, but for what others connect already.

        In each round no content is in two pairs, so that n copies of one image cost about n
        comparisons.
        """
        left = pairs.tolist()
        with ThreadPoolExecutor(cores(), "lookalike") as pool:
            while left:
                labels = forest.labels().tolist()
                used, now, later = set[int](), list[list[int]](), list[list[int]]()
                for pair in left:
                    ends = {labels[pair[0]], labels[pair[1]]}
                    if len(ends) == 2:
                        (later if ends & used else now).append(pair)
                        used |= ends
                for start in range(0, len(now), QUERIES):
                    some = now[start : start + QUERIES]
                    rows = self._store.by_ids({int(ids[at]) for pair in some for at in pair})

                    def check(pair: list[int], rows: dict[int, ImageRow] = rows) -> bool:
                        one, two = (rows.get(int(ids[at])) for at in pair)
                        return one is not None and two is not None and bool(self._alike(one, two))

                    alike = np.array(list(pool.map(check, some)), np.bool_)
                    forest.unite(np.array(some, np.int64)[alike])
                    done = len(pairs) - len(later) - len(now) + start + len(some)
                    self._report(done, len(pairs), "pairs compared")
                left = later
        self._report(len(pairs), len(pairs), "pairs compared")

    def _alike(self, one: ImageRow, two: ImageRow) -> Kind | None:
        """How two contents are alike when they are small."""
        key = min(one.id, two.id), max(one.id, two.id)
        if key not in self._kinds:
            pair = b"".join(sorted((one.hash or b"", two.hash or b"")))
            place = self._earlier.get(pair)
            if place is None:
                looks = self._look(one), self._look(two)
                kind = None
                if looks[0] is not None and looks[1] is not None:
                    found = compare(looks[0].image, looks[1].image, CHECKED_SIDE)
                    kind = None if found is None else Kind(found)
                    if all(is_as_indexed(self._root, row, if_gone=False) for row in (one, two)):
                        place = UNLIKE if kind is None else KINDS.index(kind)
            else:
                kind = None if place == UNLIKE else KINDS[place]
            if place is not None:
                self._compared[pair] = place
            self._kinds[key] = kind
        return self._kinds[key]

    def _read_compared(self) -> dict[bytes, int]:
        """Two contents -> the place of how they are alike. Empty if the file is of no use."""
        if self._file is None:
            return {}
        with suppress(IndexFormatError, OSError):
            file = open_arrays(self._file, KIND)
            found = {name: (array.ndim, array.dtype.str) for name, array in file.arrays.items()}
            if file.meta == self._meta() and found == LAYOUT and not file.damaged():
                pairs, places = file.arrays["pairs"], file.arrays["places"].tolist()
                known = {UNLIKE, *range(len(KINDS))}
                if pairs.shape == (len(places), PAIR) and known.issuperset(places):
                    return dict(zip(map(bytes, pairs), places, strict=True))
        return {}

    def keep(self) -> None:
        """Keep what was compared for the next run; a gallery that is only read goes without."""
        if self._file is None or self._compared in ({}, self._earlier):
            return
        pairs = np.frombuffer(b"".join(self._compared), np.uint8).reshape(-1, PAIR)
        places = np.array([*self._compared.values()], np.int16)
        with suppress(OSError):
            arrays: dict[str, NDArray[Any]] = {"pairs": pairs, "places": places}
            write_arrays(self._file.parent, KIND, self._meta(), arrays, fixed_name=self._file.name)

    def _meta(self) -> dict[str, object]:
        rules = [__version__, COMPARISON, CHECKED_SIDE, *map(str, KINDS)]
        return {"owner": self._index.owner, "rules": rules}

    def _look(self, row: ImageRow, side: int = CHECKED_SIDE) -> Look | None:
        """The file's image at this size; None if it cannot be read."""
        key = row.id, side
        with self._changing:
            if key in self._looks:
                self._looks.move_to_end(key)
                return self._looks[key]
        try:
            path = self._root / os.fsdecode(row.path)
            look = self._decoder.look_at(path, longest_side=side)
        except SkippedImageError:
            look = None
        with self._changing:
            self._looks[key] = look
            self._pixels += _size(look)
            while self._pixels > PIXELS_KEPT:
                self._pixels -= _size(self._looks.popitem(last=False)[1])
        return look

    def traits(self, row: ImageRow) -> tuple[bool, bool]:
        """Whether a camera has left its name in the file, and whether it has no colours."""
        if row.note is not None:
            return False, False
        if row.id not in self._traits:
            look = self._look(row)
            found = (False, False) if look is None else (bool(look.shot[0]), _is_grey(look))
            self._traits[row.id] = found
        return self._traits[row.id]

    def adds_border(self, one: ImageRow, two: ImageRow) -> bool:
        """Whether a file is another one, no larger, with a border of one colour around it."""
        looks = self._look(one, CONFIRMED_SIDE), self._look(two, CONFIRMED_SIDE)
        if looks[0] is None or looks[1] is None or not one.width or not two.width:
            return False
        share = adds_border(looks[0].image, looks[1].image, CONFIRMED_SIDE)
        return share is not None and share * one.width <= (1 + ROUNDING) * two.width

    def kind(self, one: ImageRow, two: ImageRow, cosine: float, bits: int) -> Kind | None:
        """How two files are alike, if in a way that counts; proven as well as it can be.

        Args:
            cosine: of their embeddings.
            bits: in which their hashes differ, mirrored or turned as it is best.
        """
        if frozenset((one.hash, two.hash)) in self._distinct:
            return None
        if one.hash is not None and one.hash == two.hash:
            return self._counted(Kind.BYTES)
        if one.note is not None or two.note is not None:
            return None
        key = min(one.id, two.id), max(one.id, two.id)
        if key not in self._kinds and bits > FAR_BOUND and cosine < FAR_COSINE:
            return None
        if self._wanted <= {Kind.BYTES} or self._alike(one, two) is None:
            return None
        if key not in self._proven:
            self._proven[key] = self._confirmed(one, two)
        return self._counted(self._proven[key])

    def _counted(self, kind: Kind | None) -> Kind | None:
        return kind if kind in self._wanted else None

    def _confirmed(self, one: ImageRow, two: ImageRow) -> Kind | None:
        """How two files are alike when they are larger."""
        same_size = (one.width, one.height) == (two.width, two.height)
        is_lossless = one.format in LOSSLESS and two.format in LOSSLESS
        if same_size and self._digest(one) == self._digest(two) is not None:
            return Kind.PIXELS
        looks = self._look(one, CONFIRMED_SIDE), self._look(two, CONFIRMED_SIDE)
        if looks[0] is None or looks[1] is None:
            return None
        if any(a and b and a != b for a, b in zip(looks[0].shot, looks[1].shot, strict=True)):
            return None  # of a burst, or of a series of exposures
        strict = same_size and is_lossless
        found = compare(looks[0].image, looks[1].image, CONFIRMED_SIDE, is_lossless=strict)
        return None if found is None else Kind(found)

    def _digest(self, row: ImageRow) -> bytes | None:
        """Of all pixels; None if they cannot be read."""
        if row.id not in self._digests:
            try:
                path = self._root / os.fsdecode(row.path)
                self._digests[row.id] = self._decoder.pixel_digest(path)
            except SkippedImageError:
                self._digests[row.id] = None
        return self._digests[row.id]

    @staticmethod
    def differing_bits(rows: Sequence[ImageRow]) -> NDArray[np.int64]:
        """Bits in which the hashes of rows differ, mirrored or turned as it is best: (n, n); 64
        where one is not known."""
        hashes = np.array([row.phash or 0 for row in rows], np.int64)
        known = np.array([row.phash is not None for row in rows], np.bool_)
        variants = hash_variants(hashes)
        found = np.full((len(rows), len(rows)), 64, np.int64)
        for turned in variants:
            differ = np.bitwise_count(variants[0][:, np.newaxis] ^ turned).astype(np.int64)
            found = np.minimum(found, differ)
        found[~known, :] = 64
        found[:, ~known] = 64
        return found
