"""What a generation was made with, as fields of a HASH."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.cluster.collection.keys import Keys
from lookalike.cluster.collection.layouts import Layout, Shape, layouts
from lookalike.encoder import ModelInfo
from lookalike.errors import GalleryDamagedError, GalleryError, IndexFormatError
from lookalike.gallery.rarity import PairStatistics
from lookalike.lsh.hashing import ARRAYS, Hasher
from lookalike.lsh.settings import LSHSettings

__all__ = ["FORMAT", "Meta", "load_command", "pairs_text"]

FORMAT = "1"
Fields = dict[str, bytes | str | int]


@dataclass(frozen=True)
class Meta:
    """What a generation was made with; the attributes are those of `collection.Collection`.

    ``shards``: see `keys.shards_for`; ``created``: seconds since the epoch.
    """

    model: ModelInfo
    settings: LSHSettings
    key_bits: int
    hasher: Hasher
    layout: str
    root: str
    parts: str
    shards: int
    pairs: PairStatistics | None
    created: float

    def keys(self, name: str, generation: int) -> Keys:
        return Keys(name, generation, self.shards)

    def layout_in(self, keys: Keys) -> Layout:
        shape = Shape(keys, self.settings.tables, self.key_bits, self.entry_bytes)
        return layouts()[self.layout](shape)

    @property
    def entry_bytes(self) -> int:
        """Bytes of a code and, for asymmetric ranking, its correction."""
        return self.settings.code_bits // 8 + 2 * (self.settings.ranking == "asymmetric")

    @cached_property
    def _blob(self) -> bytes:
        return _packed(self.hasher)

    def identity(self) -> Fields:
        """The fields that two loads must share for one to go on with what the other began."""
        return {
            "format": FORMAT,
            "model": _json(self.model.as_dict()),
            "settings": _json(self.settings.as_dict()),
            "key_bits": self.key_bits,
            "layout": self.layout,
            "root": self.root,
            "parts": self.parts,
            "shards": self.shards,
            "hasher_sha256": hashlib.sha256(self._blob).hexdigest(),
        }

    def fields(self) -> Fields:
        return {
            **self.identity(),
            "hasher": self._blob,
            "pairs": pairs_text(self.pairs),
            "created": repr(self.created),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes], name: str) -> Meta:
        """Raises GalleryError for another format, GalleryDamagedError for a damaged entry."""
        if (found := fields.get(b"format", b"none").decode(errors="replace")) != FORMAT:
            raise GalleryError(
                f"collection '{name}' has format {found}, this lookalike reads format {FORMAT}; "
                f"use the lookalike that made it, or load it anew: {load_command(name)}"
            )
        try:
            text = {key.decode(): value.decode() for key, value in fields.items() if key != HASHER}
            blob = fields[HASHER]
            if hashlib.sha256(blob).hexdigest() != text["hasher_sha256"]:
                raise ValueError("the hash functions do not match their checksum")
            settings = LSHSettings.from_dict(json.loads(text["settings"]))
            pairs = json.loads(text["pairs"])
            if text["layout"] not in layouts():
                raise ValueError(f"its layout is {text['layout']!r}")
            return cls(
                ModelInfo.from_dict(json.loads(text["model"])),
                settings,
                int(text["key_bits"]),
                _unpacked(blob, settings),
                text["layout"],
                text["root"],
                text["parts"],
                int(text["shards"]),
                None if pairs is None else PairStatistics.from_dict(pairs),
                float(text["created"]),
            )
        except (IndexFormatError, KeyError, TypeError, ValueError) as error:
            raise GalleryDamagedError(
                f"collection '{name}' is damaged: {error}; load it anew: {load_command(name)}"
            ) from error


HASHER = b"hasher"


def load_command(name: str) -> str:
    """What makes a collection."""
    return f"lookalike cluster load DIR --uri valkey://HOST:PORT/{name}"


def pairs_text(pairs: PairStatistics | None) -> str:
    return _json(None if pairs is None else pairs.as_dict())


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _packed(hasher: Hasher) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return hasher.save(Path(folder)).read_bytes()


def _unpacked(data: bytes, settings: LSHSettings) -> Hasher:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hasher.lka"
        path.write_bytes(data)
        hasher = Hasher.open(path, settings)
        # Not maps of a file that is about to go.
        arrays: dict[str, Any] = {name: np.array(getattr(hasher, name)) for name in ARRAYS}
        return replace(hasher, **arrays)
