"""Relevance feedback against scikit-learn's own machine and against toys worked out by hand."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import SVC

from lookalike.errors import MissingExtraError
from lookalike.feedback import Feedback, FeedbackSettings

LINE = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
"""Six items at 0..5."""


def clusters(count: int = 4, size: int = 40, seed: int = 0) -> tuple[Any, NDArray[np.int64]]:
    """`count` tight clusters in 16 dimensions, in random order, as unit rows with their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(count), size))
    vectors = generator.standard_normal((count, 16))[labels]
    vectors += 0.3 * generator.standard_normal(vectors.shape)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def oracle_machine(
    vectors: Any, query: Any, positions: Any, relevant: Any, settings: FeedbackSettings
) -> Any:
    """The decision function of an SVC that is fitted here, not by the code under test."""
    gamma = 1 / (vectors.shape[1] * vectors.var()) if settings.gamma == "scale" else settings.gamma
    machine = SVC(kernel=settings.kernel, gamma=gamma, C=settings.c)
    machine.fit(np.vstack([query, vectors[positions]]), [1, *np.asarray(relevant, int)])
    return machine.decision_function(vectors)


@pytest.mark.parametrize(
    ("settings", "dtype", "tolerance"),
    [
        (FeedbackSettings(), np.float64, 1e-9),
        (FeedbackSettings(gamma=3.0, c=0.5), np.float64, 1e-9),
        (FeedbackSettings(kernel="linear"), np.float64, 1e-9),
        # float32 has 7 digits; a kernel value is near 1 and there are some ten of them
        (FeedbackSettings(), np.float32, 1e-5),
    ],
)
def test_scores_and_questions_are_those_of_scikit_learn(
    settings: FeedbackSettings, dtype: Any, tolerance: float
) -> None:
    vectors, labels = clusters()
    vectors = vectors.astype(dtype)
    query = vectors[0] + dtype(0.01)
    judged = np.array([3, 50, 7, 120, 33, 90, 15, 141])
    relevant = labels[judged] == labels[0]
    assert 0 < relevant.sum() < len(judged)
    expected = oracle_machine(
        vectors, query, np.sort(judged), relevant[np.argsort(judged)], settings
    )

    feedback = Feedback(vectors, query, settings)
    feedback.tell(judged, relevant)
    np.testing.assert_allclose(feedback.scores(), expected, rtol=0, atol=tolerance)

    unasked = np.setdiff1d(np.arange(len(vectors)), judged)
    nearest = unasked[np.argsort(np.abs(feedback.scores()[unasked]), kind="stable")]
    by_oracle = unasked[np.argsort(np.abs(expected[unasked]), kind="stable")]
    asked = feedback.ask(20)
    assert asked.tolist() == nearest[:20].tolist()
    if dtype is np.float64:
        assert asked.tolist() == by_oracle[:20].tolist()
        no = judged[~relevant]
        rest = np.setdiff1d(np.arange(len(vectors)), no)
        ranking = [*rest[np.argsort(-expected[rest])], *no[np.argsort(-expected[no])]]
        assert feedback.rank().tolist() == [int(position) for position in ranking]


def test_many_vectors_are_scored_in_blocks_without_a_seam() -> None:
    generator = np.random.default_rng(3)
    vectors = generator.standard_normal((9000, 4))
    judged, relevant = np.array([1, 5000, 8999]), np.array([False, True, False])
    feedback = Feedback(vectors, vectors[0])
    by_distance = np.argsort(np.linalg.norm(vectors - vectors[0], axis=1))
    assert feedback.rank().tolist() == by_distance.tolist()
    feedback.tell(judged, relevant)
    expected = oracle_machine(vectors, vectors[0], judged, relevant, FeedbackSettings())
    np.testing.assert_allclose(feedback.scores(), expected, rtol=0, atol=1e-9)


def test_the_boundary_of_a_toy_lies_halfway_between_yes_and_no() -> None:
    # one relevant example at 0 (the query), one irrelevant at 5: f(x) = 1 - x / 2.5, zero at 2.5
    feedback = Feedback(LINE, [0.0], FeedbackSettings(kernel="linear", c=1e6))
    feedback.tell([5], [False])
    np.testing.assert_allclose(feedback.scores(), 1 - LINE[:, 0] / 2.5, atol=1e-6)
    assert set(feedback.ask(2).tolist()) == {2, 3}
    assert set(feedback.ask(2).tolist()) == {1, 4}
    assert feedback.ask(2).tolist() == [0]
    assert feedback.ask(2).tolist() == []


