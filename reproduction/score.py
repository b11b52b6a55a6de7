"""Score: metrics of rankings, rounds of feedback and altered queries, into the results."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lookalike.evaluation.protocol import METRICS
from reproduction.collection import Positions
from reproduction.distortions import NEUTRAL, distort
from reproduction.rank import rank, rankings, relevance
from reproduction.study import Study, oracle_of
from reproduction.svm_active import SvmActive

FEEDBACK_ROUNDS = 6
ROBUST_METRICS = ("mAP", "P@10")
LAST_NOTED = ROBUST_METRICS[-1]
"""If the results have it of a kind of distortion, they have all."""


def score(study: Study, protocol: str, row: str, seed: int) -> None:
    """METRICS of a row on a split, into the results at (protocol, row, seed)."""
    order, method = rank(study, protocol, row, seed), study.method(row, seed)
    study.describe(row, method.title, method.made_of())
    note(study, protocol, row, seed, order)


def note(study: Study, protocol: str, row: str, seed: int, order: Positions) -> None:
    """METRICS of rankings (q, g); without P@n for a gallery of fewer than n images."""
    relevant = relevance(study.split(protocol, seed), order)
    values = {
        name: float(np.nanmean(metric(relevant)))
        for name, metric in METRICS.items()
        if name[:2] != "P@" or int(name[2:]) <= relevant.shape[1]
    }
    study.note(values, protocol, row, str(seed))
    shown = (f"{name} {values[name]:.4f}" for name in ("mAP", "P@10") if name in values)
    study.report(f"{study.name}, {protocol}, seed {seed}, {row}: {', '.join(shown)}")


def feedback(study: Study, seed: int) -> None:
    """mAP and P@20 after each round of the SVM row, with and without the judged images.

    Each is a mean over the queries that have a value, None where no query has one: without the
    judged images there is no mAP once nothing relevant is left, and no P@20 once nothing is.
    """
    method, parts = study.fitted("paper", "svm", seed)
    assert isinstance(method, SvmActive)
    curves: dict[str, list[list[float]]] = {}
    for image, label in zip(parts.queries, parts.queries.labels, strict=True):
        oracle = oracle_of(parts.gallery, label)
        rounds = method.curve(method.describe(image), oracle, FEEDBACK_ROUNDS)
        for kind in ("ranking", "residual"):
            relevant = [parts.gallery.labels[getattr(each, kind)] == label for each in rounds]
            for metric in ("mAP", "P@20"):
                values = [_value(metric, each) for each in relevant]
                curves.setdefault(f"{metric} {kind}", []).append(values)
    means = {key: list(map(_mean, *values)) for key, values in curves.items()}
    study.note(means, "feedback", str(seed))


def robustness(study: Study, row: str, seed: int) -> None:
    """mAP and P@10 of a row at each level of each distortion of the queries, into the results kind
    by kind: an interrupted call resumes with the kinds that are missing.
    """
    levels = study.settings.budget.levels
    known = study.known("robustness", row, str(seed), LAST_NOTED) or {}
    missing = [kind for kind in levels if kind not in known]
    method, parts = study.fitted("paper", row, seed)

    def scores(kind: str, level: float) -> dict[str, float]:
        altered = [distort(x, kind, level, seed=i) for i, x in enumerate(parts.queries)]
        relevant = relevance(parts, rankings(method, parts, altered))
        return {name: float(METRICS[name](relevant).mean()) for name in ROBUST_METRICS}

    plain = scores("rotation", NEUTRAL["rotation"])
    for kind in missing:
        found = {
            str(level): plain if level == NEUTRAL[kind] else scores(kind, level)
            for level in levels[kind]
        }
        for metric in ROBUST_METRICS:
            values = {level: each[metric] for level, each in found.items()}
            study.note(values, "robustness", row, str(seed), metric, kind)
        study.report(f"{study.name}, robustness, seed {seed}, {row}: {kind} done")


def _value(metric: str, relevant: NDArray[np.bool_]) -> float:
    """Of one ranking; NaN if it is empty."""
    return float(METRICS[metric](relevant[None])[0]) if len(relevant) else math.nan


def _mean(*values: float) -> float | None:
    """Of those that are not NaN; None if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else None
