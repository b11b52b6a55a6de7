"""A folder of images as a searchable gallery."""

from lookalike.gallery.duplicates import Duplicate, DuplicateGroup, Duplicates
from lookalike.gallery.gallery import Gallery
from lookalike.gallery.hits import Hit
from lookalike.gallery.keep import COPIES, KeepOrder, KeepRule, Kind
from lookalike.gallery.listing import Embeddings, GalleryImage, Hits
from lookalike.gallery.query import Blend, Query, Words
from lookalike.gallery.repair import RepairReport
from lookalike.gallery.report import GalleryInfo, UpdateReport
from lookalike.gallery.themes import Outlier, Theme
from lookalike.progress import Progress

__all__ = [
    "COPIES",
    "Blend",
    "Duplicate",
    "DuplicateGroup",
    "Duplicates",
    "Embeddings",
    "Gallery",
    "GalleryImage",
    "GalleryInfo",
    "Hit",
    "Hits",
    "KeepOrder",
    "KeepRule",
    "Kind",
    "Outlier",
    "Progress",
    "Query",
    "RepairReport",
    "Theme",
    "UpdateReport",
    "Words",
]
