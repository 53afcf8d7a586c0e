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
HALVINGS = 40
"""Of the logarithms among which a p-value lies."""


def proportion_ends(of: MeanVariance, alpha: float | ByCurve = 1 - LEVEL) -> tuple[ByCurve, ByCurve]:
    """The interval of means that lie between 0 and 1, at the level 1 - alpha, which each may have of its own.

    Clopper and Pearson's exact interval of a proportion, with the number of independent pairs whose mean would reach
    as far, by Student's t. Where nothing varies (all right, or all wrong) the prompts are the pairs.
    """
    from scipy.special import betaincinv, stdtrit

    tail = alpha / 2
    varies = of.variance > 0
    alone = np.maximum(of.mean * (1 - of.mean), 0.0) * stdtrit(max(of.n_pairs - 1, 1), tail) ** 2
    size = np.divide(alone, of.reach(alpha), out=np.full_like(of.mean, of.n_units), where=varies)
    if of.of_texts:
        # Near 1 few texts are ranked wrongly, and where a draw has none of the worst its variance is too low: half a
        # prompt more, of the rarer label and ranked at random, is added to it.
        size = size / (1 + size / (2 * of.n_units**2))
    won, lost = size * of.mean, size * (1 - of.mean)
    low = np.where(won > 0, betaincinv(won, lost + 1, tail), 0.0)
    high = np.where(lost > 0, betaincinv(won + 1, lost, 1 - tail), 1.0)
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
    for _ in range(HALVINGS):
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

    def margin(alpha: float) -> float:
        low, high = ends(alpha)
        return max(low - null, null - high)

    level = 1 - LEVEL
    at_level = margin(level)
    other = SMALLEST_P if at_level > 0 else LARGEST_P
    at_other = margin(other)
    if at_level > 0 and at_other > 0:
        return SMALLEST_P
    if at_level <= 0 and at_other <= 0:
        return 1.0
    inside, outside = sorted([(math.log(level), at_level), (math.log(other), at_other)])
    p = math.exp(halved(lambda log_alpha: margin(math.exp(log_alpha)), inside, outside))
    return min(p, math.nextafter(level, 0)) if at_level > 0 else max(p, level)


def halved(rising: Callable[[float], float], inside: tuple[float, float], outside: tuple[float, float]) -> float:
    """The outer end of a stretch that was halved `HALVINGS` times towards the root of a function.

    Halvings ask of each middle only whether the function is above 0 there. The Illinois method (Dowell and Jarratt
    1971) closes in on the root first, in fewer calls, and of what is well beyond that the answer is known.

    Args:
        rising: a function whose values never fall.
        inside: the lower end, and a value there that is not above 0.
        outside: the higher end, and a value there above 0.
    """
    (low, below), (high, above) = inside, outside
    # Nearer to the root than this, rounding may tell the side.
    near = (high - low) / 2 ** (HALVINGS - 2)
    risen = None
    for _ in range(HALVINGS):
        if high - low <= 2 * near:
            break
        # A step at least, so that the other end comes near as well.
        guess = min(max(low + (high - low) * below / (below - above), low + near), high - near)
        value = rising(guess)
        again, risen = risen is (value > 0), value > 0
        if risen:
            high, above, below = guess, value, below / 2 if again else below
        else:
            low, below, above = guess, value, above / 2 if again else above
    inner, outer = inside[0], outside[0]
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        known = not low - near < middle < high + near
        is_above = middle > low if known else rising(middle) > 0
        inner, outer = (inner, middle) if is_above else (middle, outer)
    return outer
