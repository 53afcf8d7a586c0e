"""Methods next to each other: shared mistakes, correlation across models, correction for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import (
    LEVEL,
    Draws,
    Estimate,
    check_resamples,
    check_same_pairs,
    draw,
    ends,
    resampling_units,
)


def mistake_kappa(a: Evaluation, b: Evaluation, *, seed: int = 0, resamples: int = 2000) -> Estimate | None:
    """Cohen's kappa between what two methods get right and wrong on the same pairs: 1 if they fail alike, 0 by chance.

    Of labelled texts, what is right at the threshold that the source chose. A tie is a third verdict besides right and
    wrong. The interval is by bootstrap over prompt groups, and blank where groups are unknown or some resample leaves
    kappa undefined.

    Returns:
        Kappa with its interval; None where it is undefined, as both methods give one and the same verdict throughout.

    Raises:
        BadInput: the two do not hold the same pairs, or one holds a bare accuracy, or texts without probabilities.
    """
    check_resamples(resamples)
    check_same_pairs(a, b, "the target")
    verdicts = (2 * a.right).astype(int), (2 * b.right).astype(int)
    table = np.zeros((len(a.right), 9))
    table[np.arange(len(table)), 3 * verdicts[0] + verdicts[1]] = 1.0
    value = float(_kappa(table.sum(axis=0)[None])[0])
    if math.isnan(value):
        return None
    units = resampling_units([a if a.group is not None else b])
    if units is None:
        return Estimate(value)
    by_unit = np.zeros((units.n_units, 9))
    np.add.at(by_unit, units.of_pairs[0], table)
    drawn = _kappa(_draws(units.n_units, resamples, seed) @ by_unit)
    return Estimate(value) if np.isnan(drawn).any() else Estimate(value, *ends(drawn))


@lru_cache(maxsize=1)
def _draws(n_units: int, resamples: int, seed: int) -> Draws:
    """The draws of one seed: every two of many methods on the same prompts take the same ones."""
    return draw(n_units, resamples, np.random.default_rng(seed))


def _kappa(counts: Float[np.ndarray, "resample cell"]) -> Float[np.ndarray, " resample"]:
    """Kappa of 3 by 3 tables laid out in rows; nan where all falls in one cell."""
    shares = (counts / counts.sum(axis=1, keepdims=True)).reshape(-1, 3, 3)
    agreed = np.trace(shares, axis1=1, axis2=2)
    chance = np.einsum("rk,rk->r", shares.sum(axis=2), shares.sum(axis=1))
    undefined = np.isclose(chance, 1.0)
    return np.where(undefined, np.nan, (agreed - chance) / np.where(undefined, 1.0, 1.0 - chance))


def correlation(
    x: Sequence[float],
    y: Sequence[float],
    *,
    method: Literal["pearson", "spearman"] = "pearson",
) -> Estimate | None:
    """Correlation of two figures across models (or shifts), with an interval by Fisher's transformation.

    The interval needs four points or more, and for Spearman has the standard error of Bonett and Wright (2000). It
    takes the points as independent: models of one family are less.

    Returns:
        The correlation; None where it is undefined, with under two points or one side constant.

    Raises:
        BadInput: the sides differ in length, or a value is not finite.
    """
    if len(x) != len(y):
        raise BadInput(f"{len(x)} values on one side and {len(y)} on the other; give one of each for every model")
    both = np.array([x, y], dtype=np.float64).reshape(2, -1)
    if not np.isfinite(both).all():
        raise BadInput("a value is not finite; leave out models that lack one of the figures")
    if len(x) < 2 or bool((np.ptp(both, axis=1) == 0).any()):
        return None
    if method == "spearman":
        both = pd.DataFrame(both.T).rank().to_numpy().T
    value = float(np.asarray(np.corrcoef(both))[0, 1])
    if len(x) < 4:
        return Estimate(value)
    if abs(value) > 1 - 1e-12:
        return Estimate(value, value, value)
    variance = (1 + value**2 / 2 if method == "spearman" else 1.0) / (len(x) - 3)
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(variance)
    return Estimate(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's (1979) correction of the p-values of many comparisons: each adjusted one may be held against the level.

    Rejecting those under a level keeps the chance of any false rejection under it, whatever their dependence.

    Raises:
        BadInput: a p-value is not between 0 and 1.
    """
    p = np.array(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise BadInput("p-values lie between 0 and 1; leave out comparisons that have none")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return tuple(float(value) for value in adjusted)
