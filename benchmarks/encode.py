"""How much of the model's own speed is left when it is fed from files?

    python benchmarks/encode.py FOLDER [--limit N] [--json OUT]

In one run, alternating over several rounds, because other load changes speeds but hardly ratios:
`model` embeds pixels that are decoded already; `pipeline` goes from files to embeddings. Both use
the same session and batch size. Then the parts of the work are timed one after another in one
thread (the model with its own threads), with their shares of the sum.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoded, Encoder, EncoderSettings
from lookalike.images import Picture, looks_like_image, read_picture, read_rgb

SAMPLE = 256
Store = Callable[[Path, Picture, NDArray[np.float32]], None]


def find_pictures(folder: Path, limit: int | None) -> list[Path]:
    """Readable pictures below `folder` by path; `limit` takes an even sample of them."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and looks_like_image(p.name))
    if not paths:
        raise SystemExit(f"{folder}: no pictures")
    if limit is None or limit >= len(paths):
        return paths
    return [paths[i * len(paths) // limit] for i in range(limit)]


def measure(
    paths: list[Path],
    settings: EncoderSettings,
    *,
    rounds: int = 5,
    store: Store | None = None,
) -> dict[str, Any]:
    """Images per second of model and pipeline, their ratio per round, and shares of each part.

    `store` is called with each embedding as it comes, as a gallery would keep it.
    """
    encoder = Encoder.open(settings=settings)
    size = encoder.info.input_size
    keep = store or (lambda path, picture, embedding: None)

    def read(path: Path) -> Picture:
        return read_picture(path, size)

    sample = np.stack([read(path).pixels for path in paths[:SAMPLE]])
    passes = -(-len(paths) // len(sample))
    encoder.embed(sample[: settings.batch_size])
    model, pipeline, cpu_ratios = [], [], []
    for _ in range(rounds):
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(passes):
            encoder.embed(sample)
        model.append(passes * len(sample) / (time.perf_counter() - start))
        model_cpu = (time.process_time() - cpu_start) / (passes * len(sample))
        start, cpu_start = time.perf_counter(), time.process_time()
        encoded = 0
        for outcome in encoder.encode(paths, read):
            if isinstance(outcome, Encoded):
                keep(outcome.item, outcome.picture, outcome.embedding)
                encoded += 1
        pipeline.append(encoded / (time.perf_counter() - start))
        cpu_ratios.append(model_cpu * encoded / (time.process_time() - cpu_start))
    ratios = [b / a for a, b in zip(model, pipeline, strict=True)]
    return {
        "settings": asdict(settings),
        "model": encoder.info.as_dict(),
        "pictures": len(paths),
        "rounds": rounds,
        "model_per_second": model,
        "pipeline_per_second": pipeline,
        "ratio": ratios,
        "median_ratio": median(ratios),
        "cpu_ratio": cpu_ratios,
        "milliseconds": parts(paths[:SAMPLE], encoder, keep),
    }


def parts(paths: list[Path], encoder: Encoder, store: Store) -> dict[str, float]:
    """Milliseconds per picture of each part. Resizing is what reading takes beyond decoding,
    inference what embedding takes beyond normalising."""
    size, batch_size = encoder.info.input_size, encoder.settings.batch_size
    planes = np.empty((3, size, size), np.float32)
    decode, read, normalise, embed, keep = (Clock() for _ in range(5))
    for start in range(0, len(paths), batch_size):
        batch, pictures = paths[start : start + batch_size], []
        for path in batch:
            with decode:
                read_rgb(path)
            with read:
                pictures.append(read_picture(path, size))
            with normalise:
                encoder.normalise(pictures[-1].pixels, planes)
        pixels = np.stack([picture.pixels for picture in pictures])
        with embed:
            embeddings = encoder.embed(pixels)
        with keep:
            for path, picture, embedding in zip(batch, pictures, embeddings, strict=True):
                store(path, picture, embedding)
    seconds = {
        "decode": decode.seconds,
        "resize": read.seconds - decode.seconds,
        "normalise": normalise.seconds,
        "inference": embed.seconds - normalise.seconds,
        "store": keep.seconds,
    }
    return {part: 1e3 * value / len(paths) for part, value in seconds.items()}


class Clock:
    """Adds up the wall time of the blocks that it is the context of."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


def report(result: dict[str, Any]) -> str:
    """The table for people."""
    total = sum(result["milliseconds"].values())
    lines = [f"{result['pictures']} pictures, {result['rounds']} rounds, {result['settings']}"]
    for key, label in (
        ("model_per_second", "model, pictures/s"),
        ("pipeline_per_second", "pipeline, pictures/s"),
        ("ratio", "pipeline / model"),
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
    parser.add_argument("--limit", type=int, help="use only this many pictures, evenly chosen")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=EncoderSettings.batch_size)
    parser.add_argument("--threads", type=int, help="of the model and of the readers each")
    parser.add_argument("--json", type=Path, help="write the result there")
    arguments = parser.parse_args()
    settings = EncoderSettings(batch_size=arguments.batch_size, threads=arguments.threads)
    result = measure(
        find_pictures(arguments.folder, arguments.limit), settings, rounds=arguments.rounds
    )
    print(report(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
