"""Intervals of accuracies over prompts and fits, in closed form.

Pairs of one prompt are not independent, and fits of one method answer the same prompts: `variance.py` counts both, and
`proportions.py` makes the interval. docs/intervals.md says how often these intervals hold the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal

import numpy as np
from jaxtyping import Float

from repeng.metrics.evaluation import Evaluation
from repeng.metrics.proportions import inverted_p_values, proportion_ends
from repeng.metrics.resampling import LEVEL, Estimate, check_same_length
from repeng.metrics.variance import ByCurve, ByFit, MeanVariance, Values, fit_credit, gathered, variance_of_mean

CHANCE = 0.5
"""The accuracy of a method that says nothing."""

SMALLEST_SPREAD = 0.01
"""Fits whose accuracies have a smaller standard deviation agree for every purpose."""

Shifts = Literal["fixed", "sampled"]


def accuracy_interval(evaluation: Evaluation) -> tuple[float, float] | None:
    """95 % interval of the accuracy over prompts and, where there are several, over fits (Korn and Graubard 1998).

    Returns:
        (low, high), or None where groups or the pairs' share in the accuracy are unknown, or there is one group only.
    """
    found = variance_of(evaluation)
    if found is None:
        return None
    low, high = proportion_ends(found)
    return float(low[0]), float(high[0])


def accuracy_intervals(wins: Float[np.ndarray, "curve fit pair"], of: Evaluation) -> list[tuple[float, float] | None]:
    """`accuracy_interval` of many answers about the same pairs at once, such as those of every layer.

    Args:
        wins: of each answer, by fit, 1.0 for a pair won, 0.5 for a tie, 0.0 for one lost; of labelled texts the
            pseudo-values that `ranking.auroc_values` makes of scores.
        of: an evaluation of the same pairs or texts, which says what belongs to which prompt.
    """
    found = gathered([wins], [of], ["the target"])
    if found is None:
        return [None] * len(wins)
    low, high = proportion_ends(variance_of_mean(found))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def chance_p(evaluation: Evaluation) -> float | None:
    """Two-sided p-value of an accuracy of 0.5, from the interval: under 0.05 exactly where that leaves 0.5 out.

    Returns:
        None where there is no interval.
    """
    found = variance_of(evaluation)
    return None if found is None else float(inverted_p_values(partial(proportion_ends, found), CHANCE, 1)[0])


def mean_accuracy_interval(
    evaluations: Sequence[Evaluation], targets: Sequence[str], *, shifts: Shifts = "fixed"
) -> Estimate:
    """Mean accuracy over shifts, with its interval over prompts and fits and the p-value of a mean of 0.5.

    Evaluations on the same target share its prompts, so repeats and shared targets add no certainty. Fit k of every
    shift has one seed. The ends are None unless every evaluation has groups.

    Args:
        evaluations: one for each shift, repeats kept.
        targets: the name of each one's target.
        shifts: `fixed`: the interval is of the mean over these very shifts. `sampled`: of the mean over shifts of
            which these are draws, so that the variance between targets is added; it needs two targets.

    Raises:
        BadInput: not one target for each evaluation.
    """
    return mean_accuracy_intervals([(evaluations, targets)], shifts=shifts)[0]


def mean_accuracy_intervals(
    asked: Sequence[tuple[Sequence[Evaluation], Sequence[str]]], *, shifts: Shifts = "fixed"
) -> list[Estimate]:
    """`mean_accuracy_interval` of each of many: those on the same prompts, with as many fits, are computed at once.

    Raises:
        BadInput: as there.
    """
    estimates: list[Estimate] = []
    alike: dict[tuple[object, ...], list[tuple[int, list[ByFit]]]] = {}
    for number, (evaluations, targets) in enumerate(asked):
        check_same_length(evaluations, targets)
        estimates.append(Estimate(float(np.mean([one.accuracy for one in evaluations]))))
        credits = [credit for one in evaluations if (credit := fit_credit(one)) is not None]
        if len(credits) == len(evaluations):
            fits, known = tuple(map(len, credits)), tuple(one.known_items for one in evaluations)
            alike.setdefault((tuple(targets), fits, known), []).append((number, credits))
    for chosen in alike.values():
        evaluations, targets = asked[chosen[0][0]]
        by_shift = [np.stack(credits) for credits in zip(*(credits for _, credits in chosen), strict=True)]
        found = _variance(by_shift, evaluations, targets, shifts)
        if found is None:
            continue
        low, high = proportion_ends(found)
        p = inverted_p_values(partial(proportion_ends, found), CHANCE, len(chosen))
        for (number, _), *interval in zip(chosen, low.tolist(), high.tolist(), p.tolist(), strict=True):
            estimates[number] = Estimate(estimates[number].value, *interval)
    return estimates


def mean_interval(values: Float[np.ndarray, "*fit pair"], of: Evaluation) -> Estimate:
    """The mean of any figure over the pairs of one target, with its interval over prompts and fits, by Student's t.

    Args:
        values: of each pair, by fit where there are several.
        of: an evaluation of these pairs, which says what belongs to which prompt; unknown prompts leave no interval.

    Returns:
        With the p-value of a mean of 0.
    """
    by_fit = np.atleast_2d(values)
    found = gathered([by_fit[None]], [of], ["the target"])
    if found is None:
        return Estimate(float(values.mean()))
    varies = variance_of_mean(found)
    mean = float(varies.mean[0])

    def ends(alpha: ByCurve) -> tuple[ByCurve, ByCurve]:
        reach = np.sqrt(varies.reach(alpha))
        return mean - reach, mean + reach

    low, high = ends(np.array([1 - LEVEL]))
    return Estimate(mean, float(low[0]), float(high[0]), float(inverted_p_values(ends, 0.0, 1)[0]))


def accuracy_variance(
    evaluations: Sequence[Evaluation], targets: Sequence[str], *, shifts: Shifts = "fixed"
) -> MeanVariance | None:
    """The variance of the mean accuracy over shifts; None where it is unknown."""
    credits = [fit_credit(one) for one in evaluations]
    return _variance([None if one is None else one[None] for one in credits], evaluations, targets, shifts)


def _variance(
    credits: Sequence[Values | None], evaluations: Sequence[Evaluation], targets: Sequence[str], shifts: Shifts
) -> MeanVariance | None:
    samples = gathered(credits, evaluations, targets)
    if samples is None or (shifts == "sampled" and len(samples) < 2):
        return None
    return variance_of_mean(samples, sampled=shifts == "sampled")


@lru_cache(maxsize=256)
def variance_of(evaluation: Evaluation) -> MeanVariance | None:
    """`accuracy_variance` of one evaluation; a row of results asks for it several times."""
    return accuracy_variance([evaluation], ["the target"])


def prompt_variance(evaluation: Evaluation) -> float | None:
    """The variance of an accuracy over draws of the prompts, with the fits as they are; None where it is unknown.

    Where prompts are unknown it is that of independent pairs, which is too low where a prompt's pairs agree.
    """
    found = variance_of(evaluation)
    if found is not None:
        return float(found.prompts[0])
    credit = evaluation.credit
    if credit is None or len(credit) < 2:
        return None
    return float(credit.var(ddof=1) / len(credit))


def fits_disagree(evaluation: Evaluation) -> bool:
    """Whether the fits' accuracies differ by more than the prompts explain, and by a point or more.

    The variance between fits is held against the variance of an accuracy over prompts by chi-square at 1 %. Fits
    answer the same prompts, so chance alone makes them differ by less than that.
    """
    if evaluation.n_fits < 2:
        return False
    found = variance_of(evaluation)
    spread = float(np.std(evaluation.fit_wins.mean(axis=1), ddof=1))
    if found is None or spread < SMALLEST_SPREAD:
        return False
    from scipy.special import chdtri

    beyond = (evaluation.n_fits - 1) * spread**2
    return bool(beyond > float(found.prompts[0]) * float(chdtri(evaluation.n_fits - 1, 0.01)))
