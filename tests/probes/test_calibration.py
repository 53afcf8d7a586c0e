from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from repeng.errors import BadInput
from repeng.maths import pair_accuracy, sigmoid
from repeng.probes.calibration import (
    LogisticCalibration,
    Temperature,
    fit_temperature,
    log_loss,
)


def draws(slope: float, n: int = 400, seed: int = 0) -> np.ndarray:
    """Scores of pairs whose better response is best with probability sigmoid(slope * score)."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    return np.where(rng.random(n) < sigmoid(slope * score), score, -score)


def test_the_temperature_minimises_platts_smoothed_log_loss() -> None:
    scores = np.stack([draws(2.0), 50 * draws(0.7, seed=1)])
    target = 401 / 402

    def loss(temperature: float, row: np.ndarray) -> float:
        return float(
            np.mean(target * np.logaddexp(0, -row / temperature) + (1 - target) * np.logaddexp(0, row / temperature))
        )

    for fitted, row in zip(fit_temperature(scores), scores, strict=True):
        best = minimize_scalar(lambda log_t, row=row: loss(np.exp(log_t), row), bounds=(-5, 8), method="bounded")
        assert np.log(fitted) == pytest.approx(best.x, abs=1e-3)


def test_the_temperatures_derivative_is_zero_or_the_slope_is_the_lowest() -> None:
    """Side by side: usual scores, scores of another size, a single loud pair, and scores that favour the worse one."""
    loud = np.append(np.full(399, 1e-3), 1.0)
    scores = np.stack([draws(2.0), 1e4 * draws(0.2, seed=1), loud, np.abs(draws(1.0)), -np.abs(draws(1.0))])
    found = fit_temperature(scores)
    slope = np.mean((sigmoid(scores / found[:, None]) - 401 / 402) * scores, axis=1) / np.std(scores, axis=1)
    np.testing.assert_allclose(slope[:4], 0.0, atol=1e-9)
    assert found[4] == pytest.approx(1000 * np.sqrt(np.mean(scores[4] ** 2)))


def test_many_calibrated_pairs_give_back_their_own_slope() -> None:
    assert 1 / fit_temperature(draws(2.0, n=200_000)) == pytest.approx(2.0, rel=0.03)


def test_scores_of_another_unit_give_the_same_probabilities() -> None:
    scores = draws(1.5)
    one, thousand = fit_temperature(scores), fit_temperature(1000 * scores)
    np.testing.assert_allclose(thousand, 1000 * one)


def test_a_probe_that_is_always_right_is_not_certain() -> None:
    scores = np.abs(draws(1.0, n=50)) + 0.5
    temperature = float(fit_temperature(scores))
    p = Temperature(temperature)(scores)
    assert 0.8 < p.min() < p.max() < 1.0


def test_scores_that_favour_the_worse_response_are_flattened_not_turned() -> None:
    scores = -np.abs(draws(1.0))
    p = Temperature(float(fit_temperature(scores)))(scores)
    assert np.all((p > 0.49) & (p < 0.5))


def test_scores_of_zero_have_a_temperature() -> None:
    assert fit_temperature(np.zeros(5)) == 1.0
    np.testing.assert_array_equal(Temperature(1.0)(np.zeros(5)), np.full(5, 0.5))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_could_change_who_wins_is_refused(temperature: float) -> None:
    with pytest.raises(BadInput, match="temperature"):
        Temperature(temperature)


def test_log_loss_and_accuracy_are_those_of_the_probabilities() -> None:
    scores = np.array([[1.0, -2.0, 0.0], [3.0, 3.0, 3.0]])
    temperature = np.array([0.5, 2.0])
    np.testing.assert_allclose(log_loss(scores, temperature), -np.log(sigmoid(scores / temperature[:, None])).mean(1))
    np.testing.assert_allclose(pair_accuracy(scores), [0.5, 1.0])


def test_the_released_calibration_gives_the_probability_of_the_second_response() -> None:
    calibration = LogisticCalibration(coefficient=6.0, intercept=-2.0, seed=1)
    cosines = np.linspace(-0.9, 0.9, 40)
    second = np.random.default_rng(1).random(40) < 0.5
    assert 5 < second.sum() < 35
    expected = np.where(
        second,
        sigmoid(6.0 * (1 + cosines) / 2 - 2.0),  # the favoured response stands second
        1 - sigmoid(6.0 * (1 - cosines) / 2 - 2.0),
    )
    np.testing.assert_allclose(calibration(cosines), expected)


@pytest.mark.parametrize("coefficient", [6.0, -6.0])
def test_the_mean_over_both_orders_is_antisymmetric_and_agrees_with_the_sign(coefficient: float) -> None:
    cosines = np.linspace(-0.9, 0.9, 40)
    drawn = LogisticCalibration(coefficient, intercept=5.0, seed=1)
    both = LogisticCalibration(coefficient, intercept=5.0, seed=1, both=True)
    as_second = sigmoid(coefficient * (1 + cosines) / 2 + 5.0)
    as_first = 1 - sigmoid(coefficient * (1 - cosines) / 2 + 5.0)
    np.testing.assert_allclose(both(cosines), (as_first + as_second) / 2)
    np.testing.assert_allclose(both(cosines) + both(-cosines), 1.0)
    np.testing.assert_array_equal(both(cosines) > 0.5, coefficient * cosines > 0)
    assert np.any(np.abs(drawn(cosines) + drawn(-cosines) - 1) > 0.5)
    assert np.any((drawn(cosines) > 0.5) != (coefficient * cosines > 0))
