"""The variance of a mean over pairs, where pairs share prompts and a method was fitted several times.

Prompts and fits are crossed: every fit answers the same prompts. By the method of moments the variance of the mean is
that over prompts (of the mean over fits), plus that over fits, less what both count, the interaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import Units, resampling_units

NOTHING = 1e-15
"""A variance under this is that of rounding."""

Values = Float[np.ndarray, "curve _fit _pair"]
ByCurve = Float[np.ndarray, " _curve"]


@dataclass(frozen=True, eq=False)
class TargetValues:
    """What shifts on one target add to a mean over pairs.

    Attributes:
        of_shifts: the values of each shift's pairs by fit, for one mean or for several ("curves") at once.
        units: the prompts that the shifts share.
    """

    of_shifts: tuple[Values, ...]
    units: Units


@dataclass(frozen=True, eq=False)
class MeanVariance:
    """Means and their variances.

    Attributes:
        mean: the mean over shifts of the mean over fits and pairs.
        variance: of that mean; 0 where nothing varies.
        prompts: the part of it that is due to prompts alone, as if the method had these fits and no others.
        df: degrees of freedom of the variance (Satterthwaite's).
        n_pairs: how many pairs there are.
        n_units: how many prompts speak where nothing varies: those of the smallest target, once for each shift.
    """

    mean: ByCurve
    variance: ByCurve
    prompts: ByCurve
    df: ByCurve
    n_pairs: int
    n_units: int


def fit_credit(evaluation: Evaluation) -> Float[np.ndarray, "fit pair"] | None:
    """What each pair adds to the accuracy, by fit; None where that is unknown."""
    if evaluation.credit is None:
        return None
    told = evaluation.n_fits > 1 and np.array_equal(evaluation.credit, evaluation.wins)
    return evaluation.fit_wins if told else evaluation.credit[None]


def gathered(
    values: Sequence[Values | None], evaluations: Sequence[Evaluation], targets: Sequence[str]
) -> list[TargetValues] | None:
    """Shifts by target; None where a value or a group is unknown, or a target has one prompt only.

    Args:
        values: of each shift's pairs.
        evaluations: of the same pairs; they say what belongs to which prompt.
        targets: the name of each shift's target.
    """
    found = []
    for target in dict.fromkeys(targets):
        places = [number for number, name in enumerate(targets) if name == target]
        units = resampling_units([evaluations[number] for number in places])
        known = tuple(value for number in places if (value := values[number]) is not None)
        if units is None or len(known) < len(places):
            return None
        found.append(TargetValues(known, units))
    return found


def variance_of_mean(targets: Sequence[TargetValues], *, sampled: bool = False) -> MeanVariance:
    """The mean over shifts of their means over pairs and fits, and its variance.

    The variance over prompts is never below that of pairs which were independent; a target without any spread counts
    as if one of its prompts might have differed. The variance over fits is added where it is above the interaction.

    Args:
        targets: the shifts, by target.
        sampled: whether the targets are draws too, so that they vary in place of their prompts; never less than the
            variance of targets as given.
    """
    n_shifts = sum(len(one.of_shifts) for one in targets)
    parts = [_part(one, n_shifts) for one in targets]
    mean = np.sum([one.mean for one in parts], axis=0)
    spread = [one.prompts for one in parts]
    prompts = np.sum(spread, axis=0)
    squares = np.sum([one.prompts**2 / (one.n_units - 1) for one in parts], axis=0)
    if len(parts) > 1:
        still = [np.where(own < NOTHING, one.least, 0.0) for own, one in zip(spread, parts, strict=True)]
        prompts = np.where(prompts < NOTHING, 0.0, prompts + np.sum(still, axis=0))
    fits, fit_squares = _of_fits(parts)
    variance, squares = prompts + fits, squares + fit_squares
    if sampled and len(parts) > 1:
        between, between_squares = _between(parts)
        wider = between > variance
        variance, squares = np.where(wider, between, variance), np.where(wider, between_squares, squares)
    variance = np.where(variance < NOTHING, 0.0, variance)
    df = np.divide(variance**2, squares, out=np.ones_like(variance), where=squares > 0)
    n_pairs = sum(values.shape[-1] for one in targets for values in one.of_shifts)
    return MeanVariance(
        mean, variance, np.minimum(prompts, variance), df, n_pairs, n_shifts * min(one.n_units for one in parts)
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """What one target adds to the mean, and how that varies.

    Attributes:
        prompts: its variance over prompts.
        by_fit: for each number of fits what the shifts with that many add, by fit.
        residuals: for each number of fits the variance of what is neither the prompt's nor the fit's.
        least: the variance of one prompt that differs.
        share: of the shifts that are on this target.
    """

    mean: ByCurve
    prompts: ByCurve
    by_fit: dict[int, Float[np.ndarray, "curve fit"]]
    residuals: dict[int, ByCurve]
    n_units: int
    least: float
    share: float


def _part(target: TargetValues, n_shifts: int) -> _Part:
    units, n_units = target.units.of_pairs, target.units.n_units
    present = [len(np.unique(of)) for of in units]
    mean, over_units, over_pairs = 0.0, 0.0, 0.0
    by_fit: dict[int, np.ndarray] = {}
    by_unit: dict[int, np.ndarray] = {}
    aligned = all(np.array_equal(units[0], of) for of in units)
    off_pairs = 0.0
    for values, of in zip(target.of_shifts, units, strict=True):
        n_fits, n_pairs = values.shape[1:]
        own = values.mean(axis=2)
        off = (values - own[:, :, None]) / (n_pairs * n_shifts)
        mean = mean + own.mean(axis=1) / n_shifts
        summed = _by_unit(off, of, n_units)
        over_units = over_units + summed.mean(axis=1)
        by_fit[n_fits] = by_fit.get(n_fits, 0.0) + own / n_shifts
        by_unit[n_fits] = by_unit.get(n_fits, 0.0) + summed
        if aligned:
            off_pairs = off_pairs + off.mean(axis=1)
        else:
            over_pairs = over_pairs + np.sum(off.mean(axis=1) ** 2, axis=1)
    if aligned:
        over_pairs = np.sum(np.asarray(off_pairs) ** 2, axis=1)
    most = max(values.shape[-1] for values in target.of_shifts)
    # Of one pair a prompt this is p (1 - p) / n, so that the interval is Clopper and Pearson's own.
    over = n_units / (n_units - 1) * (most - 1) / most * np.sum(np.asarray(over_units) ** 2, axis=1)
    residuals = {
        n_fits: n_units
        / ((n_units - 1) * (n_fits - 1) * n_fits)
        * np.sum((own - own.mean(axis=1, keepdims=True)) ** 2, axis=(1, 2))
        for n_fits, own in by_unit.items()
        if n_fits > 1
    }
    share = len(target.of_shifts) / n_shifts
    return _Part(
        np.asarray(mean),
        np.maximum(over, over_pairs),
        {n_fits: own for n_fits, own in by_fit.items() if n_fits > 1},
        residuals,
        n_units,
        (share / min(present)) ** 2,
        share,
    )


def _by_unit(values: Values, units: Int[np.ndarray, " _pair"], n_units: int) -> Float[np.ndarray, "curve _fit unit"]:
    """Sums of the values of each unit's pairs."""
    order = np.argsort(units, kind="stable")
    held, first = np.unique(units[order], return_index=True)
    found = np.zeros((*values.shape[:2], n_units))
    found[:, :, held] = np.add.reduceat(values[:, :, order], first, axis=2)
    return found


def _of_fits(parts: Sequence[_Part]) -> tuple[ByCurve, ByCurve]:
    """The variance over fits, less the interaction where it is larger; and its term of Satterthwaite's formula.

    Fit k of every shift is of one seed: fits are taken together. Shifts with another number of fits are apart.
    """
    variance, squares = np.zeros_like(parts[0].mean), np.zeros_like(parts[0].mean)
    for n_fits in {number for one in parts for number in one.by_fit}:
        having = [one for one in parts if n_fits in one.by_fit]
        over = np.var(np.sum([one.by_fit[n_fits] for one in having], axis=0), axis=1, ddof=1) / n_fits
        shared = np.sum([one.residuals[n_fits] for one in having], axis=0)
        variance = variance + np.maximum(over - shared, 0.0)
        squares = squares + over**2 / (n_fits - 1)
    return variance, squares


def _between(parts: Sequence[_Part]) -> tuple[ByCurve, ByCurve]:
    """As `_of_fits`, where targets are draws: the variance over targets and fits."""
    count = len(parts)
    shares = np.array([one.share for one in parts])
    means = np.array([one.mean for one in parts])
    off = means - means.sum(axis=0) * shares[:, None]
    variance = count / (count - 1) * np.sum(off**2, axis=0)
    squares = variance**2 / (count - 1)
    for n_fits in {number for one in parts for number in one.by_fit}:
        own = np.array([one.by_fit.get(n_fits, np.zeros((len(means[0]), n_fits))) for one in parts])
        over = np.var(own.sum(axis=0), axis=1, ddof=1) / n_fits
        left = own - own.sum(axis=0) * shares[:, None, None]
        left = left - left.mean(axis=2, keepdims=True)
        shared = count / ((count - 1) * (n_fits - 1) * n_fits) * np.sum(left**2, axis=(0, 2))
        variance = variance + np.maximum(over - shared, 0.0)
        squares = squares + over**2 / (n_fits - 1)
    return variance, squares
