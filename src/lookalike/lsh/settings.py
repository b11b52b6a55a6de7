"""What an index is made with, validated when made and saved beside the index."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from lookalike.lsh.families import CODES, KEYS, MAX_KEY_BITS

MOST_LOOKED_AT = 1 << 32
MOST_FOR_TEN = 24
"""By which a beam is widened for each ten results more: they lie near those that are found anyway,
and what a wide beam makes up for, codes that say little, is paid for once."""


def _check(good: bool, name: str, value: object, limit: str) -> None:
    if not good:
        raise ValueError(f"{name} is {value!r}; it must be {limit}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(name: str, value: Any, *, optional: bool = False) -> None:
    """ValueError unless ``value`` is an integer from 1 to 2^32, or None if it is ``optional``."""
    if (value is None and optional) or (type(value) is int and 1 <= value <= MOST_LOOKED_AT):
        return  # before any text is made: a search asks this five times
    good = (_whole(value) or isinstance(value, np.integer)) and 1 <= value <= MOST_LOOKED_AT
    none = "None or " if optional else ""
    _check(good, name, value, f"{none}a whole number from 1 to {MOST_LOOKED_AT:,}")


def width(k: int) -> float:
    """How the number of items to visit grows with that of results."""
    return 15 + 17 * math.log10(k)


def depth(k: int) -> float:
    """How the number of candidates to re-rank does."""
    return float(k**0.55)


def grown(beam: int, k: int) -> int:
    """A beam for so many results more."""
    return beam + min(beam, MOST_FOR_TEN) * k // 10


@dataclass(frozen=True)
class SearchSettings:
    """How much of an index a search looks at; ``None`` chooses from its size, and from what was
    measured on its items.

    Attributes:
        candidates: items to meet in the probed buckets of a segment before probing stops.
        rerank: candidates whose exact cosine is computed.
        beam: nearest items that following links keeps and compares, in segments that have links
            (`LSHIndex.link`) and where neither of the others is given.
        k: results that they were chosen for; for more they grow as the defaults do. None: they are
            the same for any number.
    """

    candidates: int | None = None
    rerank: int | None = None
    beam: int | None = None
    k: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            whole(field.name, getattr(self, field.name), optional=True)

    def scaled(self, k: int) -> SearchSettings:
        """For ``k`` results."""
        own, candidates, rerank, beam = self.k, self.candidates, self.rerank, self.beam
        if own is None or k <= own:
            return self
        return SearchSettings(
            candidates and math.ceil(candidates * width(k) / width(own)),
            rerank and math.ceil(rerank * depth(k) / depth(own)),
            beam and grown(beam, k - own),
        )


@dataclass(frozen=True)
class LSHSettings:
    """Settings of an :class:`~lookalike.lsh.LSHIndex`; docs/lsh.md: what each costs and buys.

    Attributes:
        dim: length of the vectors.
        tables: number L of hash tables; each costs about 40 bytes per item at 256 bits.
        key_bits: base-2 logarithm of the number of buckets per table; ``None`` lets each segment
            choose from its size.
        code_bits: bits of the code that candidates are ranked by.
        keys: hash family that names buckets. ``"voronoi"``: the nearest of random sample points
            after partial whitening. ``"cross-polytope"``: the nearest signed axis of random
            rotations (Andoni et al. 2015). ``"hyperplanes"``: independent Gaussian hyperplanes
            (Charikar 2002; the paper's). ``"orthogonal"``: orthogonalised in groups (Ji et al.
            2012). ``"itq"``: learned (Gong and Lazebnik 2011).
        codes: hash family of the code: ``"hyperplanes"``, ``"orthogonal"`` or ``"itq"`` as above;
            ``"principal"``: random orthogonal hyperplanes in the space of the leading principal
            axes.
        ranking: of candidates by their codes. ``"asymmetric"``: the inner product of the query's
            real projections with the item's bits, corrected for the item's length. ``"hamming"``:
            the number of equal bits (the paper's).
        center: subtract the mean of the first vectors before hashing, which spreads the buckets
            when all vectors lie in one half-space, as those of a ReLU network do. The cosines that
            a search returns are those of the vectors as given.
        vectors: how vectors are kept for the cosine re-rank; ``"none"``: codes only, and a search
            returns an estimate of the cosine.
        seed: of everything random; the same seed, data and owner give identical files.
        search: what a search does by default; tuning sets it.
    """

    dim: int
    tables: int = 1
    key_bits: int | None = None
    code_bits: int = 256
    keys: str = "voronoi"
    codes: str = "principal"
    ranking: Literal["asymmetric", "hamming"] = "asymmetric"
    center: bool = True
    vectors: Literal["float16", "float32", "none"] = "float16"
    seed: int = 0
    search: SearchSettings = SearchSettings()

    def __post_init__(self) -> None:
        dim, tables = self.dim, self.tables
        _check(_whole(dim) and 1 <= dim <= 1 << 16, "dim", dim, "from 1 to 65,536")
        _check(_whole(tables) and 1 <= tables <= 64, "tables", tables, "from 1 to 64")
        bits = self.key_bits
        good = bits is None or (_whole(bits) and 0 <= bits <= MAX_KEY_BITS)
        _check(good, "key_bits", bits, f"None or from 0 to {MAX_KEY_BITS}")
        bits = self.code_bits
        good = _whole(bits) and 64 <= bits <= 1024 and bits % 64 == 0
        _check(good, "code_bits", bits, "a multiple of 64 from 64 to 1,024")
        _check(self.keys in tuple(KEYS), "keys", self.keys, f"one of {', '.join(KEYS)}")
        _check(self.codes in tuple(CODES), "codes", self.codes, f"one of {', '.join(CODES)}")
        rankings = ("asymmetric", "hamming")
        _check(self.ranking in rankings, "ranking", self.ranking, f"one of {', '.join(rankings)}")
        kept = ("float16", "float32", "none")
        _check(self.vectors in kept, "vectors", self.vectors, f"one of {', '.join(kept)}")
        _check(isinstance(self.center, bool), "center", self.center, "true or false")
        good = _whole(self.seed) and 0 <= self.seed < 1 << 63
        _check(good, "seed", self.seed, "from 0 to 2^63 - 1")

    @classmethod
    def paper(cls, dim: int, *, tables: int = 8, key_bits: int = 12, seed: int = 0) -> Self:
        """The paper's scheme: independent hyperplanes through the origin, Hamming ranking.

        Nothing is learned from data, so codes and keys depend on the seed alone.
        """
        return cls(
            dim,
            tables=tables,
            key_bits=key_bits,
            keys="hyperplanes",
            codes="hyperplanes",
            ranking="hamming",
            center=False,
            seed=seed,
        )

    @property
    def learned(self) -> bool:
        """Whether the hash functions depend on data, and so improve when fitted on more of it."""
        return self.center or KEYS[self.keys].learned or CODES[self.codes].learned

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Settings from JSON. Raises ValueError for whatever `as_dict` does not make: unknown or
        missing names, values of another type or out of range.
        """
        if not isinstance(values, dict):
            raise ValueError(f"index settings {values!r}")
        known = {field.name for field in fields(cls)}
        inner = {field.name for field in fields(SearchSettings)}
        search = values.get("search")
        if isinstance(search, dict):
            search = {"beam": None, "k": None, **search}  # lacking before formats 5 and 7
        if set(values) != known or not isinstance(search, dict) or set(search) != inner:
            raise ValueError(f"index settings {sorted(set(values) ^ known)} are unknown or missing")
        return cls(**{**values, "search": SearchSettings(**search)})
