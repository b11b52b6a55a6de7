"""Packed codes, and a gallery ranked by Hamming distance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["hamming_distances", "hamming_rank", "pack", "tie_order"]


def pack(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """(n, bits) of any type -> uint8 (n, ceil(bits / 8)); a bit is 1 for what is above 0.

    Codes of -1 and 1, bits, and the numbers before the sign are all taken. Bit j is in byte j // 8,
    little endian; what fills up the last byte is 0.
    """
    return np.packbits(codes > 0, axis=1, bitorder="little")


def tie_order(count: int, seed: int = 0) -> NDArray[np.int64]:
    """The place of each of `count` gallery items among those at the same distance: int64 (count,).

    Few distances are possible, so ties are many; a gallery sorted by class must not decide them.
    """
    return np.random.default_rng(seed).permutation(count)


def hamming_distances(
    query_code: NDArray[np.uint8], gallery_codes: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Bits in which (bytes,) and each of (n, bytes) differ: int64 (n,)."""
    if query_code.shape != gallery_codes.shape[1:]:
        raise ValueError(
            f"a query of shape {query_code.shape} and codes of {gallery_codes.shape}: "
            "one code of as many bytes is needed"
        )
    differing = np.bitwise_count(gallery_codes ^ query_code)
    distances: NDArray[np.int64] = differing.sum(axis=1, dtype=np.int64)
    return distances


def hamming_rank(
    query_code: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    k: int,
    order: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The k nearest of a gallery by Hamming distance: int64 (k,), nearest first; k up to n.

    Args:
        query_code: uint8 (bytes,), of `pack`.
        gallery_codes: uint8 (n, bytes).
        order: int64 (n,), how ties are broken: smaller comes first. None: `tie_order(n)`, the same
            at each call.
    """
    count = len(gallery_codes)
    if not 1 <= k <= count:
        raise ValueError(f"k is {k}; it must be from 1 to {count}, the size of the gallery")
    order = tie_order(count) if order is None else order
    if order.shape != (count,):
        raise ValueError(f"order has shape {order.shape}; it must be ({count},), as the gallery")
    keys = hamming_distances(query_code, gallery_codes) * count + order  # all different
    nearest = np.argpartition(keys, k - 1)[:k]
    return nearest[np.argsort(keys[nearest])]
