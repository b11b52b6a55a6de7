"""What an index is made with, validated when made and saved beside the index."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

__all__ = ["LSHSettings"]

FAMILIES = ("hyperplanes", "orthogonal")


@dataclass(frozen=True)
class LSHSettings:
    """Settings of an :class:`~lookalike.lsh.LSHIndex`.

    Attributes:
        dim: length of the vectors.
        tables: number L of hash tables. Each costs about 4 + ``code_bits`` / 8 bytes per item.
        key_bits: bits that name a bucket; ``None`` lets each segment choose from its size.
        code_bits: bits of the code that candidates are ranked by, a multiple of 64.
        family: hash family of keys and codes. ``"hyperplanes"``: independent Gaussian hyperplanes
            (Charikar 2002, the paper's scheme). ``"orthogonal"``: the same, orthogonalised in
            groups of ``dim`` (Ji et al. 2012), which ranks better at equal length.
        center: subtract the mean of the first vectors before hashing, which spreads the buckets
            when all vectors lie in one half-space, as those of a ReLU network do. The cosines that
            a search returns are those of the vectors as given.
        vectors: how vectors are kept for the cosine re-rank.
        seed: of the random hyperplanes; the same seed and data give identical files.
    """

    dim: int
    tables: int = 1
    key_bits: int | None = None
    code_bits: int = 256
    family: Literal["hyperplanes", "orthogonal"] = "orthogonal"
    center: bool = True
    vectors: Literal["float16", "float32"] = "float16"
    seed: int = 0

    def __post_init__(self) -> None:
        def check(good: bool, name: str, limit: str) -> None:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {limit}")

        check(1 <= self.dim <= 1 << 16, "dim", "from 1 to 65,536")
        check(1 <= self.tables <= 64, "tables", "from 1 to 64")
        check(self.key_bits is None or 0 <= self.key_bits <= 24, "key_bits", "None or from 0 to 24")
        check(
            64 <= self.code_bits <= 4096 and self.code_bits % 64 == 0,
            "code_bits",
            "a multiple of 64 from 64 to 4,096",
        )
        check(self.family in FAMILIES, "family", f"one of {', '.join(FAMILIES)}")
        check(self.vectors in ("float16", "float32"), "vectors", "float16 or float32")
        check(0 <= self.seed < 1 << 63, "seed", "from 0 to 2^63 - 1")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises ValueError on unknown or missing names, so that nothing is ignored silently."""
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise ValueError(f"index settings {sorted(set(values) ^ known)} are unknown or missing")
        return cls(**values)
