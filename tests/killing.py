"""Code for a process that kills itself before it makes something durable for the nth time."""

from __future__ import annotations

__all__ = ["NOTING", "killing"]

NOTING = """
import os, sys
from pathlib import Path
from lookalike.cli import main
from lookalike.gallery import update
from lookalike.images.decoder import Decoder
notes = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
read = Decoder.read_images
def noting(self, paths, size, **how):
    made = read(self, paths, size, **how)
    for path in paths:
        os.write(notes, Path(os.fsdecode(path)).name.encode() + b"\\n")
    return made
Decoder.read_images = noting
update.COMMIT_IMAGES = int(sys.argv.pop(1))
main()
"""
"""`lookalike`, given a file of notes and COMMIT_IMAGES before its arguments: it appends the name of
each file that is decoded to the notes."""


def killing(kill_at: int) -> str:
    """What runs first. Counted are calls of os.fsync, os.replace and os.rename; 0: never."""
    return f"""
import os, signal
left = [{kill_at}]
def deadly(call):
    def counted(*arguments, **options):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counted
for name in ("fsync", "replace", "rename"):
    setattr(os, name, deadly(getattr(os, name)))
"""
