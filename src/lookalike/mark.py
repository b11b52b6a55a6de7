"""How lookalike recognises what it has drawn itself, so that it does not index it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

__all__ = ["MARK", "is_own_sheet", "marked"]

MARK = ("lookalike", "contact sheet")
"""Name and text of a PNG text chunk."""
HEAD = 256  # bytes of a file among which the mark is


def marked() -> PngInfo:
    """The mark, for Pillow's ``pnginfo`` when it saves a PNG."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(*MARK)
    return info


def is_own_sheet(path: str | bytes | Path) -> bool:
    """Whether a file is a contact sheet or a diagram of lookalike; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    name, text = (part.encode() for part in MARK)
    return head.startswith(b"\x89PNG") and b"tEXt" + name + b"\0" + text in head
