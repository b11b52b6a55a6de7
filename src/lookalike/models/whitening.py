"""Centring, PCA and whitening of features as one affine map, which an FC can take over."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["whitening"]


def whitening(features: Tensor, dim: int, *, power: float = 0.5) -> tuple[Tensor, Tensor]:
    """Features (n, d) of any kind of picture -> mean (d,) and matrix (dim, d), float64.

    matrix (y - mean) are the first `dim` principal components, component i divided by its standard
    deviation to the power 2 `power`: 0.5 whitens (unit variance each), 0 only centres and turns.
    What lies between keeps part of the spread, which is kinder to directions that a small training
    set has hardly seen (Jegou and Chum 2012). Use: `embedder.fold(*whitening(features, dim))`.

    ValueError for more components than the features have, whose variance would be nothing.
    """
    n, width = features.shape
    if not 1 <= dim <= min(n - 1, width):
        raise ValueError(
            f"{n} features of {width} numbers have at most {max(0, min(n - 1, width))} "
            f"components, not {dim}"
        )
    mean = features.double().mean(0)
    _, deviations, components = torch.linalg.svd(features.double() - mean, full_matrices=False)
    variances = deviations[:dim].square() / (n - 1)
    if variances[-1] <= variances[0] * 1e-12:
        raise ValueError(f"the features have fewer than {dim} directions: choose a smaller dim")
    # The sign of a component is arbitrary: make its largest entry positive, so that runs agree.
    rows = components[:dim]
    signs = torch.sign(rows.gather(1, rows.abs().argmax(1, keepdim=True)))
    return mean, rows * signs * variances.pow(-power)[:, None]
