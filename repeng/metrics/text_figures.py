"""Figures of labelled texts besides the AUROC, each with its 95 % interval over groups and fits.

Shares (accuracy, recall) have the interval of accuracies. Balanced accuracy is a sum of two shares, whose interval is
made of theirs (MOVER, Zou and Donner 2008). Average precision has the interval of its pseudo-values (`ranking.py`).
Thresholds are taken as given. docs/intervals.md says how often these intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from repeng.maths import FALSE_POSITIVE_RATES
from repeng.metrics.differences import correlation_of
from repeng.metrics.intervals import accuracy_interval
from repeng.metrics.proportions import proportion_ends
from repeng.metrics.ranking import average_precision_values, class_mean_values
from repeng.metrics.resampling import LEVEL, Estimate, Units
from repeng.metrics.texts import TextEvaluation
from repeng.metrics.variance import MeanVariance, TargetValues, speaking, variance_of_mean

ByText = Float[np.ndarray, "fit text"]


def accuracy_at_threshold(texts: TextEvaluation) -> Estimate | None:
    """The share of texts that get their own label with a probability above 0.5; 0.5 exactly counts half.

    Returns:
        None where the method is not calibrated.
    """
    return None if texts.probabilities is None else _share(texts.fit_right, texts)


def balanced_accuracy(texts: TextEvaluation) -> Estimate | None:
    """The mean of that share among the texts with the label and that among those without.

    Returns:
        None where the method is not calibrated.
    """
    if texts.probabilities is None:
        return None
    right = texts.fit_right
    value = (np.mean(right[:, texts.labels]) + np.mean(right[:, ~texts.labels])) / 2
    found = _of_values(class_mean_values(right, texts.labels), texts)
    one, other = (_of_share(right, texts, where) for where in (texts.labels, ~texts.labels))
    if found is None or one is None or other is None:
        return Estimate(float(value))
    of_one, of_other = float(one.variance[0]) / 4, float(other.variance[0]) / 4
    correlation = correlation_of(of_one, of_other, (float(found.variance[0]) - of_one - of_other) / 2)
    means, (lows, highs) = [float(half.mean[0]) for half in (one, other)], zip(_ends(one), _ends(other), strict=True)
    below = _reach_of_mean(means[0] - lows[0], means[1] - lows[1], correlation)
    above = _reach_of_mean(highs[0] - means[0], highs[1] - means[1], correlation)
    # Where fits are few and differ, the two shares vary against each other: their correlation is then too rough.
    own = math.sqrt(float(found.reach(1 - LEVEL)[0])) if found.fits[0] > 0 else 0.0
    return Estimate(float(value), max(0.0, value - max(below, own)), min(1.0, value + max(above, own)))


def recall_at_1(texts: TextEvaluation) -> Estimate | None:
    """The share of texts with the label that score above the threshold of 1 % false positives; None without one."""
    return _recall(texts, FALSE_POSITIVE_RATES.index(0.01))


def recall_at_5(texts: TextEvaluation) -> Estimate | None:
    """The share of texts with the label that score above the threshold of 5 % false positives; None without one."""
    return _recall(texts, FALSE_POSITIVE_RATES.index(0.05))


def false_positives_at_1(texts: TextEvaluation) -> float:
    """The share of the target's own texts without the label that the threshold of 1 % flags; nan without one."""
    return _false_positives(texts, FALSE_POSITIVE_RATES.index(0.01))


def false_positives_at_5(texts: TextEvaluation) -> float:
    """The share of the target's own texts without the label that the threshold of 5 % flags; nan without one."""
    return _false_positives(texts, FALSE_POSITIVE_RATES.index(0.05))


def average_precision_of(texts: TextEvaluation) -> Estimate:
    """The mean over fits of `ranking.average_precision`. A method that says nothing reaches the share of positives."""
    values = average_precision_values(texts.text_scores, texts.labels)
    found = _of_values(values, texts)
    value = float(values.mean())
    return Estimate(value) if found is None else Estimate(value, *_ends(found))


def brier_of(texts: TextEvaluation) -> Estimate | None:
    """The mean square of 1 - the probability of a text's own label; None where the method is not calibrated."""
    by_fit = texts.by_fit
    return None if by_fit is None else _share((1 - by_fit) ** 2, texts)


def pair_accuracy(texts: TextEvaluation) -> Estimate | None:
    """The accuracy of the pairs that the texts form; None where they form none."""
    if texts.pairs is None:
        return None
    return Estimate(texts.pairs.accuracy, *(accuracy_interval(texts.pairs) or ()))


TEXT_ESTIMATES: dict[str, Callable[[TextEvaluation], Estimate | None]] = {
    "pair_accuracy": pair_accuracy,
    "accuracy_at_threshold": accuracy_at_threshold,
    "balanced_accuracy": balanced_accuracy,
    "recall_at_1": recall_at_1,
    "recall_at_5": recall_at_5,
    "average_precision": average_precision_of,
    "brier": brier_of,
}
"""The figures that have an interval, by the names of their columns; `_low` and `_high` are the ends."""


def _recall(texts: TextEvaluation, place: int) -> Estimate | None:
    flagged = _flagged(texts, place)
    return None if flagged is None else _share(flagged, texts, texts.labels)


def _false_positives(texts: TextEvaluation, place: int) -> float:
    flagged = _flagged(texts, place)
    return math.nan if flagged is None else float(flagged[:, ~texts.labels].mean())


def _flagged(texts: TextEvaluation, place: int) -> ByText | None:
    if texts.thresholds is None:
        return None
    return (texts.text_scores > texts.thresholds[:, place, None]).astype(np.float64)


def _share(values: ByText, texts: TextEvaluation, where: Bool[np.ndarray, " text"] | None = None) -> Estimate:
    """The mean of values between 0 and 1 over some of the texts, with the interval of an accuracy."""
    held = np.ones(texts.n_texts, dtype=bool) if where is None else where
    found = _of_share(values, texts, held)
    value = float(values[:, held].mean())
    return Estimate(value) if found is None else Estimate(value, *_ends(found))


def _of_share(values: ByText, texts: TextEvaluation, where: Bool[np.ndarray, " text"]) -> MeanVariance | None:
    """Of the mean over some texts, whose units are those that hold one of them; None where that is one unit."""
    units = texts.units
    if units is None:
        return None
    names, places = np.unique(units.of_pairs[0][where], return_inverse=True)
    if len(names) < 2:
        return None
    return variance_of_mean([TargetValues((values[None][..., where],), Units((places,), len(names)))])


def _of_values(values: ByText, texts: TextEvaluation) -> MeanVariance | None:
    """Of the mean of pseudo-values; None where groups are unknown, or a label is in one group alone."""
    units = texts.units
    n_speaking = None if units is None else speaking([texts], units)
    if units is None or n_speaking is None or n_speaking < 2:
        return None
    return variance_of_mean([TargetValues((values[None],), units, n_speaking)])


def _ends(found: MeanVariance) -> tuple[float, float]:
    low, high = proportion_ends(found)
    return float(low[0]), float(high[0])


def _reach_of_mean(one: float, other: float, correlation: float) -> float:
    """How far the mean of two figures may lie off, where each may lie this far off."""
    return math.sqrt(max(0.0, one**2 + other**2 + 2 * correlation * one * other)) / 2
