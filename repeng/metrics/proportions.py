"""Intervals of proportions by Korn and Graubard (1998), and p-values by inverting an interval."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from repeng.metrics.resampling import LEVEL
from repeng.metrics.variance import ByCurve, MeanVariance

SMALLEST_P, LARGEST_P = 1e-15, 0.9999
"""P-values beyond these are not told apart: where one is larger it is 1."""


def proportion_ends(of: MeanVariance, alpha: float | ByCurve = 1 - LEVEL) -> tuple[ByCurve, ByCurve]:
    """The interval of means that lie between 0 and 1, at the level 1 - alpha, which each may have of its own.

    Clopper and Pearson's exact interval of a proportion, with the number of independent pairs whose mean would reach
    as far, by Student's t. Where nothing varies (all right, or all wrong) the prompts are the pairs.
    """
    from scipy.special import betaincinv, stdtrit

    tail = alpha / 2
    varies = of.variance > 0
    alone = np.clip(of.mean * (1 - of.mean), 0.0, None) * stdtrit(max(of.n_pairs - 1, 1), tail) ** 2
    size = np.divide(alone, of.reach(alpha), out=np.full_like(of.mean, of.n_units), where=varies)
    if of.of_texts:
        # Near 1 few texts are ranked wrongly, and where a draw has none of the worst its variance is too low: half a
        # prompt more, of the rarer label and ranked at random, is added to it.
        size = size / (1 + size / (2 * of.n_units**2))
    won, lost = size * of.mean, size * (1 - of.mean)
    some_won, some_lost = won > 0, lost > 0
    low = np.where(some_won, betaincinv(np.where(some_won, won, 1.0), lost + 1, tail), 0.0)
    high = np.where(some_lost, betaincinv(won + 1, np.where(some_lost, lost, 1.0), 1 - tail), 1.0)
    reach = 1 - tail ** (1 / of.n_units)
    low = np.where(varies, low, np.maximum(of.mean - reach, 0.0))
    high = np.where(varies, high, np.minimum(of.mean + reach, 1.0))
    return np.minimum(low, of.mean), np.maximum(high, of.mean)


def inverted_p_values(ends: Callable[[ByCurve], tuple[ByCurve, ByCurve]], null: float, count: int) -> ByCurve:
    """`inverted_p` of many intervals at once.

    Args:
        ends: the intervals, each at an alpha of its own.
        null: the value in question.
        count: how many intervals there are.
    """

    def left_out(alpha: ByCurve) -> Bool[np.ndarray, " _curve"]:
        low, high = ends(alpha)
        return (low > null) | (high < null)

    level = 1 - LEVEL
    beyond = left_out(np.full(count, level))
    last = np.where(beyond, SMALLEST_P, LARGEST_P)
    found_last = left_out(last) == beyond
    inside = np.log(np.where(beyond, last, level))
    outside = np.log(np.where(beyond, level, last))
    for _ in range(40):
        middle = (inside + outside) / 2
        out = left_out(np.exp(middle))
        inside, outside = np.where(out, inside, middle), np.where(out, middle, outside)
    p = np.exp(outside)
    p = np.where(beyond, np.minimum(p, math.nextafter(level, 0)), np.maximum(p, level))
    return np.where(found_last, np.where(beyond, SMALLEST_P, 1.0), p)


def inverted_p(ends: Callable[[float], tuple[float, float]], null: float) -> float:
    """The two-sided p-value of `null`: the largest alpha at which the interval still holds it.

    Under 0.05 exactly where the 95 % interval leaves `null` out.

    Args:
        ends: the interval at an alpha; a smaller alpha must give one that holds it.
        null: the value in question.
    """

    def left_out(alpha: float) -> bool:
        low, high = ends(alpha)
        return bool(low > null or high < null)

    level = 1 - LEVEL
    if left_out(level):
        inside, outside = math.log(SMALLEST_P), math.log(level)
        if left_out(SMALLEST_P):
            return SMALLEST_P
    else:
        inside, outside = math.log(level), math.log(LARGEST_P)
        if not left_out(LARGEST_P):
            return 1.0
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if left_out(math.exp(middle)) else (middle, outside)
    p = math.exp(outside)
    return min(p, math.nextafter(level, 0)) if left_out(level) else max(p, level)
