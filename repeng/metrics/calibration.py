"""Calibration: does a method that is 80 % sure win 80 % of such pairs? And the error that GENIES released."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from repeng.errors import BadInput
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import LEVEL, Estimate, resampling_units
from repeng.metrics.variance import NOTHING

GENIES_SEED = 42
GENIES_BINS = 5
GENIES_EDGES = np.linspace(0, 1, GENIES_BINS + 1)
GENIES_FEWEST = 20

FEWEST_PAIRS = 100
"""Under this many pairs a calibration error says little: docs/intervals.md has the table."""
FEWEST_UNITS = 30


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs of like confidence: how sure the method was of them on average, and how often it was right."""

    confidence: float
    accuracy: float
    n_pairs: int


def reliability_bins(probabilities: Float[np.ndarray, " pair"], *, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Confidence max(p, 1 - p) against the share of preferred responses that are the best, in bins of equal mass.

    Pairs are sorted by confidence and cut into `bins` runs whose sizes differ by one at most (fewer runs where there
    are fewer pairs). Pairs of equal confidence share their mean, so that the order of the pairs never matters.

    Args:
        probabilities: p(best) of each pair.
        bins: how many bins.

    Raises:
        BadInput: no pair, or not one bin.
    """
    check_pairs(probabilities)
    _check_bins(bins)
    confidence, tied = np.unique(np.maximum(probabilities, 1.0 - probabilities), return_inverse=True)
    counts = np.bincount(tied)
    right = np.bincount(tied, weights=(probabilities > 0.5) + 0.5 * (probabilities == 0.5)) / counts
    sure, true = (_run_means(np.repeat(of, counts), min(bins, len(tied))) for of in (confidence, right))
    sizes = [len(tied) // len(sure) + (place < len(tied) % len(sure)) for place in range(len(sure))]
    return tuple(map(ReliabilityBin, sure.tolist(), true.tolist(), sizes))


def _run_means(values: Float[np.ndarray, " pair"], runs: int) -> Float[np.ndarray, " run"]:
    """The mean of each run of values, whose lengths differ by one at most; the longer runs come first."""
    size, longer = divmod(len(values), runs)
    cut = longer * (size + 1)
    parts = (values[:cut].reshape(longer, size + 1), values[cut:].reshape(runs - longer, size))
    return np.concatenate([part.mean(axis=1) for part in parts])


def rms_calibration_error(probabilities: Float[np.ndarray, " pair"], *, bins: int = 10) -> float:
    """Root mean square calibration error with bins of equal mass (Hendrycks et al. 2018, section 4).

    The square of (in-bin accuracy - in-bin mean confidence), averaged with the bins' sizes as weights. Theirs holds
    100 pairs to a bin and its released code drops the last bin; ours has 10 bins and drops none. Over few pairs it is
    too high, because in-bin accuracy is then noisy.
    """
    found = reliability_bins(probabilities, bins=bins)
    square = sum(one.n_pairs * (one.accuracy - one.confidence) ** 2 for one in found) / len(probabilities)
    return math.sqrt(square)


def genies_rms_calibration_error(probabilities: Float[np.ndarray, " pair"]) -> float:
    """What GENIES released as RMS calibration error, bit for bit. It is not a calibration error in the usual sense.

    Each pair is turned round or not by a fixed series of coins l; q is the probability of what then stands first.
    Over five bins of equal width, leaving out those with under 20 pairs and q = 1 itself: the root of the unweighted
    mean of (mean of l over ALL pairs - mean of q in the bin)^2.

    Returns:
        The figure, or nan where no bin holds 20 pairs, as released.
    """
    check_pairs(probabilities)
    labels = _coins(len(probabilities))
    turned = np.where(labels == 1, probabilities, 1 - probabilities)
    places = np.searchsorted(GENIES_EDGES, turned, side="right")
    members = [turned[places == number] for number in range(1, GENIES_BINS + 1)]
    mean = np.mean(labels)
    squares = [(mean - np.mean(one)) ** 2 for one in members if len(one) >= GENIES_FEWEST]
    return float(np.sqrt(np.mean(squares))) if squares else math.nan


@lru_cache(maxsize=64)
def _coins(count: int) -> Int[np.ndarray, " pair"]:
    coin = random.Random(GENIES_SEED)
    found = np.array([coin.choice([0, 1]) for _ in range(count)])
    found.flags.writeable = False
    return found


def debiased_calibration_error(
    evaluation: Evaluation, *, bins: int = 10, fewest_pairs: int = FEWEST_PAIRS
) -> Estimate | None:
    """`rms_calibration_error` without what noise adds, and its 95 % interval over prompts.

    In-bin accuracy is noisy, and its square adds the noise's variance to that of the error: this is subtracted
    (as Kumar, Liang and Ma 2019 do), as the variance over prompts of (win - confidence) in the bin; what is then
    below 0 is 0. Several fits are averaged before the root. Pairs of equal confidence are in one bin here.

    The interval inverts a gamma distribution that has the mean and the variance of the sum of squares: an error is in
    it where the figure would not be among the 2.5 % highest or lowest of that error.

    Args:
        evaluation: with groups.
        bins: how many bins.
        fewest_pairs: with fewer pairs than this it says little.

    Returns:
        None with fewer pairs than that or under 30 prompts, and where groups are unknown.

    Raises:
        BadInput: not one bin.
    """
    _check_bins(bins)
    if evaluation.probabilities is None or evaluation.group is None:
        return None
    units = resampling_units([evaluation])
    if units is None or units.n_units < FEWEST_UNITS or len(evaluation.probabilities) < fewest_pairs:
        return None
    p_of_fits = evaluation.probabilities[None] if evaluation.fit_probabilities is None else evaluation.fit_probabilities
    by_fit = [_gaps_of_bins(one, units.of_pairs[0], units.n_units, bins) for one in p_of_fits]
    gap, share, off = (np.concatenate(parts, axis=-1) for parts in zip(*by_fit, strict=True))
    share = share / len(by_fit)
    noise = off.T @ off
    square, expected = float(share @ gap**2), float(share @ np.diag(noise))
    weighted = share[:, None] * noise
    of_noise = 2 * float(np.sum(weighted * weighted.T))
    of_error = 4 * float((share * gap) @ noise @ (share * gap)) / square if square > 0 else 0.0
    value = math.sqrt(max(0.0, square - expected))
    if expected < NOTHING:
        # Every bin is all right or all wrong at one confidence: as for accuracies, one prompt more might not be.
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / units.n_units)
        return Estimate(value, max(0.0, value - reach), min(1.0, value + reach))
    return Estimate(value, *_errors_that_fit(square, expected, of_noise, of_error))


def _gaps_of_bins(
    probabilities: Float[np.ndarray, " pair"], units: Int[np.ndarray, " pair"], n_units: int, bins: int
) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"], Float[np.ndarray, "unit bin"]]:
    """Of each bin mean (win - confidence), its share of the pairs, and what each unit adds to the mean's noise."""
    confidence = np.maximum(probabilities, 1.0 - probabilities)
    _, tied, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(confidence)
    _, place = np.unique((middle[tied] * bins).astype(int), return_inverse=True)
    off = (probabilities > 0.5) + 0.5 * (probabilities == 0.5) - confidence
    held = np.bincount(place)
    gap = np.bincount(place, weights=off) / held
    cell, cells = units * len(held) + place, n_units * len(held)
    of_unit = np.bincount(cell, (off - gap[place]) / held[place], cells).reshape(n_units, -1)
    n_present = np.count_nonzero(np.bincount(cell, minlength=cells).reshape(n_units, -1), axis=0)
    return gap, held / len(confidence), of_unit * np.sqrt(n_present / np.maximum(n_present - 1, 1))


def _errors_that_fit(square: float, expected: float, of_noise: float, of_error: float) -> tuple[float, float]:
    """The smallest and the largest error of which a mean square such as this is no surprise.

    Args:
        square: what was found, noise and all.
        expected: the noise's mean.
        of_noise: the variance of the noise alone.
        of_error: what each unit of the error's square adds to the variance.
    """
    from scipy.special import gammainc

    def lower_tail(error_square: float) -> float:
        mean, variance = error_square + expected, of_noise + of_error * error_square
        return float(gammainc(mean**2 / variance, square * mean / variance))

    def where(tail: float) -> float:
        if lower_tail(0.0) <= tail:
            return 0.0
        inside, outside = 0.0, 1.0
        for _ in range(40):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if lower_tail(middle**2) > tail else (inside, middle)
        return outside

    return where((1 + LEVEL) / 2), where((1 - LEVEL) / 2)


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise BadInput(f"bins is {bins}; take 1 or more")


def check_pairs(probabilities: Float[np.ndarray, " pair"]) -> None:
    """Refuse no pair."""
    if len(probabilities) == 0:
        raise BadInput("no pair to compute a figure of; give one probability for each pair")
