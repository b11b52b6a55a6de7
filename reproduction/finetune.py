"""Fine-tune: whole networks on an accelerator, for the rows "ours, best" and for attention on
against off.

All images lie on the device as squares of uint8. Augmentation, mixing, steps and embedding run
there in batches; on CUDA a step is recorded once as a graph and replayed, since launching the
hundreds of small kernels of an EfficientNet takes longer than running them. There the network
computes in 16 bits, loss and weights are in 32. `TUNED` and `BEST` in confs.py say what is trained.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookalike.atomic import atomic_writer
from lookalike.errors import LookalikeError
from lookalike.evaluation.metrics import rank
from lookalike.evaluation.protocol import hashed_ranking, index_of
from lookalike.models.augment import GREY
from lookalike.models.embedder import Embedder
from lookalike.models.layers import unit
from lookalike.models.losses import CosineSoftmax
from lookalike.models.run import make_optimizer, one_cycle
from reproduction.collection import Collection, Floats, Positions, digest, squeeze
from reproduction.confs import BEST, TUNED, Joined, Tuned, Views
from reproduction.score import note
from reproduction.study import Study
from reproduction.train import weights_of

CHUNK = 500
WARM_STEPS = 3
"""Before a step is recorded: libraries choose their kernels and allocate in the first ones."""
STEPS = 28
"""Least number of an epoch: few images make smaller batches."""
NEIGHBOURS, POWER = 60, 9.0
"""Of the expansion; the best of a few within the gallery of Corel-5k's first split, where networks
learnt from all but ten images of each class and searched for those."""


# ---- images on the device ------------------------------------------------------------------------


def on_device(collection: Collection, size: int, device: torch.device) -> Tensor:
    """All images squeezed, uint8 (n, 3, size, size)."""
    squares = np.empty((len(collection), size, size, 3), np.uint8)
    for square, image in zip(squares, collection.pixels, strict=True):
        square[:] = squeeze(image, size)
    return torch.from_numpy(squares).to(device).permute(0, 3, 1, 2).contiguous()


def augment(images: Tensor, views: Views, generator: torch.Generator) -> Tensor:
    """uint8 (n, 3, s, s) -> float32 (n, 3, views.size, views.size), each image drawn apart: a
    window, a turn, a mirror image, then brightness, contrast, saturation and the three channels.
    """
    n, device = len(images), images.device
    u = torch.rand(10, n, generator=generator, device=device)
    area = views.area + (1 - views.area) * u[0]
    ratio = views.ratio ** (2 * u[1] - 1)
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    x, y = (2 * u[2] - 1) * (1 - width), (2 * u[3] - 1) * (1 - height)
    angle = (2 * u[4] - 1) * views.rotation * (torch.pi / 180)
    mirror = torch.where(u[5] < 0.5, -1.0, 1.0)
    rows = (
        torch.stack([mirror * width * angle.cos(), -height * angle.sin(), x], 1),
        torch.stack([mirror * width * angle.sin(), height * angle.cos(), y], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), [n, 3, views.size, views.size], align_corners=False)
    shown = F.grid_sample(images.float(), grid, "bilinear", "reflection", align_corners=False)
    factors = (1 + views.colour) ** (2 * u[6:9, :, None, None, None] - 1)
    channels = torch.rand(n, 3, 1, 1, generator=generator, device=device)
    grey = sum(float(weight) * shown[:, i, None] for i, weight in enumerate(GREY))
    assert isinstance(grey, Tensor)
    shown = grey + (shown - grey) * factors[0]
    mean = grey.mean((2, 3), keepdim=True)
    shown = (mean + (shown - mean) * factors[1]) * factors[2]
    return (shown * (1 + views.colour / 4) ** (2 * channels - 1)).clamp(0, 255)


def mix(images: Tensor, views: Views, random: np.random.Generator) -> tuple[Tensor, float]:
    """The batch mixed with itself in reverse order, and the share that each image keeps of its own.

    Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) take turns at random.
    """
    if random.random() >= views.mixed:
        return images, 1.0
    other, share = images.flip(0), float(random.beta(views.beta, views.beta))
    if random.random() < 0.5:
        return share * images + (1 - share) * other, share
    side = images.shape[-1]
    cut = round(side * (1 - share) ** 0.5)
    top, left = random.integers(0, side - cut + 1, 2).tolist()
    images = images.clone()
    place = (..., slice(top, top + cut), slice(left, left + cut))
    images[place] = other[place]
    return images, 1 - (cut / side) ** 2


def normaliser(embedder: Embedder, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Pixels 0..255, (n, 3, s, s), -> as the embedder reads them."""
    parts = (embedder.mean, embedder.std)
    mean, std = (torch.tensor(part, device=device).view(1, 3, 1, 1) for part in parts)
    return lambda pixels: ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


# ---- learning ------------------------------------------------------------------------------------


