"""Which model retrieves best among classes that it never saw: candidates for the default.

    python benchmarks/unseen.py FOLDER_OF_COREL5K FOLDER_OF_COREL1K [--seeds 3] [--candidates ...]

Per seed, ten of the fifty classes of Corel-5k are left out; candidates that learn do so on the
other forty. Tested on the ten classes and on Corel-1k, every image a query for all others (P@10 and
mAP, exact cosines). Images of Corel-1k that Corel-5k also holds, in another crop or scan, are left
out first: those whose nearest image by the plain trunk's features is also the nearest by pixels
(without a threshold; looked at, such pairs are the same photograph down to a cosine of 0.6). Frozen
stages are worked out once, as in attention.py, by whose cache they are shared.

Candidates of TUNED fine-tune whole networks, which takes a CUDA device: the trunk with an FC, a
share of the way from its published weights to the tuned ones (Wortsman et al. 2022), then, with the
trunk as it is, CBAM and FC. Both metrics are also measured as `search --expand` ranks.

    python benchmarks/unseen.py FOLDER_OF_COREL5K FOLDER_OF_COREL1K --ship OUT

makes the candidate that lookalike ships, src/lookalike/data/lookalike-general-3.onnx, from all
fifty classes. (lookalike-general-2.onnx beside it is "fused cbam + FC, trunk kept".)
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from attention import Floats, Positions, mean_and_spread

from lookalike.evaluation.metrics import average_precision, precision_at, rank
from lookalike.lsh.expand import Expansion
from lookalike.models.embedder import Embedder
from lookalike.models.export import export_embedder
from lookalike.models.layers import whitening
from lookalike.models.trunks import make_trunk
from reproduction import confs
from reproduction.collection import Collection, squeeze
from reproduction.confs import OURS, Recipe
from reproduction.finetune import fine_tune, normaliser, on_device
from reproduction.maps import SharedMaps
from reproduction.study import class_split
from reproduction.tables import half_width
from reproduction.train import Networks, embed_maps

PLAIN = OURS.but(attention="none", dim=None, freeze=-1)
PLAIN_UNIT = PLAIN.but(unit_pool=True)
GENTLE = OURS.but(freeze=-1, temperature=0.05, smoothing=0.1)
SHIPPED = "trunk tuned by a quarter, fused cbam + FC, trunk kept"
TUNED = {"trunk untuned, fused cbam + FC, trunk kept": 0.0, SHIPPED: 0.25}
"""Shares of the way from published to tuned weights."""
TRUNK = confs.TUNED["lite0"].but(
    fuse=(3,),
    dim=512,
    input_size=224,
    freeze_batch_norm=True,
    temperature=0.05,
    smoothing=0.1,
    learning_rate=1e-3,
    trunk_learning_rate=1e-3,
    epochs=8,
)
HEADS = TRUNK.but(attention="cbam", trunk_learning_rate=1e-12, epochs=6)
SIDE = 256
"""Of the squares that windows are cut from."""
NAME, VERSION = "lookalike-general", "3"
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


def tuned(share: float, collection: Collection, seen: Positions, seed: int) -> Embedder:
    """The embedder of that share of TUNED, learnt from the images `seen`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = chosen_squares(collection, seen, SIDE, device)
    labels = collection.labels[seen]
    trunk = make_trunk(TRUNK.recipe.embedder.trunk, "imagenet")
    weights = trunk.state_dict()
    if share:
        moved = fine_tune(TRUNK.but(seed=seed), images, labels).trunk.state_dict()
        for name, value in weights.items():
            if value.is_floating_point():
                value.lerp_(moved[name].to(value.device), share)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trunk.pth"
        torch.save(weights, file)
        recipe = HEADS.but(seed=seed, weights=str(file))
        embedder = fine_tune(recipe, images, labels)
    own = rows_of(embedder, embedder.own_features, collection, seen)
    embedder.keep_trunk(*whitening(torch.from_numpy(own), 512, power=0.0))
    return embedder.eval()


def chosen_squares(
    collection: Collection, chosen: Positions, size: int, device: torch.device
) -> torch.Tensor:
    squares = on_device(collection, size, device)
    return squares[torch.from_numpy(chosen).to(device)]


