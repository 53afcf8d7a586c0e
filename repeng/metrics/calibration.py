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
    sure, true, sizes = _bins_of_fits(probabilities[None], bins)
    return tuple(map(ReliabilityBin, sure[0].tolist(), true[0].tolist(), sizes))


def rms_calibration_error(probabilities: Float[np.ndarray, " pair"], *, bins: int = 10) -> float:
    """Root mean square calibration error with bins of equal mass (Hendrycks et al. 2018, section 4).

    The square of (in-bin accuracy - in-bin mean confidence), averaged with the bins' sizes as weights. Theirs holds
    100 pairs to a bin and its released code drops the last bin; ours has 10 bins and drops none. Over few pairs it is
    too high, because in-bin accuracy is then noisy.
    """
    return mean_rms_calibration_error(probabilities[None], bins=bins)


def mean_rms_calibration_error(probabilities: Float[np.ndarray, "fit pair"], *, bins: int = 10) -> float:
    """The mean over fits of `rms_calibration_error`."""
    check_pairs(probabilities[0])
    _check_bins(bins)
    sure, true, sizes = _bins_of_fits(probabilities, bins)
    squares = [
        sum(size * (right - confidence) ** 2 for size, right, confidence in zip(sizes, *of_fit, strict=True))
        for of_fit in zip(true.tolist(), sure.tolist(), strict=True)
    ]
    return float(np.mean([math.sqrt(square / probabilities.shape[1]) for square in squares]))


def _bins_of_fits(
    probabilities: Float[np.ndarray, "fit pair"], bins: int
) -> tuple[Float[np.ndarray, "fit bin"], Float[np.ndarray, "fit bin"], list[int]]:
    """Of each fit the bins' mean confidence and their accuracy, and how many pairs each bin has."""
    confidence, win = _confidence(probabilities)
    order, tied = _ties(confidence)
    counts = np.bincount(tied)
    shared = (np.bincount(tied, np.take_along_axis(win, order, 1).ravel()) / counts)[tied]
    n_fits, n_pairs = probabilities.shape
    n_bins = min(bins, n_pairs)
    size, longer = divmod(n_pairs, n_bins)
    cut = longer * (size + 1)

    def means(values: Float[np.ndarray, "fit pair"]) -> Float[np.ndarray, "fit bin"]:
        parts = values[:, :cut].reshape(n_fits, longer, size + 1), values[:, cut:].reshape(n_fits, -1, size)
        return np.concatenate([part.mean(axis=2) for part in parts], axis=1)

    sure, true = means(np.take_along_axis(confidence, order, 1)), means(shared.reshape(n_fits, n_pairs))
    return sure, true, [size + 1] * longer + [size] * (n_bins - longer)


def _confidence(
    probabilities: Float[np.ndarray, "fit pair"],
) -> tuple[Float[np.ndarray, "fit pair"], Float[np.ndarray, "fit pair"]]:
    """How sure each fit is of each pair, and 1.0 for a pair that it wins, 0.5 for a tie, 0.0 for one that it loses."""
    return np.maximum(probabilities, 1.0 - probabilities), (probabilities > 0.5) + 0.5 * (probabilities == 0.5)


def _ties(
    confidence: Float[np.ndarray, "fit pair"],
) -> tuple[Int[np.ndarray, "fit pair"], Int[np.ndarray, " fit_pair"]]:
    """The pairs of each fit in order of confidence, and in that order a number that those of equal confidence share.

    Numbers go on from one fit to the next.
    """
    order = np.argsort(confidence, axis=1)
    ordered = np.take_along_axis(confidence, order, 1)
    first = np.ones(confidence.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return order, np.cumsum(first) - 1


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
    by_fit = evaluation.by_fit
    if by_fit is None or evaluation.group is None:
        return None
    units = resampling_units([evaluation])
    if units is None or units.n_units < FEWEST_UNITS or by_fit.shape[1] < fewest_pairs:
        return None
    gap, share, off = _gaps_of_bins(by_fit, units.of_pairs[0], units.n_units, bins)
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
    probabilities: Float[np.ndarray, "fit pair"], units: Int[np.ndarray, " pair"], n_units: int, bins: int
) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, " bin"], Float[np.ndarray, "unit bin"]]:
    """Of each bin of each fit mean (win - confidence), its share of the pairs, and what each unit adds to the mean's
    noise."""
    n_fits, n_pairs = probabilities.shape
    confidence, win = _confidence(probabilities)
    order, tied = _ties(confidence)
    counts = np.bincount(tied)
    middle = ((np.cumsum(counts) - counts / 2)[tied] - np.repeat(np.arange(n_fits) * n_pairs, n_pairs)) / n_pairs
    within = np.empty((n_fits, n_pairs), dtype=int)
    np.put_along_axis(within, order, (middle * bins).astype(int).reshape(within.shape), 1)
    # Pairs of equal confidence are in one bin, and may leave others empty.
    place = np.unique(within + bins * np.arange(n_fits)[:, None], return_inverse=True)[1].ravel()
    off = (win - confidence).ravel()
    held = np.bincount(place)
    gap = np.bincount(place, weights=off) / held
    cell, cells = np.tile(units, n_fits) * len(held) + place, n_units * len(held)
    of_unit = np.bincount(cell, (off - gap[place]) / held[place], cells).reshape(n_units, -1)
    n_present = np.count_nonzero(np.bincount(cell, minlength=cells).reshape(n_units, -1), axis=0)
    return gap, held / n_pairs, of_unit * np.sqrt(n_present / np.maximum(n_present - 1, 1))


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
