"""Links of a segment: from each item to some near it in different directions, to walk along.

A search finds a few near items by their codes and follows the links of those to nearer ones, so
that it scans a tenth of the buckets that it would need alone. Links join an item with its nearest
and with those it is among the nearest of; one is left out where another leads there (Malkov and
Yashunin 2018, algorithm 4).
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
MOST_LINKS = 64
WIDEST = 1024
NO_LINKS: NDArray[np.uint32] = np.empty((0, 0), np.uint32)
NO_LINKS.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Links:
    """The links of a segment's ``n`` items.

    Attributes:
        rows: (n, w) uint32 rows of the segment.
        beam: how many of the items met a search follows for up to ten results, and in proportion
            for more; 0: none, because they were measured not to help.
        file: where they are stored, if they are.
    """

    rows: NDArray[np.uint32]
    beam: int
    file: ArrayFile | None = None

    def __post_init__(self) -> None:
        self.rows.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled are the rows, not the file."""
        return type(self), (self.rows, self.beam)

    def save(self, folder: Path, segment: str, owner: str) -> Path:
        """Write them, as those of the file ``segment``."""
        meta = {"segment": segment, "owner": owner, "beam": self.beam}
        return write_arrays(folder, KIND, meta, {"rows": self.rows})

    @classmethod
    def open(cls, path: Path, segment: str, items: int, owner: str | None) -> Links:
        """Map a stored file; raises IndexFormatError if it is not that of a segment of ``items``.

        A row that is out of bounds, which only damage to a large file makes, costs time at most.
        """
        file = open_arrays(path, KIND)
        file.check_owner(owner)
        rows, beam = file.arrays.get("rows", NO_LINKS), file.meta.get("beam")
        good = list(file.arrays) == ["rows"] and rows.dtype.str == "<u4" and rows.ndim == 2
        good = good and len(rows) == items and rows.shape[1] <= MOST_LINKS
        if not good or not is_count(beam) or beam > WIDEST:
            raise IndexFormatError(f"{path.name} is damaged: it does not hold links")
        if file.meta.get("segment") != segment:
            raise IndexFormatError(f"{path.name} is of another segment than {segment}")
        return cls(rows, beam, file)

    def is_stored_in(self, folder: Path, segment: str, owner: str) -> bool:
        """Whether ``folder`` holds them as a file of this segment and this index."""
        return self.file is not None and self.file.is_in(folder, owner, segment=segment)

    def problem(self) -> str:
        """What is wrong with them, after reading every byte; "" if nothing is."""
        if self.file is not None and self.file.damaged():
            return "links do not match their checksums"
        return "links lead out of it" if (self.rows >= len(self.rows)).any() else ""
