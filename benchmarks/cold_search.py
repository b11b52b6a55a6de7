"""Time and memory of one `lookalike search` from a cold start, and where the time goes.

    python benchmarks/cold_search.py GALLERY QUERY [--runs 7] [--first] [--json OUT]

GALLERY is an indexed folder or its gallery directory, QUERY an image that is not in it, so that the
model is needed. Each run is a process of its own; user and system time and the largest memory are
the kernel's account of it. With --first each run has an empty cache of compiled code, as the first
search of an installation has. The parts are medians of the process time between their ends in
further runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PARTS = """
import json, sys, time
marks = {"python": time.process_time()}
def mark(name):
    marks[name] = time.process_time()
import numpy; mark("numpy")
import click, lookalike.cli; mark("command line")
from lookalike.encoder import EncoderSettings
from lookalike.gallery import Gallery; mark("gallery and its imports")
settings = EncoderSettings(runtime="onnxruntime")  # as the command does
gallery = Gallery.open(sys.argv[1], create=False, encoder_settings=settings)
len(gallery); mark("open and check the table")
with gallery._files.reading_all() as (_, index): mark("open the index")
from lookalike.images import read_image
from lookalike.runtimes import import_onnxruntime
import_onnxruntime(); mark("import onnxruntime")
encoder = gallery.encoder(); mark("load the model")
pixels = read_image(sys.argv[2], encoder.info.input_size).pixels; mark("read the image")
vector = encoder.embed(pixels[None])[0]; mark("embed")
index.search(vector, 10, exact=None); mark("search")
print(json.dumps(marks))
"""


class Cost(NamedTuple):
    """Seconds of processor time, and by the clock; largest memory of one process, MB."""

    cpu: float
    clock: float
    memory: float


def cost_of(command: list[str], *, first: bool) -> Cost:
    """``first``: without compiled code of an earlier run."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, **({"NUMBA_CACHE_DIR": cache} if first else {})}
        nowhere = subprocess.DEVNULL
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        clock = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Cost(used.ru_utime + used.ru_stime, clock, used.ru_maxrss / unit)


def parts_of(gallery: Path, query: Path) -> dict[str, float]:
    """Seconds of process time that each step takes."""
    command = [sys.executable, "-c", PARTS, os.fspath(gallery), os.fspath(query)]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    marks = json.loads(output)
    times = [0.0, *marks.values()]
    return {name: times[i + 1] - times[i] for i, name in enumerate(marks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gallery", type=Path)
    parser.add_argument("query", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = [sys.executable, "-c", "from lookalike.cli import main; main()", "search"]
    command = [*start, os.fspath(options.query), "--gallery", os.fspath(options.gallery)]
    if not options.first:
        cost_of(command, first=False)  # compiles what it needs, if that has never been done
    costs = [cost_of(command, first=options.first) for _ in range(options.runs)]
    runs = [parts_of(options.gallery, options.query) for _ in range(options.runs)]
    parts = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    for name, values in zip(Cost._fields, zip(*costs, strict=True), strict=True):
        middle = statistics.median(values)
        print(f"{name:>8}  {min(values):.2f} / {middle:.2f} / {max(values):.2f}")
    for name, seconds in parts.items():
        print(f"{1000 * seconds:8.1f} ms  {name}")
    if options.json:
        result = {"costs": [cost._asdict() for cost in costs], "parts_seconds": parts}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
