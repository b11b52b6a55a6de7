"""How long does it take to embed a folder, on how many machines, and if one of them is lost?

    python benchmarks/cluster_embed.py FOLDER [--limit N] [--chunk-images 64] [--json OUT]

Wall time of whole commands, each with a new place to write to: `lookalike index` (with all cores),
`lookalike cluster embed` in its own process (with all cores, and with one thread), the same on one
Ray node, on two, and on two of which one is killed, with all its workers, when half of the parts
are there. Nodes are processes on this machine with one CPU each; starting them is not counted.
`kill_costs` is what the killed job took beyond the undisturbed one. All parts must hold the
same embeddings, to the byte.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from encode import link_images

from lookalike.cluster.parts import Parts
from lookalike.gallery.rows import ImageRow

COMMAND = [sys.executable, "-c", "from lookalike.cli import main; main()"]
LIMIT_SECONDS = 4 * 3600.0


def seconds_of(*words: str, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Wall time of a command; `meanwhile` runs beside it."""
    beside = threading.Thread(target=meanwhile)
    began = time.perf_counter()
    beside.start()
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    seconds = time.perf_counter() - began
    beside.join()
    if done.returncode not in (0, 1):  # 1: some file was skipped
        raise SystemExit(done.stderr)
    return seconds


def embeddings(where: Path) -> list[tuple[list[ImageRow], bytes]]:
    """Embedded and embeddings of every part."""
    parts = Parts.open(str(where))
    parts.check_complete()
    rows = [parts.read(name) for name in parts.names()]
    return [(part.images, part.vectors.tobytes()) for part in rows]


def kill_halfway(nodes: Any, out: Path, chunks: int, there: list[int]) -> None:
    """Kill the last node when half of the parts are there, and note how many there are then."""
    end = time.monotonic() + LIMIT_SECONDS
    while (parts := len(list(out.glob("part-*")))) < chunks // 2:
        if time.monotonic() > end:
            return
        time.sleep(0.1)
    nodes.kill(nodes.hosts[-1])
    there.append(parts)


def measure(folder: Path, limit: int | None, chunk_images: int) -> dict[str, Any]:
    """Seconds of each way."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cluster"))
    from rays import ENVIRONMENT, RayNodes

    seconds: dict[str, float] = {}
    there: list[int] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        images = home / "images"
        count = len(link_images(folder, images, limit))
        chunks = -(-count // chunk_images)

        def embed(name: str, *words: str, meanwhile: Callable[[], None] = lambda: None) -> None:
            place = ("--out", str(home / name), "--chunk-images", str(chunk_images))
            seconds[name] = seconds_of(
                "cluster", "embed", str(images), *place, *words, meanwhile=meanwhile
            )
            print(f"{name}: {seconds[name]:.1f} s", file=sys.stderr)

        seconds["index"] = seconds_of("index", str(images), "--gallery", str(home / "gallery"))
        embed("here")
        embed("here, one thread", "--threads", "1")
        nodes = RayNodes.start(1)
        os.environ.update(ENVIRONMENT)
        try:
            embed("one node", "--address", nodes.address)
            nodes.add()
            embed("two nodes", "--address", nodes.address)
            embed(
                "one of two killed",
                "--address",
                nodes.address,
                meanwhile=lambda: kill_halfway(nodes, home / "one of two killed", chunks, there),
            )
        finally:
            nodes.stop()
        expected = embeddings(home / "here")
        same = all(embeddings(home / name) == expected for name in seconds if name != "index")
    return {
        "images": count,
        "chunks": chunks,
        "cores": os.cpu_count(),
        "seconds": seconds,
        "two_nodes_over_one": seconds["one node"] / seconds["two nodes"],
        "kill_costs": seconds["one of two killed"] - seconds["two nodes"],
        "chunks_done_when_killed": there[0] if there else None,
        "same_embeddings": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="use only this many images, evenly chosen")
    parser.add_argument("--chunk-images", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    result = measure(options.folder, options.limit, options.chunk_images)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(0 if result["chunks_done_when_killed"] and result["same_embeddings"] else 1)


if __name__ == "__main__":
    main()
