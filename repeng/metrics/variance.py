"""The variance of a mean over pairs, where pairs share prompts and a method was fitted several times.

Prompts and fits are crossed: every fit answers the same prompts. By the method of moments the variance of the mean is
that over prompts (of the mean over fits), plus that over fits, less what both count, the interaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from repeng.metrics.evaluation import Evaluation
from repeng.metrics.resampling import Units, resampling_units
from repeng.metrics.texts import TextEvaluation

NOTHING = 1e-15
"""A variance under this is that of rounding."""
BY_CURVE = ("mean", "prompts", "prompt_df", "fits")
"""What a `MeanVariance` knows of each mean."""

Values = Float[np.ndarray, "curve _fit _pair"]
ByCurve = Float[np.ndarray, " _curve"]
ByFit = Float[np.ndarray, "_fit _item"]


@dataclass(frozen=True, eq=False)
class TargetValues:
    """What shifts on one target add to a mean over pairs.

    Attributes:
        of_shifts: the values of each shift's pairs by fit, for one mean or for several ("curves") at once.
        units: the prompts that the shifts share.
        n_speaking: of pseudo-values of labelled texts, how many prompts hold the label that fewer hold. It takes the
            place of the number of prompts, since the rarer label is what limits such a figure.
    """

    of_shifts: tuple[Values, ...]
    units: Units
    n_speaking: int | None = None


@dataclass(frozen=True, eq=False)
class MeanVariance:
    """Means and what their variances are made of.

    Attributes:
        mean: the mean over shifts of the mean over fits and pairs.
        prompts: its variance over prompts (or over targets, where these are draws), as if there were no other fits.
        prompt_df: degrees of freedom of that (Satterthwaite's).
        fits: its variance over fits.
        fit_df: degrees of freedom of that.
        n_pairs: how many pairs there are.
        n_units: how many prompts speak where nothing varies: those of the smallest target, once for each shift.
        of_texts: whether these are means of pseudo-values of labelled texts, whose variance may itself be too low.
    """

    mean: ByCurve
    prompts: ByCurve
    prompt_df: ByCurve
    fits: ByCurve
    fit_df: int
    n_pairs: int
    n_units: int
    of_texts: bool = False

    def of(self, curves: slice) -> MeanVariance:
        """Those of some of the means."""
        return replace(self, **{name: getattr(self, name)[curves] for name in BY_CURVE})

    @property
    def variance(self) -> ByCurve:
        """Of the mean; 0 where nothing varies."""
        return self.prompts + self.fits

    def reach(self, alpha: float | ByCurve) -> ByCurve:
        """How far the mean may lie off, squared: each variance by the square of its own Student's t, summed.

        Where one variance outweighs the other this is the interval of that one alone. The usual sum with
        Satterthwaite's degrees of freedom is too short where a few fits happen to agree.
        """
        from scipy.special import stdtrit

        of_prompts, of_fits = (stdtrit(df, alpha / 2) ** 2 for df in (self.prompt_df, self.fit_df))
        return of_prompts * self.prompts + of_fits * self.fits


def one_after_other(parts: Sequence[MeanVariance]) -> MeanVariance:
    """The means of several, which are over the same pairs and prompts and as many fits."""
    joined: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in parts]) for name in BY_CURVE}
    return replace(parts[0], **joined)


def fit_credit(evaluation: Evaluation) -> Float[np.ndarray, "fit pair"] | None:
    """What each pair adds to the accuracy, by fit; None where that is unknown."""
    if evaluation.credit is None:
        return None
    as_won = evaluation.credit is evaluation.wins or np.array_equal(evaluation.credit, evaluation.wins)
    told = evaluation.n_fits > 1 and as_won
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
        n_speaking = speaking([evaluations[number] for number in places], units)
        if n_speaking is not None and n_speaking < 2:
            return None
        found.append(TargetValues(known, units, n_speaking))
    return found


def speaking(evaluations: Sequence[Evaluation], units: Units) -> int | None:
    """How many units hold the label that fewer units hold; None of pairs."""
    counts = [
        len(np.unique(of[one.labels == label]))
        for one, of in zip(evaluations, units.of_pairs, strict=True)
        if isinstance(one, TextEvaluation)
        for label in (True, False)
    ]
    return min(counts, default=None)


def variance_of_mean(targets: Sequence[TargetValues], *, sampled: bool = False) -> MeanVariance:
    """The mean over shifts of their means over pairs and fits, and its variance.

    The variance over prompts is never below that of pairs which were independent, nor below that of a single fit so
    far as one prompt goes: what one fit of five got wrong might as well have been wrong in all. In a mean over several
    targets, one without any spread counts as if one of its prompts might have differed. The variance over fits is
    added where it is above the interaction.

    Args:
        targets: the shifts, by target.
        sampled: whether the targets are draws too, so that they vary in place of their prompts; never less than the
            variance of targets as given.
    """
    n_shifts = sum(len(one.of_shifts) for one in targets)
    parts = [_part(one, n_shifts) for one in targets]
    mean = np.sum([one.mean for one in parts], axis=0)
    prompts = np.sum([one.prompts for one in parts], axis=0)
    squares = np.sum([one.prompts**2 / (one.n_units - 1) for one in parts], axis=0)
    df = np.divide(prompts**2, squares, out=np.ones_like(prompts), where=squares > 0)
    if len(parts) > 1:
        still = [np.where(one.prompts < NOTHING, one.least, 0.0) for one in parts]
        prompts = np.where(prompts < NOTHING, 0.0, prompts + np.sum(still, axis=0))
    fits = _of_fits(parts, within=True)
    if sampled and len(parts) > 1:
        count = len(parts)
        off = np.array([one.mean - one.share * mean for one in parts])
        between, between_fits = count / (count - 1) * np.sum(off**2, axis=0), _of_fits(parts, within=False)
        wider = between + between_fits > prompts + fits
        prompts, fits = np.where(wider, between, prompts), np.where(wider, between_fits, fits)
        df = np.where(wider, count - 1.0, df)
    return MeanVariance(
        mean,
        np.where(prompts < NOTHING, 0.0, prompts),
        df,
        np.where(fits < NOTHING, 0.0, fits),
        min((n_fits for one in parts for n_fits in one.by_fit), default=2) - 1,
        sum(values.shape[-1] for one in targets for values in one.of_shifts),
        n_shifts * min(one.n_units for one in parts),
        any(one.n_speaking is not None for one in targets),
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
    scale = n_units / (n_units - 1) * (most - 1) / most
    n_least = min(int(np.count_nonzero(np.bincount(of))) for of in units)
    if target.n_speaking is not None:
        n_units = n_least = target.n_speaking
        scale = n_units / (n_units - 1)
    over = scale * np.sum(np.asarray(over_units) ** 2, axis=1)
    of_one_fit = scale * sum(np.sum(own**2, axis=2).mean(axis=1) for own in by_unit.values())
    share = len(target.of_shifts) / n_shifts
    least = (share / n_least) ** 2
    residuals = {
        n_fits: n_units
        / ((n_units - 1) * (n_fits - 1) * n_fits)
        * np.sum((own - own.mean(axis=1, keepdims=True)) ** 2, axis=(1, 2))
        for n_fits, own in by_unit.items()
        if n_fits > 1
    }
    return _Part(
        np.asarray(mean),
        np.maximum(np.maximum(over, over_pairs), np.minimum(of_one_fit, least)),
        {n_fits: own for n_fits, own in by_fit.items() if n_fits > 1},
        residuals,
        n_units,
        least,
        share,
    )


def _by_unit(values: Values, units: Int[np.ndarray, " _pair"], n_units: int) -> Float[np.ndarray, "curve _fit unit"]:
    """Sums of the values of each unit's pairs."""
    counts = np.bincount(units)
    held = np.flatnonzero(counts)
    first = (np.cumsum(counts) - counts)[held]
    if (np.diff(units) < 0).any():
        values = values[:, :, np.argsort(units, kind="stable")]
    found = np.zeros((*values.shape[:2], n_units))
    # Two pairs of every prompt, as of three responses of which one is right: by far the sooner done so.
    paired = (counts[held] == 2).all()
    found[:, :, held] = values[:, :, ::2] + values[:, :, 1::2] if paired else np.add.reduceat(values, first, axis=2)
    return found


def _of_fits(parts: Sequence[_Part], *, within: bool) -> ByCurve:
    """The variance over fits, less the interaction, and not below 0.

    Fit k of every shift is of one seed: fits are taken together. Shifts with another number of fits are apart.

    Args:
        parts: of each target.
        within: whether fits interact with the prompts of targets as given, or with targets that are draws.
    """
    variance = np.zeros_like(parts[0].mean)
    for n_fits in sorted({number for one in parts for number in one.by_fit}):
        having = [one for one in parts if n_fits in one.by_fit]
        own = np.array([one.by_fit[n_fits] for one in having])
        over = np.var(own.sum(axis=0), axis=1, ddof=1) / n_fits
        if within:
            shared = np.sum([one.residuals[n_fits] for one in having], axis=0)
        elif len(having) > 1:
            left = own - own.sum(axis=0) * np.array([one.share for one in having])[:, None, None]
            left = left - left.mean(axis=2, keepdims=True)
            count = len(having)
            shared = count / ((count - 1) * (n_fits - 1) * n_fits) * np.sum(left**2, axis=(0, 2))
        else:
            shared = np.zeros_like(variance)
        variance = variance + np.maximum(over - shared, 0.0)
    return variance
