"""Which rows the tables have, and what the paper prints for them; no method is imported."""

from __future__ import annotations

__all__ = ["BITS", "PAPER", "PARTS", "RELATED", "ROBUST", "TABLES"]

PARTS = (
    "table1",
    "table2",
    "table3",
    "related",
    "unseen",
    "feedback",
    "robustness",
    "growth",
)
"""What can be reproduced by itself."""

TABLES = (
    "sift",
    "svm",
    "lenet",
    "vgg",
    "cnn-exhaustive",
    "cnn-lsh",
    "ours-exhaustive",
    "ours-paper-hashing",
    "ours",
)
"""Rows of Tables 1 to 3, in the paper's order."""
BITS = (48, 256)
CODES = tuple(f"{kind}-{bits}" for bits in BITS for kind in ("lsh", "itq", "cnnh", "dnnh"))
RELATED = ("ours-plain", "fc", "pca", "spatial", "second-order", *CODES)
"""Rows of the paper's related work, and ours trained without augmentation."""
ROBUST = ("ours", "ours-plain", "sift")
"""Rows whose queries are altered, too."""


def _table_1(average: float, recall: float, *precision: float) -> dict[str, float]:
    cuts = {f"P@{n}": value for n, value in zip((5, 10, 20, 30), precision, strict=True)}
    return {"mAP": average, "recall@m": recall, **cuts}


PAPER: dict[str, dict[str, dict[str, float]]] = {
    "corel1k": {
        "sift": {**_table_1(0.7748, 0.7024, 0.8543, 0.7933, 0.7893, 0.7693), "seconds": 18.81},
        "svm": {**_table_1(0.7241, 0.6512, 0.8403, 0.7806, 0.7425, 0.6916), "seconds": 19.56},
        "vgg": {**_table_1(0.8951, 0.7858, 0.9304, 0.9125, 0.8927, 0.8841), "seconds": 12.42},
        "cnn-exhaustive": {"seconds": 2.33},
        "cnn-lsh": _table_1(0.9186, 0.8192, 1.0, 0.9932, 0.9842, 0.9646),
        "ours": {**_table_1(0.9578, 0.842, 1.0, 1.0, 1.0, 0.9994), "seconds": 0.13},
    },
    "corel5k": {
        "sift": {"mAP": 0.7528, "seconds": 76.91},
        "svm": {"mAP": 0.7091, "seconds": 78.57},
        "vgg": {"mAP": 0.8733, "seconds": 43.81},
        "cnn-exhaustive": {"seconds": 11.56},
        "cnn-lsh": {"mAP": 0.8841},
        "ours": {"mAP": 0.9286, "seconds": 0.64},
    },
}
"""Set -> row -> metric -> Tables 1 to 3. Its methods may differ in detail, its Corel-5k in images;
"seconds" were for all queries, end to end as we read it, on another machine.
"""
