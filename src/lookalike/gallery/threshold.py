"""When a cosine reaches a threshold."""

from __future__ import annotations

__all__ = ["FLOAT16_SLACK", "smallest_cosine"]

FLOAT16_SLACK = 2.0**-10
"""How far below 1 the cosine of equal images may come out.

Vectors are stored as float16, which rounds each number by a factor of 1 + e with |e| <= 2^-11. For
a unit vector v, the product of two rounded copies is sum v_i^2 (1 + e_i)^2 >= (1 - 2^-11)^2 >
1 - 2^-10, and that of v and one rounded copy is nearer to 1.
"""


def smallest_cosine(threshold: float) -> float:
    """The cosine from which on a threshold counts as reached: itself, but never above what two
    equal images are sure to have, so that a threshold of 1 finds them.

    Raises:
        ValueError: it is not a number from -1 to 1.
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must be a cosine from -1 to 1")
    return min(threshold, 1 - FLOAT16_SLACK)
