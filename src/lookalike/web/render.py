"""Rows and hits as the objects of the API."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from lookalike.gallery.hits import score_in_words
from lookalike.gallery.protocol import GallerySnapshot
from lookalike.gallery.rows import ImageRow
from lookalike.gallery.search import Found

__all__ = ["hit_objects", "image_object"]


def image_object(row: ImageRow) -> dict[str, Any]:
    """As `ImageObject`."""
    original = f"/api/images/{row.id}"
    return {
        "id": row.id,
        "path": os.fsdecode(row.path),
        "width": row.width or 0,
        "height": row.height or 0,
        "format": row.format or "",
        "thumbnail": f"{original}/thumbnail",
        "original": original,
    }


def hit_objects(snapshot: GallerySnapshot, found: Sequence[Found]) -> list[dict[str, Any]]:
    """As `HitObject`, in the order of ``found``."""
    code_bits = snapshot.code_bits
    rarities = snapshot.rarities([item.cosine for item in found])
    return [
        {
            **image_object(item.row),
            "cosine": round(item.cosine, 6),
            "bits": item.bits,
            "code_bits": code_bits,
            "rarity": None if rarity is None else round(rarity, 6),
            "words": score_in_words(item.cosine, item.bits, code_bits, rarity),
        }
        for item, rarity in zip(found, rarities, strict=True)
    ]
