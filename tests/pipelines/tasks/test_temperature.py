"""Fitted temperatures against an optimizer of torch, and on scores whose temperature is known."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipelines.tasks.temperature import LIMITS, fit_exclusive, fit_independent


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits)))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
def test_temperature_of_independent_scores_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    fitted = fit_independent(sigmoid(logits * temperature), rng.random(20_000) < sigmoid(logits))
    assert fitted is not None
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.ece_after < 0.02 < fitted.ece_before


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_of_exclusive_scores_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (10_000, 4))
    labels = (rng.random((10_000, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1).clip(max=3)
    fitted = fit_exclusive(softmax(logits * temperature), labels)
    assert fitted is not None
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.ece_after < 0.02 < fitted.ece_before


@pytest.mark.parametrize("seed", range(3))
def test_temperature_equals_that_of_torchs_optimizer(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(300, 5, generator=generator, dtype=torch.float64)
    labels = (logits + 6 * torch.randn(300, 5, generator=generator, dtype=torch.float64)).argmax(dim=1)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(logits / log_temperature.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    fitted = fit_exclusive(logits.softmax(dim=1).numpy(), labels.numpy())
    assert fitted is not None
    assert fitted.temperature == pytest.approx(log_temperature.exp().item(), rel=1e-5)


def test_temperature_that_does_not_lower_the_error_is_not_used() -> None:
    # Half of the predictions with a score of 0.5 are right: no factor of the logit 0 changes that.
    fitted = fit_independent(np.full(10, 0.5), np.arange(10) < 5)
    assert fitted is not None
    assert (fitted.temperature, fitted.ece_after) == (1.0, fitted.ece_before)


def test_right_predictions_only_have_the_lowest_temperature() -> None:
    fitted = fit_independent(np.array([0.8, 0.9]), np.array([True, True]))
    assert fitted is not None
    assert fitted.temperature == pytest.approx(LIMITS[0])


def test_scores_of_exactly_0_and_1_have_a_temperature() -> None:
    fitted = fit_independent(np.array([0.0, 1.0, 0.9]), np.array([True, False, True]))
    assert fitted is not None
    assert np.isfinite(fitted.temperature)
    exclusive = fit_exclusive(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 0]))
    assert exclusive is not None
    assert np.isfinite(exclusive.temperature)


def test_nothing_is_fitted_without_predictions() -> None:
    assert fit_independent(np.zeros(0), np.zeros(0, bool)) is None
    assert fit_exclusive(np.zeros((0, 3)), np.zeros(0, np.int64)) is None
