"""Intervals by bootstrap over prompt groups, and paired comparison of two methods.

Pairs of one prompt are not independent, so whole groups are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import (
    LEVEL,
    Estimate,
    Units,
    check_resamples,
    check_same_length,
    check_same_pairs,
    draw,
    drawn,
    ends,
    resampling_units,
    weighted_means,
)


@dataclass(frozen=True)
class Difference(Estimate):
    """Accuracy of one method minus that of another on the same pairs.

    Attributes:
        p: two-sided p-value of no difference; None where groups are unknown.
    """

    p: float | None = None


def accuracy_interval(evaluation: Evaluation, *, seed: int = 0, resamples: int = 2000) -> tuple[float, float] | None:
    """95 % percentile interval of the accuracy by bootstrap over prompt groups.

    Where every group is wholly right, or wholly wrong, resampling shows no spread: the far end is then the exact
    binomial (Clopper-Pearson) one for that many groups.

    Returns:
        (low, high), or None where groups or the pairs' share in the accuracy are unknown, or there is one group only.

    Raises:
        BadInput: no resample.
    """
    check_resamples(resamples)
    if evaluation.credit is None:
        return None
    return accuracy_intervals(evaluation.credit[None], evaluation, seed=seed, resamples=resamples)[0]


def accuracy_intervals(
    wins: Float[np.ndarray, "curve pair"],
    of: Evaluation,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> list[tuple[float, float] | None]:
    """`accuracy_interval` of many answers about the same pairs at once, such as those of every layer.

    Args:
        wins: of each answer 1.0 for a pair won, 0.5 for a tie, 0.0 for one lost.
        of: an evaluation of the same pairs, which says what belongs to which prompt.
        seed: of the resampling.
        resamples: how many.
    """
    check_resamples(resamples)
    units = resampling_units([of])
    if units is None:
        return [None] * len(wins)
    draws = drawn(units.n_units, resamples, seed).astype(np.float64)
    return [_unanimous(curve, units.n_units) or ends(weighted_means(curve, units.of_pairs[0], draws)) for curve in wins]


def _unanimous(credit: Float[np.ndarray, " pair"], n_units: int) -> tuple[float, float] | None:
    """The interval where all pairs are right, or all wrong; None where they differ."""
    if credit[0] not in (0.0, 1.0) or not np.all(credit == credit[0]):
        return None
    reach = float(((1 - LEVEL) / 2) ** (1 / n_units))
    return (reach, 1.0) if credit[0] == 1.0 else (0.0, 1.0 - reach)


def mean_accuracy_interval(
    evaluations: Sequence[Evaluation],
    targets: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """Mean accuracy over shifts, and its interval over prompts; the shifts themselves are taken as given.

    Evaluations on the same target draw the same prompts together, so that repeats and shared targets add no
    certainty. The ends are None unless every evaluation has groups.

    Args:
        evaluations: one for each shift, repeats kept.
        targets: the name of each one's target.
        seed: of the resampling.
        resamples: how many.
    """
    check_resamples(resamples)
    check_same_length(evaluations, targets)
    value = float(np.mean([one.accuracy for one in evaluations]))
    shared = _units_of_targets([one.credit for one in evaluations], evaluations, targets)
    return Estimate(value) if shared is None else Estimate(value, *ends(_resampled(shared, resamples, seed)))


def mean_paired_difference(
    a: Sequence[Evaluation],
    b: Sequence[Evaluation],
    targets: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
    permutations: int = 10_000,
) -> Difference:
    """Mean accuracy of `a` minus mean accuracy of `b` over shifts, on the same pairs, with interval and p-value.

    The interval is by bootstrap over prompt groups. The p-value is of a sign-flip test: were the methods alike,
    exchanging their names on any prompt would change nothing; its smallest value is 1 / (permutations + 1). Shifts on
    the same target draw the same prompts together.

    Args:
        a: one evaluation for each shift, repeats kept.
        b: the other method's, shift by shift.
        targets: the name of each shift's target.
        seed: of resampling and permutation.
        resamples: how many for the interval.
        permutations: how many for the p-value.

    Raises:
        BadInput: the two do not hold the same shifts, or not the same pairs of one.
    """
    check_resamples(resamples)
    check_resamples(permutations)
    check_same_length(a, b)
    check_same_length(a, targets)
    for one, other, target in zip(a, b, targets, strict=True):
        check_same_pairs(one, other, target)
    value = float(np.mean([one.accuracy - other.accuracy for one, other in zip(a, b, strict=True)]))
    gaps = [
        None if one.credit is None or other.credit is None else one.credit - other.credit
        for one, other in zip(a, b, strict=True)
    ]
    known = [one if one.group is not None else other for one, other in zip(a, b, strict=True)]
    shared = _units_of_targets(gaps, known, targets)
    if shared is None:
        return Difference(value)
    # Sums of the same terms in another order differ in the last bits; they are ties all the same.
    beyond = int(np.sum(np.abs(_flipped(shared, permutations, seed)) >= abs(value) - 1e-12))
    return Difference(value, *ends(_resampled(shared, resamples, seed)), (beyond + 1) / (permutations + 1))


Shared = list[tuple[list[Float[np.ndarray, " _pair"]], Units]]
"""For each target the pairs' values of every shift on it, and the prompts that these share."""


def _units_of_targets(
    values: Sequence[Float[np.ndarray, " _pair"] | None], evaluations: Sequence[Evaluation], targets: Sequence[str]
) -> Shared | None:
    """Shifts gathered by target; None where a value or a group is unknown."""
    gathered: Shared = []
    for target in dict.fromkeys(targets):
        places = [number for number, name in enumerate(targets) if name == target]
        units = resampling_units([evaluations[number] for number in places])
        known = [value for number in places if (value := values[number]) is not None]
        if units is None or len(known) < len(places):
            return None
        gathered.append((known, units))
    return gathered


def _resampled(shared: Shared, resamples: int, seed: int) -> Float[np.ndarray, " resample"]:
    """The mean over shifts of each one's resampled mean."""
    generator = np.random.default_rng(seed)
    means = []
    for values, units in shared:
        draws = draw(units.n_units, resamples, generator)
        means += [weighted_means(value, of, draws) for value, of in zip(values, units.of_pairs, strict=True)]
    return np.mean(means, axis=0)


def _flipped(shared: Shared, permutations: int, seed: int) -> Float[np.ndarray, " permutation"]:
    """The mean difference over shifts, after the methods exchanged names on prompts chosen by coin."""
    generator = np.random.default_rng([seed, 1])
    means = []
    for gaps, units in shared:
        signs = generator.choice(np.array([-1.0, 1.0]), size=(permutations, units.n_units))
        means += [
            signs @ np.bincount(of, weights=gap, minlength=units.n_units) / len(gap)
            for gap, of in zip(gaps, units.of_pairs, strict=True)
        ]
    return np.mean(means, axis=0)
