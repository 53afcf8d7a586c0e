"""The most confident mistakes of a method, with their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repeng.distributions.schema import Distribution
from repeng.report.pair_texts import prompt_text, response_text, shortened, visible
from repeng.report.predictions import Key, Prediction, predictions_of

MOST_CHARACTERS = 4000
MOST_OF_ONE_SHIFT = 2
MOST_PAIRS = 6


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


def wrong_pairs(
    rows: pd.DataFrame,
    predictions: Mapping[Key, Prediction],
    distributions: Mapping[str, Distribution],
) -> list[WrongPair]:
    """The pairs that one method is surest of and wrong about: lowest p(best) first, at most six, two of one shift.

    Empty where no evaluation has probabilities, or the texts are not at hand.

    Args:
        rows: of one method, as `shift_frame` gives them.
        predictions: by key.
        distributions: the texts, by name of the target.
    """
    candidates: list[tuple[float, Key, int]] = []
    for prediction in predictions_of(rows, predictions):
        p = None if prediction is None else prediction.evaluation.probabilities
        if prediction is not None and p is not None:
            surest = np.argsort(p, kind="stable")[: 4 * MOST_PAIRS]
            candidates += [(float(p[i]), prediction.key, int(i)) for i in surest if p[i] < 0.5]
    taken: Counter[Key] = Counter()
    found: list[WrongPair] = []
    for probability, key, row in sorted(set(candidates)):
        if len(found) < MOST_PAIRS and taken[key] < MOST_OF_ONE_SHIFT:
            pair = _with_texts(predictions[key], distributions, row, probability)
            if pair is not None:
                found.append(pair)
                taken[key] += 1
    return found


def _with_texts(
    prediction: Prediction, distributions: Mapping[str, Distribution], row: int, probability: float
) -> WrongPair | None:
    """None where the data are not at hand, or the evaluation's pair cannot be told in them."""
    distribution = distributions.get(prediction.target)
    split = distribution.splits.get("test") if distribution is not None else None
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
