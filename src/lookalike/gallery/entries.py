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
        CHECKS[name](value)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"its entry '{name}' cannot be used: {error}") from error


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


def _check(good: bool, what: str, value: object) -> None:
    if not good:
        raise ValueError(f"{what} is {value!r:.80}")


def _model_path(value: Any) -> None:
    _check(value is None or isinstance(value, str), "the path", value)
    if value is not None:
        _path(os.fsencode(value))


def _root(value: Any) -> None:
    if value is not None:
        _check(isinstance(value, list) and len(value) == 2, "the folder", value)
        for text in value:
            _path(bytes.fromhex(text))


def _path(value: bytes) -> None:
    _check(bool(value) and b"\0" not in value, "a path", value)


def _pairs(value: Any) -> None:
    if value is not None:
        PairStatistics.from_dict(value)


def _tuning(value: Any) -> None:
    if value is None:
        return
    names = {"before", "target_recall", "k", "recall", "images"}
    _check(isinstance(value, dict) and value.keys() == names, "the tuning", value)
    LSHSettings.from_dict(value["before"])
    for name in ("target_recall", "recall"):
        share = value[name]
        _check(type(share) in (int, float) and 0 <= share <= 1, name, share)
    for name in ("k", "images"):
        _check(type(value[name]) is int and 0 <= value[name] < LARGEST_ID, name, value[name])


def _flag(value: Any) -> None:
    _check(value is None or isinstance(value, bool), "the value", value)


def _gallery_id(value: Any) -> None:
    _check(is_owner(value), "the id", value)


def _distinct(value: Any) -> None:
    if value is not None:
        _check(isinstance(value, list), "the value", value)
        for pair in value:
            _check(isinstance(pair, list) and len(pair) == 2, "a pair", pair)
            _check(all(len(bytes.fromhex(digest)) == 16 for digest in pair), "a pair", pair)


def _devices(value: Any) -> None:
    if value is not None:
        _check(isinstance(value, dict), "the value", value)
        for folder, device in value.items():
            bytes.fromhex(folder)
            _check(type(device) is int, "a device", device)


REQUIRED: dict[str, Callable[[Any], object]] = {
    "model": ModelInfo.from_dict,
    "model_path": _model_path,
    "root": _root,
    "pairs": _pairs,
}
OPTIONAL: dict[str, Callable[[Any], object]] = {
    "tuning": _tuning,
    "unfinished": _flag,
    "gallery_id": _gallery_id,
    "index_has_no_id": _flag,
    "devices": _devices,
    "distinct": _distinct,
}
"""A table may lack these, which then count as None."""
CHECKS = REQUIRED | OPTIONAL
