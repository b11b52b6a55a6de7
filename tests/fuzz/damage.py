"""Damage to a gallery's files: mutated bytes, and forged values with right checksums.

Each function alters files in place, chooses by its random generator alone, and says what it did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forging
import numpy as np

Rng = np.random.Generator
PAGE = 4096
STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 7, 1 << 31, 1 << 32, 1 << 63, 1 << 70, -(1 << 70), 1.5, -0.0,
    1e300, float("nan"), float("inf"), "", "x", "x" * 5000, "../../outside/canary", "/etc/passwd",
    "\x1b[31m", "\ud800", "\0", [], [[]], [1] * 100, {}, {"x": 1}, {"": None},
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 127, 255, 32767, -32768, 65504, 1 << 20, (1 << 31) - 1, (1 << 32) - 1]
FLOATS = [0.0, -1.0, 1e30, -1e30, 60000.0, np.nan, np.inf, -np.inf, 1e-30]


def pick(rng: Rng, things: list[Any]) -> Any:
    return things[int(rng.integers(len(things)))]


def own_files(gallery: Path) -> list[Path]:
    return sorted(path for path in gallery.rglob("*") if path.is_file())


# ---- mutations -----------------------------------------------------------------------------------


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


# ---- forged values -------------------------------------------------------------------------------


def forge(rng: Rng, gallery: Path) -> str:
    """Values in a file of the index that cannot be, or that are others, under a right checksum.

    Those of the manifest and the table are few enough for tests that try them all.
    """
    return str(pick(rng, [_header, _array])(rng, gallery))


def _place_in(rng: Rng, body: Any) -> list[Any]:
    """A random place in nested dictionaries and lists: the keys that lead there."""
    place: list[Any] = []
    while isinstance(body, dict | list) and body and (not place or rng.random() < 0.7):
        key = pick(rng, sorted(body)) if isinstance(body, dict) else int(rng.integers(len(body)))
        place.append(key)
        body = body[key]
    return place


def _set(rng: Rng, body: Any, place: list[Any]) -> str:
    for key in place[:-1]:
        body = body[key]
    kind = rng.random()
    if kind < 0.1 and isinstance(body, dict):
        del body[place[-1]]
        return f"{place} left out"
    value = body[place[-1]]
    if type(value) is int and kind < 0.5:
        body[place[-1]] = value + pick(rng, [1, -1, 1 << 8, 1 << 20, -(1 << 20)])
    else:
        body[place[-1]] = pick(rng, STRANGE)
    return f"{place} is {str(body[place[-1]])[:60]!r}"


def _array_file(rng: Rng, gallery: Path) -> Path:
    path: Path = pick(rng, sorted((gallery / "index").glob("*.lka")))
    return path


def _header(rng: Rng, gallery: Path) -> str:
    path, done = _array_file(rng, gallery), list[str]()

    def change(parts: forging.Parts) -> None:
        done.append(_set(rng, parts.body, _place_in(rng, parts.body)))

    forging.forge_arrays(path, change, checksum=False)
    return f"{path.name}: {done[0]}"


def _array(rng: Rng, gallery: Path) -> str:
    path, done = _array_file(rng, gallery), list[str]()

    def change(parts: forging.Parts) -> None:
        name = pick(rng, sorted(name for name, array in parts.arrays.items() if array.size))
        flat = parts.arrays[name].reshape(-1)
        where = rng.integers(flat.size, size=int(2 ** rng.integers(0, 8)))
        values = FLOATS if flat.dtype.kind == "f" else NUMBERS
        with np.errstate(all="ignore"):
            flat[where] = np.array([pick(rng, values)]).astype(flat.dtype)
        done.append(f"{len(where)} values of {name} are {flat[where[0]]}")

    forging.forge_arrays(path, change)
    return f"{path.name}: {done[0]}"
