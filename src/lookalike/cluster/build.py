"""A shard's gallery, built in a process of its own, whose memory then goes back to the system."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

from lookalike.cluster.shard import Place, Shard, Show
from lookalike.errors import GalleryError, LookalikeError

__all__ = ["build_apart"]

PROGRAM = "from lookalike.cluster.build import main; main()"
FAILED = 3


def build_apart(place: Place, progress: Show | None = None) -> int:
    """As `Shard.build`. Raises GalleryError."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(place))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        version = 0
        try:
            for line in process.stdout:
                done, total, version = map(int, line.split())
                if progress is not None and total:
                    progress(done, total)
            said = process.stderr.read().strip()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        last = said.splitlines()[-1] if said else "it said nothing"
        why = f"building ended with status {process.returncode}: {last}"
        raise GalleryError(said if process.returncode == FAILED else why)
    return version


def main() -> None:
    """What the process does; prints parts that are read, of how many, and at last the version."""
    place = Place(**json.loads(sys.argv[1]))
    try:
        version = Shard(place).build(lambda done, total: print(done, total, 0, flush=True))
    except LookalikeError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)
    print(0, 0, version, flush=True)
