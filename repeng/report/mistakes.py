"""The most confident mistakes of a method, with their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from repeng.distributions.schema import Distribution, Split
from repeng.metrics import TextEvaluation
from repeng.report.pair_texts import prompt_text, response_text, shortened, visible
from repeng.report.predictions import Key, Prediction, predictions_of

MOST_CHARACTERS = 4000
MOST_OF_ONE_SHIFT = 2
MOST_SHOWN = 6


@dataclass(frozen=True)
class ShownText:
    """A text of a mistake.

    Attributes:
        title: what it is.
        label: the same for a screen reader.
        kind: `best` or `preferred`, which sets its colour; empty for a prompt.
    """

    title: str
    text: str
    label: str
    kind: str = ""


@dataclass(frozen=True)
class Mistake:
    """A pair or a labelled text that a method got wrong.

    Attributes:
        said: what the method gives to what is right, and its name.
    """

    source: str
    target: str
    example: int
    probability: float
    said: str
    texts: tuple[ShownText, ...]


def wrong_pairs(
    rows: pd.DataFrame, predictions: Mapping[Key, Prediction], distributions: Mapping[str, Distribution]
) -> list[Mistake]:
    """The pairs that one method is surest of and wrong about: lowest p(best) first, at most six, two of one shift.

    Empty where no evaluation has probabilities, or the texts are not at hand.

    Args:
        rows: of one method, as `shift_frame` gives them.
        predictions: by key.
        distributions: the texts, by name of the target.
    """
    return _surest([one for one in _known(rows, predictions) if not _of_texts(one)], distributions, _pair)


def wrong_texts(
    rows: pd.DataFrame, predictions: Mapping[Key, Prediction], distributions: Mapping[str, Distribution]
) -> list[Mistake]:
    """The labelled texts that one method is surest of and wrong about: lowest probability of its own label first.

    The arguments, how many there are and when there is none are those of `wrong_pairs`.
    """
    return _surest([one for one in _known(rows, predictions) if _of_texts(one)], distributions, _text)


def _known(rows: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> list[Prediction]:
    return [one for one in predictions_of(rows, predictions) if one is not None]


def _of_texts(prediction: Prediction) -> bool:
    return isinstance(prediction.evaluation, TextEvaluation)


def _surest(
    predictions: list[Prediction],
    distributions: Mapping[str, Distribution],
    shown: Callable[[Prediction, Split, int, float], Mistake | None],
) -> list[Mistake]:
    """The surest mistakes among some predictions; `shown` adds the texts, or None where they cannot be told."""
    by_key = {one.key: one for one in predictions}
    candidates: list[tuple[float, Key, int]] = []
    for prediction in by_key.values():
        p = prediction.evaluation.probabilities
        if p is not None:
            surest = np.argsort(p, kind="stable")[: 4 * MOST_SHOWN]
            candidates += [(float(p[i]), prediction.key, int(i)) for i in surest if p[i] < 0.5]
    taken: Counter[Key] = Counter()
    found: list[Mistake] = []
    for probability, key, row in sorted(candidates):
        if len(found) < MOST_SHOWN and taken[key] < MOST_OF_ONE_SHIFT:
            distribution = distributions.get(by_key[key].target)
            split = None if distribution is None else distribution.splits.get("test")
            mistake = None if split is None else shown(by_key[key], split, row, probability)
            if mistake is not None:
                found.append(mistake)
                taken[key] += 1
    return found


def _pair(prediction: Prediction, split: Split, row: int, probability: float) -> Mistake | None:
    pairs = prediction.pairs_in(split)
    pair = pairs[row] if pairs is not None else None
    if pair is None:
        return None
    texts = [
        *_prompt(split, pair.example),
        ShownText("Best response", _fit(response_text(split, pair.best)), "Best response", "best"),
        ShownText(
            "Preferred instead", _fit(response_text(split, pair.worse)), "Response preferred instead", "preferred"
        ),
    ]
    other = int(split.response_example[pair.worse])
    if split.examples[other].prompt != split.examples[pair.example].prompt:
        texts[-1:-1] = _prompt(split, other)
    said = f"p(best) = {probability:.3f}"
    return Mistake(prediction.source, prediction.target, pair.example, probability, said, tuple(texts))


def _text(prediction: Prediction, split: Split, row: int, probability: float) -> Mistake | None:
    texts = prediction.texts_in(split)
    place = texts[row] if texts is not None else None
    if place is None:
        return None
    number, label = int(split.response_example[place]), int(split.labels[place])
    example = split.examples[number]
    title = f"{'Response' if example.prompt else 'Text'}, label {label}"
    if example.region == "all":
        title = f"Last turn; the whole conversation has label {label}"
    kind = "best" if label else "preferred"
    shown = (*_prompt(split, number), ShownText(title, _fit(response_text(split, place)), title, kind))
    said = f"p(label {label}) = {probability:.3f}"
    return Mistake(prediction.source, prediction.target, number, probability, said, shown)


def _prompt(split: Split, example: int) -> list[ShownText]:
    """None for a text without a prompt."""
    text = prompt_text(split, example)
    return [ShownText("Prompt", _fit(text), "Prompt")] if text else []


def _fit(text: str) -> str:
    return visible(shortened(text, MOST_CHARACTERS))
