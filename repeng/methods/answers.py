"""Where labels and answers meet: evaluations and figures by layer, made from what a method said without labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np
from jaxtyping import Float, Int

from repeng.distributions.schema import ResponseLabels, Split
from repeng.errors import RepengError
from repeng.maths import sigmoid
from repeng.methods.base import Answer, FittedMethod, LayerScores, ResponseScores, Target
from repeng.metrics import Evaluation, accuracy_intervals
from repeng.results import LayerFigure


def evaluate(answer: Answer, target: Target, labels: ResponseLabels) -> Evaluation:
    """p(best) of each pair about which an answer says something.

    Args:
        answer: to the target.
        target: what was asked.
        labels: of the target's responses.

    Raises:
        RepengError: there is no such pair.
    """
    pairs = labels.pairs
    if isinstance(answer, ResponseScores):
        probabilities = sigmoid((answer.scores[pairs[:, 0]] - answer.scores[pairs[:, 1]]) / answer.temperature)
    else:
        probabilities = _of_best(answer.probabilities, pairs, target, lambda p: 1 - p)
    answered = np.isfinite(probabilities)
    pairs = some_pairs(pairs[answered], labels.name)
    return Evaluation(
        probabilities=probabilities[answered],
        example=labels.examples[pairs[:, 0]],
        group=labels.groups[pairs[:, 0]],
        scores=None if answer.scores is None else answer.scores[pairs],
    )


def evaluate_split(fitted: FittedMethod, split: Split) -> Evaluation:
    """`evaluate` of a fitted method that reads texts alone, such as a tuned model, on a split.

    Raises:
        RepengError: no pair of the split can be answered.
    """
    target = Target.of(split, _nothing_cached)
    return evaluate(fitted.answer(target), target, ResponseLabels.of(split))


def _nothing_cached() -> NoReturn:
    raise RepengError("this method reads cached activations; evaluate it in a study, or from a store")


def layer_figures(found: LayerScores, target: Target, labels: ResponseLabels) -> list[LayerFigure]:
    """Accuracy and interval of each layer that was fitted, alone.

    Args:
        found: what each layer said of the target's pairs.
        target: what was asked.
        labels: of the target's responses.

    Raises:
        RepengError: nothing is said of any pair.
    """
    scores = _of_best(found.scores, labels.pairs, target, np.negative)
    answered = np.isfinite(scores).all(axis=0)
    pairs = some_pairs(labels.pairs[answered], labels.name)
    wins = (scores[:, answered] > 0) + 0.5 * (scores[:, answered] == 0)
    asked = Evaluation(wins[0], example=labels.examples[pairs[:, 0]], group=labels.groups[pairs[:, 0]])
    intervals = accuracy_intervals(wins[:, None], asked)
    figures = []
    for (layer, head), row, interval, held in zip(found.units, wins, intervals, found.held_out_accuracy, strict=True):
        low, high = interval or (None, None)
        figures.append(LayerFigure(layer, head, float(row.mean()), low, high, float(held)))
    return figures


def some_pairs(pairs: Int[np.ndarray, "pair 2"], name: str) -> Int[np.ndarray, "pair 2"]:
    """The pairs, if there are any.

    Raises:
        RepengError: there is none, since every pair has a text that the model does not take.
    """
    if len(pairs) == 0:
        raise RepengError(
            f"{name}: no pair is left, every one has a text longer than the model takes; see --too-long, or take a "
            "model with a longer context"
        )
    return pairs


def _of_best(
    values: Float[np.ndarray, "*unit pair"],
    pairs: Int[np.ndarray, "_pair 2"],
    target: Target,
    turned: Callable[[Float[np.ndarray, "*unit _pair"]], Float[np.ndarray, "*unit _pair"]],
) -> Float[np.ndarray, "*unit _pair"]:
    """Of each (best, worse) what was said of its two rows, turned round where the worse one stands first."""
    count = len(target.examples)
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    place = np.searchsorted(target.pairs[:, 0] * count + target.pairs[:, 1], low * count + high)
    said = values[..., place]
    return np.where(pairs[:, 0] < pairs[:, 1], said, turned(said))
