"""Index files and manifests with other values and right checksums."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIB = 1 << 20


@dataclass
class Parts:
    """What an array file consists of; `arrays` may be altered in place."""

    body: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def read(cls, path: Path) -> Parts:
        content = path.read_bytes()
        length = struct.unpack_from("<I", content, 12)[0]
        body = json.loads(content[24 : 24 + length])
        at, arrays = 24 + length, {}
        for entry in body["arrays"]:
            at = -(-at // 64) * 64
            raw = np.frombuffer(content, np.uint8, entry["bytes"], at).copy()
            arrays[entry["name"]] = raw.view(entry["dtype"]).reshape(entry["shape"])
            at += entry["bytes"]
        return cls(body, arrays)

    def checksum(self) -> None:
        """Give every array the checksums of what it holds now."""
        for entry in self.body["arrays"]:
            raw = self.arrays[entry["name"]].tobytes()
            entry["crc32"] = [zlib.crc32(raw[i : i + MIB]) for i in range(0, len(raw), MIB)]

    def write(self, path: Path) -> None:
        """Write them with whatever the body says, and its checksum."""
        header = json.dumps(self.body, sort_keys=True, separators=(",", ":")).encode()
        content = bytearray(b"LKARRAY\n")
        content += struct.pack("<IIII", 1, len(header), zlib.crc32(header), 0) + header
        for array in self.arrays.values():
            content += bytes(-len(content) % 64) + array.tobytes()
        path.write_bytes(content + bytes(-len(content) % 64))


def forge_arrays(path: Path, change: Callable[[Parts], object], *, checksum: bool = True) -> None:
    """Alter an array file in place; ``checksum``: those of the arrays are made right."""
    parts = Parts.read(path)
    change(parts)
    if checksum:
        parts.checksum()
    parts.write(path)


def forge_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Alter the body of the manifest in ``folder`` and make its checksum right."""
    path = folder / "manifest.json"
    document = json.loads(path.read_bytes())
    change(document["index"])
    body = json.dumps(document["index"], sort_keys=True, separators=(",", ":")).encode()
    document["crc32"] = zlib.crc32(body)
    path.write_text(json.dumps(document))
