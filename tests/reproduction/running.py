"""`python -m reproduction` as users start it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["Done", "reproduce", "start"]

ROOT = Path(__file__).resolve().parents[2]
Done = subprocess.CompletedProcess[str]


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """The process, with its output in pipes."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", "reproduction", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
    )


def reproduce(*arguments: str | Path, status: int = 0, cwd: Path | None = None) -> Done:
    """Run it and check its exit status."""
    process = start(*arguments, cwd=cwd)
    stdout, stderr = process.communicate()
    assert process.returncode == status, (stdout, stderr)
    assert "Traceback" not in stderr, stderr
    return Done(process.args, process.returncode, stdout, stderr)