class Learner:
    """An embedder with what trains it: loss, optimiser, running average of the weights."""

    def __init__(self, tuned: Tuned, classes: int, device: torch.device) -> None:
        training = tuned.recipe.training
        self.training, self.device = training, device
        self.embedder = Embedder(tuned.recipe.embedder, training.weights).to(device)
        self.embedder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.embedder.train()
        if training.freeze_batch_norm:
            for module in self.embedder.trunk.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        self.criterion = CosineSoftmax(
            self.embedder.dim, classes, training.temperature, training.smoothing
        ).to(device)
        self.optimizer = make_optimizer(self.embedder, self.criterion, training)
        for group in self.optimizer.param_groups:
            group["capturable"] = device.type == "cuda"
            group["lr"] = torch.tensor(group["peak"], device=device)
        self.average = copy.deepcopy(self.embedder)
        states = (self.average.state_dict(), self.embedder.state_dict())
        self.averages, self.values = (
            [value for value in state.values() if value.is_floating_point()] for state in states
        )
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.given: tuple[Tensor, ...] = ()
        self.loss = torch.zeros((), device=device)

    def step(self, images: Tensor, labels: Tensor, share: float, rate: float) -> None:
        """On normalised images of which `share` is their own label's, the rest that of the image
        at the other end of the batch; `rate` is the learning rate over its highest.
        """
        for group in self.optimizer.param_groups:
            group["lr"].fill_(group["peak"] * rate)
        given = (images, labels, torch.full((), share, device=self.device))
        if self.device.type != "cuda":
            self._learn(*given)
        else:
            self._replay(given)
        self._take_average()
        self.steps += 1

    def _learn(self, images: Tensor, labels: Tensor, share: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with _half(self.device, torch.bfloat16):
            embeddings = self.embedder(images)
        rows = embeddings.float()
        own, other = self.criterion(rows, labels), self.criterion(rows, labels.flip(0))
        loss = share * own + (1 - share) * other
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.training.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.training.clip)
        self.optimizer.step()
        self.loss.copy_(loss.detach())

    def _replay(self, given: tuple[Tensor, ...]) -> None:
        """`_learn` on a CUDA device: the first steps as they are, then recorded."""
        if not self.given:
            self.given = tuple(part.clone() for part in given)
        for kept, part in zip(self.given, given, strict=True):
            kept.copy_(part)
        if self.steps < WARM_STEPS:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._learn(*self.given)
            torch.cuda.current_stream().wait_stream(side)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._learn(*self.given)
        self.graph.replay()

    @torch.no_grad()
    def _take_average(self) -> None:
        """Exponential, with a decay that begins low, so that it forgets the untrained weights."""
        decay = min(self.training.ema or 0.0, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, self.values, 1 - decay)


