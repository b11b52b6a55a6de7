"""The numbers of a reproduction as JSON: one file for each set, replaced atomically."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.atomic import atomic_writer
from lookalike.errors import LookalikeError

FORMAT = 2


@dataclass(frozen=True)
class Results:
    """Numbers by (set, path of keys), in DIRECTORY/SET.json.

    Several processes may write to one directory at the same time. LookalikeError for a file that is
    not a JSON object of this format.
    """

    directory: Path

    def load(self, name: str) -> dict[str, Any]:
        """All of a set; empty if nothing is known."""
        path = self.directory / f"{name}.json"
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise LookalikeError(
                f"{path} is not JSON ({error}): delete it and run again"
            ) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise LookalikeError(
                f"{path} is not of format {FORMAT}: delete it and run again, or use the version "
                "of lookalike that wrote it"
            )
        return content

    def get(self, name: str, *keys: str) -> Any:
        """The value at the path of keys; None if it is not known."""
        found: Any = self.load(name)
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                return None
            found = found[key]
        return found

    def begin(self, name: str, collection: dict[str, Any]) -> None:
        """Note which images the numbers are of, and what else they all must share.

        LookalikeError if the file holds numbers of others.
        """
        with self._locked():
            known = self.get(name, "collection")
            if known is None:
                self._write(name, {"format": FORMAT, "collection": collection})
        if known not in (None, collection):
            raise LookalikeError(
                f"{self.directory / name}.json holds numbers of {_listed(known)}; these are of "
                f"{_listed(collection)}: give another directory for results, or delete that file"
            )

    def put(self, value: Any, name: str, *keys: str) -> None:
        """Set the value at the path of keys and write the file."""
        with self._locked():
            content = {"format": FORMAT, **self.load(name)}
            place = content
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = value
            self._write(name, content)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Other processes that change the numbers wait."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with atomic_writer(self.directory / f"{name}.json") as file:
            file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

    def seeds(self, name: str, *keys: str) -> Iterator[tuple[int, Any]]:
        """What is known of each split seed at the path, by rising seed."""
        found = self.get(name, *keys) or {}
        return iter(sorted((int(seed), value) for seed, value in found.items()))


def _listed(collection: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in collection.items())
