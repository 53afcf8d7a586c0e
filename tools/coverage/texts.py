"""Figures of labelled texts: how often their intervals hold the truth, and those of differences of two AUROCs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from repeng.metrics import (
    Estimate,
    TextEvaluation,
    accuracy_interval,
    average_precision_of,
    balanced_accuracy,
    mean_paired_difference,
    recall_at_1,
    threshold_at,
)
from repeng.metrics.intervals import variance_of

THRESHOLDS = ndtri([0.99, 0.95])
"""Of 1 % and 5 % false positives; texts without the label score as a standard normal does."""
SAME = 0.8
"""The share of a score's variance that all fits have in common."""
AREAS = (0.5, 0.8, 0.97)
DIFFERENCES = ((0.8, 0.8), (0.97, 0.97), (0.8, 0.7), (0.97, 0.9))


@dataclass(frozen=True)
class TextCell:
    """One made-up situation: normal scores, those of texts with the label further up.

    Attributes:
        groups: how many groups.
        size: texts in each.
        prevalence: share of texts with the label.
        area: the true AUROC, of several fits their mean.
        alike: correlation of two scores of one group, besides what their labels do.
        fits: how many fits.
        fit_sd: standard deviation of how far apart, in sds, fits hold the labels.
        whole: whether all texts of a group have one label.
    """

    groups: int
    size: int
    prevalence: float
    area: float
    alike: float = 0.3
    fits: int = 1
    fit_sd: float = 0.0
    whole: bool = False

    @property
    def apart(self) -> float:
        """How far apart the labels are on average, in standard deviations."""
        return float(ndtri(self.area) * np.sqrt(2 + self.fit_sd**2))


def text_cells(
    groups: Sequence[int],
    sizes: Sequence[int] = (1, 4, 20),
    areas: Sequence[float] = AREAS,
    prevalences: Sequence[float] = (0.5, 0.1),
    **options: Any,
) -> list[TextCell]:
    """Every number of groups and texts, prevalence and AUROC."""
    every = itertools.product(groups, sizes, prevalences, areas)
    return [TextCell(n, size, share, area, **options) for n, size, share, area in every]


def drawn(generator: np.random.Generator, cell: TextCell, labels: np.ndarray | None = None) -> TextEvaluation:
    """A draw in which both labels occur in two groups at least.

    Args:
        generator: what draws.
        cell: the situation.
        labels: those of another method on the same texts; None draws them.
    """
    group = np.repeat(np.arange(cell.groups), cell.size)
    while labels is None:
        number = generator.random(cell.groups)[group] if cell.whole else generator.random(len(group))
        found = number < cell.prevalence
        if min(len(np.unique(group[found])), len(np.unique(group[~found]))) > 1:
            labels = found
    common = _normals(generator, cell, group, 1)
    own = _normals(generator, cell, group, cell.fits) if cell.fits > 1 else common
    apart = cell.apart + cell.fit_sd * generator.normal(size=(cell.fits, 1))
    scores = np.sqrt(SAME) * common + np.sqrt(1 - SAME) * own if cell.fits > 1 else common
    scores = scores + apart * labels
    positive = ndtr(scores - cell.apart / 2)
    thresholds = np.tile(THRESHOLDS, (cell.fits, 1))
    return TextEvaluation.of_scores(scores, labels, positive, group=group, thresholds=thresholds)


def _normals(generator: np.random.Generator, cell: TextCell, group: np.ndarray, fits: int) -> np.ndarray:
    alike = cell.alike if cell.size > 1 else 0.0
    shared = generator.normal(size=(fits, cell.groups))[:, group]
    return np.sqrt(alike) * shared + np.sqrt(1 - alike) * generator.normal(size=(fits, len(group)))


