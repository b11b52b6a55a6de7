"""Robustness: the queries are altered, the gallery is not."""

from __future__ import annotations

from lookalike.evaluation.protocol import METRICS
from reproduction.distortions import NEUTRAL, distort
from reproduction.study import Study, rankings

__all__ = ["kind_is_known", "robustness"]

METRICS_OF_EACH = ("mAP", "P@10")


def robustness(study: Study, row: str, seed: int) -> None:
    """mAP and P@10 of a row at each level of each distortion, into the results, kind by kind: an
    interrupted call goes on with the kinds that are missing.
    """
    missing = [kind for kind in study.effort.levels if not kind_is_known(study, row, seed, kind)]
    method, parts = study.fitted("paper", row, seed)

    def scores(kind: str, level: float) -> dict[str, float]:
        altered = [distort(x, kind, level, seed=i) for i, x in enumerate(parts.queries)]
        order = rankings(method, altered, parts.queries.labels, parts.gallery)
        relevance = parts.gallery.labels[order] == parts.queries.labels[:, None]
        return {name: float(METRICS[name](relevance).mean()) for name in METRICS_OF_EACH}

    plain = scores("rotation", NEUTRAL["rotation"])
    for kind in missing:
        found = {
            str(level): plain if level == NEUTRAL[kind] else scores(kind, level)
            for level in study.effort.levels[kind]
        }
        for metric in METRICS_OF_EACH:
            values = {level: each[metric] for level, each in found.items()}
            study.note(values, "robustness", row, str(seed), metric, kind)
        study.tell(f"{study.collection.name}, robustness, seed {seed}, {method.title}: {kind} done")


def kind_is_known(study: Study, row: str, seed: int, kind: str) -> bool:
    """Whether the results have a kind of distortion."""
    return study.known("robustness", row, str(seed), METRICS_OF_EACH[-1], kind) is not None
