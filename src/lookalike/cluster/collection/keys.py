"""Names of the keys of a collection, none of which holds more than a small part of it.

There are no hash tags, so that Valkey spreads the keys over all slots.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

__all__ = ["IDS_PER_BLOCK", "Keys", "lock_key", "name_key", "shards_for"]

IDS_PER_SHARD = 64
MAX_SHARD_BITS = 24
IDS_PER_BLOCK = 512
"""Codes per key of the packed layout: as many as images per part, so that one write fills it."""


def name_key(name: str) -> str:
    """The one key that says which generation is current."""
    return f"m:{name}"


def lock_key(name: str) -> str:
    return f"w:{name}"


def shards_for(images: int) -> int:
    """Into how many keys the paths (and the hashes) of a collection are divided: about 64 each,
    few enough to be stored without overhead.
    """
    bits = round(math.log2(max(1, images) / IDS_PER_SHARD))
    return 1 << min(max(bits, 0), MAX_SHARD_BITS)


@dataclass(frozen=True)
class Keys:
    """The keys of one generation.

    Attributes:
        name, generation: of the collection.
        shards: see `shards_for`.
    """

    name: str
    generation: int
    shards: int

    def _of(self, kind: str, *more: object) -> str:
        return ":".join([kind, self.name, str(self.generation), *map(str, more)])

    @property
    def meta(self) -> str:
        """HASH: what the generation was made with, see `collection.Meta`."""
        return self._of("m")

    def bucket(self, table: int, key: int) -> str:
        return f"b:{self.name}:{self.generation}:{table}:{key}"

    def codes(self, block: int) -> str:
        return f"c:{self.name}:{self.generation}:{block}"

    def vector(self, number: int) -> str:
        """STRING: the embedding, float16."""
        return f"v:{self.name}:{self.generation}:{number}"

    def record(self, number: int) -> str:
        """STRING: see `record`. An image is in the collection if and only if it has one."""
        return f"r:{self.name}:{self.generation}:{number}"

    def path_shard(self, shard: int) -> str:
        """HASH: digest of a path -> id."""
        return self._of("p", shard)

    def hash_shard(self, shard: int) -> str:
        """ZSET, all scores 0: part of a content's hash and id, so that copies stand together."""
        return self._of("h", shard)

    @property
    def skipped(self) -> str:
        """HASH: path -> record of a file that was skipped or taken out."""
        return self._of("s")

    @property
    def removing(self) -> str:
        """HASH: id -> record, of removals that have begun."""
        return self._of("x")

    @property
    def loaded(self) -> str:
        """HASH: name of a part that is in -> what was live in it."""
        return self._of("d")

    def place_of_path(self, path: bytes) -> tuple[str, bytes]:
        """The key and the field under which the id of a path stands."""
        digest = hashlib.blake2b(path, digest_size=12).digest()
        return self.path_shard(self._shard(digest)), digest[4:]

    def place_of_hash(self, digest: bytes) -> tuple[str, bytes]:
        """The key under which ids of a content stand, and the start, 8 bytes, of its members."""
        return self.hash_shard(self._shard(digest)), digest[4:12]

    def _shard(self, digest: bytes) -> int:
        return int.from_bytes(digest[:4], "little") % self.shards
