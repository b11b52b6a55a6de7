"""The one key of a name: which generation is current, and what is to become of the others."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lookalike.cluster.collection.keys import name_key
from lookalike.cluster.collection.layouts import Command
from lookalike.cluster.collection.meta import FORMAT, load_command
from lookalike.errors import GalleryError

if TYPE_CHECKING:
    from lookalike.cluster.wire.connection import Connection

__all__ = ["Current", "Entry", "Register", "State"]

State = Literal["building", "ready", "dropping"]


@dataclass(frozen=True)
class Entry:
    """What the register says of a collection.

    Attributes:
        generation: the current one, None until a first load was done.
        images: in it.
        version: changes whenever a writer has changed something.
        unsure: a writer has begun and not ended, so that ``images`` may be wrong.
        states: of all generations that have keys.
    """

    generation: int | None
    images: int
    version: bytes
    unsure: bool
    states: dict[int, State]

    def to_open(self, name: str) -> int:
        """The generation that clients open. GalleryError: there is none yet, or none any more."""
        state = None if self.generation is None else self.states.get(self.generation)
        if self.generation is not None and state == "ready":
            return self.generation
        if state == "dropping" or "building" not in self.states.values():
            raise GalleryError(
                f"collection '{name}' is being dropped, or that was interrupted; finish it with: "
                f"lookalike cluster drop valkey://HOST:PORT/{name}"
            )
        raise GalleryError(
            f"collection '{name}' is still being loaded, or that was interrupted; wait, or go on "
            f"with: {load_command(name)}"
        )


class Current(NamedTuple):
    """The current generation and when it was created, which together no two share; images and
    version as in `Entry`.
    """

    which: tuple[int, float] | None
    images: int
    version: bytes


class Register:
    """HASH ``m:{name}``. Each method that writes is one command, whole or not at all."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._key = name_key(name)

    def read(self) -> Entry | None:
        """None: there is no such collection. GalleryError: it is of another format."""
        (reply,) = self._connection.run([("HGETALL", self._key)])
        found = dict(zip(reply[::2], reply[1::2], strict=True))
        if not found:
            return None
        if (made := found.get(b"format", b"none").decode(errors="replace")) != FORMAT:
            raise GalleryError(
                f"collection '{self._name}' has format {made}, this lookalike reads format "
                f"{FORMAT}; use the lookalike that made it, or take another name"
            )
        states: dict[int, State] = {
            int(field.removeprefix(b"state:")): value.decode()
            for field, value in found.items()
            if field.startswith(b"state:")
        }
        generation = found.get(b"generation")
        return Entry(
            None if generation is None else int(generation),
            int(found.get(b"images", 0)),
            found.get(b"version", b""),
            found.get(b"unsure") == b"1",
            states,
        )

    def current(self, *more: Command) -> tuple[Current, list[Any]]:
        """What a client has to ask again and again; and the replies to more commands."""
        fields = ("generation", "created", "images", "version")
        reply, *others = self._connection.run([("HMGET", self._key, *fields), *more])
        generation, created, images, version = reply
        which = None if generation is None else (int(generation), float(created))
        return Current(which, int(images or 0), version or b""), others

    def begin(self, generation: int) -> None:
        """A generation is being built."""
        self._set("format", FORMAT, f"state:{generation}", "building")

    def switch(self, generation: int, meta_key: str, images: int) -> int | None:
        """A generation is current from now on, and the old one, which is returned, to be deleted.

        ``meta_key``: of the new generation.
        """
        entry = self.read()
        old = entry.generation if entry else None
        outgoing = () if old is None else (f"state:{old}", "dropping")
        (created,) = self._connection.run([("HGET", meta_key, "created")])
        values = ("generation", generation, "created", created, "images", images, "unsure", 0)
        states = (f"state:{generation}", "ready", *outgoing)
        self._set(*values, "version", uuid.uuid4().hex, *states)
        return old

    def begin_change(self) -> None:
        self._set("unsure", 1)

    def end_change(self, images: int) -> None:
        self._set("images", images, "unsure", 0, "version", uuid.uuid4().hex)

    def condemn(self, generation: int) -> None:
        """A generation is to be deleted; if it is the current one, nobody can open it any more."""
        self._set(f"state:{generation}", "dropping")

    def forget(self, generation: int) -> None:
        """A generation has no keys any more."""
        self._connection.write([("HDEL", self._key, f"state:{generation}")])

    def delete(self) -> None:
        self._connection.write([("DEL", self._key)])

    def _set(self, *fields: bytes | str | int) -> None:
        self._connection.write([("HSET", self._key, *fields)])
