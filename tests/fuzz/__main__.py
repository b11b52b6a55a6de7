"""Damage galleries and images at random and see that lookalike answers right or says why not.

    make fuzz SECONDS=120
    PYTHONPATH=tests python -m fuzz --seconds 3600 --jobs 8
    PYTHONPATH=tests python -m fuzz --seed 5 --case 1234      the same case once more

Exit status 1 if any case ended otherwise. A case is chosen by seed and number alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # before NumPy is imported

import numpy as np

from fuzz.cases import BAD, SECONDS, World, run_case
from lookalike.lsh import LSHIndex

SHARES = {"mutations": 0.8, "images": 0.2}
CASE_SECONDS = 60 * SECONDS
MEMORY = Path("/dev/shm")


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="how long (default 120)")
    parser.add_argument("--seed", type=int, help="of all chance (default: a new one)")
    parser.add_argument("--case", type=int, help="run this case alone and keep its files")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    began = time.monotonic()
    roomy = MEMORY.exists() and shutil.disk_usage(MEMORY).free > 4 << 30  # and syncs cost nothing
    folder = Path(tempfile.mkdtemp(prefix="lookalike-fuzz-", dir=MEMORY if roomy else None))
    try:
        run = Run(_make_world(folder), seed, options.jobs)
        if options.case is None:
            run.cases(range(1 << 40), began + options.seconds, keep=False)
        else:
            run.cases(range(options.case, options.case + 1), math.inf, keep=True)
    finally:
        if options.case is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"files are in {folder}")
    print(run.summary(time.monotonic() - began))
    return 1 if run.bad else 0


def _make_world(folder: Path) -> World:
    """In a process of its own, with ids that depend on nothing, so that a case can be repeated."""
    child = os.fork()
    if not child:
        status = 1
        try:
            numbers = iter(range(1, 1000))
            setattr(secrets, "token_hex", lambda size: f"{next(numbers):0{2 * size}x}")  # noqa: B010
            World.make(folder)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the galleries could not be made")
    # What every case needs is imported and compiled once, before they are forked.
    for name in ("gallery.rebuild", "gallery.repair", "gallery.update"):
        import_module(f"lookalike.{name}")
    index = LSHIndex(8)
    index.add(np.arange(50), np.random.default_rng(0).standard_normal((50, 8)))
    index.search(np.ones(8), 3, threads=1)
    return World.load(folder)


class Run:
    """Cases in processes, several at once, and what came of them."""

    def __init__(self, world: World, seed: int, jobs: int) -> None:
        self.world = world
        self.seed = seed
        self.jobs = jobs
        self.outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in SHARES}
        self.bad = 0
        self._running: dict[int, tuple[int, str, Path, float]] = {}

    def cases(self, numbers: range, end: float, keep: bool) -> None:
        for number in numbers:
            while len(self._running) >= self.jobs:
                self._take(keep)
            if time.monotonic() >= end:
                break
            self._start(number)
        while self._running:
            self._take(keep)

    def _start(self, number: int) -> None:
        rng = np.random.default_rng([self.seed, number])
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        scratch = self.world.folder / f"case{number}"
        scratch.mkdir()
        sys.stdout.flush()
        child = os.fork()
        if child:
            self._running[child] = (number, kind, scratch, time.monotonic())
            return
        try:
            os.setpgid(0, 0)
            os.chdir(scratch)
            run_case(kind, rng, self.world, scratch)
        finally:
            os._exit(0)

    def _take(self, keep: bool) -> None:
        """Wait for one case to end."""
        while (ended := os.waitpid(-1, os.WNOHANG))[0] not in self._running:
            for running, (_, _, _, began) in self._running.items():
                if time.monotonic() - began > CASE_SECONDS:
                    os.killpg(running, signal.SIGKILL)
            time.sleep(0.005)
        number, kind, scratch, _ = self._running.pop(ended[0])
        if (scratch / "verdict").exists():
            outcome, text = json.loads((scratch / "verdict").read_text())
        else:
            code = os.waitstatus_to_exitcode(ended[1])
            cause = f"signal {-code}" if code < 0 else f"status {code}"
            step = _read(scratch / "step")
            outcome, text = BAD, f"ended by {cause} in: {step} (signals 14, 27: it takes too long)"
        self.outcomes[kind][outcome] += 1
        if outcome == BAD or keep:
            self.bad += outcome == BAD
            print(f"--seed {self.seed} --case {number}: {kind}: {outcome}")
            print(f"    {_read(scratch / 'notes')}\n    {text}", flush=True)
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)

    def summary(self, seconds: float) -> str:
        parts = []
        for kind, counts in self.outcomes.items():
            if counts:
                counted = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
                parts.append(f"{counts.total():,} {kind}: {counted}")
        return f"fuzz, seed {self.seed}, {seconds:.0f} s; {'; '.join(parts)}; {self.bad} bad"


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
