"""Robustness: the queries are altered, the gallery is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lookalike.evaluation.protocol import METRICS
from lookalike.paper.distortions import DISTORTIONS, distort
from lookalike.paper.study import Study, oracle_of
from lookalike.paper.titles import ROBUST

__all__ = ["robustness"]


def robustness(study: Study, seeds: Iterable[int], rows: Sequence[str] = ROBUST) -> None:
    """mAP and P@10 of each row at each level of each distortion, into the results."""
    name = study.collection.name
    for seed in seeds:
        for row in rows:
            if study.results.get(name, "robustness", row, str(seed)) is not None:
                continue
            method, parts = study.fitted("paper", row, seed)
            labels = parts.queries.labels.tolist()
            oracles = [oracle_of(parts.gallery, label) for label in labels]
            found: dict[str, dict[str, dict[str, float]]] = {}
            for kind, levels in DISTORTIONS.items():
                for level in levels:
                    pictures = [
                        distort(picture, kind, level, seed=i)
                        for i, picture in enumerate(parts.queries)
                    ]
                    order = np.stack(
                        [
                            method.search(picture, len(parts.gallery), oracle)
                            for picture, oracle in zip(pictures, oracles, strict=True)
                        ]
                    )
                    relevance = parts.gallery.labels[order] == parts.queries.labels[:, None]
                    for metric in ("mAP", "P@10"):
                        values = found.setdefault(metric, {}).setdefault(kind, {})
                        values[str(level)] = float(METRICS[metric](relevance).mean())
            study.results.put(found, name, "robustness", row, str(seed))
            study.tell(f"{name}, robustness, seed {seed}, {method.title}: done")
