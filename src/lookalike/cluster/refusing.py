"""What only a gallery on disk does."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from lookalike.errors import GalleryError
from lookalike.gallery.duplicates import Duplicates
from lookalike.gallery.gallery import Gallery, Path_
from lookalike.gallery.reader import Reader
from lookalike.gallery.report import Progress
from lookalike.lsh import LSHSettings

if TYPE_CHECKING:
    from lookalike.lsh.tuning import TuneReport

__all__ = ["ServedGallery"]


class ServedGallery(Gallery):
    """A gallery that servers hold: all that it refuses raises GalleryError with the way out."""

    def _refuse(self, what: str) -> NoReturn:
        raise GalleryError(
            f"{what} takes a gallery on disk, and this one is in a cluster; make a local one of "
            f"its parts with: lookalike index FOLDER --from {shlex.quote(self.parts)}"
        )

    @property
    def parts(self) -> str:
        """Folder or URI of the parts that the servers were loaded from."""
        raise NotImplementedError

    def duplicates(
        self,
        threshold: float = 0.95,
        *,
        reference: Path_ | None = None,
        filter: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Duplicates:
        self._refuse("looking for duplicates")

    def tune(self, target_recall: float = 0.95, k: int = 10, *, force: bool = False) -> TuneReport:
        self._refuse("tuning")

    def reset_tuning(self) -> LSHSettings:
        self._refuse("tuning")

    def reader(self) -> Reader:
        self._refuse("the web page")

    def verify(self, *, contents: bool = False) -> list[str]:
        self._refuse("verifying")
