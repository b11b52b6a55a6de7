"""`embed` as a process of its own that kills itself.

python embed_process.py SOURCE DIR MODEL CHUNK_IMAGES KILL_AT

Kills itself before it makes something durable (an fsync or a renaming) for the KILL_AT-th time; 0:
never. Prints the number of chunks that it has embedded.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

sys.modules["ray"] = None  # type: ignore[assignment]  # importing it fails

from lookalike.cluster.chunk import EmbedSettings  # noqa: E402
from lookalike.cluster.embed import embed_all, prepare  # noqa: E402


def deadly(call: Callable[..., None], kill_at: int, count: list[int]) -> Callable[..., None]:
    def counted(*arguments: object, **options: object) -> None:
        count[0] += 1
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        call(*arguments, **options)

    return counted


if __name__ == "__main__":
    source, where, model, size, kill_at = sys.argv[1:]
    count = [0]
    for name in ("fsync", "replace"):
        setattr(os, name, deadly(getattr(os, name), int(kill_at), count))
    parts = prepare(source, where, model=model, chunk_images=int(size))
    print(len(embed_all(parts, settings=EmbedSettings(model=model, threads=1))))
