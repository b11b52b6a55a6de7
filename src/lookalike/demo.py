"""The demo: images that were altered must find the photograph they were made from.

Without a folder it works on real photographs that the scikit-image and scikit-learn packages
carry (extra `demo`); nothing is downloaded. The gallery holds each of them with plain alterations;
the queries are other, stronger ones, none of which is in the gallery.
"""

from __future__ import annotations

import filecmp
import hashlib
import io
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from lookalike.atomic import atomic_writer
from lookalike.errors import GalleryError, MissingExtraError, install_command
from lookalike.gallery import Gallery, Progress
from lookalike.gallery.hits import Hit
from lookalike.images import read_rgb
from lookalike.models.augment import Transform, apply
from lookalike.sheet import Row, search_sheet, thumbnail, write_html

Alter = Callable[[Image.Image], Image.Image]

SEED = 0
LONGEST_SIDE = 480  # of the demo's photographs, and of what is made from a user's
HITS = 6
SHOWN, SHOWN_FAILURES = 8, 8
USER_IMAGES = 40
CREDITS = (
    "The photographs come with scikit-image and scikit-learn; china and flower are by "
    "danielbuechele and vultilion on Flickr, CC BY 2.0."
)

SKIMAGE = ("skimage", "scikit-image", "data")
SKLEARN = ("sklearn", "scikit-learn", "datasets/images")
# Real photographs alone, no drawings; the most telling ones first.
PHOTOGRAPHS = {
    "astronaut": (SKIMAGE, "astronaut.png"),
    "chelsea": (SKIMAGE, "chelsea.png"),
    "motorcycle": (SKIMAGE, "motorcycle_left.png"),
    "china": (SKLEARN, "china.jpg"),
    "coffee": (SKIMAGE, "coffee.png"),
    "flower": (SKLEARN, "flower.jpg"),
    "rocket": (SKIMAGE, "rocket.jpg"),
    "camera": (SKIMAGE, "camera.png"),
    "coins": (SKIMAGE, "coins.png"),
    "retina": (SKIMAGE, "retina.jpg"),
    "hubble": (SKIMAGE, "hubble_deep_field.jpg"),
    "tissue": (SKIMAGE, "ihc.png"),
    "moon": (SKIMAGE, "moon.png"),
    "brick": (SKIMAGE, "brick.png"),
    "grass": (SKIMAGE, "grass.png"),
    "gravel": (SKIMAGE, "gravel.png"),
    "handwriting": (SKIMAGE, "text.png"),
    "page": (SKIMAGE, "page.png"),
    "cell": (SKIMAGE, "cell.png"),
    "clock": (SKIMAGE, "clock_motion.png"),
}
# Another photograph of the same thing: the right view of the stereo pair.
OTHER_VIEWS = {"motorcycle": (SKIMAGE, "motorcycle_right.png")}


# ---- alterations ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A way to make an image from a photograph; ``file`` also says in what format."""

    file: str
    words: str
    alter: Alter
    quality: int = 90


def altered(**changes: Any) -> Alter:
    """As training alters images; the part in the window keeps its number of pixels."""
    transform = Transform(**changes)

    def alter(image: Image.Image) -> Image.Image:
        shares = transform.window[2:]
        width, height = (
            max(1, round(s * side)) for s, side in zip(shares, image.size, strict=True)
        )
        return Image.fromarray(apply(np.asarray(image), transform, (width, height)))

    return alter


def crop(share: float, x: float = 0.5, y: float = 0.5, **changes: Any) -> Alter:
    """Keep ``share`` of width and height; (0, 0) keeps the upper left, (1, 1) the lower right."""
    return altered(window=((1 - share) * x, (1 - share) * y, share, share), **changes)


def rotate(degrees: float) -> Alter:
    """Counterclockwise, and the largest centred upright part of the same shape without corners."""

    def alter(image: Image.Image) -> Image.Image:
        width, height = image.size
        sine, cosine = (abs(f(math.radians(degrees))) for f in (math.sin, math.cos))
        share = 1 / (cosine + sine * max(width / height, height / width))
        return crop(share, degrees=degrees)(image)

    return alter


