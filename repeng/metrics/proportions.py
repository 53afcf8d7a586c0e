"""Intervals of proportions by Korn and Graubard (1998), and p-values by inverting an interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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
    """Two-sided p-values of `null`: the largest alpha at which each interval still holds it.

    Under 0.05 exactly where the 95 % interval leaves `null` out.

    Args:
        ends: the intervals, each at an alpha of its own; a smaller alpha must give one that holds it.
        null: the value in question.
        count: how many intervals there are.
    """

    def margin(alpha: ByCurve) -> ByCurve:
        low, high = ends(alpha)
        return np.maximum(low - null, null - high)

    level = np.full(count, 1 - LEVEL)
    at_level = margin(level)
    beyond = at_level > 0
    last = np.where(beyond, SMALLEST_P, LARGEST_P)
    at_last = margin(last)
    within = np.log(np.where(beyond, last, level)), np.where(beyond, at_last, at_level)
    outside = np.log(np.where(beyond, level, last)), np.where(beyond, at_level, at_last)
    p = np.exp(halved(lambda log_alpha: margin(np.exp(log_alpha)), within, outside))
    p = np.where(beyond, np.minimum(p, np.nextafter(level, 0)), np.maximum(p, level))
    return np.where((at_last > 0) == beyond, np.where(beyond, SMALLEST_P, 1.0), p)


def halved(
    rising: Callable[[ByCurve], ByCurve], inside: tuple[ByCurve, ByCurve], outside: tuple[ByCurve, ByCurve]
) -> ByCurve:
    """The outer ends of stretches that were each halved `HALVINGS` times towards the root of a function of its own.

    Halvings ask of each middle only whether the function is above 0 there. The Illinois method (Dowell and Jarratt
    1971) closes in on the roots first, in fewer calls, and of what is well beyond them the answer is known.

    Args:
        rising: the functions, whose values never fall, each at a place of its own.
        inside: the lower ends, and values there that are not above 0. What comes of others says nothing.
        outside: the higher ends, and values there above 0.
    """
    (low, below), (high, above) = inside, outside
    # Nearer to the root than this, rounding may tell the side.
    near = (high - low) / 2 ** (HALVINGS - 2)
    crosses = (below <= 0) & (above > 0)
    was_above = was_below = np.zeros_like(crosses)
    for _ in range(HALVINGS):
        closing = crosses & (high - low > 2 * near)
        if not closing.any():
            break
        # A step at least, so that the other end comes near as well.
        share = np.divide(below, below - above, out=np.zeros_like(below), where=closing)
        guess = np.minimum(np.maximum(low + (high - low) * share, low + near), high - near)
        value = rising(guess)
        is_above, is_below = closing & (value > 0), closing & (value <= 0)
        low, high = np.where(is_below, guess, low), np.where(is_above, guess, high)
        below, above = (
            np.where(is_below, value, np.where(is_above & was_above, below / 2, below)),
            np.where(is_above, value, np.where(is_below & was_below, above / 2, above)),
        )
        was_above, was_below = is_above, is_below
    inner, outer = inside[0], outside[0]
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        is_above = middle > low
        unknown = crosses & (low - near < middle) & (middle < high + near)
        if unknown.any():
            is_above = np.where(unknown, rising(middle) > 0, is_above)
        inner, outer = np.where(is_above, inner, middle), np.where(is_above, middle, outer)
    return outer