@torch.no_grad()
def rows_of(
    embedder: Embedder,
    function: Callable[[torch.Tensor], torch.Tensor],
    collection: Collection,
    chosen: Positions,
) -> Floats:
    """What a function of the embedder makes of the images, as rows."""
    device = next(embedder.parameters()).device
    images = chosen_squares(collection, chosen, embedder.settings.input_size, device)
    normalise = normaliser(embedder, device)
    blocks = [function(normalise(block.float())).cpu() for block in torch.split(images, BLOCK)]
    result: Floats = torch.cat(blocks).numpy()
    return result


def expanded(vectors: Floats, expansion: Expansion) -> Floats:
    """Scores (n, n) as `lookalike.lsh.expand` ranks by, each query left out of its own graph."""
    cosines = vectors @ vectors.T
    others = cosines.copy()
    np.fill_diagonal(others, -np.inf)

    def nearest(count: int) -> Floats:
        least = np.partition(others, -count, axis=1)[:, [-count]]
        weights = np.where(others >= least, np.maximum(others, 0) ** expansion.power, 0)
        share: Floats = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        return share

    seeds, graph = nearest(expansion.seeds), expansion.spread * nearest(expansion.depth)
    scores = seeds
    for _ in range(expansion.steps):
        scores = seeds + scores @ graph.T
        np.fill_diagonal(scores, 0)
    scores /= np.maximum(scores.max(axis=1, keepdims=True), 1e-9)
    first = others >= np.minimum(others.max(axis=1, keepdims=True), expansion.sure)
    result: Floats = cosines + expansion.weight * scores + 10 * first
    return result


def leave_one_out(scores: Floats, labels: Positions) -> dict[str, float]:
    """P@10 and mAP by scores (n, n), every image a query for all others."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    relevance = labels[rank(scores)[:, :-1]] == labels[:, np.newaxis]
    precision, average = precision_at(relevance, 10), average_precision(relevance)
    return {"P@10": float(np.mean(precision)), "mAP": float(np.mean(average))}


def measure(name: str, seed: int, sets: Sets) -> dict[str, float]:
    _, unseen = class_split(sets.large.labels, seed)
    left_out = np.isin(sets.large.labels, unseen)
    seen, rest = np.flatnonzero(~left_out), np.flatnonzero(left_out)
    if name in TUNED:
        embedder = tuned(TUNED[name], sets.large, seen, seed)
        rows = rows_of(embedder, embedder, sets.large, rest)
        others = rows_of(embedder, embedder, sets.small, sets.kept)
    else:
        candidate = CANDIDATES[name]
        candidate = replace(candidate, recipe=candidate.recipe.but(seed=seed))
        freeze = candidate.recipe.training.freeze
        embedder = made(candidate, sets, seen)
        rows = embed_maps(embedder, sets.large_maps, freeze, rest)
        others = embed_maps(embedder, sets.small_maps, freeze, sets.kept)
    known = {
        "unseen": (rows, sets.large.labels[rest]),
        "Corel-1k": (others, sets.small.labels[sets.kept]),
    }
    measured: dict[str, float] = {}
    for where, (vectors, labels) in known.items():
        found = leave_one_out(vectors @ vectors.T, labels)
        measured |= {f"{where} {key}": value for key, value in found.items()}
        found = leave_one_out(expanded(vectors, Expansion()), labels)
        measured |= {f"{where} expanded {key}": value for key, value in found.items()}
    return measured


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


def ship(large: Collection, out: Path) -> None:
    """Write the default model: the candidate SHIPPED, made of all images."""
    embedder = tuned(TUNED[SHIPPED], large, np.arange(len(large)), seed=0).cpu()
    info = export_embedder(embedder, out, name=NAME, version=VERSION)
    print(f"{out}: {out.stat().st_size:,} bytes, sha256 {info.sha256}")


def main() -> None:
    names = [*CANDIDATES, *TUNED]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("large", type=Path)
    parser.add_argument("small", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", nargs="+", default=names, choices=names)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--ship", type=Path, metavar="OUT", help="only write the default model")
    options = parser.parse_args()
    if options.ship is not None:
        ship(Collection.read(options.large), options.ship)
        return
    sets = Sets(options.large, options.small, options.cache)
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
