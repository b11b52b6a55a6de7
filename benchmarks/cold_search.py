"""CPU time of one `lookalike search` from a cold start, and where it goes.

    python benchmarks/cold_search.py GALLERY QUERY [--runs 7] [--json OUT]

GALLERY is an indexed folder or its gallery directory, QUERY an image that is not in it, so that the
model is needed. Each run is a process of its own; user and system time are the kernel's account of
it. The parts are medians of the process time between their ends in further runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

PARTS = """
import json, sys, time
marks = {"python": time.process_time()}
def mark(name):
    marks[name] = time.process_time()
import numpy; mark("numpy")
import click, lookalike.cli; mark("command line")
from lookalike.gallery import Gallery; mark("gallery and its imports")
gallery = Gallery.open(sys.argv[1], create=False); len(gallery); mark("open and check the table")
with gallery._files.reading_all() as (_, index): mark("open the index")
from lookalike.images import read_picture
from lookalike.encoder import import_onnxruntime
import_onnxruntime(); mark("import onnxruntime")
encoder = gallery.encoder(); mark("load the model")
pixels = read_picture(sys.argv[2], encoder.info.input_size).pixels; mark("read the picture")
vector = encoder.embed(pixels[None])[0]; mark("embed")
import numba; mark("import numba")
import lookalike.lsh.search; mark("import the kernels")
index.search(vector, 10); mark("first search: load compiled kernels")
index.search(vector, 10); mark("second search")
print(json.dumps(marks))
"""


def cpu_of(command: list[str]) -> float:
    """Seconds of user and system time that ``command`` takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


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
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = [sys.executable, "-c", "from lookalike.cli import main; main()", "search"]
    command = [*start, os.fspath(options.query), "--gallery", os.fspath(options.gallery)]
    cpu_of(command)  # compiles the kernels if that has never been done
    whole = sorted(cpu_of(command) for _ in range(options.runs))
    runs = [parts_of(options.gallery, options.query) for _ in range(options.runs)]
    parts = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    print(f"whole command: {whole[0]:.2f} / {statistics.median(whole):.2f} / {whole[-1]:.2f} s CPU")
    for name, seconds in parts.items():
        print(f"{1000 * seconds:8.1f} ms  {name}")
    if options.json:
        result = {"cpu_seconds": whole, "parts_seconds": parts}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
