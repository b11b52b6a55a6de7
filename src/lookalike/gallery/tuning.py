"""The settings of a gallery's index, chosen by measuring, and those from before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lookalike.errors import GalleryError
from lookalike.gallery.files import GalleryFiles
from lookalike.gallery.store import Store
from lookalike.lsh import LSHIndex, LSHSettings

if TYPE_CHECKING:
    from lookalike.lsh.tuning import TuneReport

TUNE_FROM = 10_000
"""Images below which tuning is refused: a search looks at nearly all of them anyway."""


def tune(
    files: GalleryFiles, store: Store, index: LSHIndex, target_recall: float, k: int, force: bool
) -> TuneReport:
    """As `Gallery.tune`, of a gallery that is open for writing."""
    if len(index) < TUNE_FROM and not force:
        raise GalleryError(
            f"the gallery has {len(index):,} images; below {TUNE_FROM:,} the default "
            f"settings look at nearly all of them anyway, and settings chosen now would "
            f"hurt when it grows (--force, or force=True, tunes all the same)"
        )
    before = (store.meta("tuning") or {}).get("before", index.settings.as_dict())
    try:
        report = index.tune(target_recall, k)
    except ValueError as error:
        raise GalleryError(f"cannot tune: {error}") from error
    index.save(files.index_folder)
    tuning = {
        "before": before,
        "target_recall": target_recall,
        "k": k,
        "recall": report.expected.recall,
        "images": len(index),
    }
    with store.transaction():
        store.set_meta({"tuning": tuning})
    return report


def reset_tuning(files: GalleryFiles, store: Store, index: LSHIndex) -> LSHSettings:
    """As `Gallery.reset_tuning`, likewise."""
    tuning = store.meta("tuning")
    if tuning is None:  # lost with a table, if there was any
        plain = LSHSettings(index.settings.dim)
        settings = replace(
            index.settings,
            tables=plain.tables,
            key_bits=plain.key_bits,
            search=plain.search,
        )
    else:
        settings = LSHSettings.from_dict(tuning["before"])
        if settings.dim != index.settings.dim:
            raise store.damaged("its entry 'tuning' is of another index")
    if settings != index.settings:
        index.with_settings(settings).save(files.index_folder)
    with store.transaction():
        store.set_meta({"tuning": None})
    return settings
