"""Two methods on the same pairs: the difference of their accuracies, with an interval and a p-value that agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from repeng.metrics.evaluation import Evaluation
from repeng.metrics.proportions import inverted_p_values, proportion_ends
from repeng.metrics.resampling import LEVEL, Estimate, check_same_length, check_same_pairs
from repeng.metrics.texts import TextEvaluation
from repeng.metrics.variance import (
    ByCurve,
    ByFit,
    MeanVariance,
    Values,
    fit_credit,
    gathered,
    one_after_other,
    variance_of_mean,
)

AT_ONCE = 16
"""Differences whose variances are computed at once; more take memory and are not sooner done."""


def mean_paired_difference(a: Sequence[Evaluation], b: Sequence[Evaluation], targets: Sequence[str]) -> Estimate:
    """Mean accuracy of `a` minus mean accuracy of `b` over shifts, on the same pairs, with interval and p-value.

    The difference is what `a` wins and `b` loses, less what `b` wins and `a` loses. Both are proportions with an
    interval of their own; MOVER (Zou and Donner 2008) makes the interval of their difference, with their correlation,
    and it reaches as far as Student's t of the difference itself at least.
    The p-value of no difference inverts the same interval: under 0.05 exactly where that leaves 0 out.

    Shifts on the same target share its prompts; shifts are taken as given. Fit k of both methods has one seed, and
    is compared with the other's; a method of one fit is compared with every fit of the other. Where both have several
    and not as many, the fits that both have are compared.

    Args:
        a: one evaluation for each shift, repeats kept.
        b: the other method's, shift by shift.
        targets: the name of each shift's target.

    Raises:
        BadInput: the two do not hold the same shifts, or not the same pairs of one.
    """
    return mean_paired_differences([(a, b, targets)])[0]


def mean_paired_differences(
    compared: Sequence[tuple[Sequence[Evaluation], Sequence[Evaluation], Sequence[str]]],
) -> list[Estimate]:
    """`mean_paired_difference` of each of many: those on the same prompts, with as many fits, are computed at once.

    Raises:
        BadInput: as there.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, (a, b, targets) in enumerate(compared):
        check_same_length(a, b)
        check_same_length(a, targets)
        for one, other, target in zip(a, b, targets, strict=True):
            check_same_pairs(one, other, target)
        credits = [_credits(one, other) for one, other in zip(a, b, strict=True)]
        if None not in credits:
            shapes = tuple((len(both[0]), len(both[1])) for both in credits if both is not None)
            known = tuple(one.known_items for one in _with_groups(a, b))
            alike.setdefault((tuple(targets), shapes, known), []).append(number)
    found: dict[int, Estimate] = {}
    for numbers in alike.values():
        parts = [numbers[first : first + AT_ONCE] for first in range(0, len(numbers), AT_ONCE)]
        varies = [own for part in parts if (own := _variance([compared[number] for number in part])) is not None]
        if varies:
            found |= zip(numbers, _estimates(one_after_other(varies)), strict=True)
    return [
        found[number] if number in found else Estimate(_difference(a, b)) for number, (a, b, _) in enumerate(compared)
    ]


def _difference(a: Sequence[Evaluation], b: Sequence[Evaluation]) -> float:
    """The mean difference alone, where too little is known for an interval."""
    values = []
    for one, other in zip(a, b, strict=True):
        credits = _credits(one, other)
        values.append(one.accuracy - other.accuracy if credits is None else (credits[0] - credits[1]).mean())
    return float(np.mean(values))


def _with_groups(a: Sequence[Evaluation], b: Sequence[Evaluation]) -> list[Evaluation]:
    """Of every two the one that says what belongs to which prompt."""
    return [one if one.group is not None else other for one, other in zip(a, b, strict=True)]


def _variance(
    compared: Sequence[tuple[Sequence[Evaluation], Sequence[Evaluation], Sequence[str]]],
) -> MeanVariance | None:
    """`difference_variance` of several in a row, whose evaluations speak of the same items and have as many fits."""
    a, b, targets = compared[0]
    by_shift = [_terms_of_each([(own[place], other[place]) for own, other, _ in compared]) for place in range(len(a))]
    return difference_variance(by_shift, _with_groups(a, b), targets)


def _estimates(found: MeanVariance) -> list[Estimate]:
    """Differences with the intervals and p-values that their variances give."""
    ends, values = _ends_of_each(found), found.of(slice(2, None, 3)).mean
    low, high = ends(np.full(len(values), 1 - LEVEL))
    p = inverted_p_values(ends, 0.0, len(values))
    return [Estimate(*one) for one in zip(*(each.tolist() for each in (values, low, high, p)), strict=True)]


