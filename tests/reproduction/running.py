"""`python -m reproduction`: run in this process, or started as users start it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from command import run

from reproduction.__main__ import commands

ROOT = Path(__file__).resolve().parents[2]
reproduce = partial(run, commands)


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
