"""How many searches a second does the page's server answer?

    python benchmarks/serve.py GALLERY QUERIES [--clients 8] [--seconds 30] [--json OUT]

Starts `lookalike serve` on a gallery that is up to date, and in this process CLIENTS connections
that each ask again as soon as they are answered: first by id of random images of the gallery, then
with random files of the folder QUERIES as the body. Server and clients share the machine. `model
alone` is the rate of the gallery's model on decoded pictures in the same run, with nothing else
running; searches by upload cannot be faster. Latencies are in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lookalike.gallery import Gallery
from lookalike.images import looks_like_image, read_picture

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
) -> dict[str, Any]:
    """Requests a second and latencies; every answer must be 200 and hold K hits."""
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    end = time.perf_counter() + seconds

    async def run(number: int) -> None:
        client, rng = Client(*address), random.Random(number)
        await client.open()
        while (began := time.perf_counter()) < end:
            status, body = await client.post(*request(rng))
            latencies.append(time.perf_counter() - began)
            statuses[status] = statuses.get(status, 0) + 1
            if status == 200:
                assert body.count(b'"cosine"') == K, body[:200]
        client.writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(run(number) for number in range(clients)))
    elapsed = time.perf_counter() - began
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {
        "requests_per_second": len(latencies) / elapsed,
        "p50": float(p50),
        "p99": float(p99),
        "statuses": statuses,
    }


def model_alone(gallery: Gallery, files: list[Path], seconds: float) -> float:
    """Pictures a second of the gallery's model, in batches of its own choice."""
    encoder = gallery.encoder()
    size = encoder.info.input_size
    pixels = np.stack([read_picture(file, size).pixels for file in files[:SAMPLE]])
    encoder.embed(pixels)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        encoder.embed(pixels)
        count += len(pixels)
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("gallery", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gallery = Gallery.open(options.gallery)
    files = sorted(path for path in options.queries.rglob("*") if looks_like_image(path.name))
    contents = [file.read_bytes() for file in random.Random(0).sample(files, min(500, len(files)))]
    result: dict[str, Any] = {"images": len(gallery), "clients": options.clients}
    result["model alone"] = model_alone(gallery, files, options.seconds / 3)
    server = subprocess.Popen([*COMMAND, str(options.gallery)], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        told = server.stderr.readline()
        match = re.search(r"http://([^/:]+):(\d+)/", told)
        assert match is not None, told
        address = match[1], int(match[2])

        def ids(seconds: float) -> dict[str, Any]:
            known = [hit.id for hit in gallery.search(files[0], k=len(gallery))]
            bodies = [json.dumps({"id": number, "k": K}).encode() for number in known]
            return asyncio.run(
                load(
                    address,
                    options.clients,
                    seconds,
                    lambda rng: ("/api/search", "application/json", rng.choice(bodies)),
                )
            )

        def uploads(seconds: float) -> dict[str, Any]:
            path = f"/api/search?k={K}"
            return asyncio.run(
                load(
                    address,
                    options.clients,
                    seconds,
                    lambda rng: (path, "application/octet-stream", rng.choice(contents)),
                )
            )

        for name, run in (("by id", ids), ("by upload", uploads)):
            run(2)  # warm
            result[name] = run(options.seconds)
    finally:
        server.terminate()
        server.wait(30)
    result["upload / model"] = result["by upload"]["requests_per_second"] / result["model alone"]
    for key, value in result.items():
        print(f"{key:16} {json.dumps(value)}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
