"""From a pair's score to a probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.maths import FALSE_POSITIVE_RATES, sigmoid, threshold_at


@dataclass(frozen=True)
class Temperature:
    """sigmoid(score / temperature), without intercept, so that it never changes who wins."""

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise BadInput(f"temperature {self.temperature} must be above 0 and finite")

    def __call__(self, scores: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        """The probability that a pair's first response is preferred."""
        return sigmoid(scores / self.temperature)


@dataclass(frozen=True)
class LogisticCalibration:
    """As GENIES released it: sigmoid(coefficient * (1 + score) / 2 + intercept) for the SECOND of two responses.

    The intercept makes the order of the two matter. GENIES shuffles it, unseeded; here `seed` draws it, one
    coin a pair, so it never depends on which response is best. With `both` there is no coin: the mean over the two
    orders, whose probabilities for the one and the other response add up to 1.
    """

    coefficient: float
    intercept: float
    seed: int
    both: bool = False

    def __call__(self, scores: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
        """The probability that the response which `scores` favours when positive is preferred."""
        as_first, as_second = self.in_each_order(scores)
        if self.both:
            return (as_first + as_second) / 2
        return np.where(np.random.default_rng(self.seed).random(len(scores)) < 0.5, as_second, as_first)

    def in_each_order(
        self, scores: Float[np.ndarray, " pair"]
    ) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
        """The same probability where that response stands first, and where it stands second."""
        other_is_second, is_second = (
            sigmoid(self.coefficient * (1 + toward_second) / 2 + self.intercept) for toward_second in (-scores, scores)
        )
        return 1 - other_is_second, is_second


@dataclass(frozen=True)
class TextCalibration:
    """What a source chose for single texts: sigmoid(slope * score + intercept), and thresholds for rare alarms.

    Attributes:
        slope: above 0, so that it never changes which text scores higher.
        intercept: a text of probability above 1/2 is called positive.
        threshold_at_1, threshold_at_5: above which at most 1 % and 5 % of the source's held-out negatives score.
    """

    slope: float
    intercept: float
    threshold_at_1: float
    threshold_at_5: float

    def __post_init__(self) -> None:
        if not 0 < self.slope < np.inf or not np.isfinite(self.intercept):
            raise BadInput(f"slope {self.slope} must be above 0 and finite, intercept {self.intercept} finite")

    def __call__(self, scores: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The probability that a text is of label 1."""
        return sigmoid(self.slope * scores + self.intercept)


def fit_text_calibration(scores: Float[np.ndarray, " text"], labels: Float[np.ndarray, " text"]) -> TextCalibration:
    """Platt's scaling (1999) of a source's held-out texts, and thresholds from the negatives among them.

    A logistic regression of one feature on his smoothed targets, (n + 1) / (n + 2) and 1 / (n + 2), with scipy.
    The slope stays above a thousandth of one over the scores' standard deviation.

    Args:
        scores: of texts that nothing was fitted on.
        labels: 1.0 or 0.0; both are there.
    """
    from scipy.optimize import minimize

    positive = labels == 1
    targets = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
    centre, spread = float(scores.mean()), float(scores.std()) or 1.0
    standard = (scores - centre) / spread

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = x[0] * standard + x[1]
        error = sigmoid(z) - targets
        value = np.mean(targets * np.logaddexp(0, -z) + (1 - targets) * np.logaddexp(0, z))
        return float(value), np.array([np.mean(error * standard), np.mean(error)])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, 1e3), (None, None)])
    slope = float(found.x[0]) / spread
    negatives = scores[~positive]
    return TextCalibration(
        slope,
        float(found.x[1]) - slope * centre,
        *(threshold_at(negatives, rate) for rate in FALSE_POSITIVE_RATES),
    )


ROUNDS = 40
"""Of the search for a temperature: so many halvings of its range leave a relative error of 1e-11."""
CLOSE = 1e-12
"""Of two rounds' logarithms, so that there is no more to find."""


def fit_temperature(scores: Float[np.ndarray, "*unit pair"]) -> Float[np.ndarray, "*unit"]:
    """The temperature of least log-loss on pairs whose first response is best, one for each unit.

    Platt's smoothed target (n + 1) / (n + 2) in place of 1 keeps it above zero where every pair is right. Where scores
    favour the worse response no finite temperature is best: a thousand times their root mean square is taken.
    """
    spread = np.sqrt(np.mean(scores**2, axis=-1))
    unit = np.where(spread > 0, spread, 1.0)
    target = (scores.shape[-1] + 1) / (scores.shape[-1] + 2)
    standard = scores / unit[..., None]
    low, high = np.full(spread.shape, np.log(1e-3)), np.full(spread.shape, np.log(1e3))
    middle = np.zeros(spread.shape)
    # The loss is convex in the slope 1 / T: Newton's steps towards the zero of its derivative by the slope's logarithm,
    # and half of what is left of the range where they leave it. Where even the lowest slope is too high, that is it.
    high = np.where(_derivatives(standard, low, target)[0] < 0, high, low)
    for _ in range(ROUNDS):
        derivative, curvature = _derivatives(standard, middle, target)
        low, high = np.where(derivative < 0, middle, low), np.where(derivative < 0, high, middle)
        step = np.divide(derivative, curvature, out=np.full_like(derivative, np.inf), where=curvature > 0)
        inside = (low < middle - step) & (middle - step < high)
        last, middle = middle, np.where(inside, middle - step, (low + high) / 2)
        if np.abs(middle - last).max(initial=0.0) < CLOSE:
            break
    return np.where(spread > 0, unit / np.exp(middle), 1.0)


def _derivatives(
    standard: Float[np.ndarray, "*unit pair"], log_slope: Float[np.ndarray, "*unit"], target: float
) -> tuple[Float[np.ndarray, "*unit"], Float[np.ndarray, "*unit"]]:
    """The loss's derivative by the slope, and that derivative's own by the slope's logarithm."""
    scaled = np.exp(log_slope)[..., None] * standard
    p = sigmoid(scaled)
    derivative = np.asarray(np.mean((p - target) * standard, axis=-1))
    return derivative, np.asarray(np.mean((p - p * p) * standard * scaled, axis=-1))


def log_loss(
    scores: Float[np.ndarray, "*unit pair"], temperature: Float[np.ndarray, "*unit"]
) -> Float[np.ndarray, "*unit"]:
    """Mean of -log p(best), for pairs whose first response is best."""
    return np.asarray(np.mean(np.logaddexp(0.0, -scores / temperature[..., None]), axis=-1))
