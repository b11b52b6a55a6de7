"""How much of the model's own speed is left when it indexes files?

    python benchmarks/encode.py FOLDER [--limit N] [--rounds 3] [--json OUT]

In one run, alternating over several rounds, because other load changes speeds but hardly ratios:
`model` embeds pixels that are decoded already, `index` makes a new gallery of the folder with the
same session. Then the parts of the work are timed one after another in one thread (the model with
its own threads), with their shares of the sum; `store` is all that a gallery does beyond encoding:
hashing into buckets, writing index and table, syncing them to the disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from lookalike.encoder import Encoder, EncoderSettings
from lookalike.gallery import Gallery
from lookalike.gallery.update import Update
from lookalike.images import content_hash, looks_like_image, read_image, read_rgb

SAMPLE = 256


def link_images(folder: Path, place: Path, limit: int | None) -> list[Path]:
    """Link the images of `folder`, or an even sample of `limit` of them, into `place`."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and looks_like_image(p.name))
    if not paths:
        raise SystemExit(f"{folder}: no images")
    if limit is not None and limit < len(paths):
        paths = [paths[i * len(paths) // limit] for i in range(limit)]
    links = []
    for path in paths:
        link = place / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())
        links.append(link)
    return links


class Clock:
    """Adds up the wall time of the blocks that it is the context of."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


def clocked(names: tuple[str, ...]) -> Clock:
    """Time these methods of every update from now on."""
    clock = Clock()
    for name in names:
        method = getattr(Update, name)

        def timed(self: Update, method: Callable[[Update], None] = method) -> None:
            with clock:
                method(self)

        setattr(Update, name, timed)
    return clock


def measure(
    folder: Path, limit: int | None, settings: EncoderSettings, rounds: int
) -> dict[str, Any]:
    """Images per second of model and index, their ratio per round, and the parts of the work."""
    model: list[float] = []
    index: list[float] = []
    cpu_ratios: list[float] = []
    storing = clocked(("_commit", "_drop", "_measure"))
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "images"
        links = link_images(folder, place, limit)
        for turn in range(rounds):
            home = Path(temporary) / f"gallery-{turn}"
            gallery = Gallery.open(place, directory=home, encoder_settings=settings)
            encoder = gallery.encoder()
            size = encoder.info.input_size
            if turn == 0:
                pixels = np.stack([read_image(path, size).pixels for path in links[:SAMPLE]])
            encoder.embed(pixels[: settings.batch_size])
            passes = max(1, round(len(links) / len(pixels)))
            began, cpu_began = time.perf_counter(), time.process_time()
            for _ in range(passes):
                encoder.embed(pixels)
            model.append(passes * len(pixels) / (time.perf_counter() - began))
            model_cpu = (time.process_time() - cpu_began) / (passes * len(pixels))
            began, cpu_began = time.perf_counter(), time.process_time()
            report = gallery.update()
            index.append(report.images / (time.perf_counter() - began))
            cpu_ratios.append(model_cpu * report.images / (time.process_time() - cpu_began))
        store = 1e3 * storing.seconds / rounds / len(links)
        shares = {**parts(links[:SAMPLE], encoder), "store": store}
    ratios = [b / a for a, b in zip(model, index, strict=True)]
    return {
        "batch_size": settings.batch_size,
        "threads": settings.threads,
        "images": len(links),
        "model_per_second": model,
        "index_per_second": index,
        "ratio": ratios,
        "median_ratio": median(ratios),
        "cpu_ratio": cpu_ratios,
        "milliseconds": shares,
    }


def parts(paths: list[Path], encoder: Encoder) -> dict[str, float]:
    """Milliseconds per image of each part. Resizing is what reading takes beyond decoding."""
    size, batch_size = encoder.info.input_size, encoder.settings.batch_size
    digest, decode, read, embed = (Clock() for _ in range(4))
    for start in range(0, len(paths), batch_size):
        images = []
        for path in paths[start : start + batch_size]:
            with digest:
                content_hash(path)
            with decode:
                read_rgb(path)
            with read:
                images.append(read_image(path, size))
        pixels = np.stack([image.pixels for image in images])
        with embed:
            encoder.embed(pixels)
    seconds = {
        "content hash": digest.seconds,
        "decode": decode.seconds,
        "resize": read.seconds - decode.seconds,
        "inference": embed.seconds,
    }
    return {part: 1e3 * value / len(paths) for part, value in seconds.items()}


def report(result: dict[str, Any]) -> str:
    """The table for people."""
    total = sum(result["milliseconds"].values())
    lines = [f"{result['images']} images, batches of {result['batch_size']}"]
    for key, label in (
        ("model_per_second", "model, images/s"),
        ("index_per_second", "index, images/s"),
        ("ratio", "index / model"),
        ("cpu_ratio", "the same in CPU time"),
    ):
        values = result[key]
        lines.append(
            f"{label:<22}{median(values):9.3f}   from {min(values):.3f} to {max(values):.3f}"
        )
    lines += [
        f"{part:<22}{value:9.3f} ms{value / total:8.1%}"
        for part, value in result["milliseconds"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="use only this many images, evenly chosen")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=EncoderSettings.batch_size)
    parser.add_argument("--threads", type=int, help="of the model and of the readers each")
    parser.add_argument("--json", type=Path, help="write the result there")
    arguments = parser.parse_args()
    settings = EncoderSettings(batch_size=arguments.batch_size, threads=arguments.threads)
    result = measure(arguments.folder, arguments.limit, settings, arguments.rounds)
    print(report(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
