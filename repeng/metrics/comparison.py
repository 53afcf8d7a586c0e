"""Methods next to each other: shared mistakes, correlation across models, correction for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

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

AT_ONCE = 16
"""Pairs whose resamples are counted in one product of matrices."""


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
    return mistake_kappas([(a, b)], seed=seed, resamples=resamples)[0]


def mistake_kappas(
    pairs: Sequence[tuple[Evaluation, Evaluation]], *, seed: int = 0, resamples: int = 2000
) -> list[Estimate | None]:
    """`mistake_kappa` of each of many pairs, which are drawn together where they have equally many prompts.

    Raises:
        BadInput: as there.
    """
    check_resamples(resamples)
    found: list[Estimate | None] = []
    drawn: dict[int, list[tuple[int, Bool[np.ndarray, " cell"], Float[np.ndarray, "unit _held"]]]] = {}
    units_of = cache(lambda evaluation: resampling_units([evaluation]))
    for number, (a, b) in enumerate(pairs):
        check_same_pairs(a, b, "the target")
        cell = 3 * (2 * a.right).astype(int) + (2 * b.right).astype(int)
        counted = np.bincount(cell, minlength=9)
        value = float(_kappa(counted[None].astype(np.float64))[0])
        found.append(None if math.isnan(value) else Estimate(value))
        units = None if math.isnan(value) else units_of(a if a.group is not None else b)
        if units is not None:
            # The others, of ties for the most part, are empty in every resample too.
            held = counted > 0
            places = held.sum() * units.of_pairs[0] + (np.cumsum(held) - 1)[cell]
            by_unit = np.bincount(places, minlength=held.sum() * units.n_units).reshape(units.n_units, -1)
            drawn.setdefault(units.n_units, []).append((number, held, by_unit.astype(np.float64)))
    for n_units, tables in drawn.items():
        draws = _draws(n_units, resamples, seed)
        for first in range(0, len(tables), AT_ONCE):
            chosen = tables[first : first + AT_ONCE]
            # Counts, so that no order of summing them gives another sum.
            counts = draws @ np.concatenate([by_unit for *_, by_unit in chosen], axis=1)
            ends_of = np.cumsum([held.sum() for _, held, _ in chosen])
            for (number, held, _), own_counts in zip(chosen, np.split(counts, ends_of[:-1], axis=1), strict=True):
                tables_drawn = np.zeros((resamples, 9))
                tables_drawn[:, held] = own_counts
                kappas = _kappa(tables_drawn)
                own = found[number]
                if own is not None and not np.isnan(kappas).any():
                    found[number] = Estimate(own.value, *ends(kappas))
    return found


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