def scale(share: float) -> Alter:
    def alter(image: Image.Image) -> Image.Image:
        width, height = (max(1, round(share * side)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)

    return alter


def blur(radius: float) -> Alter:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


def tint(*factors: float) -> Alter:
    """Multiply red, green and blue."""
    rows = [factors[i] if i == j else 0.0 for i in range(3) for j in (0, 1, 2, 3)]
    return lambda image: image.convert("RGB", tuple(rows))


def frame(share: float) -> Alter:
    """A white border as wide as ``share`` of the longest side."""
    return lambda image: ImageOps.expand(image, max(1, round(share * max(image.size))), "white")


def same(image: Image.Image) -> Image.Image:
    return image


IN_GALLERY = (
    Variant("original.png", "the photograph", same),
    Variant("crop-90.jpg", "90 % of each side", crop(0.9)),
    Variant("left-75.png", "75 % of each side, left", crop(0.75, x=0)),
    Variant("right-75.webp", "75 % of each side, right", crop(0.75, x=1)),
    Variant("crop-60.jpg", "60 % of each side", crop(0.6)),
    Variant("rotate-10.webp", "rotated by 10 degrees", rotate(10)),
    Variant("rotate-345.jpg", "rotated by 345 degrees", rotate(-15)),
    Variant("rotate-90.jpg", "a quarter turn", lambda i: i.transpose(Image.Transpose.ROTATE_90)),
    Variant("mirror.png", "mirrored", altered(mirrored=True)),
    Variant("bright-135.jpg", "brightness 135 %", altered(brightness=1.35)),
    Variant("bright-65.webp", "brightness 65 %", altered(brightness=0.65)),
    Variant("contrast-60.png", "contrast 60 %", altered(contrast=0.6)),
    Variant("contrast-150.jpg", "contrast 150 %", altered(contrast=1.5)),
    Variant("blur-2.webp", "blurred by 2 pixels", blur(2)),
    Variant("scale-40.bmp", "scaled to 40 %", scale(0.4)),
    Variant("quality-15.jpg", "JPEG of quality 15", same, quality=15),
    Variant("palette.gif", "in 256 colours", same),
)

QUERIES = (
    Variant("rotate-20.jpg", "rotated by 20 degrees", rotate(20)),
    Variant("corner-65.webp", "65 % of each side", crop(0.65, x=0, y=0)),
    Variant("mirror-80.png", "mirrored, 80 % of it", crop(0.8, mirrored=True)),
    Variant("grey.jpg", "without colour", altered(colour=0)),
    Variant("blur-4.jpg", "blurred by 4 pixels", blur(4)),
    Variant("bright-45.jpg", "brightness 45 %", altered(brightness=0.45)),
    Variant("noise-30.jpg", "noise of 30 grey levels", altered(noise=30, noise_seed=SEED)),
    Variant("tint.webp", "tinted", tint(1.15, 0.95, 0.7)),
    Variant("scale-15.png", "scaled to 15 %", scale(0.15)),
    Variant("quality-5.jpg", "JPEG of quality 5", same, quality=5),
    Variant("bright-150.jpg", "brightness 150 %", altered(brightness=1.5)),
    Variant("frame.tif", "with a white border", frame(0.08)),
)

OTHER_VIEW = Variant("other-view.jpg", "taken from another point", same)

OF_USER = (
    Variant("crop-80.jpg", "80 % of each side", crop(0.8)),
    Variant("rotate-8.jpg", "rotated by 8 degrees", rotate(8)),
    Variant("bright-130.jpg", "brightness 130 %", altered(brightness=1.3)),
    Variant("quality-15.jpg", "JPEG of quality 15", same, quality=15),
)


def _encode(image: Image.Image, variant: Variant) -> bytes:
    buffer = io.BytesIO()
    form = Image.registered_extensions()[Path(variant.file).suffix]
    # Fast rather than small, where Pillow lets one choose.
    options = {"PNG": {"compress_level": 1}, "WEBP": {"method": 2}}.get(form, {})
    variant.alter(image).save(buffer, form, quality=variant.quality, **options)
    return buffer.getvalue()


# ---- the demo's own images ---------------------------------------------------------------------


def build(folder: Path) -> list[str]:
    """Write the demo's ``folder/images/SOURCE/VARIANT``, for its gallery, and
    ``folder/queries/SOURCE/VARIANT``; returns the sources. Files that are there already are kept.

    Raises:
        MissingExtraError: the photographs are not installed.
    """
    found = {source: _locate(*where) for source, where in PHOTOGRAPHS.items()}
    files = {source: file for source, file in found.items() if file is not None}
    if not files:
        raise MissingExtraError(
            f"none of the demo's photographs is installed; {install_command('demo')}, or give a "
            f"folder of your own"
        )

    def write(source: str) -> None:
        _write(files[source], folder / "images" / source, IN_GALLERY)
        _write(files[source], folder / "queries" / source, QUERIES)
        other = _locate(*OTHER_VIEWS[source]) if source in OTHER_VIEWS else None
        if other is not None:
            _write(other, folder / "queries" / source, (OTHER_VIEW,))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, files))
    return list(files)


