"""Precision of the whole product on labelled folders: files -> gallery -> search.

    python benchmarks/retrieval.py FOLDER_OF_CLASSES [--seeds 5] [--queries 10] [--json OUT]

Per split seed, ``--queries`` random images of each class are held out; the others, as links in a
temporary folder, are the gallery. P@10 (Eq. 10 of the paper, n = 10) is the share of the first ten
hits that are of the query's class: through the hash tables at default settings, with ``exact=True``
and expanded by the neighbour graph; mAP is that of a list of the whole gallery, by cosine and
expanded. ``--cli`` asks through the command line, one process per query, for the first seed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from lookalike.evaluation.metrics import average_precision
from lookalike.gallery import Gallery
from lookalike.gallery.search import NearOptions

DEPTH = 10
WAYS: dict[str, NearOptions] = {
    "P@10 lsh": {"expand": False},
    "P@10 exact": {"expand": False, "exact": True},
    "P@10 expanded": {"expand": True},
    "mAP lsh": {"expand": False},
    "mAP expanded": {"expand": True},
}


def split(folder: Path, queries: int, seed: int) -> tuple[list[Path], list[Path]]:
    """Gallery and query files: ``queries`` random ones of each class are held out."""
    rng = np.random.default_rng(seed)
    gallery: list[Path] = []
    held_out: list[Path] = []
    for folder_of_class in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(folder_of_class.iterdir())
        chosen = set(rng.choice(len(files), queries, replace=False).tolist())
        for i, file in enumerate(files):
            (held_out if i in chosen else gallery).append(file)
    return gallery, held_out


def lay_out(place: Path, files: list[Path]) -> None:
    """Make ``place/CLASS/NAME`` links to exactly these files, changing as little as possible."""
    wanted = {place / file.parent.name / file.name: file for file in files}
    for link in place.glob("[!.]*/*"):
        if link not in wanted:
            link.unlink()
    for link, file in wanted.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(file.absolute())


def precision(query: Path, paths: list[str]) -> float:
    return sum(path.split("/")[0] == query.parent.name for path in paths) / DEPTH


def average(query: Path, paths: list[str]) -> float:
    """Average precision of the list."""
    relevance = np.array([[path.split("/")[0] == query.parent.name for path in paths]])
    return float(average_precision(relevance)[0])


def ask_command_line(place: Path, query: Path) -> list[str]:
    command = [sys.executable, "-c", "from lookalike.cli import main; main()", "search"]
    arguments = ["--gallery", os.fspath(place), "-k", str(DEPTH), "--json", "--", os.fspath(query)]
    output = subprocess.run([*command, *arguments], check=True, capture_output=True).stdout
    return [hit["path"] for hit in json.loads(output)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=10, help="per class")
    parser.add_argument("--cli", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for seed in range(options.seeds):
            files, queries = split(options.folder, options.queries, seed)
            lay_out(place, files)
            gallery = Gallery.open(place)
            gallery.update()
            found: dict[str, list[float]] = {name: [] for name in WAYS}
            snapshot, everything = gallery.reader().now(), len(files)
            for query, vector in zip(queries, gallery.encode(queries), strict=True):
                for name, way in WAYS.items():
                    depth = everything if name.startswith("mAP") else DEPTH
                    hits = snapshot.search(vector, depth, **way)
                    paths = [os.fsdecode(hit.row.path) for hit in hits]
                    measure = average if name.startswith("mAP") else precision
                    found[name].append(measure(query, paths))
            run = {name: float(np.mean(values)) for name, values in found.items()}
            if options.cli and seed == 0:
                answers = [precision(query, ask_command_line(place, query)) for query in queries]
                run["command line"] = float(np.mean(answers))
            runs.append({"seed": seed, "gallery": len(files), "queries": len(queries), **run})
            print(json.dumps(runs[-1]), flush=True)
    summary = {
        name: {
            "mean": float(np.mean([run[name] for run in runs])),
            "std": float(np.std([run[name] for run in runs], ddof=1)) if len(runs) > 1 else 0.0,
        }
        for name in WAYS
    }
    for name, value in summary.items():
        print(f"{name:13} {value['mean']:.4f} +- {value['std']:.4f}")
    if options.json:
        result = {"folder": options.folder.name, "runs": runs, "summary": summary}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
