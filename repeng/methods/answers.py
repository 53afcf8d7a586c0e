"""Where labels and answers meet: evaluations and figures by layer, made from what a method said without labels."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from jaxtyping import Float, Int

from repeng.distributions.schema import ResponseLabels, Split
from repeng.errors import RepengError
from repeng.maths import independent_groups, pair_accuracy, pair_wins, sigmoid
from repeng.methods.base import Answer, FittedMethod, LayerScores, NullScores, ResponseScores, Target
from repeng.methods.text_answers import evaluate_texts, two_labels
from repeng.metrics import Evaluation, TextEvaluation, accuracy_intervals, auroc_values
from repeng.results import LayerFigure


def evaluate(answer: Answer, target: Target, labels: ResponseLabels) -> Evaluation:
    """p(best) of each pair about which an answer says something; of labelled texts `evaluate_texts`.

    Args:
        answer: to the target.
        target: what was asked.
        labels: of the target's responses.

    Raises:
        RepengError: there is no such pair.
    """
    if target.as_texts:
        return evaluate_texts(answer, target, labels)
    pairs = labels.pairs
    probabilities = np.atleast_2d(_probabilities(answer, pairs, target))
    answered = np.isfinite(probabilities).all(axis=0)
    pairs = some_pairs(pairs[answered], labels.name)
    probabilities = probabilities[:, answered]
    scores = None if answer.scores is None else np.atleast_2d(answer.scores)[:, pairs]
    if len(probabilities) > 1:
        probabilities, scores = _short(probabilities), None if scores is None else _short(scores)
    groups = labels.groups[pairs[:, 0]]
    return Evaluation.of_fits(
        probabilities,
        scores,
        example=labels.units[pairs[:, 0]],
        group=groups,
        **_null_accuracies(answer.null, pairs, groups, target),
    )


def _probabilities(answer: Answer, pairs: Int[np.ndarray, "pair 2"], target: Target) -> Float[np.ndarray, "*fit pair"]:
    """p(best) of each pair of rows (best, worse)."""
    if isinstance(answer, ResponseScores):
        gaps = answer.scores[..., pairs[:, 0]] - answer.scores[..., pairs[:, 1]]
        return sigmoid(gaps / np.asarray(answer.temperature)[..., None])
    return _of_best(answer.probabilities, pairs, target, lambda p: 1 - p)


def _null_accuracies(
    null: NullScores | None, pairs: Int[np.ndarray, "pair 2"], groups: Int[np.ndarray, " pair"], target: Target
) -> dict[str, Float[np.ndarray, " null"]]:
    """How often each null of a method ranks the best response higher.

    Fits on shuffled labels are judged by labels that are shuffled too, a prompt group of the target at a time, as a
    permutation test has it; and by the labels as they are.
    """
    if null is None:
        return {}
    wins = pair_wins(_of_best(null.shuffled, pairs, target, np.negative))
    units, _ = independent_groups(groups, target.units[pairs[:, 0]])
    names, place = np.unique(units, return_inverse=True)
    coins = np.random.default_rng(zlib.crc32(target.key.encode())).random((len(wins), len(names))) < 0.5
    shuffled = np.where(coins[:, place], 1 - wins, wins)
    found = {"shuffled": shuffled.mean(axis=1), "unlabelled": wins.mean(axis=1)}
    if null.random is not None:
        found["random"] = pair_accuracy(_of_best(null.random, pairs, target, np.negative))
    return found


def _short(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """As float32 has them, which halves a file of several fits; what is no tie does not become one."""
    rounded = values.astype(np.float32)
    half = np.float32(0.5)
    tied = (rounded == half) & (values != 0.5)
    return np.where(tied, np.nextafter(half, np.where(values > 0.5, 1, 0).astype(np.float32)), rounded).astype(
        np.float64
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


@dataclass(frozen=True)
class ByLayer:
    """How each layer that was fitted does alone.

    Attributes:
        figures: of each layer.
        tied: the lowest and the highest accuracy among the layers that no other beats on held-out source pairs, each
            the mean over fits; None where that is one layer in every fit.
    """

    figures: tuple[LayerFigure, ...] = ()
    tied: tuple[float, float] | None = None


def by_layer(found: LayerScores, target: Target, labels: ResponseLabels) -> ByLayer:
    """Accuracy and interval of each layer that was fitted, alone; of labelled texts the AUROC.

    Args:
        found: what each layer said of the target's pairs.
        target: what was asked.
        labels: of the target's responses.

    Raises:
        RepengError: nothing is said of any pair.
    """
    if target.as_texts:
        rows = two_labels(np.flatnonzero(np.isfinite(found.scores).all(axis=(0, 1))), labels)
        positive = labels.labels[rows] == 1
        wins = auroc_values(found.scores[..., rows], positive).swapaxes(0, 1)
        known = {"example": labels.units[rows], "group": labels.groups[rows]}
        asked: Evaluation = TextEvaluation.of_scores(found.scores[:, 0, rows], positive, **known)
    else:
        scores = _of_best(found.scores, labels.pairs, target, np.negative)
        answered = np.isfinite(scores).all(axis=(0, 1))
        pairs = some_pairs(labels.pairs[answered], labels.name)
        wins = pair_wins(scores[..., answered]).swapaxes(0, 1)
        known = {"example": labels.units[pairs[:, 0]], "group": labels.groups[pairs[:, 0]]}
        asked = Evaluation(wins[0].mean(axis=0), **known)
    intervals = accuracy_intervals(wins, asked)
    tied = found.tied
    figures = []
    for place, ((layer, head), own, interval) in enumerate(zip(found.units, wins, intervals, strict=True)):
        low, high = interval or (None, None)
        figures.append(
            LayerFigure(
                layer,
                head,
                float(own.mean()),
                low,
                high,
                float(found.held_out_accuracy[:, place].mean()),
                chosen_share=float(found.chosen[:, place].mean()),
                tied_share=float(tied[:, place].mean()),
                n_pairs=None if target.as_texts else asked.n_pairs,
                n_texts=asked.n_items if target.as_texts else None,
                n_prompts=asked.n_prompts,
            )
        )
    return ByLayer(tuple(figures), _range_of_ties(found, wins.mean(axis=2).T))


def _range_of_ties(found: LayerScores, accuracy: Float[np.ndarray, "fit unit"]) -> tuple[float, float] | None:
    tied = found.tied
    if (tied.sum(axis=1) == 1).all():
        return None
    low, high = np.where(tied, accuracy, np.inf).min(axis=1), np.where(tied, accuracy, -np.inf).max(axis=1)
    return float(low.mean()), float(high.mean())


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
    count = target.n_responses
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    place = np.searchsorted(target.pairs[:, 0] * count + target.pairs[:, 1], low * count + high)
    said = values[..., place]
    return np.where(pairs[:, 0] < pairs[:, 1], said, turned(said))
