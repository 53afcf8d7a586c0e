"""Two methods on the same pairs: the difference of their accuracies, with an interval and a p-value that agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from repeng.metrics.evaluation import Evaluation
from repeng.metrics.proportions import inverted_p, proportion_ends
from repeng.metrics.resampling import LEVEL, Estimate, check_same_length, check_same_pairs
from repeng.metrics.texts import TextEvaluation
from repeng.metrics.variance import MeanVariance, Values, fit_credit, gathered, variance_of_mean

ByFit = Float[np.ndarray, "_fit _item"]
AT_ONCE = 16
"""Differences computed at once; more take memory and are not sooner done."""


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
    estimates: list[Estimate] = []
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, (a, b, targets) in enumerate(compared):
        check_same_length(a, b)
        check_same_length(a, targets)
        for one, other, target in zip(a, b, targets, strict=True):
            check_same_pairs(one, other, target)
        shapes, values = [], []
        for one, other in zip(a, b, strict=True):
            credits = _credits(one, other)
            shapes.append(None if credits is None else (len(credits[0]), len(credits[1])))
            values.append(one.accuracy - other.accuracy if credits is None else (credits[0] - credits[1]).mean())
        estimates.append(Estimate(float(np.mean(values))))
        known = tuple(_said(one) for one in _with_groups(a, b))
        if None not in shapes:
            alike.setdefault((tuple(targets), tuple(shapes), known), []).append(number)
    for numbers in alike.values():
        for first in range(0, len(numbers), AT_ONCE):
            chosen = numbers[first : first + AT_ONCE]
            for number, found in zip(chosen, _variances([compared[number] for number in chosen]), strict=True):
                estimates[number] = _estimate(estimates[number].value, found)
    return estimates


def _with_groups(a: Sequence[Evaluation], b: Sequence[Evaluation]) -> list[Evaluation]:
    """Of every two the one that says what belongs to which prompt."""
    return [one if one.group is not None else other for one, other in zip(a, b, strict=True)]


def _said(one: Evaluation) -> tuple[object, ...]:
    """What an evaluation says of which items belong together, as a key."""
    arrays = (getattr(one, name, None) for name in ("group", "example", "labels"))
    return tuple(None if array is None else array.tobytes() for array in arrays)


def _variances(
    compared: Sequence[tuple[Sequence[Evaluation], Sequence[Evaluation], Sequence[str]]],
) -> list[MeanVariance | None]:
    """`difference_variance` of several, whose evaluations speak of the same items and have as many fits."""
    a, b, targets = compared[0]
    by_shift = [
        np.concatenate(
            [terms for (own, other, _) in compared if (terms := paired_terms(own[place], other[place])) is not None]
        )
        for place in range(len(targets))
    ]
    found = difference_variance(by_shift, _with_groups(a, b), targets)
    if found is None:
        return [None] * len(compared)
    return [found.of(slice(3 * place, 3 * place + 3)) for place in range(len(compared))]


def _estimate(value: float, found: MeanVariance | None) -> Estimate:
    if found is None:
        return Estimate(value)
    return Estimate(value, *difference_ends(found), inverted_p(lambda alpha: difference_ends(found, alpha), 0.0))


def difference_variance(
    terms: Sequence[Values | None], evaluations: Sequence[Evaluation], targets: Sequence[str]
) -> MeanVariance | None:
    """The variances of the two terms of `paired_terms` and of the difference, in this order; None where unknown."""
    samples = gathered(terms, evaluations, targets)
    return None if samples is None else variance_of_mean(samples)


def difference_ends(found: MeanVariance, alpha: float = 1 - LEVEL) -> tuple[float, float]:
    """The interval of a difference, from `difference_variance`, at the level 1 - alpha."""
    win, loss, _ = found.mean.tolist()
    own = math.sqrt(float(found.reach(alpha)[2]))
    lows, highs = proportion_ends(found, alpha)
    of_win, of_loss, of_both = found.variance.tolist()
    correlation = correlation_of(of_win, of_loss, (of_win + of_loss - of_both) / 2)
    below = _reach(win - float(lows[0]), float(highs[1]) - loss, correlation)
    above = _reach(float(highs[0]) - win, loss - float(lows[1]), correlation)
    if of_both == 0 < of_win:
        # Two rankings of texts that are one: as for pairs, one prompt more might tell them apart.
        own = 1 - (alpha / 2) ** (1 / found.n_units)
    # Where fits are few and differ, gain and loss vary against each other: their correlation is then too rough.
    return win - loss - max(below, own), win - loss + max(above, own)


def correlation_of(one: float, other: float, covariance: float) -> float:
    """A correlation from variances and their covariance; 0 where one of them is 0."""
    return min(1.0, max(-1.0, covariance / math.sqrt(one * other))) if one > 0 and other > 0 else 0.0


def _reach(one: float, other: float, correlation: float) -> float:
    """How far a difference may lie off, where its two terms may lie this far off."""
    return math.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other))


def paired_terms(one: Evaluation, other: Evaluation) -> Values | None:
    """Two terms and their difference, by fit and item, whose means are those of a difference of accuracies.

    Of pairs, what one wins and the other loses, and the reverse: few pairs may differ where both methods win most. Of
    texts, which have no wins and losses, the pseudo-values of the two AUROCs (their difference is DeLong's).

    Returns:
        None where what a pair adds to an accuracy is unknown.
    """
    credits = _credits(one, other)
    if credits is None:
        return None
    a, b = credits
    gap = a - b
    if isinstance(one, TextEvaluation):
        return np.stack([*np.broadcast_arrays(a, b), gap])
    return np.stack([np.maximum(gap, 0), np.maximum(-gap, 0), gap])


def _credits(one: Evaluation, other: Evaluation) -> tuple[ByFit, ByFit] | None:
    """What each item adds to the two accuracies, by the fits that are compared; None where that is unknown."""
    a, b = fit_credit(one), fit_credit(other)
    if a is None or b is None:
        return None
    if 1 < len(a) != len(b) > 1:
        both = min(len(a), len(b))
        a, b = a[:both], b[:both]
    return a, b
