"""`lookalike index` as a process of its own that notes what it encodes and commits often.

python index_process.py NOTES COMMIT_IMAGES KILL_AT ARGUMENTS...

Appends the name of each file that has been decoded to NOTES. Kills itself before it makes something
durable (an fsync or a renaming) for the KILL_AT-th time; 0: never.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lookalike.cli import main
from lookalike.gallery import update
from lookalike.images import DecodedImage, SkippedImageError
from lookalike.images.decoder import Decoder

notes = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


read = Decoder.read_images


def noting(
    self: Decoder, paths: Sequence[bytes], size: int
) -> list[DecodedImage | SkippedImageError]:
    made = read(self, paths, size)
    for path in paths:
        os.write(notes, Path(os.fsdecode(path)).name.encode() + b"\n")
    return made


def deadly(call: Callable[..., None], kill_at: int, count: list[int]) -> Callable[..., None]:
    def counted(*arguments: object, **options: object) -> None:
        count[0] += 1
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        call(*arguments, **options)

    return counted


if __name__ == "__main__":
    setattr(Decoder, "read_images", noting)  # noqa: B010
    update.COMMIT_IMAGES = int(sys.argv[2])
    count = [0]
    for name in ("fsync", "replace", "rename"):
        setattr(os, name, deadly(getattr(os, name), int(sys.argv[3]), count))
    sys.argv[1:] = sys.argv[4:]
    main()
