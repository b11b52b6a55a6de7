"""How many planted copies `duplicates` and other programs find, how many of their pairs are wrong,
and what they cost.

    python benchmarks/duplicates.py PHOTOS [--planted 80] [--files 100000] [--folder DIR]
        [--methods lookalike phash imagededup czkawka] [--peers PYTHON] [--json FILE]

Of every so many of the photos, copies of 14 kinds are planted beside all of them. To reach
``--files``, mosaics are added: parts of two photos side by side, each pair of photos once, so that
none is a copy of another although many share a half. With ``--folder`` all is kept there, and a run
that was interrupted goes on.

Methods: `Gallery.duplicates`; the 64-bit pHash of imagehash alone, within 4, 8 and 10 bits, each
with each; imagededup's PHash and czkawka's core (its bindings for Python), both with their
defaults, in the interpreter ``--peers``. A pair of files that are not of one photo counts as wrong;
look at those before you believe it. Memory is that of all processes of a method.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lookalike.gallery import Gallery
from lookalike.images import read_rgb
from lookalike.images.likeness import perceptual_hash

L = Image.Resampling.LANCZOS
BITS = (4, 8, 10)
SAMPLED_SECONDS = 0.25
MOSAIC = 192, 128
IMAGEDEDUP = """
import json, sys
from unittest import mock
for name in ("methods.cnn", "utils.models", "utils.data_generator"):  # its other method, with torch
    sys.modules[f"imagededup.{name}"] = mock.MagicMock()
from imagededup.methods import PHash
found = PHash(verbose=False).find_duplicates(image_dir=sys.argv[1], recursive=True)
json.dump([[one, two] for one, many in found.items() for two in many], open(sys.argv[2], "w"))
"""
CZKAWKA = """
import json, sys
from pathlib import Path
from czkawka import ImageSimilarity
finder = ImageSimilarity()
finder.set_directories([Path(sys.argv[1])])
groups = [[str(path.relative_to(sys.argv[1])) for path in group] for group in finder.find_similar()]
pairs = [[a, b] for group in groups for a in group for b in group if a < b]
json.dump(pairs, open(sys.argv[2], "w"))
"""


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


# ---- the folder ----------------------------------------------------------------------------------


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


def add_mosaics(photos: list[Path], folder: Path, count: int) -> None:
    """Different images, of which many have a half in common."""
    rng = np.random.default_rng(0)
    width, height = MOSAIC
    small = [ImageOps.fit(Image.open(photo).convert("RGB"), MOSAIC) for photo in photos]
    codes = rng.choice(len(photos) * (len(photos) - 1), count, replace=False)
    for number, code in enumerate(codes.tolist()):
        one, two = divmod(code, len(photos) - 1)
        two += two >= one
        mosaic = Image.new("RGB", MOSAIC)
        for side, at in enumerate((one, two)):
            w = int(rng.integers(width // 2, width - 40))
            h = int(w * height / (width // 2)) if w * height <= height * width // 2 else height
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            part = small[at].resize((width // 2, height), L, box=(x, y, x + w, y + h))
            mosaic.paste(part, (side * width // 2, 0))
        path = folder / "mosaics" / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        mosaic.save(path, quality=90)


def prepare(source: Path, folder: Path, planted: int, total: int) -> dict[str, tuple[str, str]]:
    """Fill the folder, unless that was done; gives what is planted."""
    notes = folder.with_name(f"{folder.name}.json")
    if not notes.exists():
        photos = sorted(path for path in source.rglob("*.jp*g") if path.is_file())
        found = plant(photos, source, folder, planted)
        add_mosaics(photos, folder, max(0, total - len(photos) - len(found)))
        notes.write_text(json.dumps(found))
    return {path: (photo, kind) for path, (photo, kind) in json.loads(notes.read_text()).items()}


# ---- the methods: each in a process of its own ---------------------------------------------------


def of_lookalike(folder: Path) -> Iterator[list[str]]:
    """What is in one group counts as found."""
    for group in Gallery.open(folder).duplicates():
        paths = [item.path for item in (*group.keep, *group.duplicates)]
        yield from ([a, b] for a in paths for b in paths if a < b)


def of_phash(folder: Path, bits: int) -> Iterator[list[str]]:
    """By the hash alone, of the whole image, each with each."""
    paths = sorted(path for path in folder.rglob("*.*") if ".lookalike" not in path.parts)
    names = [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    hashes = np.array(
        [perceptual_hash(np.asarray(read_rgb(folder / name))) for name in names], np.int64
    )
    for at in range(len(names)):
        differ = np.bitwise_count(hashes[at + 1 :] ^ hashes[at])
        for other in np.flatnonzero(differ <= bits) + at + 1:
            yield [names[at], names[other]]


def measured(command: list[str | Path]) -> dict[str, Any]:
    """Seconds, and the most memory of the command with all its processes."""
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, _memory(_family(process.pid)))
            time.sleep(SAMPLED_SECONDS)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with status {process.returncode}")
    return {"seconds": round(time.monotonic() - began, 1), "peak_mb": peak // 1024}


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            for child in map(int, children):
                yield from _family(child)


def _memory(pids: Iterable[int]) -> int:
    """In kB: what processes have for themselves, and the most that one has of mapped files."""
    own, mapped = 0, 0
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            kilobytes = {name: int(rest.split()[0]) for name, rest in (x.split(":") for x in lines)}
            own += kilobytes["Pss_Anon"]
            mapped = max(mapped, kilobytes["Rss"] - kilobytes["Anonymous"])
    return own + mapped


def score(pairs: Iterable[frozenset[str]], planted: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Recall of each kind, and the pairs of files that are not of one photo."""
    pairs = set(pairs)
    origin = {path: photo for path, (photo, _) in planted.items()}
    found, total = Counter[str](), Counter(kind for _, kind in planted.values())
    for path, (photo, kind) in planted.items():
        found[kind] += frozenset((path, photo)) in pairs
    wrong = [sorted(pair) for pair in pairs if len({origin.get(path, path) for path in pair}) > 1]
    recall = {kind: round(found[kind] / total[kind], 3) for kind in KINDS}
    return {
        "recall": recall,
        "pairs": len(pairs),
        "wrong": len(wrong),
        "wrong_pairs": sorted(wrong)[:100],
    }


