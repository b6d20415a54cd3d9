"""Answers of the predictor as JSON."""

import json
import math
from typing import Any

import pytest

from service.predictor.prediction_service import json_of


def answer_with(score: float, label: str = "a") -> dict[str, Any]:
    return {"image": {"width": 3, "height": 2}, "tasks": {"kind": {"labels": [{"label": label, "score": score}]}}}


@pytest.mark.parametrize("label", ["a", "NaN", "-Infinity", "\u00e9 \U0001f600", "\ud800"])
@pytest.mark.parametrize("score", [0.1, 1e-300, 1 / 3, 5e-324, 1e22])
def test_json_is_read_back_as_the_answer(score: float, label: str) -> None:
    assert json.loads(json_of(answer_with(score, label))) == answer_with(score, label)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_an_error(score: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_of(answer_with(score))
