"""What is noted about a gallery as a whole, in its table and in its gallery.json, and what each
entry may hold: a gallery's files may come from anywhere.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from typing import Any

from lookalike.encoder import ModelInfo
from lookalike.gallery.rarity import PairStatistics
from lookalike.lsh import LSHSettings
from lookalike.lsh.arrayfile import is_owner, parse_json

LARGEST_ID = 1 << 62
"""Above every id, and every count, of a gallery."""


def check_entry(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is one that the entry ``name`` can have."""
    try:
        good = CHECKS[name](value)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"its entry '{name}' cannot be used: {error}") from error
    if good is False:
        raise ValueError(f"its entry '{name}' cannot be used: it is {value!r:.80}")


def entry_row(name: str, value: Any) -> tuple[str, str, int]:
    """An entry as the table of entries holds it: name, JSON, checksum."""
    text = json.dumps(value, sort_keys=True)
    return name, text, meta_checksum(name, text)


def meta_checksum(name: str, text: str) -> int:
    return zlib.crc32(f"{name}={text}".encode())


def checked_entry(name: str, text: Any, checksum: Any) -> Any:
    """The value of an entry of the table. ValueError if it does not match its checksum, or is one
    that the entry cannot have.
    """
    if not isinstance(text, str) or meta_checksum(name, text) != checksum:
        raise ValueError(f"its entry '{name}' does not match its checksum")
    value = parse_json(text.encode())
    check_entry(name, value)
    return value


def _or_none(check: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: value is None or check(value)


def _is_path(value: bytes) -> bool:
    return bool(value) and b"\0" not in value


def _are(count: int, good: Callable[[bytes], bool]) -> Callable[[Any], bool]:
    """Whether a value is a list of so many texts in hexadecimal, each of good bytes."""
    return lambda value: (
        isinstance(value, list)
        and len(value) == count
        and all(good(bytes.fromhex(text)) for text in value)
    )


_is_root = _are(2, _is_path)
_is_pair = _are(2, lambda digest: len(digest) == 16)


def _is_tuning(value: Any) -> bool:
    names = {"before", "target_recall", "k", "recall", "images"}
    if not isinstance(value, dict) or value.keys() != names:
        return False
    LSHSettings.from_dict(value["before"])
    shares, counts = (
        [value[name] for name in some] for some in (("target_recall", "recall"), ("k", "images"))
    )
    return all(type(share) in (int, float) and 0 <= share <= 1 for share in shares) and all(
        type(count) is int and 0 <= count < LARGEST_ID for count in counts
    )


def _are_devices(value: Any) -> bool:
    for folder in value:
        bytes.fromhex(folder)
    return all(type(device) is int for device in value.values())


_is_flag = _or_none(lambda value: isinstance(value, bool))
REQUIRED: dict[str, Callable[[Any], object]] = {
    "model": ModelInfo.from_dict,
    "model_path": _or_none(lambda value: _is_path(os.fsencode(value))),
    "root": _or_none(_is_root),
    "gallery_id": is_owner,
    "pairs": _or_none(PairStatistics.from_dict),
}
OPTIONAL: dict[str, Callable[[Any], object]] = {
    "tuning": _or_none(_is_tuning),
    "unfinished": _is_flag,
    "devices": _or_none(_are_devices),
    "distinct": _or_none(lambda value: isinstance(value, list) and all(map(_is_pair, value))),
}
"""A table may lack these, which then count as None."""
CHECKS = REQUIRED | OPTIONAL
"""Of each entry: returns False, or raises, for a value that it cannot have."""
