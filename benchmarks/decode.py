"""What does it cost to decode in processes that may be ended?

    python benchmarks/decode.py FOLDER [--limit N] [--rounds 7] [--large 40] [--json OUT]
    python benchmarks/decode.py FOLDER --sizes [--large 24]

Indexes the folder's images, then as many JPEGs of 12 megapixels made of them, each time with
decoding in this process's threads and in other processes, in turn and in both orders: other load
changes speeds but hardly ratios. Also the time that `index` takes for a single file, as a command.
The ratios are processes / threads, of speeds by the clock and by the processor time that both
took, which a busy machine spoils less: 0.97 and more is what was asked for. Opening the model and
starting the processes, which happens at the same time, count.

With --sizes instead: images of 12 and 48 megapixels as JPEG, PNG and HEIC (which needs pillow-heif
to be made), a second: decoded in the processes alone, embedded alone, and by `index`; its ratio is
to the slower of the two. The model is open and the processes are ready before.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
from encode import link_images
from PIL import Image

from lookalike.encoder import EncoderSettings
from lookalike.gallery import Gallery
from lookalike.images import (
    DecodedImage,
    SkippedImageError,
    Source,
    decoder,
    looks_like_image,
    read_image,
)
from lookalike.images.decoder import Decoder
from lookalike.threads import cores

LARGE = (4000, 3000)
SIZES = {"12 MP": LARGE, "48 MP": (8000, 6000)}
RUN = "from lookalike.cli import main; main()"


def in_threads(
    self: Decoder, paths: Sequence[Source], size: int
) -> list[DecodedImage | SkippedImageError]:
    def read(path: Source) -> DecodedImage | SkippedImageError:
        try:
            return read_image(path, size, max_pixels=self.limits.max_pixels)
        except SkippedImageError as error:
            return error

    return list(map(read, paths))


def per_second(folder: Path, home: Path, settings: EncoderSettings) -> tuple[float, float]:
    """Images of a new gallery, a second and a second of processor time."""
    gallery = Gallery.open(folder, directory=home, encoder_settings=settings)
    began, cpu_began = time.perf_counter(), sum(os.times()[:4])
    report = gallery.update()
    seconds = time.perf_counter() - began
    decoder._idle.trim(0)  # ended processes alone are counted
    count = report.images + report.skipped
    return count / seconds, count / (sum(os.times()[:4]) - cpu_began)


def compare(folder: Path, settings: EncoderSettings, rounds: int) -> dict[str, list[float]]:
    """Images a second both ways, and the ratios of each round."""
    speeds: dict[str, list[tuple[float, float]]] = {"threads": [], "processes": []}
    for turn in range(rounds):
        for way in sorted(speeds, reverse=turn % 2 == 1):
            with tempfile.TemporaryDirectory() as home:
                if way == "threads":
                    with patch.object(Decoder, "read_images", in_threads):
                        speed = per_second(folder, Path(home) / "gallery", settings)
                else:
                    speed = per_second(folder, Path(home) / "gallery", settings)
            speeds[way].append(speed)
    pairs = list(zip(speeds["processes"], speeds["threads"], strict=True))
    return {way: [speed for speed, _ in values] for way, values in speeds.items()} | {
        "ratio": [mine[0] / before[0] for mine, before in pairs],
        "cpu_ratio": [mine[1] / before[1] for mine, before in pairs],
    }


def enlarge(paths: list[Path], folder: Path) -> None:
    """As JPEGs of 12 megapixels."""
    folder.mkdir()
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB").resize(LARGE, Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.jpg", quality=90)


def same_size(source: Path, size: tuple[int, int], kind: str, folder: Path, count: int) -> bool:
    """So many files of one image, distinct by what follows it; False if it cannot be made."""
    image = Image.open(source).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    content = io.BytesIO()
    if kind == "heic":
        if find_spec("pillow_heif") is None:
            return False
        importlib.import_module("pillow_heif").register_heif_opener()
    image.save(content, {"jpg": "JPEG", "png": "PNG", "heic": "HEIF"}[kind], quality=90)
    folder.mkdir()
    for number in range(count):
        free = (16).to_bytes(4) + b"free" + number.to_bytes(8)  # a box that HEIC allows
        (folder / f"{number}.{kind}").write_bytes(content.getvalue() + free)
    return True


def alone_and_together(folder: Path, settings: EncoderSettings, home: Path) -> dict[str, float]:
    """Images a second of a folder: decoding, embedding, `index`."""
    gallery = Gallery.open(folder, directory=home, encoder_settings=settings)
    encoder = gallery.encoder()
    size, paths = encoder.info.input_size, sorted(folder.iterdir())
    with ThreadPoolExecutor(cores()) as pool, Decoder() as reader:
        list(pool.map(lambda path: reader.read_image(path, size), paths[: cores()]))
        began = time.perf_counter()
        images = list(pool.map(lambda path: reader.read_image(path, size), paths))
        decoded = time.perf_counter() - began
        pixels = np.stack([image.pixels for image in images])
        began = time.perf_counter()
        encoder.embed(np.concatenate([pixels] * 8))
        embedded = (time.perf_counter() - began) / 8
        began = time.perf_counter()
        report = gallery.update()
        seconds = time.perf_counter() - began
    assert report.images == len(paths), report
    rates = [len(paths) / duration for duration in (decoded, embedded, seconds)]
    return dict(zip(("decode", "embed", "index"), rates, strict=True)) | {
        "ratio": rates[2] / min(rates[:2])
    }


def by_size(source: Path, count: int, rounds: int, settings: EncoderSettings) -> dict[str, Any]:
    """Medians of `alone_and_together` by size and format, printed as they come."""
    found = {}
    for (name, size), kind in product(SIZES.items(), ("jpg", "png", "heic")):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "images"
            if not same_size(source, size, kind, folder, count):
                print(f"{name} {kind}: needs pillow-heif: pip install pillow-heif")
                continue
            several = [
                alone_and_together(folder, settings, Path(temporary) / str(number))
                for number in range(rounds)
            ]
        row = {key: median(rates[key] for rates in several) for key in several[0]}
        found[f"{name} {kind}"] = row
        print(f"{name} {kind}: " + ", ".join(f"{k} {value:.3g}" for k, value in row.items()))
    return found


def one_file(path: Path, rounds: int) -> float:
    """Seconds of `lookalike index` for one image."""
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / path.name).symlink_to(path.resolve())
            command = [sys.executable, "-c", RUN, "index", folder]
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=1000, help="images, evenly chosen")
    parser.add_argument("--large", type=int, default=40, help="images of 12 megapixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", action="store_true", help="12 and 48 megapixels by format")
    parser.add_argument("--threads", type=int, help="of the model and of the readers each")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    settings = EncoderSettings(threads=options.threads)
    if options.sizes:
        source = next(p for p in sorted(options.folder.rglob("*")) if looks_like_image(p.name))
        found = by_size(source, options.large, options.rounds, settings)
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as temporary:
        small, large = Path(temporary) / "small", Path(temporary) / "large"
        links = link_images(options.folder, small, options.limit)
        enlarge([links[i * len(links) // options.large] for i in range(options.large)], large)
        result = {
            "small": compare(small, settings, options.rounds),
            "large": compare(large, settings, options.rounds),
        }
        seconds = one_file(links[0], options.rounds)
    for name, values in result.items():
        print(
            f"{name}: {median(values['processes']):.1f}/s in processes, "
            f"{median(values['threads']):.1f}/s in threads"
        )
        for key in ("ratio", "cpu_ratio"):
            low, high = min(values[key]), max(values[key])
            print(f"  {key} {median(values[key]):.3f} ({low:.3f} to {high:.3f})")
    print(f"index of one file: {seconds:.2f} s")
    if options.json:
        text = json.dumps({**result, "one_file_seconds": seconds}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
