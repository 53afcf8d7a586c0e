"""Elicitation and differential elicitation: shares of a capability, with intervals that count both.

An interval of a ratio is every ratio R at which the interval of (numerator - R * capability) holds 0, by MOVER
(Donner and Zou 2012) from the intervals of the two. Where both are of one target they are correlated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.metrics.differences import correlation_of, difference_ends, difference_variance, paired_terms
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.intervals import variance_of
from repeng.metrics.proportions import proportion_ends
from repeng.metrics.resampling import LEVEL, check_same_length, check_same_pairs
from repeng.metrics.variance import MeanVariance, fit_credit, gathered, variance_of_mean

HERE = ["the target"]


def elicitation(accuracy: float, capability: float) -> float:
    """Accuracy as a share of what the model is capable of when tuned on the target's reference.

    It may be above 1: the capability is that of the method which did best on held-out prompts of the reference's
    train split, and another may do better on the target.

    Raises:
        BadInput: the capability is 0, so that there is nothing to elicit.
    """
    _check_capability(capability)
    return accuracy / capability


def elicitation_capped(accuracy: float, capability: float) -> float:
    """Elicitation, or 1 where it is more."""
    return min(elicitation(accuracy, capability), 1.0)


def differential_elicitation(accuracy: float, baseline: float, capability: float) -> float:
    """Accuracy gained over the zero-shot baseline, as a share of the target-tuned capability.

    Raises:
        BadInput: the capability is 0, so that there is nothing to elicit.
    """
    _check_capability(capability)
    return (accuracy - baseline) / capability


def elicitation_interval(
    evaluation: Evaluation, capability: Evaluation, *, same_target: bool
) -> tuple[float, float] | None:
    """95 % interval of elicitation over the prompts and fits of both.

    Args:
        evaluation: the method on the target.
        capability: the best method, tuned on the target's reference, on that reference.
        same_target: whether the reference is the target itself, so that both answer the same prompts.

    Returns:
        (low, high), or None where one of them has no interval, or the capability's reaches down to 0.
    """
    if evaluation is capability:
        return (1.0, 1.0) if evaluation.accuracy > 0 else None
    over, under = variance_of(evaluation), variance_of(capability)
    if over is None or under is None:
        return None
    low, high = (float(end[0]) for end in proportion_ends(over))
    shared = _covariance(fit_credit(evaluation), evaluation, capability) if same_target else 0.0
    correlation = correlation_of(float(over.variance[0]), float(under.variance[0]), shared)
    return _ratio_interval(evaluation.accuracy, low, high, capability.accuracy, under, correlation)


def mean_elicitation_interval(
    evaluations: Sequence[Evaluation], targets: Sequence[str], capabilities: Sequence[float]
) -> tuple[float, float] | None:
    """95 % interval of the mean elicitation over shifts, over prompts and fits by Student's t, capability as measured.

    Args:
        evaluations: one for each shift.
        targets: the name of each one's target.
        capabilities: of each shift, above 0.

    Returns:
        (low, high), or None where the prompts or the pairs' share in an accuracy are unknown.
    """
    check_same_length(evaluations, targets)
    credits = [fit_credit(one) for one in evaluations]
    shares = [None if own is None else own[None] / by for own, by in zip(credits, capabilities, strict=True)]
    found = gathered(shares, evaluations, targets)
    if found is None:
        return None
    varies = variance_of_mean(found)
    mean, reach = float(varies.mean[0]), math.sqrt(float(varies.reach(1 - LEVEL)[0]))
    return mean - reach, mean + reach


def differential_elicitation_interval(
    evaluation: Evaluation, baseline: Evaluation, capability: Evaluation, *, same_target: bool
) -> tuple[float, float] | None:
    """95 % interval of differential elicitation; the baseline answers the same pairs as the evaluation.

    Args:
        evaluation: the method on the target.
        baseline: zero-shot on the target.
        capability: the best method, tuned on the target's reference, on that reference.
        same_target: whether the reference is the target itself.

    Returns:
        (low, high), or None where one of the three has no interval, or the capability's reaches down to 0.

    Raises:
        BadInput: evaluation and baseline do not hold the same pairs.
    """
    check_same_pairs(evaluation, baseline, HERE[0])
    if evaluation is baseline:
        return (0.0, 0.0)
    terms = paired_terms(evaluation, baseline)
    known = evaluation if evaluation.group is not None else baseline
    over, under = difference_variance([terms], [known], HERE), variance_of(capability)
    if over is None or under is None:
        return None
    low, high = difference_ends(over)
    shared = _covariance(None if terms is None else terms[2], known, capability) if same_target else 0.0
    correlation = correlation_of(float(over.variance[2]), float(under.variance[0]), shared)
    gain = float(over.mean[2])
    return _ratio_interval(gain, low, high, capability.accuracy, under, correlation)


def _check_capability(capability: float) -> None:
    if not capability > 0:
        raise BadInput(f"the target-tuned capability is {capability}; elicitation needs one above 0")


def _covariance(values: Float[np.ndarray, "fit pair"] | None, evaluation: Evaluation, capability: Evaluation) -> float:
    """Covariance over prompts of two means on one target, the fits being those that they are."""
    credit = fit_credit(capability)
    if values is None or credit is None:
        return 0.0
    own, other = values.mean(axis=0), credit.mean(axis=0)
    # Two shifts on one target: the variance of their sum less that of their difference.
    by_curve = [np.stack([own, own])[:, None], np.stack([other, -other])[:, None]]
    both = gathered(by_curve, [evaluation, capability], HERE * 2)
    if both is None:
        return 0.0
    of_sum, of_difference = variance_of_mean(both).prompts.tolist()
    return of_sum - of_difference


def _ratio_interval(
    value: float, low: float, high: float, capability: float, of: MeanVariance, correlation: float
) -> tuple[float, float] | None:
    """The interval of value / capability, from that of the value and the variance of the capability."""
    lowest, highest = (float(end[0]) for end in proportion_ends(of))
    below = _lowest_ratio(value, value - low, capability, lowest, highest, correlation)
    above = _lowest_ratio(-value, high - value, capability, lowest, highest, -correlation)
    return None if below is None or above is None else (below, -above)


def _lowest_ratio(
    value: float, reach: float, capability: float, lowest: float, highest: float, correlation: float
) -> float | None:
    """The smallest R at which value - R * capability may be 0; None where there is none.

    Args:
        value: the numerator.
        reach: how far below it may lie.
        capability: the denominator.
        lowest: how low that may be.
        highest: how high.
        correlation: of the two.
    """
    positive = value - reach >= 0
    off = highest - capability if positive else capability - lowest
    square, product = capability**2 - off**2, value * capability - correlation * reach * off
    constant = value**2 - reach**2
    root = math.sqrt(max(0.0, product**2 - constant * square))
    if positive:
        return constant / (product + root) if product + root > 0 else 0.0
    return (product - root) / square if square > 0 else None
