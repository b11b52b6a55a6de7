"""How many searches a second does the page's server answer?

    python benchmarks/serve.py GALLERY QUERIES [--clients 8] [--seconds 10] [--rounds 3]

Starts `lookalike serve` on a gallery that is up to date, and in this process CLIENTS connections
that each ask again as soon as they are answered: by id of random images of the gallery, and with
random files of the folder QUERIES as the body. Server and clients share the machine. In each round
the gallery's model also runs alone on decoded images, which uploads cannot outdo: in batches by
all cores, and image by image by each core for itself; and as `index` runs it, on the same files,
decoded meanwhile by the same cores, as those of uploads are. Rates are a second, latencies
milliseconds; medians of the rounds. On Linux also milliseconds of processor time that an upload
takes of the server, the processes that decode, and the clients.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder, EncoderSettings
from lookalike.gallery import Gallery
from lookalike.images import looks_like_image, read_image
from lookalike.images.decoder import Decoder
from lookalike.threads import cores

K = 30
SAMPLE = 64
COMMAND = [sys.executable, "-c", "from lookalike.cli import main; main()", "serve", "--port", "0"]


class Client:
    """One connection that is kept, HTTP/1.1."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)

    async def post(self, path: str, kind: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(lines.split(" ", 2)[1])
        length = re.search(r"(?i)^content-length: (\d+)", lines, re.MULTILINE)
        assert length is not None, lines
        return status, await self.reader.readexactly(int(length[1]))


async def load(
    address: tuple[str, int],
    clients: int,
    seconds: float,
    request: Callable[[random.Random], tuple[str, str, bytes]],
) -> dict[str, float]:
    """Rate and latencies; every answer must be 200 and hold K hits."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def run(number: int) -> None:
        client, rng = Client(*address), random.Random(number)
        await client.open()
        while (began := time.perf_counter()) < end:
            status, body = await client.post(*request(rng))
            latencies.append(time.perf_counter() - began)
            assert status == 200 and body.count(b'"cosine"') == K, (status, body[:200])
        client.writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(run(number) for number in range(clients)))
    elapsed = time.perf_counter() - began
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {"rate": len(latencies) / elapsed, "p50": float(p50), "p99": float(p99)}


@contextmanager
def serving(gallery: Path) -> Iterator[tuple[tuple[str, int], int]]:
    """Address and process of `lookalike serve` for as long as the block."""
    server = subprocess.Popen([*COMMAND, str(gallery)], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        match = re.search(r"http://([^/:]+):(\d+)/", line)
        assert match is not None, line
        yield (match[1], int(match[2])), server.pid
    finally:
        server.terminate()
        server.wait(30)


def processor(server: int) -> NDArray[np.float64]:
    """Milliseconds used so far by the server, its processes that decode, and this one."""
    children = [
        int(child)
        for path in Path(f"/proc/{server}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    used = [
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        for pid in (server, *children)
    ]
    ticks = os.sysconf("SC_CLK_TCK") / 1000
    return np.array([used[0] / ticks, sum(used[1:]) / ticks, 1000 * time.process_time()])


def batches(gallery: Path, files: list[Path], seconds: float) -> float:
    """Images a second of the model alone, in batches of its own choice."""
    encoder, pixels = _sample(gallery, files, EncoderSettings())
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        encoder.embed(pixels)
        count += len(pixels)
    return count / (time.perf_counter() - began)


def singles(gallery: Path, files: list[Path], seconds: float) -> float:
    """The same, one image at a time on each core."""
    encoder, pixels = _sample(gallery, files, EncoderSettings(threads=1))
    began = time.perf_counter()

    def run(_: int) -> int:
        count = 0
        while time.perf_counter() - began < seconds:
            encoder.embed(pixels[count % SAMPLE :][:1])
            count += 1
        return count

    with ThreadPoolExecutor(cores()) as pool:
        return sum(pool.map(run, range(cores()))) / (time.perf_counter() - began)


def decoded(gallery: Path, contents: list[bytes], seconds: float) -> float:
    """Images a second of decoding and the model together, as `index` runs them, of files."""
    encoder = Gallery.open(gallery, create=False).encoder()
    size = encoder.info.input_size
    ends = math.inf

    def files() -> Iterator[io.BytesIO]:
        while time.perf_counter() < ends:
            yield from map(io.BytesIO, contents[:SAMPLE])

    with Decoder() as decoder:
        outcomes = encoder.encode(files(), lambda some: decoder.read_images(some, size))
        for _ in range(SAMPLE):  # warm
            next(outcomes)
        began = time.perf_counter()
        ends = began + seconds
        return sum(1 for _ in outcomes) / (time.perf_counter() - began)


def _sample(
    gallery: Path, files: list[Path], settings: EncoderSettings
) -> tuple[Encoder, NDArray[np.uint8]]:
    """The model, warm, and SAMPLE images for it."""
    encoder = Gallery.open(gallery, create=False, encoder_settings=settings).encoder()
    size = encoder.info.input_size
    pixels = np.stack([read_image(file, size).pixels for file in files[:SAMPLE]])
    encoder.embed(pixels)
    return encoder, pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("gallery", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gallery = Gallery.open(options.gallery, create=False)
    files = sorted(path for path in options.queries.rglob("*") if looks_like_image(path.name))
    contents = [file.read_bytes() for file in random.Random(0).sample(files, min(500, len(files)))]
    known = [hit.id for hit in gallery.search(files[0], k=len(gallery))]
    bodies = [json.dumps({"id": number, "k": K}).encode() for number in known]

    def by_id(rng: random.Random) -> tuple[str, str, bytes]:
        return "/api/search", "application/json", rng.choice(bodies)

    def by_upload(rng: random.Random) -> tuple[str, str, bytes]:
        return f"/api/search?k={K}", "application/octet-stream", rng.choice(contents)

    rounds = []
    with serving(options.gallery) as (address, server):
        for request in (by_id, by_upload):
            asyncio.run(load(address, options.clients, 2, request))  # warm
        for _ in range(options.rounds):
            rates = {
                "model, batches": batches(options.gallery, files, options.seconds / 2),
                "model, singles": singles(options.gallery, files, options.seconds / 2),
                "decode and model": decoded(options.gallery, contents, options.seconds / 2),
            }
            for name, request in (("by id", by_id), ("by upload", by_upload)):
                used = processor(server) if sys.platform == "linux" else 0
                began = time.perf_counter()
                measured = asyncio.run(load(address, options.clients, options.seconds, request))
                rates |= {f"{name}, {key}": value for key, value in measured.items()}
                if sys.platform == "linux":
                    count = measured["rate"] * (time.perf_counter() - began)
                    each = (processor(server) - used) / count
                    for who, value in zip(("server", "decoders", "clients"), each, strict=True):
                        rates[f"{name}, CPU of {who}"] = float(value)
            alone = max(rates["model, batches"], rates["model, singles"])
            rates["upload / model"] = rates["by upload, rate"] / alone
            rates["upload / decode and model"] = (
                rates["by upload, rate"] / rates["decode and model"]
            )
            rounds.append(rates)
    result: dict[str, Any] = {"images": len(gallery), "clients": options.clients}
    result |= {key: float(np.median([rates[key] for rates in rounds])) for key in rounds[0]}
    for key, value in result.items():
        print(f"{key:27} {value:.4g}")
    if options.json:
        text = json.dumps({**result, "rounds": rounds}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
