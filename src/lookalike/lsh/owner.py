"""The id of an index, kept in each of its files, so that those of two indexes are never mixed."""

from __future__ import annotations

import re
import secrets

from lookalike.errors import IndexFormatError

__all__ = ["check_owner", "is_owner", "new_owner"]


def new_owner() -> str:
    """32 random hexadecimal digits."""
    return secrets.token_hex(16)


def is_owner(value: object) -> bool:
    """Whether ``value`` is an id: 32 lowercase hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None


def check_owner(name: str, found: str | None, owner: str | None) -> None:
    """Raises IndexFormatError unless the file ``name``, of the index ``found``, is of ``owner``."""
    if found != owner:
        raise IndexFormatError(
            f"{name} belongs to {_index(found)}, not to {_index(owner)}: put back the file that "
            f"belongs here, or build the index again"
        )


def _index(owner: str | None) -> str:
    return "an index without an id" if owner is None else f"the index {owner}"
