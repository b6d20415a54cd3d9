"""The expected calibration error by hand and against another implementation."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from pipelines.tasks.base import Calibration
from pipelines.tasks.calibration import NUM_BINS, calibration


def test_error_of_four_predictions_is_the_one_computed_by_hand() -> None:
    found = calibration(np.array([0.95, 0.95, 0.95, 0.2]), np.array([True, True, False, False]))
    assert found["ece"] == pytest.approx((3 * abs(2 / 3 - 0.95) + abs(0 - 0.2)) / 4)
    filled = {position: row for position, row in enumerate(found["bins"]) if row["count"]}
    assert {position: row["count"] for position, row in filled.items()} == {2: 1, 14: 3}
    assert filled[14]["accuracy"] == pytest.approx(2 / 3)
    assert filled[14]["confidence"] == pytest.approx(0.95)


def test_bins_include_their_upper_ends_and_the_first_one_includes_0() -> None:
    counts = [row["count"] for row in calibration(np.array([0.0, 0.5 / NUM_BINS, 1.0]), np.ones(3, bool))["bins"]]
    assert counts == [2, *[0] * (NUM_BINS - 2), 1]


def test_predictions_that_are_right_as_often_as_they_say_have_no_error() -> None:
    assert calibration(np.full(10, 0.7), np.arange(10) < 7)["ece"] == pytest.approx(0)


@pytest.mark.parametrize("seed", range(3))
def test_error_equals_that_of_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random(500)
    truths = rng.random(500) < scores**2
    expected = binary_calibration_error(torch.from_numpy(scores), torch.from_numpy(truths.astype(int)), NUM_BINS)
    assert calibration(scores, truths)["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_without_predictions_the_error_is_undefined() -> None:
    found = calibration(np.zeros(0), np.zeros(0, bool))
    assert found["ece"] is None
    assert Calibration.model_validate(found).bins[0].accuracy is None


def test_confidence_above_1_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"got 1\.5 \.\. 1\.5; they must be in \[0, 1\]"):
        calibration(np.array([1.5]), np.array([True]))
