"""Robustness: the queries are altered, the gallery is not."""

from __future__ import annotations

from lookalike.evaluation.protocol import METRICS
from lookalike.paper.distortions import NEUTRAL, distort
from lookalike.paper.study import Study, rankings

__all__ = ["robustness"]


def robustness(study: Study, row: str, seed: int) -> None:
    """mAP and P@10 of a row at each level of each distortion, into the results."""
    method, parts = study.fitted("paper", row, seed)

    def scores(kind: str, level: float) -> dict[str, float]:
        altered = [distort(x, kind, level, seed=i) for i, x in enumerate(parts.queries)]
        order = rankings(method, altered, parts.queries.labels, parts.gallery)
        relevance = parts.gallery.labels[order] == parts.queries.labels[:, None]
        return {metric: float(METRICS[metric](relevance).mean()) for metric in ("mAP", "P@10")}

    plain = scores("rotation", NEUTRAL["rotation"])
    found: dict[str, dict[str, dict[str, float]]] = {"mAP": {}, "P@10": {}}
    for kind, some in study.effort.levels.items():
        for level in some:
            for metric, value in (plain if level == NEUTRAL[kind] else scores(kind, level)).items():
                found[metric].setdefault(kind, {})[str(level)] = value
    study.note(found, "robustness", row, str(seed))
    study.tell(f"{study.collection.name}, robustness, seed {seed}, {method.title}: done")
