"""Relevance feedback: a person says yes or no to a few items, and the ranking learns from it.

SVM active learning (Tong and Chang, "Support vector machine active learning for image retrieval",
ACM Multimedia 2001): a support vector machine separates the relevant items from the others, asks
about those that it is least sure of, and ranks by the signed distance from its boundary.

Arrays in, arrays out. Needs scikit-learn (extra: feedback).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lookalike.errors import extra_needed

Positions: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]

KERNELS = ("rbf", "linear")
BLOCK = 4096
"""Rows whose kernel values are in memory at a time."""


@dataclass(frozen=True)
class FeedbackSettings:
    """How feedback learns and asks. ValueError for what cannot be.

    Attributes:
        kernel: "rbf", K(x, y) = exp(-gamma |x - y|^2), or "linear", K(x, y) = x . y.
        gamma: of "rbf". "scale" is 1 / (d v), with v the variance of all numbers in the vectors.
            Unlike in scikit-learn these are all vectors, not only the judged ones, so that the
            kernel stays the same from round to round.
        c: what an example on the wrong side costs. A large one believes every answer, a small one
            smooths over answers that contradict each other.
        similar: share of a first round that is most like the query; the rest is drawn at random.
        seed: of that draw.
    """

    kernel: Literal["rbf", "linear"] = "rbf"
    gamma: float | Literal["scale"] = "scale"
    c: float = 10.0
    similar: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, not {self.kernel!r}")
        if self.gamma != "scale" and not _positive(self.gamma):
            raise ValueError(f'gamma must be "scale" or a number above 0, not {self.gamma!r}')
        if not _positive(self.c):
            raise ValueError(f"c must be a number above 0, not {self.c!r}")
        if not 0 <= self.similar <= 1:
            raise ValueError(f"similar must be within 0..1, not {self.similar!r}")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be an integer from 0, not {self.seed!r}")


class Feedback:
    """One query's dialogue: `ask`, `tell`, `rank`, and again.

    The query itself counts as a relevant example. An item is its row in `vectors`; in a big gallery
    give the vectors of some thousand candidates of an ordinary search, and look the positions up
    among them. Equal settings, vectors and answers give equal results.
    """

    def __init__(
        self, vectors: ArrayLike, query: ArrayLike, settings: FeedbackSettings | None = None
    ) -> None:
        """Start with `vectors` (n, d) and `query` (d,): unit rows, or standardised features.

        float32 and float64 vectors are kept without a copy and must not change meanwhile.

        Raises:
            ValueError: not these shapes, no vector, or a number that is not finite.
            MissingExtraError: scikit-learn is missing, said now and not after the first answers.
        """
        self.settings = settings or FeedbackSettings()
        self._vectors, self._query = _checked(vectors, query)
        with extra_needed("feedback", "feedback"):
            from sklearn.svm import SVC
        self._svc = SVC
        self._asked = np.zeros(len(self._vectors), np.bool_)
        self._answers: dict[int, bool] = {}
        self._scores: Floats | None = None
        self._random = np.random.default_rng(self.settings.seed)
        gamma = self.settings.gamma
        self._gamma: float = _scale(self._vectors) if gamma == "scale" else gamma

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def gamma(self) -> float:
        """Of the kernel, "scale" worked out."""
        return self._gamma

    @property
    def judged(self) -> Positions:
        """int64 (m,), ascending: the positions that were judged."""
        return np.array(sorted(self._answers), np.int64)

    def ask(self, count: int) -> Positions:
        """Up to `count` positions, int64, whose judgement would teach most; none of them twice.

        These are the nearest to the boundary, nearest first: the items that the machine is least
        sure of. Fewer when fewer are left that were neither asked about nor judged.

        There is no boundary until something is judged irrelevant. Until then `settings.similar` of
        them are the most similar ones, among which a person finds more of what is wanted, and the
        others are random, as all of them are with Tong and Chang: most of a gallery is irrelevant,
        and a random part shows all of it, where the least similar would come from one far corner.

        ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"count is {count}; it must be at least 1")
        left = np.flatnonzero(~self._asked)
        scores = self.scores()[left]
        if self._has_boundary():
            chosen = left[_order(np.abs(scores))][:count]
        else:
            ordered = left[_order(-scores)]
            near = min(len(ordered), math.ceil(count * self.settings.similar))
            others = ordered[near:]
            drawn = self._random.choice(others, min(count - near, len(others)), replace=False)
            chosen = np.concatenate([ordered[:near], drawn])
        self._asked[chosen] = True
        return chosen.astype(np.int64)

    def tell(self, positions: ArrayLike, relevant: ArrayLike) -> None:
        """Answer: bool `relevant` (m,) of integer `positions` (m,), asked about or not.

        Who judges a position again has changed their mind: the last answer counts.

        ValueError, and no answer is kept, for positions out of range or answers that are not bool.
        """
        places, answers = np.asarray(positions), np.asarray(relevant)
        if places.ndim != 1 or answers.shape != places.shape:
            raise ValueError(
                f"positions of shape {places.shape} and answers of shape {answers.shape}: give one "
                "answer for each position"
            )
        if not places.size:
            return
        if places.dtype.kind not in "iu" or answers.dtype != np.bool_:
            raise ValueError(
                f"positions are {places.dtype} and answers {answers.dtype}; "
                "they must be integers and bool"
            )
        if places.min() < 0 or places.max() >= len(self):
            raise ValueError(
                f"positions reach from {places.min()} to {places.max()}; "
                f"those of {len(self)} vectors are 0 to {len(self) - 1}"
            )
        self._answers.update(zip(places.tolist(), answers.tolist(), strict=True))
        self._asked[places] = True
        self._scores = None

    def scores(self) -> Floats:
        """float64 (n,), larger is more relevant.

        The decision function of the machine, positive on the relevant side. Before anything is
        judged irrelevant: minus the distance to the mean of query and relevant items (Rocchio),
        which orders unit vectors as their cosine with it does.
        """
        if self._scores is None:
            self._scores = self._decision() if self._has_boundary() else -self._distances()
        return self._scores.copy()

    def rank(self, k: int | None = None, *, judged: bool = True) -> Positions:
        """Positions, int64, best first: the first `k`, or all of them.

        What was judged irrelevant comes last; all else, also what was judged relevant, is ordered
        by `scores`. Equals stay in the order of the vectors. With `judged=False` what was judged
        is left out: what else is there, and how good is it (the residual collection).

        ValueError for a k below 1; one above what there is returns what there is.
        """
        if k is not None and k < 1:
            raise ValueError(f"k is {k}; it must be at least 1, or None for all")
        scores = self.scores()
        no = [position for position, answer in self._answers.items() if not answer]
        last = np.zeros(len(self), np.bool_)
        last[no] = True
        order = np.lexsort((-scores, last))
        if not judged:
            order = order[~np.isin(order, self.judged)]
        return order[:k].astype(np.int64)

    def _has_boundary(self) -> bool:
        return not all(self._answers.values())

    def _examples(self) -> tuple[NDArray[Any], Bools]:
        """The query, which is relevant, and what was judged, in the order of positions."""
        places = self.judged
        answers = [True, *(self._answers[place] for place in places.tolist())]
        return np.concatenate([self._query[np.newaxis], self._vectors[places]]), np.array(answers)

    def _distances(self) -> Floats:
        examples, relevant = self._examples()
        centre = examples[relevant].mean(axis=0)
        found = np.empty(len(self))
        for start in range(0, len(self), BLOCK):
            rows = self._vectors[start : start + BLOCK]
            found[start : start + BLOCK] = np.linalg.norm(rows - centre, axis=1)
        return found

    def _decision(self) -> Floats:
        """sum_s coefficient_s K(x, s) + b over the support vectors s, by BLAS: libsvm's own loop
        takes many times as long.
        """
        kernel = self.settings.kernel
        machine = self._svc(kernel=kernel, gamma=self._gamma, C=self.settings.c)
        machine.fit(*self._examples())
        support = machine.support_vectors_.astype(self._vectors.dtype)
        found = np.empty(len(self))
        for start in range(0, len(self), BLOCK):
            rows = self._vectors[start : start + BLOCK]
            values = rows @ support.T
            if kernel == "rbf":
                squares = _squares(rows)[:, np.newaxis] + _squares(support) - 2 * values
                values = np.exp(-self._gamma * np.maximum(squares, 0))
            found[start : start + BLOCK] = values @ machine.dual_coef_[0] + machine.intercept_[0]
        return found


def _checked(vectors: ArrayLike, query: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as float32, or float64 if the vectors are more than that."""
    rows, single = np.asarray(vectors), np.asarray(query)
    if rows.ndim != 2 or not rows.size or single.shape != rows.shape[1:]:
        raise ValueError(
            f"vectors must be (n, d) and the query (d,), neither empty; they are {rows.shape} and "
            f"{single.shape}"
        )
    rows = rows.astype(np.result_type(rows.dtype, np.float32), copy=False)
    single = single.astype(rows.dtype)
    if not (np.isfinite(rows).all() and np.isfinite(single).all()):
        raise ValueError("vectors and query must be finite numbers")
    return rows, single


def _scale(vectors: NDArray[Any]) -> float:
    variance = float(vectors.var())
    return 1 / (vectors.shape[1] * variance) if variance > 0 else 1.0


def _squares(rows: NDArray[Any]) -> NDArray[Any]:
    squares: NDArray[Any] = np.einsum("ij,ij->i", rows, rows)
    return squares


def _order(values: Floats) -> Positions:
    return np.argsort(values, kind="stable").astype(np.int64)


def _positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < float(value) < math.inf  # type: ignore[arg-type]