def test_relevant_answers_alone_move_the_query_to_the_mean_of_the_examples() -> None:
    feedback = Feedback(LINE, [0.0])
    feedback.tell([5, 4], [True, True])  # the mean of 0, 5 and 4 is 3
    assert feedback.scores().tolist() == [-3, -2, -1, 0, -1, -2]
    assert feedback.rank().tolist() == [3, 2, 4, 1, 5, 0]


def test_without_answers_rows_rank_by_cosine_and_half_of_those_asked_for_are_random() -> None:
    vectors, _ = clusters(seed=2)
    by_cosine = np.argsort(-(vectors @ vectors[5]), kind="stable")
    feedback = Feedback(vectors, vectors[5])
    assert feedback.rank().tolist() == by_cosine.tolist()
    assert feedback.rank(7).tolist() == by_cosine[:7].tolist()
    asked = feedback.ask(9)
    assert asked[:5].tolist() == by_cosine[:5].tolist()  # half of 9, rounded up
    assert len(np.unique(asked)) == 9
    assert Feedback(vectors, vectors[5]).ask(9).tolist() == asked.tolist()
    other = Feedback(vectors, vectors[5], FeedbackSettings(seed=1)).ask(9)
    assert other[:5].tolist() == asked[:5].tolist()
    assert set(other[5:].tolist()) != set(asked[5:].tolist())


def test_nothing_is_asked_twice_and_nothing_that_was_judged() -> None:
    vectors, labels = clusters()
    feedback = Feedback(vectors, vectors[0])
    feedback.tell([8, 9], labels[[8, 9]] == labels[0])
    seen: list[int] = []
    while len(asked := feedback.ask(30)):
        seen += asked.tolist()
        feedback.tell(asked[::2], labels[asked[::2]] == labels[0])  # every other one is skipped
    assert sorted(seen) == [position for position in range(160) if position not in (8, 9)]


def test_a_changed_mind_counts_and_equal_answers_give_equal_scores() -> None:
    vectors, labels = clusters()
    judged = np.array([3, 50, 7, 120])
    right = labels[judged] == labels[0]
    plain = Feedback(vectors, vectors[0])
    plain.tell(judged, right)
    changed = Feedback(vectors, vectors[0])
    changed.tell(judged[::-1], ~right[::-1])
    changed.scores()
    changed.tell(judged[:2], right[:2])
    changed.tell([7, 120, 7], [not right[2], right[3], right[2]])  # within a call, the last counts
    assert changed.scores().tolist() == plain.scores().tolist()
    assert changed.judged.tolist() == [3, 7, 50, 120]


def test_contradictions_and_equal_vectors_have_finite_scores() -> None:
    vectors = np.ones((4, 3))
    feedback = Feedback(vectors, vectors[0])
    assert feedback.gamma == 1  # no variance to scale by
    feedback.tell([0, 1], [False, True])
    assert np.isfinite(feedback.scores()).all()
    assert feedback.rank().tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize(
    ("vectors", "query", "message"),
    [
        (LINE, [0.0, 1.0], r"\(6, 1\) and \(2,\)"),
        (LINE[:, 0], [0.0], r"\(6,\) and \(1,\)"),
        (LINE[:0], [0.0], r"\(0, 1\)"),
        (np.array([[0.0], [np.nan]]), [0.0], "finite"),
        (LINE, [np.inf], "finite"),
    ],
)
def test_vectors_that_cannot_be_are_refused(vectors: Any, query: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Feedback(vectors, query)


@pytest.mark.parametrize(
    ("positions", "relevant", "message"),
    [
        ([0, 1], [True], r"\(2,\) and answers of shape \(1,\)"),
        ([6], [True], "from 6 to 6; those of 6 vectors are 0 to 5"),
        ([0, -1], [True, True], "from -1 to 0"),
        ([0], [1], "must be integers and bool"),
        ([0.0], [True], "must be integers and bool"),
    ],
)
def test_answers_that_cannot_be_are_refused_and_change_nothing(
    positions: Any, relevant: Any, message: str
) -> None:
    feedback = Feedback(LINE, [0.0])
    with pytest.raises(ValueError, match=message):
        feedback.tell(positions, relevant)
    assert feedback.judged.tolist() == []
    feedback.tell([], [])
    assert feedback.judged.tolist() == []


@pytest.mark.parametrize(
    "values",
    [
        {"kernel": "poly"},
        {"gamma": 0.0},
        {"gamma": "auto"},
        {"c": -1.0},
        {"c": float("inf")},
        {"similar": 1.5},
        {"seed": -1},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(values))} must be"):
        FeedbackSettings(**values)


def test_a_missing_scikit_learn_is_said_at_once_and_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(MissingExtraError, match=r"sklearn: pip install 'scikit-learn>=1\.5'$"):
        Feedback(LINE, [0.0])
