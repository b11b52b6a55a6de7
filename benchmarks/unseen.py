"""Which model retrieves best among classes that it never saw: candidates for the default.

    python benchmarks/unseen.py FOLDER_OF_COREL5K FOLDER_OF_COREL1K [--seeds 3] [--candidates ...]

Per seed, ten of the fifty classes of Corel-5k are left out; candidates that learn do so on the
other forty. Tested on the ten classes and on Corel-1k, every image a query for all others (P@10 and
mAP, exact cosines). Images of Corel-1k that Corel-5k also holds, in another crop or scan, are left
out first: those whose nearest image by the plain trunk's features is also the nearest by pixels
(without a threshold; looked at, such pairs are the same photograph down to a cosine of 0.6). Frozen
stages are worked out once, as in attention.py, by whose cache they are shared.

    python benchmarks/unseen.py FOLDER_OF_COREL5K FOLDER_OF_COREL1K --ship OUT

makes the candidate that lookalike ships, src/lookalike/data/default.onnx, from all fifty classes.
On the same machine with the same PyTorch its weights are the same each time, bit for bit; the order
of the graph's nodes, and with it the checksum, follows the code of the embedder.
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from attention import Floats, Positions, mean_and_spread

from lookalike.evaluation.metrics import average_precision, precision_at, rank
from lookalike.models.embedder import Embedder
from lookalike.models.export import export_embedder
from lookalike.models.layers import whitening
from reproduction.collection import Collection, squeeze
from reproduction.confs import OURS, Recipe
from reproduction.maps import SharedMaps
from reproduction.study import class_split
from reproduction.tables import half_width
from reproduction.train import Networks, embed_maps

PLAIN = OURS.but(attention="none", dim=None, freeze=-1)
PLAIN_UNIT = PLAIN.but(unit_pool=True)
GENTLE = OURS.but(freeze=-1, temperature=0.05, smoothing=0.1)
SHIPPED = "fused cbam + FC, trunk kept"
NAME, VERSION = "lookalike-general", "2"
"""A changed model needs another version: galleries know theirs by it."""
THUMBNAIL = 24
BLOCK = 500


@dataclass(frozen=True)
class Candidate:
    """A recipe, whether it learns from labels, and the whitening that is folded in afterwards:
    numbers kept and power, see `whitening`; `keep`: numbers of the trunk's own features beside,
    see `Embedder.keep_trunk`.
    """

    recipe: Recipe
    learns: bool
    white: tuple[int, float] | None = None
    keep: int = 0


CANDIDATES: dict[str, Candidate] = {
    "plain trunk": Candidate(PLAIN, learns=False),
    "plain, gem": Candidate(PLAIN.but(pool="gem"), learns=False),
    "plain, centred": Candidate(PLAIN_UNIT, learns=False, white=(512, 0.0)),
    "plain, whitened a half": Candidate(PLAIN_UNIT, learns=False, white=(512, 0.25)),
    "plain, whitened": Candidate(PLAIN_UNIT, learns=False, white=(512, 0.5)),
    "plain, fused, whitened a half": Candidate(
        PLAIN.but(fuse=(3,)), learns=False, white=(512, 0.25)
    ),
    "cbam + FC": Candidate(GENTLE, learns=True),
    "FC": Candidate(GENTLE.but(attention="none"), learns=True),
    "cbam + FC, trunk kept": Candidate(GENTLE, learns=True, keep=512),
    "FC, trunk kept": Candidate(GENTLE.but(attention="none"), learns=True, keep=512),
    "fused cbam + FC, trunk kept": Candidate(GENTLE.but(fuse=(3,)), learns=True, keep=512),
    "cbam alone": Candidate(GENTLE.but(dim=None), learns=True),
}


class Sets:
    """Both sets, their maps, the plain trunk's features of the large one (unit rows), and which
    images of the small one count.
    """

    def __init__(self, large: Path, small: Path, cache: Path) -> None:
        self.large, self.small = Collection.read(large), Collection.read(small)
        self.networks = Networks(cache, print)
        self.large_maps, self.small_maps = self._maps(self.large), self._maps(self.small)
        plain = Embedder(PLAIN.embedder, "imagenet").eval()
        own = embed_maps(plain, self.small_maps, -1, np.arange(len(self.small)))
        self.plain = embed_maps(plain, self.large_maps, -1, np.arange(len(self.large)))
        by_features = (own @ self.plain.T).argmax(axis=1)
        by_pixels = (thumbnails(self.small) @ thumbnails(self.large).T).argmax(axis=1)
        self.kept = np.flatnonzero(by_features != by_pixels)

    def _maps(self, collection: Collection) -> SharedMaps:
        maps = self.networks.shared(OURS, collection)
        assert maps is not None
        return maps


def thumbnails(collection: Collection) -> Floats:
    """Grey images of THUMBNAIL x THUMBNAIL without their borders, less their mean, unit rows."""
    rows = np.empty((len(collection), THUMBNAIL**2), np.float32)
    for row, image in zip(rows, collection.pixels, strict=True):
        large = squeeze(image, 10 * THUMBNAIL).mean(axis=2)
        inner = large[THUMBNAIL // 2 : -THUMBNAIL // 2, THUMBNAIL // 2 : -THUMBNAIL // 2]
        row[:] = inner.reshape(THUMBNAIL, 9, THUMBNAIL, 9).mean(axis=(1, 3)).ravel()
        row -= row.mean()
        row /= max(float(np.linalg.norm(row)), 1e-6)
    return rows


def made(candidate: Candidate, sets: Sets, seen: Positions) -> Embedder:
    """The candidate's embedder, trained and whitened on the images `seen` of the large set."""
    recipe = candidate.recipe
    if candidate.learns:
        network = sets.networks.network(recipe, sets.large.sample(seen))
        embedder = copy.deepcopy(network.embedder)
    else:
        embedder = Embedder(recipe.embedder, "imagenet").eval()
    if candidate.white is not None:
        dim, power = candidate.white
        rows = torch.from_numpy(embed_maps(embedder, sets.large_maps, -1, seen))
        embedder.fold(*whitening(rows, dim, power=power))
    if candidate.keep:
        own = torch.from_numpy(sets.plain[seen])
        embedder.keep_trunk(*whitening(own, candidate.keep, power=0.0))
    return embedder.eval()


