"""Whether a probe fails on the same pairs under two stimuli, and as often so as two of its own fits do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from repeng.errors import BadInput
from repeng.metrics import (
    Estimate,
    Evaluation,
    accuracy_interval,
    mean_accuracy_interval,
    mean_of_draws,
    mean_paired_difference,
    mistake_kappa,
)
from repeng.report.answer import Row, interval_columns
from repeng.report.compared_studies import ComparedMethod
from repeng.report.mistake_agreement import RESAMPLES, pooled
from repeng.report.predictions import same_items

Shared = tuple[str, str, Evaluation, Evaluation]
"""Source, target, and the evaluation under either stimulus."""


def failure_rows(names: Row, one: ComparedMethod, other: ComparedMethod, by_shift: Sequence[Row]) -> list[Row]:
    """Over all shifts: kappa of their mistakes, that of two fits of either, and their accuracies. One row, or none.

    Args:
        names: what names the pair in tables.
        one: the method under the first stimulus.
        other: the method under the other.
        by_shift: its `failures_by_shift`.
    """
    shared = shared_shifts(one, other)
    if not shared:
        return []
    targets = [target for _, target, _, _ in shared]
    a, b = [one for _, _, one, _ in shared], [other for _, _, _, other in shared]
    gap = mean_paired_difference(b, a, targets)
    within = [row["kappa"] for row in by_shift if row["figure"] == one.figure and row["kappa"] is not None]
    return [
        {
            **names,
            "shifts": len(shared),
            **kappas(shared),
            **interval_columns("within_shifts", mean_of_draws(within) if within else None),
            **interval_columns("accuracy", mean_accuracy_interval(a, targets)),
            **interval_columns("other_accuracy", mean_accuracy_interval(b, targets)),
            **interval_columns("difference", gap),
            "p": gap.p,
            "figure": one.figure,
        }
    ]


def failures_by_shift(names: Row, one: ComparedMethod, other: ComparedMethod) -> list[Row]:
    """The same of each shift alone."""
    rows = []
    for source, target, a, b in shared_shifts(one, other):
        accuracies = {
            **interval_columns("accuracy", Estimate(a.accuracy, *(accuracy_interval(a) or (None, None)))),
            **interval_columns("other_accuracy", Estimate(b.accuracy, *(accuracy_interval(b) or (None, None)))),
        }
        shift = {**names, "source": source, "target": target}
        rows.append({**shift, **kappas([(source, target, a, b)]), **accuracies, "figure": one.figure})
    return rows


def shared_shifts(one: ComparedMethod, other: ComparedMethod) -> list[Shared]:
    """Every shift once, on which both were scored on the same pairs and say what is right."""
    found = []
    for source, target in one.measured.index:
        both = [method.prediction(source, target) for method in (one, other)]
        if both[0] is None or both[1] is None:
            continue
        a, b = both[0].evaluation, both[1].evaluation
        if a.probabilities is not None and b.probabilities is not None and same_items(a, b):
            found.append((source, target, a, b))
    return found


def kappas(shared: Sequence[Shared]) -> Row:
    """Kappa between two fits: one under either stimulus, both under the first, and both under the other.

    The two are always fits of different seeds, where there are several, so that the three differ in the stimulus alone.
    Their tables are summed over all such fits and shifts; the interval is over prompts.

    Returns:
        Columns `kappa`, `fits_kappa` and `other_fits_kappa` with their intervals, None where they are undefined, as
        the last two are with one fit; and `kappa_possible`, the highest that the shares of what is right allow.
    """
    one = [(target, a) for _, target, a, _ in shared]
    other = [(target, b) for _, target, _, b in shared]
    return {
        **interval_columns("kappa", _kappa(one, other)),
        "kappa_possible": _highest(*(np.concatenate([each.right for _, each in own]).mean() for own in (one, other))),
        **interval_columns("fits_kappa", _kappa(one, one)),
        **interval_columns("other_fits_kappa", _kappa(other, other)),
    }


def _kappa(one: Sequence[tuple[str, Evaluation]], other: Sequence[tuple[str, Evaluation]]) -> Estimate | None:
    a: list[tuple[str, Evaluation]] = []
    b: list[tuple[str, Evaluation]] = []
    for (target, first), (_, second) in zip(one, other, strict=True):
        pairs = [(j, k) for j, k in itertools.product(range(first.n_fits), range(second.n_fits)) if j != k]
        if not pairs and first is not second:
            pairs = [(0, 0)]
        a += [(target, first.fits[j]) for j, _ in pairs]
        b += [(target, second.fits[k]) for _, k in pairs]
    if not a:
        return None
    try:
        return mistake_kappa(pooled(a), pooled(b), resamples=RESAMPLES)
    except BadInput:
        return None


def _highest(a: float, b: float) -> float | None:
    """The highest kappa of two that are right this often; None where chance alone gives full agreement."""
    chance = a * b + (1 - a) * (1 - b)
    return None if chance == 1 else float((min(a, b) + min(1 - a, 1 - b) - chance) / (1 - chance))
