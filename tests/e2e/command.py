"""The command as users start it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["COMMAND", "Done", "lookalike"]

COMMAND = [sys.executable, "-c", "from lookalike.cli import main; main()"]
Done = subprocess.CompletedProcess[Any]


def lookalike(
    *arguments: str | bytes | Path,
    status: int = 0,
    cwd: Path | None = None,
    stdin: bytes = b"",
    text: bool = True,
) -> Done:
    """Run it and check its exit status; stdout and stderr are str, or bytes without ``text``."""
    words = [os.fsencode(word) for word in (*COMMAND, *arguments)]
    done: Done = subprocess.run(words, input=stdin, capture_output=True, cwd=cwd)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert b"Traceback" not in done.stderr, done.stderr
    if text:
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    return done