def fine_tune(
    tuned: Tuned,
    images: Tensor,
    labels: Positions,
    report: Callable[[str], None] = lambda _: None,
) -> Embedder:
    """Train on uint8 images (n, 3, s, s) with their labels; the averaged weights, evaluating."""
    training, device = tuned.recipe.training, images.device
    random = np.random.default_rng(training.seed)
    generator = torch.Generator(device).manual_seed(training.seed)
    kept, numbered = np.unique(labels, return_inverse=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        learner = Learner(tuned, len(kept), device)
    normalise = normaliser(learner.embedder, device)
    targets = torch.from_numpy(numbered.astype(np.int64)).to(device)
    batch = min(training.batch_size, max(2, len(labels) // STEPS))
    steps = training.epochs * len(labels) // batch
    order = np.concatenate([random.permutation(len(labels)) for _ in range(training.epochs + 1)])
    batches = torch.from_numpy(order[: steps * batch].reshape(steps, batch)).to(device)
    began = time.perf_counter()
    for number, rows in enumerate(batches):
        shown = augment(images[rows], tuned.views, generator)
        mixed, share = mix(shown, tuned.views, random)
        rate = one_cycle(number, steps, training.warmup)
        learner.step(normalise(mixed), targets[rows], share, rate)
    loss = float(learner.loss)
    seconds = time.perf_counter() - began
    report(f"{steps} steps, loss {loss:.3f}, {steps * batch / seconds:,.0f} images/s")
    return learner.average.eval()


@torch.no_grad()
def embed(embedder: Embedder, images: Tensor) -> Floats:
    """Unit rows (n, dim) of uint8 images (n, 3, s, s): the mean of an image and its mirror."""
    size, normalise = embedder.settings.input_size, normaliser(embedder, images.device)
    rows = []
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK].float()
        if chunk.shape[-1] != size:
            chunk = F.interpolate(chunk, (size, size), mode="bilinear", antialias=True)
        chunk = normalise(chunk)
        with _half(chunk.device, torch.float16):
            both = embedder(chunk).float() + embedder(chunk.flip(3)).float()
        rows.append(unit(both).cpu().numpy())
    return np.concatenate(rows)


def _half(device: torch.device, dtype: torch.dtype) -> torch.autocast | nullcontext[None]:
    """Without its cache, which a recorded step must not read."""
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", dtype, cache_enabled=False)


# ---- rows ----------------------------------------------------------------------------------------


def expand(
    queries: Floats, gallery: Floats, neighbours: int = NEIGHBOURS, power: float = POWER
) -> tuple[Floats, Floats]:
    """Query expansion after database augmentation (Gordo et al. 2017), unit rows each.

    Each row of the gallery becomes the mean of its nearest, weighted by cosine ** power; then each
    query becomes that of itself, of weight 1, and its nearest in the new gallery.
    """
    wide = _unit_rows(_gathered(gallery, gallery, neighbours, power))
    return _unit_rows(queries + _gathered(queries, wide, neighbours, power)), wide


def _gathered(rows: Floats, gallery: Floats, count: int, power: float) -> Floats:
    """Sums of the `count` nearest of the gallery, by cosine ** power, for each row (n, d)."""
    count = min(count, len(gallery))
    result = np.empty_like(rows)
    for start in range(0, len(rows), CHUNK):
        cosines = rows[start : start + CHUNK] @ gallery.T
        near = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        weights = np.take_along_axis(cosines, near, 1).clip(min=0) ** power
        result[start : start + CHUNK] = np.einsum("nk,nkd->nd", weights, gallery[near])
    return result


def _unit_rows(rows: Floats) -> Floats:
    result: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return result


def best(study: Study, seeds: tuple[int, ...], device: str = "cuda") -> None:
    """Metrics of the rows of BEST on these splits, into the results of the protocol "paper".

    Embeddings are kept in the study's directory for work; where those of a split exist, nothing is
    trained, and no device is needed. LookalikeError if the results hold numbers of a row that were
    computed in another way, or the device is not there.
    """
    runs = Runs(study, device)
    for name, row in BEST.items():
        study.check(name, runs.made_of(row))
    for seed in seeds:
        parts = study.split("paper", seed)
        for name, row in BEST.items():
            if study.known("paper", name, str(seed)) is not None:
                continue
            rows = runs.joined(row.networks, seed)
            queries, gallery = rows[parts.queries.rows], rows[parts.gallery.rows]
            if row.expanded:
                queries, gallery = expand(queries, gallery)
            order = hashed_ranking(index_of(gallery), queries, rank(queries @ gallery.T))
            study.describe(name, row.title, runs.made_of(row))
            note(study, "paper", name, seed, order)


class Runs:
    """Embeddings of all images of a set by fine-tuned networks, from files where they exist."""

    def __init__(self, study: Study, device: str) -> None:
        self.study, self.device = study, torch.device(device)
        self.images: Tensor | None = None

    def joined(self, networks: tuple[str, ...], seed: int) -> Floats:
        """Of the networks side by side, unit rows (n, sum of dims): cosines are their means."""
        rows = [self.rows(network, seed) for network in networks]
        return np.concatenate(rows, axis=1) / np.float32(len(rows) ** 0.5)

    def rows(self, network: str, seed: int) -> Floats:
        """Unit rows (n, dim) of all images by a network that learnt from the split's gallery."""
        training = self.study.split("paper", seed).training.rows
        path = self.path(network, seed, training)
        if not path.exists():
            tuned = self._tuned(network, seed)
            if self.images is None:
                if self.device.type == "cuda" and not torch.cuda.is_available():
                    raise LookalikeError(
                        "device is cuda, and torch finds none here: use --device cpu (a day or two)"
                    )
                size = tuned.recipe.embedder.input_size
                self.images = on_device(self.study.collection, size, self.device)
            self.study.report(f"training {path.stem} on {len(training)} images")
            labels = self.study.collection.labels[training]
            chosen = self.images[torch.from_numpy(training).to(self.device)]
            embedder = fine_tune(tuned, chosen, labels, self.study.report)
            with atomic_writer(path) as file:
                np.save(file, embed(embedder, self.images).astype(np.float16))
        stored: Floats = np.load(path).astype(np.float32)
        return _unit_rows(stored)

    def path(self, network: str, seed: int, training: Positions) -> Path:
        """SET-NETWORK-seedN-KEY.npy; the key stands for all that the rows depend on."""
        about = [*_about(self._tuned(network, seed)), self.study.collection.digest]
        name = f"{self.study.name}-{network}-seed{seed}-{digest(about, 8, training)}"
        return self.study.networks.directory / f"{name}.npy"

    def made_of(self, row: Joined) -> str:
        """A digest of all that the row depends on but the images, the protocol and the seed."""
        about: list[Any] = [_about(self._tuned(name, 0)) for name in row.networks]
        about += [NEIGHBOURS, POWER] if row.expanded else []
        return digest(about, 6)

    def _tuned(self, network: str, seed: int) -> Tuned:
        return TUNED[network].but(seed=seed, epochs=self.study.plan.tuned)


def _about(tuned: Tuned) -> list[Any]:
    """For JSON."""
    recipe = tuned.recipe.but(weights=weights_of(tuned.recipe))
    return [recipe.as_dict(), repr(tuned.views)]
