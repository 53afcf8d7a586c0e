"""What a report says beside its pictures: headline means, reliability, and the most confident mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repeng.distributions.schema import Distribution
from repeng.metrics import Estimate, mean_accuracy_interval, reliability_bins
from repeng.report.grouping import Column, column_title, columns_of, mean_of
from repeng.report.predictions import (
    Key,
    Prediction,
    prompt_text,
    response_text,
    shortened,
    target_split,
    visible,
)
from repeng.results import ResultRow

if TYPE_CHECKING:
    import pandas as pd

MOST_CHARACTERS = 4000
MOST_OF_ONE_SHIFT = 2
RESAMPLES = 1000


@dataclass(frozen=True)
class WrongPair:
    """A pair that a method got wrong, with its texts."""

    source: str
    target: str
    example: int
    probability: float
    prompt: str
    best: str
    preferred: str


def rows_of(rows: Iterable[ResultRow], column: Column) -> list[ResultRow]:
    """The rows of one method of one model."""
    return [row for row in rows if (row.model, row.method) == (column.model, column.method)]


def mean_estimate(rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction]) -> Estimate | None:
    """Mean accuracy of rows of one method, with an interval over prompts where every evaluation supports one."""
    known = [row for row in rows if row.accuracy is not None]
    mean = mean_of(known, lambda row: row.accuracy)[0]
    if mean is None:
        return None
    found = [predictions.get((row.model, row.method, row.source, row.target)) for row in known]
    evaluations = [prediction.evaluation for prediction in found if prediction is not None]
    if len(evaluations) < len(known):
        return Estimate(mean)
    return mean_accuracy_interval(evaluations, [row.target for row in known], resamples=RESAMPLES)


def reliability_frame(rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction]) -> pd.DataFrame:
    """Reliability bins of every method, pooled over the shifts of a label: the frame of `reliability_chart`.

    A pair of source and target that is listed twice under one label counts once.
    """
    import pandas as pd

    columns = columns_of(rows)
    found = []
    for column in columns:
        pooled: dict[str, dict[tuple[str, str], np.ndarray]] = {}
        for row in rows_of(rows, column):
            prediction = predictions.get((row.model, row.method, row.source, row.target))
            if prediction is not None and prediction.evaluation.probabilities is not None:
                shifts = pooled.setdefault(row.label or "all shifts", {})
                shifts[row.source, row.target] = prediction.evaluation.probabilities
        for label, shifts in pooled.items():
            for one in reliability_bins(np.concatenate(list(shifts.values()))):
                name = column_title(column, columns, between=" · ")
                found.append((name, label, one.confidence, one.accuracy, one.n_pairs))
    return pd.DataFrame(found, columns=["method", "label", "confidence", "accuracy", "n_pairs"])


def wrong_pairs(
    rows: Sequence[ResultRow],
    predictions: Mapping[Key, Prediction],
    distributions: Mapping[str, Distribution],
    *,
    most: int = 6,
) -> list[WrongPair]:
    """The pairs that one method is surest of and wrong about: lowest p(best) first, at most two of one shift.

    Empty where no evaluation has probabilities, or the texts are not at hand.
    """
    candidates: list[tuple[float, str, str, int]] = []
    for source, target in dict.fromkeys((row.source, row.target) for row in rows):
        prediction = _of_shift(rows, predictions, source, target)
        if prediction is None or prediction.evaluation.probabilities is None:
            continue
        p = prediction.evaluation.probabilities
        surest = [int(i) for i in np.argsort(p, kind="stable")[: 4 * most] if p[i] < 0.5]
        candidates += [(float(p[i]), source, target, i) for i in surest]
    taken: Counter[tuple[str, str]] = Counter()
    found: list[WrongPair] = []
    for probability, source, target, row in sorted(candidates):
        if len(found) == most:
            break
        prediction = _of_shift(rows, predictions, source, target)
        if taken[source, target] == MOST_OF_ONE_SHIFT or prediction is None:
            continue
        pair = _texts(prediction, distributions, row, probability)
        if pair is not None:
            found.append(pair)
            taken[source, target] += 1
    return found


def _of_shift(
    rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction], source: str, target: str
) -> Prediction | None:
    row = next(row for row in rows if (row.source, row.target) == (source, target))
    return predictions.get((row.model, row.method, source, target))


def _texts(
    prediction: Prediction, distributions: Mapping[str, Distribution], row: int, probability: float
) -> WrongPair | None:
    split = target_split(distributions, prediction.target)
    pairs = prediction.pairs_in(split) if split is not None else None
    pair = pairs[row] if pairs is not None else None
    if split is None or pair is None:
        return None
    texts = (
        prompt_text(split, pair.example),
        response_text(split, pair.example, pair.best),
        response_text(split, pair.example, pair.worse),
    )
    prompt, best, preferred = (visible(shortened(text, MOST_CHARACTERS)) for text in texts)
    return WrongPair(prediction.source, prediction.target, pair.example, probability, prompt, best, preferred)
