"""Intervals by bootstrap over prompt groups, and paired comparison of two methods.

Pairs of one prompt are not independent, so whole groups are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import (
    Draws,
    Estimate,
    check_same_length,
    check_same_pairs,
    check_settings,
    draw,
    ends,
    resampling_units,
    weighted_means,
)


@dataclass(frozen=True)
class Difference:
    """How much more accurate one method is than another on the same pairs.

    Attributes:
        value: accuracy of the first minus accuracy of the second.
        low: lower end of its interval; None where groups are unknown.
        high: upper end of its interval.
        p: two-sided p-value of no difference; None where groups are unknown.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def accuracy_interval(
    evaluation: Evaluation, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile interval of the accuracy by bootstrap over prompt groups.

    Where every group is wholly right, or wholly wrong, resampling shows no spread: the far end is then the exact
    binomial (Clopper-Pearson) one for that many groups.

    Returns:
        (low, high), or None where groups or the pairs' share in the accuracy are unknown, or there is one group only.

    Raises:
        BadInput: no resample, or a level outside 0 to 1.
    """
    check_settings(resamples, level)
    credit, units = evaluation.credit, resampling_units(evaluation)
    if credit is None or units is None:
        return None
    if np.all(credit == credit[0]) and credit[0] in (0.0, 1.0):
        reach = float(((1 - level) / 2) ** (1 / (units.max() + 1)))
        return (reach, 1.0) if credit[0] == 1.0 else (0.0, 1.0 - reach)
    draws = draw(int(units.max()) + 1, resamples, np.random.default_rng(seed))
    return ends(weighted_means(credit, units, draws), level)


def mean_accuracy_interval(
    evaluations: Sequence[Evaluation],
    targets: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean accuracy over shifts, and its interval over prompts; the shifts themselves are taken as given.

    Evaluations on the same target draw the same prompts together, so that repeats and shared targets add no
    certainty. The ends are None unless every evaluation has groups.

    Args:
        evaluations: one for each shift, repeats kept.
        targets: the name of each one's target.
        seed: of the resampling.
        resamples: how many.
        level: coverage.
    """
    check_settings(resamples, level)
    check_same_length(evaluations, targets)
    value = float(np.mean([one.accuracy for one in evaluations]))
    credits = [one.credit for one in evaluations]
    means = _resampled_mean(credits, evaluations, targets, resamples, seed)
    return Estimate(value) if means is None else Estimate(value, *ends(means, level))


def paired_difference(
    a: Evaluation,
    b: Evaluation,
    *,
    seed: int = 0,
    resamples: int = 2000,
    permutations: int = 10_000,
    level: float = 0.95,
) -> Difference:
    """Accuracy of `a` minus accuracy of `b` on the same pairs, with interval and p-value.

    The interval is by bootstrap over prompt groups. The p-value is of a sign-flip test: were the methods alike,
    exchanging their names on any prompt would change nothing; its smallest value is 1 / (permutations + 1).

    Raises:
        BadInput: the two do not hold the same pairs.
    """
    return mean_paired_difference(
        [a], [b], ["the target"], seed=seed, resamples=resamples, permutations=permutations, level=level
    )


def mean_paired_difference(
    a: Sequence[Evaluation],
    b: Sequence[Evaluation],
    targets: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
    permutations: int = 10_000,
    level: float = 0.95,
) -> Difference:
    """`paired_difference`, averaged over shifts. Shifts on the same target draw the same prompts together.

    Args:
        a: one evaluation for each shift, repeats kept.
        b: the other method's, shift by shift.
        targets: the name of each shift's target.
        seed: of resampling and permutation.
        resamples: how many for the interval.
        permutations: how many for the p-value.
        level: coverage of the interval.

    Raises:
        BadInput: the two do not hold the same shifts, or not the same pairs of one.
    """
    check_settings(resamples, level)
    check_settings(permutations, level)
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
    means = _resampled_mean(gaps, known, targets, resamples, seed)
    if means is None:
        return Difference(value)
    flipped = _flipped_means([gap for gap in gaps if gap is not None], known, targets, permutations, seed)
    # Sums of the same terms in another order differ in the last bits; they are ties all the same.
    beyond = int(np.sum(np.abs(flipped) >= abs(value) - 1e-12))
    return Difference(value, *ends(means, level), (beyond + 1) / (permutations + 1))


def _resampled_mean(
    values: Sequence[Float[np.ndarray, " pair"] | None],
    evaluations: Sequence[Evaluation],
    targets: Sequence[str],
    resamples: int,
    seed: int,
) -> Float[np.ndarray, " resample"] | None:
    """The mean over shifts of each one's resampled mean, or None where a value or a group is unknown."""
    generator = np.random.default_rng(seed)
    drawn: dict[str, Draws] = {}
    total = np.zeros(resamples)
    for value, evaluation, target in zip(values, evaluations, targets, strict=True):
        units = resampling_units(evaluation)
        if value is None or units is None:
            return None
        n_units = int(units.max()) + 1
        if target not in drawn:
            drawn[target] = draw(n_units, resamples, generator)
        if drawn[target].shape[1] != n_units:
            raise BadInput(
                f"{target}: one evaluation has {drawn[target].shape[1]} prompt groups and another {n_units}; "
                "score every method on the same examples"
            )
        total += weighted_means(value, units, drawn[target])
    return total / len(values)


def _flipped_means(
    gaps: Sequence[Float[np.ndarray, " pair"]],
    evaluations: Sequence[Evaluation],
    targets: Sequence[str],
    permutations: int,
    seed: int,
) -> Float[np.ndarray, " permutation"]:
    """The mean difference over shifts, after the methods exchanged names on prompts drawn by coin."""
    generator = np.random.default_rng([seed, 1])
    signs: dict[str, Draws] = {}
    total = np.zeros(permutations)
    for gap, evaluation, target in zip(gaps, evaluations, targets, strict=True):
        units = resampling_units(evaluation)
        if units is None:
            raise BadInput(f"{target}: the prompt groups are unknown")
        sums = np.bincount(units, weights=gap)
        if target not in signs:
            signs[target] = generator.choice(np.array([-1.0, 1.0]), size=(permutations, len(sums)))
        total += signs[target] @ sums / len(gap)
    return total / len(gaps)
