"""Methods next to each other: shared mistakes, correlation across models, correction for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from repeng.errors import BadInput
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import (
    LEVEL,
    Draws,
    Estimate,
    Units,
    check_resamples,
    check_same_pairs,
    draw,
    ends,
    resampling_units,
)

AT_ONCE = 16
"""Pairs whose resamples are counted in one product of matrices."""

VERDICTS = 3
"""Wrong, a tie, right; numbered from 0."""

Verdicts = Int[np.ndarray, " pair"]
ByDraw = Float[np.ndarray, " resample"]


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
    drawn: dict[int, list[tuple[int, Units]]] = {}
    units: dict[tuple[bytes | None, ...], Units | None] = {}
    verdicts = cache(lambda evaluation: (2 * evaluation.right).astype(int))
    for number, (a, b) in enumerate(pairs):
        check_same_pairs(a, b, "the target")
        counts = (np.bincount(verdicts(one), minlength=VERDICTS)[None].astype(np.float64) for one in (a, b))
        agreed = np.count_nonzero(verdicts(a) == verdicts(b))
        value = float(_kappa(np.array([float(agreed)]), *counts)[0])
        found.append(None if math.isnan(value) else Estimate(value))
        if math.isnan(value):
            continue
        grouped = a if a.group is not None else b
        if grouped.known_items not in units:
            units[grouped.known_items] = resampling_units([grouped])
        own = units[grouped.known_items]
        if own is not None:
            drawn.setdefault(own.n_units, []).append((number, own))
    for n_units, asked in drawn.items():
        both = [(verdicts(pairs[number][0]), verdicts(pairs[number][1]), own) for number, own in asked]
        by_pair = zip(asked, _drawn_kappas(_draws(n_units, resamples, seed), both), strict=True)
        for (number, _), by_draw in by_pair:
            estimate = found[number]
            if estimate is not None and not np.isnan(by_draw).any():
                found[number] = Estimate(estimate.value, *ends(by_draw))
    return found


def _drawn_kappas(draws: Draws, asked: Sequence[tuple[Verdicts, Verdicts, Units]]) -> Iterator[ByDraw]:
    """Kappa in every resample, of two methods' verdicts on the same pairs, which belong to some units.

    Counts are whole numbers, so that no order of summing them gives another sum.
    """
    # By the arrays themselves: each method stands in many pairs.
    alone = {(id(one), id(units)): (one, units) for a, b, units in asked for one in (a, b)}
    by_verdict = [_by_unit(one == verdict, units) for one, units in alone.values() for verdict in range(VERDICTS)]
    drawn = (draws @ np.stack(by_verdict, axis=1)).astype(np.float64)
    counts = dict(zip(alone, np.split(drawn, len(alone), axis=1), strict=True))
    for first in range(0, len(asked), AT_ONCE):
        chosen = asked[first : first + AT_ONCE]
        table = np.stack([_by_unit(a == b, units) for a, b, units in chosen], axis=1)
        agreed = (draws @ table).astype(np.float64)
        for (a, b, units), own in zip(chosen, agreed.T, strict=True):
            yield _kappa(own, counts[id(a), id(units)], counts[id(b), id(units)])


def _by_unit(held: Bool[np.ndarray, " pair"], units: Units) -> Float[np.ndarray, " unit"]:
    """How many pairs of each unit hold something."""
    return np.bincount(units.of_pairs[0], weights=held, minlength=units.n_units).astype(np.float32)


@lru_cache(maxsize=1)
def _draws(n_units: int, resamples: int, seed: int) -> Draws:
    """The draws of one seed: every two of many methods on the same prompts take the same ones."""
    return draw(n_units, resamples, np.random.default_rng(seed))


def _kappa(
    agreed: ByDraw, a: Float[np.ndarray, "resample verdict"], b: Float[np.ndarray, "resample verdict"]
) -> ByDraw:
    """Kappa from how many pairs two methods agree on, and how many each gives which verdict; nan where all are one."""
    n_pairs = a.sum(axis=1)
    chance = np.einsum("rk,rk->r", a / n_pairs[:, None], b / n_pairs[:, None])
    undefined = np.isclose(chance, 1.0)
    return np.where(undefined, np.nan, (agreed / n_pairs - chance) / np.where(undefined, 1.0, 1.0 - chance))


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
