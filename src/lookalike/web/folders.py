"""Folders and months to browse a gallery by."""

from __future__ import annotations

import os
import re
import time
from collections import Counter

from lookalike.gallery.listing import ALL
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.web.answers import FolderItem, FoldersAnswer, MonthItem

MOST = 1000


class Folders:
    """Counts them; what was read of a snapshot is kept until the next one."""

    def __init__(self) -> None:
        self._known: tuple[GallerySnapshot, list[tuple[str, str, int]]] | None = None

    def bytes(self, snapshot: GallerySnapshot) -> int:
        """Of all image files."""
        return sum(size for _, _, size in self._files(snapshot))

    def _files(self, snapshot: GallerySnapshot) -> list[tuple[str, str, int]]:
        """Path as addresses can hold it, month and bytes of each."""
        known = self._known
        if known is None or known[0] is not snapshot:
            rows, _ = snapshot.page(None, 0, ALL)
            found = [(_for_addresses(row.path), _month(row.date), row.size) for row in rows]
            known = self._known = snapshot, found
        return known[1]

    def below(self, snapshot: GallerySnapshot, folder: str) -> FoldersAnswer:
        """Folders by name, months newest first, at most MOST of each. ``folder``: a path in the
        gallery with forward slashes; empty: the gallery's own. In names of folders, bytes that are
        not UTF-8 are replacement characters, since no address can hold the surrogates that they
        are elsewhere."""
        start = f"{folder}/" if folder else ""
        names, months = Counter[str](), Counter[str]()
        for path, month, _ in self._files(snapshot):
            if path.startswith(start):
                name, slash, _ = path[len(start) :].partition("/")
                names[name] += bool(slash)
                months[month] += 1
        folders = [(name, count) for name, count in sorted(names.items()) if count]
        newest = sorted(months.items(), reverse=True)
        return FoldersAnswer(
            folders=[FolderItem(name=n, path=start + n, images=i) for n, i in folders[:MOST]],
            months=[MonthItem(month=month, images=images) for month, images in newest[:MOST]],
        )


def _for_addresses(path: bytes) -> str:
    return re.sub("[\udc80-\udcff]", "\ufffd", os.fsdecode(path))


def _month(date: int) -> str:
    """Of `ImageRow.date`, as a filter's ``date:`` has it."""
    try:
        return time.strftime("%Y-%m", time.gmtime(date))
    except (ValueError, OverflowError, OSError):
        return "unknown"
