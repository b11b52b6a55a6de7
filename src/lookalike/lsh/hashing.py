"""The hash functions of one index: vectors -> keys, bucket scores, codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import is_count, open_arrays, write_arrays
from lookalike.lsh.families import CODES, KEYS, MAX_KEY_BITS, Principal, Sample, rotated, signs_of
from lookalike.lsh.settings import LSHSettings
from lookalike.threads import one_blas_thread

SAMPLE = 1 << 15
PRINCIPAL_SAMPLE = 8192
ROWS_IN_CACHE = 256
CORRECTION_HEADROOM = 2.0
LARGEST_ADDITION = 16383
LARGEST = 1e6
"""Above all that a hasher holds, and small enough for scores to be finite in float32."""
NARROW_FROM = 4  # times the bits of a code
FEW = 16
"""Vectors that are rotated without loading compiled code, as for the code of a query."""
Floats = NDArray[np.float32]
Words = NDArray[np.uint32]


class Prepared(NamedTuple):
    """Queries (q, dim), unit rows; what their candidates are ranked by, (q, code_bits); and their
    images in the space of the keys, (q, p).
    """

    queries: Floats
    margins: Floats
    mapped: Floats


class Scoring(NamedTuple):
    """Of a hasher, ``numbers``: what an addition of 1 stands for in correction units (0: there
    are no additions), the correction unit, the least and largest |x - mean|, the |x - mean|^2 whose
    addition is 0, and how far rounding may move the distance of a unit vector to a plane of the
    codes. And the mean, (dim,).
    """

    numbers: Floats
    mean: Floats


class Projection(NamedTuple):
    """What takes a query to its margins and bucket scores: the basis, (dim, s) or (0, 0); the
    planes of the codes and the map of the keys, (s or dim, code_bits + p), or the map alone, after
    the signs of rotations, `Hasher.signs`; what they make of the mean, (code_bits + p,); and the
    anchors of the keys, (p, buckets).

    Matrices are bfloat16, two columns to a word: i in the lower half of word i, width + i in the
    upper, after a column of zeros if their number is odd.
    """

    basis: Words
    signs: Floats
    planes: Words
    of_mean: Floats
    anchors: Words


class Hashed(NamedTuple):
    """Keys (tables, n), codes (n, bytes), corrections (n,), additions (n,) or (0,) of vectors."""

    keys: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    corrections: NDArray[np.int16]
    additions: NDArray[np.int16]


@dataclass(frozen=True)
class Hasher:
    """What turns vectors into keys and codes.

    Attributes:
        settings: what it was drawn from.
        mean: (dim,), subtracted before hashing; zeros unless ``settings.center``.
        basis: (s, dim), orthonormal axes whose coordinates are all that is hashed; (0, dim): the
            vectors' own.
        code_planes: (code_bits, s or dim).
        key_map: (p, s or dim), takes centred vectors to the space of the keys.
        key_points: (tables, m, p): hyperplanes (m = MAX_KEY_BITS) or anchors (m >= 1) per table.
        correction_unit: the length correction that is stored as 1, see :meth:`codes`.
        fitted_on: number of vectors it was fitted on.
        lengths: the least and largest |x - mean| of the vectors it was fitted on; None: queries are
            not centred, as before format 4 and with Hamming ranking.
    """

    settings: LSHSettings
    mean: Floats
    basis: Floats
    code_planes: Floats
    key_map: Floats
    key_points: Floats
    correction_unit: float
    fitted_on: int
    lengths: tuple[float, float] | None = None

    @classmethod
    @one_blas_thread()  # several would round otherwise, and so learn other functions
    def fit(cls, settings: LSHSettings, vectors: Floats) -> Hasher:
        """Draw the hash functions from the seed and, where the family learns, from ``vectors``.

        Args:
            vectors: (n, dim) unit rows, n >= 1; a random sample of them is used if n is large.
        """
        rng = np.random.default_rng(settings.seed)
        count, dim = len(vectors), settings.dim
        if (
            count > SAMPLE
        ):  # what learns nothing draws nothing here: its planes are the seed's alone
            learned = settings.learned
            vectors = vectors[
                rng.choice(count, SAMPLE, replace=False) if learned else slice(SAMPLE)
            ]
        mean = np.zeros(dim, np.float32)
        if settings.center and len(vectors) > 1:
            mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = np.subtract(vectors, mean, dtype=np.float32)
        squares = np.square(centred).sum(axis=1)
        axes = None
        if CODES[settings.codes].learned or KEYS[settings.keys].learned:
            axes = Principal.of(centred[:PRINCIPAL_SAMPLE])
            if axes.hides(centred[:PRINCIPAL_SAMPLE], squares[:PRINCIPAL_SAMPLE]):
                axes = Principal.at_random(rng, min(dim, settings.code_bits), dim)
        basis = np.empty((0, dim), np.float32)
        if axes is not None and (count_axes := _narrow(settings, axes)):
            basis = np.ascontiguousarray(axes.axes[:count_axes])
            centred = centred @ basis.T
            axes = Principal(np.eye(count_axes, dtype=np.float32), axes.variance[:count_axes])
        sample = Sample(rng, centred, axes)
        code_planes = CODES[settings.codes].planes(sample, settings.code_bits)
        key_map, key_points = _key_points(sample, settings)
        if settings.ranking == "asymmetric" and settings.tables == 1:
            matrices = basis, code_planes, key_map, key_points
            basis, code_planes, key_map, key_points = map(_short, matrices)
        projected = np.abs(centred[:1024] @ code_planes.T).sum(axis=1)
        typical = float(np.median(squares[:1024] / np.maximum(projected, np.float32(1e-12))))
        unit = CORRECTION_HEADROOM * max(typical, 1e-12)
        lengths = None
        if settings.ranking == "asymmetric":
            lengths = float(np.sqrt(squares.min())), float(np.sqrt(squares.max()))
        return cls(settings, mean, basis, code_planes, key_map, key_points, unit, count, lengths)

    @property
    def _has_signs(self) -> bool:
        return KEYS[self.settings.keys].signs

    @property
    def max_key_bits(self) -> int:
        """The most key bits that there are hyperplanes or anchors for."""
        if self._has_signs:
            return MAX_KEY_BITS
        return min(MAX_KEY_BITS, int(self.key_points.shape[1]).bit_length() - 1)

    @cached_property
    def signs(self) -> Floats:
        """Of the `families.fast_rotations` that the code planes are, (groups, 2, s or dim); none if
        they are others."""
        return _constant(signs_of(self.code_planes))

    @cached_property
    def _planes(self) -> Floats:
        """Key map and, unless `signs` do it, code planes: (s or dim, p or code_bits + p).

        They are one matrix, whose product costs less than two of its parts.
        """
        parts = [] if len(self.signs) else [self.code_planes]
        if self.key_map.size or not parts:
            parts.append(self.key_map.reshape(-1, self.code_planes.shape[1]))
        return np.ascontiguousarray(np.concatenate(parts).T)

    @property
    def _tolerance(self) -> float:
        return 2e-6 * float(np.sqrt(np.square(self.code_planes).sum(axis=1).max()))

    @cached_property
    def _of_mean(self) -> Floats:
        """The projections of the mean, (code_bits + p,)."""
        of_mean: Floats = self._uncentred(self.mean[np.newaxis])[0]
        return of_mean

    def _uncentred(self, vectors: Floats, for_keys: bool = True) -> Floats:
        """Projections of (n, dim) vectors, without regard to the mean: (n, code_bits + p), or
        (n, code_bits) unless ``for_keys``.
        """
        if self.basis.size:
            vectors = vectors @ self.basis.T
        bits = self.settings.code_bits
        if not len(self.signs):
            return vectors @ (self._planes if for_keys else self._planes[:, :bits])
        planes = self._planes if for_keys else self._planes[:, :0]
        projected = np.empty((len(vectors), bits + planes.shape[1]), np.float32)
        if len(vectors) <= FEW:
            projected[:, :bits] = rotated(vectors, self.signs)
        else:
            from lookalike.lsh.simd import rotate_all

            rotate_all(_constant(vectors), self.signs, projected)
        projected[:, bits:] = vectors @ planes
        return projected

    def on_code_planes(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Distances of (n, dim) vectors and of the mean to the planes of the codes through the
        origin: (n, code_bits) and (code_bits,).
        """
        return self._uncentred(vectors, for_keys=False), self._of_mean[: self.settings.code_bits]

    def hash(self, vectors: Floats, bits: int) -> Hashed:
        """Keys and codes of (n, dim) unit vectors; see :meth:`keys` and :meth:`codes`."""
        projected = self._projected(vectors)
        keys = self._keys(self._mapped(vectors, projected), bits)
        return Hashed(keys, *self._codes(vectors, projected))

    @property
    def middle(self) -> float:
        """The |x - mean|^2 whose addition is 0, see :meth:`codes`."""
        assert self.lengths is not None
        return (self.lengths[0] ** 2 + self.lengths[1] ** 2) / 2

    @property
    def addition_unit(self) -> float:
        """What an addition of 1 stands for, see :meth:`codes`; 0: there are none."""
        if self.lengths is None:
            return 0.0
        least, largest = self.lengths[0] ** 2, self.lengths[1] ** 2
        return max(largest - least, largest / 64, 1e-6) / 2 / LARGEST_ADDITION

    def keys(self, vectors: Floats, bits: int) -> NDArray[np.uint32]:
        """The bucket of each of (n, dim) unit vectors in each table: (tables, n) uint32."""
        return self._keys(self._mapped(vectors, self._projected(vectors)), bits)

    def codes(
        self, vectors: Floats
    ) -> tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.int16]]:
        """Packed codes of (n, dim) unit vectors, their length corrections, and their additions.

        Bit j of a code (byte j // 8, little endian) is [p_j . (x - mean) > 0]. With signs s_j and
        the correction c = |x - mean|^2 / sum_j |p_j . (x - mean)|, the inner product of the centred
        query q' = q - mean with x - mean is about c sum_j (p_j . q') s_j (exact for q' along
        x - mean). The cosine of q and x is that, and mean . (x - mean) = a constant less
        |x - mean|^2 / 2, which is the item's addition, and a constant of the query.

        Returns:
            (n, code_bits / 8) uint8; (n,) int16, c / correction_unit in 1/32767, all 32767 for
            Hamming ranking; and (n,) int16, (middle - |x - mean|^2) / 2 / addition_unit, or (0,)
            where ``lengths`` is None.
        """
        return self._codes(vectors, self._projected(vectors))

    def query_codes(self, queries: Floats) -> NDArray[np.uint8]:
        """Packed codes (q, code_bits / 8) alone."""
        bits = self.settings.code_bits
        return np.packbits(self._projected(queries)[:, :bits] > 0, axis=1, bitorder="little")

    def _projected(self, vectors: Floats) -> Floats:
        projected = self._uncentred(vectors)
        projected -= self._of_mean
        return projected

    def _mapped(self, vectors: Floats, projected: Floats) -> Floats:
        """Vectors in the space of the keys, (n, p)."""
        if self.key_map.size:
            return projected[:, self.settings.code_bits :]
        return np.subtract(vectors, self.mean, dtype=np.float32)

    def _keys(self, mapped: Floats, bits: int) -> NDArray[np.uint32]:
        from lookalike.lsh.coding import argmax_rows

        out = np.empty((self.settings.tables, len(mapped)), np.uint32)
        for t in range(self.settings.tables):
            if self._has_signs:
                powers = 1 << np.arange(bits, dtype=np.uint32)
                out[t] = (mapped @ self.key_points[t, :bits].T > 0) @ powers
                continue
            anchors = self.key_points[t, : 1 << bits].T
            for start in range(0, len(mapped), ROWS_IN_CACHE):
                some = slice(start, start + ROWS_IN_CACHE)
                argmax_rows(mapped[some] @ anchors, out[t, some])
        return out

    def _codes(
        self, vectors: Floats, projected: Floats
    ) -> tuple[NDArray[np.uint8], NDArray[np.int16], NDArray[np.int16]]:
        from lookalike.lsh.coding import encode

        codes = np.empty((len(vectors), self.settings.code_bits // 8), np.uint8)
        ratios, squares = np.empty((2, len(vectors)), np.float32)
        encode(projected, vectors, self.mean, codes, ratios, squares)
        additions = np.empty(0, np.int16)
        if self.settings.ranking == "hamming":
            return codes, np.full(len(vectors), 32767, np.int16), additions
        corrections = np.minimum(ratios / self.correction_unit * 32767, 32767).astype(np.int16)
        if self.lengths is not None:
            steps = (self.middle - squares) / (2 * self.addition_unit)
            limits = -LARGEST_ADDITION, LARGEST_ADDITION
            additions = np.clip(np.rint(steps), *limits).astype(np.int16)
        return codes, corrections, additions

    def prepare(self, queries: Floats) -> Prepared:
        """Project (q, dim) unit vectors once for all segments.

        For Hamming ranking margins are the signs around the mean.
        """
        projected, of_mean = self._uncentred(queries), self._of_mean
        bits = self.settings.code_bits
        if self.lengths is not None:
            projected -= of_mean
            margins, mapped = projected[:, :bits], projected[:, bits:]
        else:  # also those of indexes before format 4, whose queries were not centred
            margins, mapped = projected[:, :bits], projected[:, bits:] - of_mean[bits:]
            if self.settings.ranking == "hamming":
                margins = np.where(margins > of_mean[:bits], np.float32(1), np.float32(-1))
        return Prepared(queries, margins, mapped if self.key_map.size else queries - self.mean)

    @cached_property
    def scoring(self) -> Scoring:
        """What ``kernels.search_range`` needs to know to score codes."""
        lengths, middle = (self.lengths, self.middle) if self.lengths else ((0.0, 0.0), 0.0)
        step, unit = self.addition_unit / self.correction_unit, self.correction_unit
        numbers = np.array([step, unit, *lengths, middle, self._tolerance], np.float32)
        return Scoring(numbers, _constant(self.mean))

    @cached_property
    def is_short(self) -> bool:
        """Whether it has a ``Projection``: not with several tables, signs, Hamming ranking, without
        vectors, or with planes that are not `_short`, as those of older indexes.
        """
        simple = self.settings.tables == 1 and not self._has_signs and self.key_map.size > 0
        asymmetric = self.lengths is not None and self.settings.vectors != "none"
        matrices = self.basis, self._planes, self.key_points
        return simple and asymmetric and all((_short(part) == part).all() for part in matrices)

    @cached_property
    def _projections(self) -> dict[int | None, Projection]:
        return {}

    def projection(self, bits: int | None) -> Projection:
        """What projects a query, if `is_short`, for a segment with so many key bits; None: for
        codes alone.
        """
        if bits not in self._projections:
            basis = self.basis.T if self.basis.size else np.empty((0, 0), np.float32)
            planes, anchors, of_mean = self._planes, np.empty((0, 0), np.float32), self._of_mean
            if bits is None:
                of_mean = of_mean[: self.settings.code_bits]
                planes = planes[:, : 0 if len(self.signs) else self.settings.code_bits]
            else:
                anchors = self.key_points[0, : 1 << bits].T
            pairs = (_constant(_in_pairs(matrix)) for matrix in (basis, planes, anchors))
            by_basis, by_planes, by_anchors = pairs
            self._projections[bits] = Projection(
                by_basis, self.signs, by_planes, _constant(of_mean), by_anchors
            )
        return self._projections[bits]

    def bucket_scores(self, mapped: Floats, bits: int) -> Floats:
        """How near each bucket of all tables is to queries: (q, tables * 2^bits), larger is nearer,
        and the largest of a table is the query's own bucket.

        Args:
            mapped: (q, p), ``Prepared.mapped``.
        """
        if self.settings.tables == 1 and not self._has_signs:
            return mapped @ self.key_points[0, : 1 << bits].T
        from lookalike.lsh.probing import sign_scores

        out = np.empty((len(mapped), self.settings.tables, 1 << bits), np.float32)
        for t in range(self.settings.tables):
            if self._has_signs:
                scores = np.empty((len(mapped), 1 << bits), np.float32)
                sign_scores(mapped @ self.key_points[t, :bits].T, scores)
                out[:, t] = scores
            else:
                out[:, t] = mapped @ self.key_points[t, : 1 << bits].T
        return out.reshape(len(mapped), -1)

    def spread(self, vectors: Floats) -> float:
        """A low estimate (10th percentile) of the squared distance of unit vectors to the mean.

        Two unit vectors with cosine c then have cosine 1 - (1 - c) / spread around the mean.
        """
        squares = np.square(vectors - self.mean).sum(axis=1)
        return float(max(1e-3, np.quantile(squares, 0.1)))

    # ---- storage ------------------------------------------------------------------------------

    def save(self, folder: Path, owner: str | None = None) -> Path:
        """Write it as a file of the index ``owner``; None: of no index."""
        meta = {
            "settings": {**self.settings.as_dict(), "search": None},
            "correction_unit": self.correction_unit,
            "fitted_on": self.fitted_on,
            **({} if self.lengths is None else {"lengths": self.lengths}),
            **({} if owner is None else {"owner": owner}),
        }
        return write_arrays(folder, "hasher", meta, {name: getattr(self, name) for name in ARRAYS})

    @classmethod
    def open(cls, path: Path, settings: LSHSettings, owner: str | None = None) -> Hasher:
        """Raises IndexFormatError if it is damaged, or not of ``settings`` and ``owner``; checked
        whole.
        """
        file = open_arrays(path, "hasher")
        file.check_owner(owner)
        if damaged := file.damaged():
            raise IndexFormatError(f"{path.name} is damaged: {', '.join(damaged)}")
        if file.meta.get("settings") != {**settings.as_dict(), "search": None}:
            raise IndexFormatError(
                f"{path.name} was made with {file.meta.get('settings')}, the index has "
                f"{settings.as_dict()}"
            )
        unit, fitted_on = file.meta.get("correction_unit"), file.meta.get("fitted_on")
        lengths = file.meta.get("lengths")
        if (
            not (isinstance(unit, float) and 0 < unit < LARGEST)
            or not is_count(fitted_on)
            or ("lengths" in file.meta and not _are_lengths(lengths))
            or file.arrays.keys() != set(ARRAYS)
        ):
            raise IndexFormatError(
                f"{path.name} is damaged: correction_unit {unit!r}, fitted_on {fitted_on!r}, "
                f"lengths {lengths!r}, arrays {', '.join(file.arrays)}"
            )
        arrays: dict[str, NDArray[Any]] = {name: file.arrays[name] for name in ARRAYS}
        found = {name: array.shape for name, array in arrays.items()}
        if found != (expected := _shapes(settings, found)):
            raise IndexFormatError(f"{path.name} is damaged: shapes {found}, expected {expected}")
        for name, array in arrays.items():
            if array.dtype != np.float32 or not (np.abs(array) < LARGEST).all():
                raise IndexFormatError(
                    f"{path.name} is damaged: {name} holds other values than numbers below "
                    f"{LARGEST:.0e}"
                )
        lengths = None if lengths is None else (lengths[0], lengths[1])
        return cls(settings, **arrays, correction_unit=unit, fitted_on=fitted_on, lengths=lengths)


def _constant(array: NDArray[Any]) -> NDArray[Any]:
    """Contiguous and read-only, as stored arrays are: one compiled kernel serves both."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _are_lengths(value: object) -> bool:
    """Whether it is what a hasher stores as its lengths."""
    if not isinstance(value, list) or not all(isinstance(number, float) for number in value):
        return False
    return len(value) == 2 and 0 <= value[0] <= value[1] < LARGEST


def _shapes(settings: LSHSettings, found: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """What shapes a hasher's arrays must have, given the axes and points of those ``found``."""
    axes, mapped = found["basis"][0], found["key_map"][0]
    points = found["key_points"][1] if len(found["key_points"]) == 3 else 0
    least = MAX_KEY_BITS if KEYS[settings.keys].signs else 1
    own = axes or settings.dim
    return {
        "mean": (settings.dim,),
        "basis": (axes, settings.dim),
        "code_planes": (settings.code_bits, own),
        "key_map": (mapped, own if mapped else settings.dim),
        "key_points": (settings.tables, max(least, points), mapped or own),
    }


_NO_WORDS = _constant(np.empty((0, 0), np.uint32))
_NO_FLOATS = _constant(np.empty(0, np.float32))
_NO_SIGNS = _constant(np.empty((0, 2, 0), np.float32))
NO_PROJECTION = _NO_WORDS, _NO_SIGNS, _NO_WORDS, _NO_FLOATS, _NO_WORDS
"""A ``Projection`` of nothing: the query is prepared."""
ARRAYS = ("mean", "basis", "code_planes", "key_map", "key_points")


def _short(matrix: Floats) -> Floats:
    """Rounded to bfloat16, ties to even: a query is projected in half the time."""
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)
    return (bits + np.uint32(0x7FFF) + odd & np.uint32(0xFFFF0000)).view(np.float32)


def _in_pairs(matrix: Floats) -> Words:
    """A `_short` matrix (n, m) as words, see ``Projection``: (n, m / 2)."""
    even = np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))
    lower, upper = np.split(np.ascontiguousarray(even).view(np.uint32), 2, axis=1)
    words: Words = lower >> np.uint32(16) | upper
    return words


def _narrow(settings: LSHSettings, axes: Principal) -> int:
    """Number of leading axes to hash, 0 for the vectors as they are.

    Where vectors are much longer than codes, projecting a query is a third of its cost; two bits
    for each of half as many axes then rank as well (1,280 dimensions, 256 bits: 93 candidates hold
    0.99 of the ten nearest, as they do with one bit for each of 256 axes) at half the cost.
    """
    count = settings.code_bits // 2
    leading = CODES[settings.codes].follows_axes and KEYS[settings.keys].follows_axes
    long = settings.dim >= NARROW_FROM * settings.code_bits
    return count if leading and long and count <= len(axes.axes) else 0


def _key_points(sample: Sample, settings: LSHSettings) -> tuple[Floats, Floats]:
    """The map to the key space (empty: the vectors' own) and each table's points in it."""
    family = KEYS[settings.keys]
    bits = MAX_KEY_BITS
    if family.most_bits < MAX_KEY_BITS:
        bits = family.most_bits if settings.key_bits is None else settings.key_bits
    if family.space is None:
        key_map = np.empty((0, settings.dim), np.float32)
    else:
        key_map = family.space(sample)
    return key_map, family.points(sample, bits, settings.tables)
