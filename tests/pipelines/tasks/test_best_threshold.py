"""The best threshold of a class against all thresholds, tried one by one."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.tasks.best_threshold import best_threshold, scores_at_best

SCORES = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
CASES = st.lists(st.tuples(SCORES, st.booleans()), max_size=12)


def accepted_by(cases: list[tuple[float, bool]], threshold: float) -> list[bool]:
    return [is_right for score, is_right in cases if score > threshold]


def f1_of(accepted: list[bool], num_true: int) -> Fraction:
    whole = num_true + len(accepted)
    return Fraction(2 * sum(accepted), whole) if whole else Fraction(0)


@given(CASES, st.integers(0, 4), st.sampled_from([np.float32, np.float64]))
@example([(0.5, True), (0.5, False), (0.5, True)], 0, np.float32)
@example([(float(np.nextafter(np.float32(0.5), np.float32(1))), True), (0.5, False)], 0, np.float32)
@example([(5e-324, True)], 0, np.float64)
def test_no_threshold_has_a_higher_f1(cases: list[tuple[float, bool]], num_missed: int, dtype: type) -> None:
    num_true = num_missed + sum(is_right for _, is_right in cases)
    scores, is_right = np.array([score for score, _ in cases], dtype), np.array([right for _, right in cases], bool)
    cases = list(zip(scores.astype(float).tolist(), is_right.tolist(), strict=True))
    found = best_threshold(scores, is_right, num_true)
    candidates = [0.0, *(score for score, _ in cases)]
    by_threshold = {t: f1_of(accepted_by(cases, t), num_true) for t in candidates}
    highest = max(by_threshold.values())
    if found is None:
        assert highest == 0
        return
    accepted = accepted_by(cases, found)
    assert f1_of(accepted, num_true) == highest > 0
    assert len(accepted) == min(len(accepted_by(cases, t)) for t, f1 in by_threshold.items() if f1 == highest)
    numbers = scores_at_best("a", scores, is_right, num_true, {"a": found})
    assert numbers == {
        "best_threshold": found,
        "precision_at_best": pytest.approx(sum(accepted) / len(accepted)),
        "recall_at_best": pytest.approx(sum(accepted) / num_true),
        "f1_at_best": pytest.approx(float(highest)),
    }


def test_threshold_is_in_the_middle_between_two_scores() -> None:
    scores, is_right = np.array([0.3, 0.9, 0.7, 0.1]), np.array([False, True, True, False])
    assert best_threshold(scores, is_right, 2) == pytest.approx(0.5)
    assert best_threshold(scores[1:3], is_right[1:3], 2) == pytest.approx(0.35)


def test_highest_of_equally_good_thresholds_is_chosen() -> None:
    # 1 of 1 is right, or 2 of 6: F1 is 2 / (4 + 1) = 4 / (4 + 6).
    scores = np.array([0.8, 0.6, 0.5, 0.4, 0.2, 0.1])
    is_right = np.array([True, False, False, False, False, True])
    assert best_threshold(scores, is_right, 4) == pytest.approx(0.7)


@pytest.mark.parametrize(("scores", "is_right"), [([], []), ([0.5], [False]), ([0.0], [True])])
def test_class_that_is_never_found_has_no_threshold(scores: list[float], is_right: list[bool]) -> None:
    arrays = np.array(scores), np.array(is_right, dtype=bool)
    assert best_threshold(*arrays, 3) is None
    assert set(scores_at_best("a", *arrays, 3, None).values()) == {None}


def test_numbers_of_another_split_are_those_at_the_given_threshold() -> None:
    scores, is_right = np.array([0.9, 0.6, 0.5]), np.array([True, False, True])
    assert scores_at_best("a", scores, is_right, 2, {"a": 0.55, "b": 0.1}) == {
        "best_threshold": 0.55, "precision_at_best": 0.5, "recall_at_best": 0.5, "f1_at_best": 0.5,
    }  # fmt: skip
    assert scores_at_best("a", scores[:0], is_right[:0], 0, {"a": 0.55})["precision_at_best"] is None
    assert set(scores_at_best("a", scores, is_right, 2, {"a": None}).values()) == {None}
    assert set(scores_at_best("a", scores, is_right, 2, {}).values()) == {None}
