"""How lookalike knows its own contact sheets again, so that it does not index them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MARK", "is_own_sheet"]

MARK = ("lookalike", "contact sheet")
"""Name and text of a PNG text chunk."""
HEAD = 256  # bytes of a file among which the mark is


def is_own_sheet(path: str | bytes | Path) -> bool:
    """Whether a file was drawn by :func:`draw_png`; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    name, text = (part.encode() for part in MARK)
    return head.startswith(b"\x89PNG") and b"tEXt" + name + b"\0" + text in head