def _write(photograph: Path, folder: Path, variants: tuple[Variant, ...]) -> None:
    missing = [variant for variant in variants if not (folder / variant.file).exists()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    image = read_rgb(photograph, longest_side=LONGEST_SIDE)
    for variant in missing:
        with atomic_writer(folder / variant.file) as file:
            file.write(_encode(image, variant))


def _locate(package: tuple[str, str, str], name: str) -> Path | None:
    """A file inside an installed package, which is not imported: that takes a second, and may
    download. None if the package does not carry it.
    """
    module, distribution, folder = package
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the demo's photographs come with {distribution}, which is not installed; "
            f"{install_command('demo')}, or give a folder of your own"
        )
    file = Path(spec.origin).parent / folder / name
    return file if file.is_file() else None


# ---- running -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DemoResult:
    """What the demo did.

    Attributes:
        folder: of the gallery's images.
        images, skipped: files in the gallery, and files that could not be read.
        sources: photographs that queries were made from.
        queries, found_first: how many searches, and how many had their source as the first hit.
        index_seconds: for the update, near 0 if there was nothing to do.
        search_seconds: median of one search, decoding and encoding of the query included.
        failures: names of the queries whose source was not the first hit.
        html: the contact sheet.
    """

    folder: Path
    images: int
    skipped: int
    sources: int
    queries: int
    found_first: int
    index_seconds: float
    search_seconds: float
    failures: tuple[str, ...]
    html: Path

    def in_words(self) -> str:
        """How many were found first and how fast, and where to see it: two lines."""
        return f"{_title(self)}, in {1000 * self.search_seconds:.0f} ms each\nsee {self.html}"


_Query = tuple[str, Variant, bytes]
"""The image that it was made of, how, and its file."""


@dataclass(frozen=True)
class _Search:
    source: str
    variant: Variant
    content: bytes
    hits: list[Hit]
    place: int | None  # of the first right hit, from 1
    seconds: float


def run(
    out: Path,
    folder: Path | None,
    report: Callable[[str], None],
    progress: Callable[[Progress], None] | None = None,
) -> DemoResult:
    """Index, search every query, count, and write ``out/sheet.html``.

    Args:
        out: folder for everything that is written; a second run continues with what is there.
        folder: images of one's own, which are only read: their gallery is put into ``out``, and
            the queries are made of up to USER_IMAGES of them, in memory. None: the demo's own.
        report: takes lines about what is done.
        progress: of the update.

    Raises:
        MissingExtraError: without a folder, and the photographs are not installed.
        GalleryError: the folder has no image, or ``out`` is inside it.
    """
    if folder is not None and out.resolve().is_relative_to(folder.resolve()):
        raise GalleryError(f"{out} is inside {folder}, where nothing is written; choose another")
    out.mkdir(parents=True, exist_ok=True)
    if folder is None:
        report("making the demo's images")
        queries = _built_queries(out / "queries", build(out))
        gallery = Gallery.open(out / "images")
    else:
        # Distinguishes the galleries of different folders.
        tag = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=4).hexdigest()
        gallery = Gallery.open(folder, directory=out / "gallery" / tag)
        queries = _user_queries(gallery)
    updated = gallery.update(progress)
    if not updated.images:
        raise GalleryError(f"no image was found in {gallery.root}; {updated.skipped} were skipped")
    report(f"{updated.images} images in the gallery, {updated.skipped} skipped")
    is_right = _same_source if folder is None else _same_file(gallery.root)
    answers = _search_all(gallery, queries, is_right, report)
    failures = [answer for answer in answers if answer.place != 1]
    result = DemoResult(
        folder=gallery.root,
        images=updated.images,
        skipped=updated.skipped,
        sources=len({answer.source for answer in answers}),
        queries=len(answers),
        found_first=len(answers) - len(failures),
        index_seconds=updated.seconds,
        search_seconds=statistics.median(answer.seconds for answer in answers) if answers else 0.0,
        failures=tuple(f"{answer.source}/{answer.variant.file}" for answer in failures),
        html=out / "sheet.html",
    )
    _draw(result, answers, is_right, show_wrong=folder is None)
    return result


