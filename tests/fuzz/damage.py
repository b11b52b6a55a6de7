"""Damage to files, in place and chosen by a random generator alone. Values that are forged under
right checksums have tests that try them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
PAGE = 4096


def pick(rng: Rng, things: list[Any]) -> Any:
    return things[int(rng.integers(len(things)))]


def own_files(gallery: Path) -> list[Path]:
    return sorted(path for path in gallery.rglob("*") if path.is_file())


def mutate(rng: Rng, gallery: Path, other: Path) -> str:
    """Damage one file or two; ``other`` is a gallery of other images."""
    return " and ".join(_mutate_one(rng, gallery, other) for _ in range(1 + (rng.random() < 0.1)))


def _mutate_one(rng: Rng, gallery: Path, other: Path) -> str:
    paths = own_files(gallery)
    if not paths:
        return "nothing left to damage"
    path = pick(rng, paths)
    name = path.relative_to(gallery).as_posix()
    kind = rng.random()
    if kind < 0.04:
        path.unlink()
        return f"{name} deleted"
    if kind < 0.16:
        alike = [p for p in own_files(other) if p.name[:5] == path.name[:5]]
        alike += [p for p in paths if p != path and rng.random() < 0.2]
        if alike:
            source = pick(rng, alike)
            content = source.read_bytes()
            path.unlink()
            path.write_bytes(content)
            return f"{name} replaced by {source.parent.name}/{source.name}"
    content = path.read_bytes()
    changed, what = mutate_bytes(rng, content)
    path.unlink()  # it may be a hard link
    path.write_bytes(changed)
    return f"{name} ({len(content):,} bytes): {what}"


def mutate_bytes(rng: Rng, content: bytes) -> tuple[bytes, str]:
    """Flipped bits, runs of other bytes, zeroed or copied blocks, a cut or a longer end."""
    data, size = bytearray(content), len(content)
    if not size:
        return rng.bytes(64), "64 bytes of noise instead of nothing"
    at = int(rng.integers(min(size, 4 * PAGE))) if rng.random() < 0.4 else int(rng.integers(size))
    kind = rng.random()
    if kind < 0.45:
        places = [at, *rng.integers(size, size=int(rng.integers(8))).tolist()]
        for place in places:
            data[place] ^= 1 << int(rng.integers(8))
        return bytes(data), f"bits flipped at {places}"
    length = int(rng.integers(1, 1 + min(size - at, int(2 ** rng.integers(1, 17)))))
    if kind < 0.6:
        fill = pick(rng, [rng.bytes(length), b"\0" * length, b"\xff" * length])
        data[at : at + length] = fill
        return bytes(data), f"{length} bytes overwritten at {at}"
    if kind < 0.75:
        start = at // PAGE * PAGE
        length = min(size - start, PAGE * int(rng.integers(1, 9)))
        data[start : start + length] = bytes(length)
        return bytes(data), f"{length} bytes zeroed at {start}"
    if kind < 0.85:
        start = int(rng.integers(size))
        block = data[start : start + length]
        data[at : at + len(block)] = block
        return bytes(data), f"{len(block)} bytes copied from {start} to {at}"
    if kind < 0.95:
        return bytes(data[:at]), f"cut at {at}"
    return bytes(data) + rng.bytes(length), f"{length} bytes appended"
