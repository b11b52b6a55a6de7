"""Links of a segment: from each item to some near it in different directions, to walk along.

A search finds the nearest of some items by their codes, follows their links to nearer ones, and so
on. Links join an item with its
nearest and with those it is among the nearest of; one is left out where another leads there (Malkov
and Yashunin 2018, algorithm 4). Beside each link lies the code of where it leads, seen from the
item: whole blocks of them are scored before a vector is read (Gou et al. 2025, SymphonyQG).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import IndexFormatError
from lookalike.lsh.arrayfile import ArrayFile, is_count, open_arrays, write_arrays

LINKED_FROM = 1 << 16
"""Items from which on a segment has links; fewer are scanned faster than links are followed."""
KIND = "links"
LINKS = 32
"""Of each item: a block of codes."""
WIDEST, MOST_ENTRIES = 1024, 1024
LARGEST_UNIT = 1e6
NO_LINKS: NDArray[np.uint8] = np.empty((0, 0), np.uint8)
NO_LINKS.flags.writeable = False


def record_bytes(code_bytes: int) -> int:
    """Bytes of an item's links whose codes have ``code_bytes``."""
    return LINKS * (code_bytes + 8)


@dataclass(frozen=True, eq=False)
class Links:
    """The links of a segment's ``n`` items.

    Attributes:
        records: (n, record_bytes) uint8: of each item a block of the codes that its links have, see
            ``simd.score_block``, then their corrections and additions, int16, then their rows,
            uint32.
        units: what a correction of CORRECTION_ONE and an addition of 1 stand for, see
            ``linking.encode_links``.
        beam: how many of the items met a search looks at for up to ten results, and in proportion
            for more; 0: none, because links were measured not to help.
        entries: so many times the square root of the items are looked at first, for the nearest of
            them to begin at.
        file: where they are stored, if they are.
    """

    records: NDArray[np.uint8]
    units: tuple[float, float]
    beam: int
    entries: int = 1
    file: ArrayFile | None = None

    def __post_init__(self) -> None:
        self.records.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled are the records, not the file."""
        return type(self), (self.records, self.units, self.beam, self.entries)

    @property
    def rows(self) -> NDArray[np.uint32]:
        """Where they lead: (n, LINKS) rows of the segment."""
        return self.records.view(np.uint32)[:, -LINKS:]

    def save(self, folder: Path, segment: str, owner: str) -> Path:
        """Write them, as those of the file ``segment``."""
        meta = {"segment": segment, "owner": owner, "beam": self.beam, "units": self.units}
        meta["entries"] = self.entries
        return write_arrays(folder, KIND, meta, {"records": self.records})

    @classmethod
    def open(
        cls, path: Path, segment: str, items: int, code_bytes: int, owner: str | None
    ) -> Links | None:
        """Map a stored file; None if it is as in format 5, without codes, to be made again.

        A row that is out of bounds, which only damage to a large file makes, costs time at most.

        Raises:
            IndexFormatError: it is not that of a segment of so many ``items``.
        """
        file = open_arrays(path, KIND)
        file.check_owner(owner)
        if file.meta.get("segment") != segment:
            raise IndexFormatError(f"{path.name} is of another segment than {segment}")
        if list(file.arrays) == ["rows"]:
            return None
        records, beam = file.arrays.get("records", NO_LINKS), file.meta.get("beam")
        units: Any = file.meta.get("units")
        entries = file.meta.get("entries", 1)
        good = list(file.arrays) == ["records"] and records.dtype == np.uint8
        good = good and records.shape == (items, record_bytes(code_bytes))
        good = good and is_count(entries) and 0 < entries <= MOST_ENTRIES
        if not good or not is_count(beam) or beam > WIDEST or not _are_units(units):
            raise IndexFormatError(f"{path.name} is damaged: it does not hold links")
        return cls(records, (units[0], units[1]), beam, entries, file)

    def is_stored_in(self, folder: Path, segment: str, owner: str) -> bool:
        """Whether ``folder`` holds them as a file of this segment and this index."""
        return self.file is not None and self.file.is_in(folder, owner, segment=segment)

    def problem(self) -> str:
        """What is wrong with them, after reading every byte; "" if nothing is."""
        if self.file is not None and self.file.damaged():
            return f"links do not match their checksums, in {self.file.path.name}"
        return "links lead out of it" if (self.rows >= len(self.rows)).any() else ""


def _are_units(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(number, float) for number in value):
        return False
    return len(value) == 2 and all(0 < number < LARGEST_UNIT for number in value)