def _built_queries(folder: Path, sources: list[str]) -> Iterator[_Query]:
    for source in sources:
        for variant in (*QUERIES, OTHER_VIEW):
            file = folder / source / variant.file
            if file.exists():
                yield source, variant, file.read_bytes()


def _user_queries(gallery: Gallery) -> Iterator[_Query]:
    """Of images drawn by SEED from those in the gallery; any that cannot be read is left out."""
    indexed = gallery.reader().now()
    ids = indexed.matching(None)
    drawn = np.random.default_rng(SEED).choice(len(ids), min(USER_IMAGES, len(ids)), replace=False)
    for row in indexed.rows(ids[np.sort(drawn)].tolist()).values():
        path = os.fsdecode(row.path)
        image = thumbnail(gallery.root / path, LONGEST_SIDE)
        if image is not None:
            for variant in OF_USER:
                yield path, variant, _encode(image, variant)


IsRight = Callable[[str, Hit], bool]
"""Given the source of a query."""


def _same_source(source: str, hit: Hit) -> bool:
    return hit.path.split("/")[0] == source


def _same_file(root: Path) -> IsRight:
    """The query's own image, or a copy of the same bytes."""

    def is_right(source: str, hit: Hit) -> bool:
        if hit.path == source:
            return True
        try:
            return filecmp.cmp(root / source, hit.file, shallow=False)
        except OSError:
            return False

    return is_right


def _search_all(
    gallery: Gallery,
    queries: Iterator[_Query],
    is_right: IsRight,
    report: Callable[[str], None],
) -> list[_Search]:
    answers: list[_Search] = []
    for source, variant, content in queries:
        if not answers:
            report("searching")
            gallery.search(content, HITS)  # so as not to be measured
        began = time.perf_counter()
        hits = gallery.search(content, HITS)
        seconds = time.perf_counter() - began
        places = (place for place, hit in enumerate(hits, 1) if is_right(source, hit))
        answers.append(_Search(source, variant, content, hits, next(places, None), seconds))
    return answers


# ---- the sheets ----------------------------------------------------------------------------------


def _draw(
    result: DemoResult, answers: list[_Search], is_right: IsRight, *, show_wrong: bool
) -> None:
    lead = (
        f"{result.images} images in the gallery, {result.sources} photographs searched for. A "
        f"search takes {1000 * result.search_seconds:.0f} ms, reading the query included."
    )
    if result.failures:
        lead += " Failures are shown first."
    if show_wrong:
        lead += f"\n{CREDITS}"
    rows = [_row(answer, is_right, show_wrong) for answer in _choose(answers)]
    write_html(rows, result.html, title=_title(result), lead=lead)


def _title(result: DemoResult) -> str:
    return f"{result.found_first} of {result.queries} altered images find their photograph first"


def _choose(answers: list[_Search]) -> list[_Search]:
    """Failures, then successes: each of another source and altered in another way, if possible."""
    failures = [answer for answer in answers if answer.place != 1]
    rest = [answer for answer in answers if answer.place == 1]
    chosen: list[_Search] = []
    while rest and len(chosen) < SHOWN:
        known = Counter(what for one in chosen for what in (one.source, one.variant.file))
        best = min(rest, key=lambda one: known[one.source] + known[one.variant.file])
        rest.remove(best)
        chosen.append(best)
    return failures[:SHOWN_FAILURES] + chosen


def _row(answer: _Search, is_right: IsRight, show_wrong: bool) -> Row:
    def mark(hit: Hit) -> bool | None:
        return True if is_right(answer.source, hit) else (False if show_wrong else None)

    place = "found first" if answer.place == 1 else f"found at place {answer.place}"
    if answer.place is None:
        place = f"not among the first {HITS}"
    return search_sheet(
        thumbnail(io.BytesIO(answer.content)),
        answer.hits,
        query_caption=(answer.source, answer.variant.words, place),
        mark=mark,
    )
