"""`python -m reproduction` as users start it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["Done", "reproduce"]

ROOT = Path(__file__).resolve().parents[2]
Done = subprocess.CompletedProcess[str]


def reproduce(*arguments: str | Path, status: int = 0, cwd: Path | None = None) -> Done:
    """Run it and check its exit status."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    words = [sys.executable, "-m", "reproduction", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done