def difference_variance(
    terms: Sequence[Values | None], evaluations: Sequence[Evaluation], targets: Sequence[str]
) -> MeanVariance | None:
    """The variances of the two terms of `paired_terms` and of the difference, in this order; None where unknown."""
    samples = gathered(terms, evaluations, targets)
    return None if samples is None else variance_of_mean(samples)


def difference_ends(found: MeanVariance) -> tuple[float, float]:
    """The interval of a difference, from `difference_variance`."""
    low, high = _ends_of_each(found)(np.array([1 - LEVEL]))
    return float(low[0]), float(high[0])


def _ends_of_each(found: MeanVariance) -> Callable[[ByCurve], tuple[ByCurve, ByCurve]]:
    """The intervals of differences, each from its three variances, at alphas: each at the level 1 - alpha."""
    win, loss, both = (found.of(slice(curve, None, 3)) for curve in range(3))
    covariance = (win.variance + loss.variance - both.variance) / 2
    known = zip(win.variance.tolist(), loss.variance.tolist(), covariance.tolist(), strict=True)
    correlation = np.array([correlation_of(*one) for one in known])
    # Two rankings of texts that are one: as for pairs, one prompt more might tell them apart.
    alike = (both.variance == 0) & (win.variance > 0)

    def ends(alpha: ByCurve) -> tuple[ByCurve, ByCurve]:
        (win_low, win_high), (loss_low, loss_high) = proportion_ends(win, alpha), proportion_ends(loss, alpha)
        below = _reach(win.mean - win_low, loss_high - loss.mean, correlation)
        above = _reach(win_high - win.mean, loss.mean - loss_low, correlation)
        # Where fits are few and differ, gain and loss vary against each other: their correlation is then too rough.
        own = np.where(alike, 1 - (alpha / 2) ** (1 / found.n_units), np.sqrt(both.reach(alpha)))
        difference = win.mean - loss.mean
        return difference - np.maximum(below, own), difference + np.maximum(above, own)

    return ends


def correlation_of(one: float, other: float, covariance: float) -> float:
    """A correlation from variances and their covariance; 0 where one of them is 0."""
    return min(1.0, max(-1.0, covariance / math.sqrt(one * other))) if one > 0 and other > 0 else 0.0


def _reach(one: ByCurve, other: ByCurve, correlation: ByCurve) -> ByCurve:
    """How far differences may lie off, where their two terms may lie this far off."""
    return np.sqrt(np.maximum(0.0, one**2 + other**2 - 2 * correlation * one * other))


def paired_terms(one: Evaluation, other: Evaluation) -> Values | None:
    """Two terms and their difference, by fit and item, whose means are those of a difference of accuracies.

    Of pairs, what one wins and the other loses, and the reverse: few pairs may differ where both methods win most. Of
    texts, which have no wins and losses, the pseudo-values of the two AUROCs (their difference is DeLong's).

    Returns:
        None where what a pair adds to an accuracy is unknown.
    """
    return _terms_of_each([(one, other)])


def _terms_of_each(compared: Sequence[tuple[Evaluation, Evaluation]]) -> Values | None:
    """`paired_terms` of each of many, one after the other; None where those of one are unknown."""
    credits = [known for one, other in compared if (known := _credits(one, other)) is not None]
    if len(credits) < len(compared):
        return None
    a, b = (np.stack(each) for each in zip(*credits, strict=True))
    terms = np.empty((len(a), 3, *np.broadcast_shapes(a.shape[1:], b.shape[1:])))
    gap = np.subtract(a, b, out=terms[:, 2])
    if isinstance(compared[0][0], TextEvaluation):
        terms[:, 0], terms[:, 1] = a, b
    else:
        np.maximum(gap, 0, out=terms[:, 0])
        np.maximum(-gap, 0, out=terms[:, 1])
    return terms.reshape(-1, *terms.shape[2:])


def _credits(one: Evaluation, other: Evaluation) -> tuple[ByFit, ByFit] | None:
    """What each item adds to the two accuracies, by the fits that are compared; None where that is unknown."""
    a, b = fit_credit(one), fit_credit(other)
    if a is None or b is None:
        return None
    if 1 < len(a) != len(b) > 1:
        both = min(len(a), len(b))
        a, b = a[:both], b[:both]
    return a, b