def truths(cell: TextCell) -> dict[str, float]:
    """The true figures of a cell."""
    spread = np.sqrt(1 + cell.fit_sd**2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    precisions = [_average_precision(cell.prevalence, cell.apart + cell.fit_sd * node) for node in nodes]
    return {
        "AUROC": cell.area,
        "balanced accuracy": float(ndtr(cell.apart / 2 / spread) + ndtr(cell.apart / 2)) / 2,
        "recall at 1 %": float(ndtr((cell.apart - THRESHOLDS[0]) / spread)),
        "average precision": float(np.average(precisions, weights=weights)),
    }


def _average_precision(prevalence: float, apart: float, steps: int = 20_000) -> float:
    rank = (np.arange(steps) + 0.5) / steps
    right, wrong = prevalence * (1 - rank), (1 - prevalence) * ndtr(-ndtri(rank) - apart)
    return float(np.mean(right / (right + wrong)))


def _of_area(evaluation: TextEvaluation) -> Estimate:
    return Estimate(evaluation.accuracy, *(accuracy_interval(evaluation) or ()))


FIGURES: dict[str, Callable[[TextEvaluation], Estimate | None]] = {
    "AUROC": _of_area,
    "balanced accuracy": balanced_accuracy,
    "recall at 1 %": recall_at_1,
    "average precision": average_precision_of,
}
ALONE = "AUROC, texts taken as independent"


def text_coverage(cell: TextCell, *, draws: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Of each figure the share of intervals that hold the truth, and their mean width; and of DeLong's over texts."""
    generator = np.random.default_rng([seed, cell.groups, cell.size, round(1000 * cell.area), cell.fits])
    truth = truths(cell)
    held: dict[str, list[tuple[bool, float]]] = {name: [] for name in (*FIGURES, ALONE)}
    for _ in range(draws):
        evaluation = drawn(generator, cell)
        for name, figure in FIGURES.items():
            found = figure(evaluation)
            if found is not None and found.low is not None and found.high is not None:
                inside = found.low <= truth[name] + 1e-12 and truth[name] - 1e-12 <= found.high
                held[name].append((inside, found.high - found.low))
        texts = variance_of(replace(evaluation, group=np.arange(evaluation.n_texts)))
        if texts is not None and cell.size > 1:
            reach = 1.96 * float(np.sqrt(texts.prompts[0]))
            held[ALONE].append((abs(evaluation.accuracy - cell.area) <= reach, 2 * reach))
    means = {name: np.mean(found, axis=0) for name, found in held.items() if found}
    return {name: (float(share), float(width)) for name, (share, width) in means.items()}


def text_difference_coverage(cell: TextCell, other: float, *, draws: int, seed: int = 0) -> tuple[float, float, float]:
    """Of a difference of two AUROCs on the same texts: intervals with the truth, mean width, and those without 0.

    Args:
        cell: the first method.
        other: the AUROC of the second, whose scores share two thirds of their variance with the first's.
        draws: how many.
        seed: of the draws.
    """
    generator = np.random.default_rng([seed, cell.groups, cell.size, round(1000 * other)])
    truth, held = cell.area - other, []
    gap = float(ndtri(other) * np.sqrt(2 + cell.fit_sd**2)) - cell.apart * np.sqrt(2 / 3)
    for _ in range(draws):
        a = drawn(generator, cell)
        fresh = drawn(generator, replace(cell, area=0.5), a.labels).text_scores
        b = replace(a, text_scores=np.sqrt(2 / 3) * a.text_scores + np.sqrt(1 / 3) * fresh + gap * a.labels)
        found = mean_paired_difference([a], [b], ["the target"])
        if found.low is not None and found.high is not None:
            inside = found.low <= truth + 1e-12 and truth - 1e-12 <= found.high
            held.append((inside, found.high - found.low, found.low > 0 or found.high < 0))
    inside, width, without = np.mean(held, axis=0)
    return float(inside), float(width), float(without)


def threshold_coverage(benign: int, cell: TextCell, *, draws: int, seed: int = 0) -> dict[str, float]:
    """What a threshold of 1 % that was set on so many benign texts does to recall.

    Returns:
        `given`: the share of intervals that hold the true recall at the threshold as it is; `meant`: those that hold
        the true recall at 1 %; `low`, `high`: between which the true rates of 95 of 100 thresholds lie.
    """
    generator = np.random.default_rng([seed, benign])
    given: list[bool] = []
    meant: list[bool] = []
    rates = []
    for _ in range(draws):
        threshold = threshold_at(generator.normal(size=benign), 0.01)
        rates.append(ndtr(-threshold))
        evaluation = drawn(generator, cell)
        found = recall_at_1(replace(evaluation, thresholds=np.array([[threshold, threshold]])))
        if found is not None and found.low is not None and found.high is not None:
            for limit, held in ((threshold, given), (THRESHOLDS[0], meant)):
                held.append(bool(found.low <= ndtr(cell.apart - limit) <= found.high))
    low, high = np.quantile(rates, [0.025, 0.975])
    return {"given": float(np.mean(given)), "meant": float(np.mean(meant)), "low": float(low), "high": float(high)}