def leave_one_out(vectors: Floats, labels: Positions) -> dict[str, float]:
    """P@10 and mAP, every image a query for all others."""
    precision, average = [], []
    for start in range(0, len(vectors), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(vectors)))
        similar = vectors[rows] @ vectors.T
        similar[np.arange(len(rows)), rows] = -np.inf
        order = rank(similar)[:, :-1]
        relevance = labels[order] == labels[rows][:, None]
        precision += precision_at(relevance, 10).tolist()
        average += average_precision(relevance).tolist()
    return {"P@10": float(np.mean(precision)), "mAP": float(np.mean(average))}


def measure(name: str, seed: int, sets: Sets) -> dict[str, float]:
    _, unseen = class_split(sets.large.labels, seed)
    left_out = np.isin(sets.large.labels, unseen)
    seen, rest = np.flatnonzero(~left_out), np.flatnonzero(left_out)
    chosen = CANDIDATES[name]
    candidate = replace(chosen, recipe=chosen.recipe.but(seed=seed))
    embedder = made(candidate, sets, seen)
    freeze = candidate.recipe.training.freeze
    found = leave_one_out(
        embed_maps(embedder, sets.large_maps, freeze, rest), sets.large.labels[rest]
    )
    other = leave_one_out(
        embed_maps(embedder, sets.small_maps, freeze, sets.kept), sets.small.labels[sets.kept]
    )
    return {
        **{f"unseen {key}": value for key, value in found.items()},
        **{f"Corel-1k {key}": value for key, value in other.items()},
    }


def report(found: dict[str, Any]) -> str:
    columns = ("unseen P@10", "unseen mAP", "Corel-1k P@10", "Corel-1k mAP")
    lines = [
        f"{found['left out']} images of Corel-1k are also in Corel-5k and left out",
        f"{'':<32}" + " ".join(f"{column:>16}" for column in columns),
    ]
    plain = found["plain trunk"]
    for name, rows in found.items():
        if name == "left out":
            continue
        cells = [mean_and_spread([row[column] for row in rows.values()]) for column in columns]
        deltas = [row["unseen mAP"] - plain[seed]["unseen mAP"] for seed, row in rows.items()]
        change = f"unseen mAP {mean(deltas):+.4f} +- {half_width(deltas):.4f}"
        lines.append(f"{name:<32}{' '.join(cells)}   {change}")
    return "\n".join(lines)


def ship(sets: Sets, out: Path) -> None:
    """Write the default model: the candidate SHIPPED made on all images of the large set."""
    embedder = made(CANDIDATES[SHIPPED], sets, np.arange(len(sets.large)))
    info = export_embedder(embedder, out, name=NAME, version=VERSION)
    print(f"{out}: {out.stat().st_size:,} bytes, sha256 {info.sha256}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("large", type=Path)
    parser.add_argument("small", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--ship", type=Path, metavar="OUT", help="only write the default model")
    options = parser.parse_args()
    sets = Sets(options.large, options.small, options.cache)
    if options.ship is not None:
        ship(sets, options.ship)
        return
    path = options.results / "unseen.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found["left out"] = len(sets.small) - len(sets.kept)
    for name in options.candidates:
        for seed in range(options.seeds):
            rows = found.setdefault(name, {})
            if str(seed) in rows:
                continue
            rows[str(seed)] = measure(name, seed, sets)
            print(name, seed, {k: round(v, 4) for k, v in rows[str(seed)].items()}, flush=True)
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
