"""How many planted copies `duplicates` finds, and how many of its pairs are wrong.

    python benchmarks/duplicates.py PHOTOS [--planted 80] [--json FILE]

Of every so many of the photos, copies of 14 kinds are planted beside all of them. Beside it: the
64-bit pHash of imagehash alone, within 4, 8 and 10 bits (the default of imagededup's PHash is 10),
each with each. A pair of files that are not of one photo counts as wrong; look at those before you
believe it.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lookalike.gallery import Gallery
from lookalike.images import read_rgb
from lookalike.images.likeness import perceptual_hash

L = Image.Resampling.LANCZOS
BITS = (4, 8, 10)


def _scaled(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda x: x.resize((round(x.width * share), round(x.height * share)), L)


def _cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    def crop(x: Image.Image) -> Image.Image:
        w, h = round(x.width * (1 - share) / 2), round(x.height * (1 - share) / 2)
        return x.crop((w, h, x.width - w, x.height - h))

    return crop


KINDS: dict[str, tuple[Callable[[Image.Image], Image.Image], str, dict[str, Any]]] = {
    "PNG": (lambda x: x, "png", {}),
    "quality 40": (lambda x: x, "jpg", {"quality": 40}),
    "WebP": (lambda x: x, "webp", {"quality": 60}),
    "half": (_scaled(1 / 2), "jpg", {"quality": 90}),
    "third": (_scaled(1 / 3), "jpg", {"quality": 90}),
    "quarter": (_scaled(1 / 4), "jpg", {"quality": 85}),
    "grey": (ImageOps.grayscale, "jpg", {"quality": 92}),
    "bright": (lambda x: x.point(lambda v: min(255, int(v * 1.25))), "jpg", {"quality": 92}),
    "mirrored": (ImageOps.mirror, "jpg", {"quality": 92}),
    "turned": (lambda x: x.transpose(Image.Transpose.ROTATE_90), "jpg", {"quality": 92}),
    "crop to 90 %": (_cropped(0.9), "jpg", {"quality": 92}),
    "crop to 80 %": (_cropped(0.8), "jpg", {"quality": 92}),
    "white border": (
        lambda x: ImageOps.expand(x, max(4, x.width // 40), "white"),
        "jpg",
        {"quality": 92},
    ),
    "black border": (
        lambda x: ImageOps.expand(x, max(4, x.width // 40), "black"),
        "jpg",
        {"quality": 92},
    ),
}


def plant(photos: list[Path], source: Path, folder: Path, count: int) -> dict[str, tuple[str, str]]:
    """Copies all photos and alters some; of each altered file the path of its photo, and kind."""
    planted: dict[str, tuple[str, str]] = {}
    for photo in photos:
        to = folder / "photos" / photo.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, to)
    for number, photo in enumerate(photos[:: max(1, len(photos) // count)][:count]):
        image = Image.open(photo).convert("RGB")
        for kind, (alter, suffix, options) in KINDS.items():
            path = folder / "planted" / kind / f"{number:04}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            alter(image).save(path, **options)
            name = (Path("photos") / photo.relative_to(source)).as_posix()
            planted[path.relative_to(folder).as_posix()] = name, kind
    return planted


def score(pairs: set[frozenset[str]], planted: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Recall of each kind, and the pairs of files that are not of one photo."""
    origin = {path: photo for path, (photo, _) in planted.items()}
    found, total = Counter[str](), Counter(kind for _, kind in planted.values())
    for path, (photo, kind) in planted.items():
        found[kind] += frozenset((path, photo)) in pairs
    wrong = [sorted(pair) for pair in pairs if len({origin.get(path, path) for path in pair}) > 1]
    recall = {kind: round(found[kind] / total[kind], 3) for kind in KINDS}
    return {"recall": recall, "pairs": len(pairs), "wrong": len(wrong), "wrong_pairs": wrong[:100]}


def lookalike(folder: Path, planted: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """What is in one group counts as found."""
    began = time.monotonic()
    gallery = Gallery.open(folder)
    gallery.update()
    indexed = time.monotonic()
    groups = gallery.duplicates()
    seconds = time.monotonic() - indexed
    pairs = set[frozenset[str]]()
    for group in groups:
        paths = [item.path for item in (*group.keep, *group.duplicates)]
        pairs |= {frozenset((a, b)) for a in paths for b in paths if a < b}
    return {
        **score(pairs, planted),
        "index_seconds": round(indexed - began, 1),
        "seconds": round(seconds, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def phash(folder: Path, planted: dict[str, tuple[str, str]]) -> dict[int, dict[str, Any]]:
    """By the hash alone, of the whole image, each with each."""
    began = time.monotonic()
    paths = sorted(path for path in folder.rglob("*.*") if ".lookalike" not in path.parts)
    names = [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    hashes = np.array(
        [perceptual_hash(np.asarray(read_rgb(folder / name))) for name in names], np.int64
    )
    found: dict[int, set[frozenset[str]]] = {bits: set() for bits in BITS}
    for at in range(len(names)):
        differ = np.bitwise_count(hashes[at + 1 :] ^ hashes[at])
        for bits in BITS:
            near = np.flatnonzero(differ <= bits) + at + 1
            found[bits] |= {frozenset((names[at], names[other])) for other in near.tolist()}
    seconds = round(time.monotonic() - began, 1)
    return {bits: {**score(found[bits], planted), "seconds": seconds} for bits in BITS}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--planted", type=int, default=80, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    files = sorted(path for path in asked.photos.rglob("*.jp*g") if path.is_file())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planted = plant(files, asked.photos, folder, asked.planted)
        answer = {"files": len(files) + len(planted), "lookalike": lookalike(folder, planted)}
        answer["phash"] = phash(folder, planted)
    text = json.dumps(answer, indent=2)
    if asked.json:
        asked.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
