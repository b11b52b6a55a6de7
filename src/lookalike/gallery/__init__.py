"""A folder of images as a searchable gallery."""

from lookalike.gallery.duplicates import Duplicate, DuplicateGroup
from lookalike.gallery.gallery import Gallery, GalleryInfo, Query
from lookalike.gallery.hits import Hit
from lookalike.gallery.update import Progress, UpdateReport
from lookalike.gallery.verify import RepairReport

__all__ = [
    "Duplicate",
    "DuplicateGroup",
    "Gallery",
    "GalleryInfo",
    "Hit",
    "Progress",
    "Query",
    "RepairReport",
    "UpdateReport",
]