def compare(
    methods: list[str], folder: Path, planted: dict[str, tuple[str, str]], peers: str
) -> dict[str, Any]:
    """What each method finds, and its cost."""
    own: list[str | Path] = [sys.executable, Path(__file__), folder, "--child"]
    commands: dict[str, list[str | Path]] = {
        "lookalike": [*own, "lookalike"],
        **{f"phash {bits}": [*own, f"phash {bits}"] for bits in BITS},
        "imagededup": [peers, "-c", IMAGEDEDUP, folder],
        "czkawka": [peers, "-c", CZKAWKA, folder],
    }
    answer = dict[str, Any]()
    for method, command in commands.items():
        if method.split()[0] not in methods:
            continue
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "pairs.json"
            index = measured([*own, "index", out]) if method == "lookalike" else None
            cost = measured([*command, out])
            pairs = json.loads(out.read_text())
        answer[method] = {**score(map(frozenset, pairs), planted), **cost}
        if index is not None:
            answer[method]["index"] = index
    return answer


def child(what: str, folder: Path, out: Path) -> None:
    if what == "index":
        Gallery.open(folder).update()
        return
    method, _, bits = what.partition(" ")
    pairs = of_lookalike(folder) if method == "lookalike" else of_phash(folder, int(bits))
    out.write_text(json.dumps(list(pairs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--planted", type=int, default=80, metavar="N")
    parser.add_argument("--files", type=int, default=0, metavar="N")
    parser.add_argument("--folder", type=Path, metavar="DIR")
    parser.add_argument("--methods", nargs="+", default=["lookalike", "phash"])
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], asked.photos, Path(asked.child[1]))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = asked.folder or Path(place) / "album"
        planted = prepare(asked.photos, folder, asked.planted, asked.files)
        answer = compare(asked.methods, folder, planted, asked.peers)
    text = json.dumps({"planted": len(planted), **answer}, indent=2)
    if asked.json:
        asked.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
