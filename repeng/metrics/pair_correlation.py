"""Correlation over the pairs of one target, with an interval over their prompts."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from repeng.errors import BadInput
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import LEVEL, Estimate, resampling_units

CERTAIN = 1 - 1e-12
"""A correlation this far from 0 is one of 1, but for rounding."""
BLOCK = 2**22
"""How many comparisons of two pairs are held at once."""


def grouped_correlation(
    x: Float[np.ndarray, "fit pair"], y: Float[np.ndarray, " pair"], of: Evaluation
) -> Estimate | None:
    """Pearson's correlation over pairs, pooled over fits; of right and wrong this is phi.

    The interval leaves out one prompt group at a time (the jackknife) on Fisher's scale, with Student's t.

    Args:
        x: by fit and pair.
        y: by pair, the same for every fit.
        of: an evaluation of these pairs, which says what belongs to which prompt; unknown prompts leave no interval.

    Returns:
        None where it is undefined, as one side is constant.

    Raises:
        BadInput: the sides differ in length.
    """
    _check(x.shape[1], y, of)
    known = resampling_units([of])
    units, n_units = (np.arange(len(y)), len(y)) if known is None else (known.of_pairs[0], known.n_units)
    # Centred, so that the sums of squares keep their digits.
    x, y = x - x.mean(), y - y.mean()
    ones = np.full_like(x, 1.0)
    terms = [term.sum(axis=0) for term in (ones, x, ones * y, x * x, x * y, ones * y * y)]
    by_unit = np.array([np.bincount(units, weights=term, minlength=n_units) for term in terms])
    whole = by_unit.sum(axis=1, keepdims=True)
    value = float(_pearson(whole)[0])
    if math.isnan(value):
        return None
    return Estimate(value) if known is None else _jackknifed(value, _pearson(whole - by_unit))


def grouped_rank_correlation(
    x: Float[np.ndarray, " pair"], y: Float[np.ndarray, " pair"], of: Evaluation
) -> Estimate | None:
    """Spearman's correlation over pairs, with the interval of `grouped_correlation`; ties take their middle rank."""
    _check(len(x), y, of)
    known = resampling_units([of])
    units = None if known is None else known.of_pairs[0]
    ranks = np.array([_ranks(x), _ranks(y)])
    centred = ranks - ranks.mean()
    value = float(_pearson(_moments(centred[0], centred[1], np.ones(len(y))))[0])
    if math.isnan(value) or known is None or units is None:
        return None if math.isnan(value) else Estimate(value)
    step = max(1, BLOCK // len(y))
    left = [
        _without(ranks, np.array([x, y]), units, np.arange(first, min(first + step, known.n_units)))
        for first in range(0, known.n_units, step)
    ]
    return _jackknifed(value, np.concatenate(left))


def _check(n_pairs: int, y: Float[np.ndarray, " pair"], of: Evaluation) -> None:
    if n_pairs != len(y) or of.n_items != n_pairs:
        raise BadInput(f"{n_pairs} and {len(y)} values of {of.n_items} pairs; give one of each for every pair")


def _ranks(values: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _without(
    ranks: Float[np.ndarray, "side pair"],
    values: Float[np.ndarray, "side pair"],
    units: Int[np.ndarray, " pair"],
    left_out: Int[np.ndarray, " unit"],
) -> Float[np.ndarray, " unit"]:
    """The rank correlation of the other pairs without each of some units: a pair's rank falls by those below it."""
    keep = units[None] != left_out[:, None]
    own = np.zeros((2, *keep.shape))
    for place, unit in enumerate(left_out):
        gone = values[:, units == unit]
        below = (gone[:, :, None] < values[:, None]).sum(axis=1) + (gone[:, :, None] == values[:, None]).sum(axis=1) / 2
        own[:, place] = ranks - below
    own -= ranks.mean()
    return _pearson(_moments(own[0], own[1], keep.astype(np.float64)))


def _moments(
    x: Float[np.ndarray, "*unit pair"], y: Float[np.ndarray, "*unit pair"], weights: Float[np.ndarray, "*unit pair"]
) -> Float[np.ndarray, "moment unit"]:
    terms = [weights, weights * x, weights * y, weights * x * x, weights * x * y, weights * y * y]
    return np.array([np.atleast_1d(term.sum(axis=-1)) for term in terms])


def _pearson(moments: Float[np.ndarray, "moment unit"]) -> Float[np.ndarray, " unit"]:
    """Correlations from counts and sums of x, y, xx, xy and yy; nan where a side is constant."""
    count, x, y, xx, xy, yy = moments
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_x, spread_y = (xx - x**2 / count) / count, (yy - y**2 / count) / count
        found = (xy - x * y / count) / count / np.sqrt(spread_x * spread_y)
    flat = (spread_x <= 1e-12 * xx.max(initial=0.0) / count) | (spread_y <= 1e-12 * yy.max(initial=0.0) / count)
    return np.where(flat, np.nan, np.clip(found, -1.0, 1.0))


def _jackknifed(value: float, left: Float[np.ndarray, " unit"]) -> Estimate:
    """The interval from the correlations without each prompt; none where one of these is undefined."""
    from scipy.special import stdtrit

    if np.isnan(left).any():
        return Estimate(value)
    if abs(value) > CERTAIN:
        return Estimate(value, value, value)
    z = np.arctanh(np.clip(left, -CERTAIN, CERTAIN))
    spread = math.sqrt((len(z) - 1) / len(z) * float(((z - z.mean()) ** 2).sum()))
    reach = float(stdtrit(len(z) - 1, (1 + LEVEL) / 2)) * spread
    return Estimate(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))
