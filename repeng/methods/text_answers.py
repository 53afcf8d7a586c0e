"""Where labels and answers meet for labelled texts: AUROC and what else is said of each text by itself."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from repeng.distributions.schema import ResponseLabels
from repeng.errors import RepengError
from repeng.maths import FALSE_POSITIVE_RATES, independent_groups, sigmoid
from repeng.methods.base import Answer, NullScores, ResponseScores, Target
from repeng.metrics import Evaluation, TextEvaluation, auroc_values, threshold_at
from repeng.probes.calibration import TextCalibration


def evaluate_texts(answer: Answer, target: Target, labels: ResponseLabels) -> TextEvaluation:
    """The score of each text about which an answer says something, against its label.

    Where texts are rivals (`Split.rivals`), the pairs that they form are evaluated too.

    Args:
        answer: to the target.
        target: what was asked.
        labels: of the target's texts.

    Raises:
        RepengError: no text of one of the labels is left.
    """
    scores = _scores(answer, labels.name)
    answered = np.isfinite(scores).all(axis=0)
    rows = two_labels(np.flatnonzero(answered), labels)
    scores, positive = scores[:, rows], labels.labels[rows] == 1
    texts = answer.texts if isinstance(answer, ResponseScores) else None
    return TextEvaluation.of_scores(
        scores,
        positive,
        None if texts is None else np.stack([one(own) for one, own in zip(texts, scores, strict=True)]),
        thresholds=None if texts is None else _thresholds(texts),
        example=labels.units[rows],
        group=labels.groups[rows],
        rows=rows,
        pairs=_pairs(answer, answered, labels),
        **null_aurocs(None if not isinstance(answer, ResponseScores) else answer.null, rows, positive, labels, target),
    )


def benign_thresholds(answer: Answer, target: Target, labels: ResponseLabels) -> Float[np.ndarray, "fit rate"]:
    """Of each fit the scores above which 1 % and 5 % of a benign distribution's texts (label 0) lie.

    Raises:
        RepengError: it has no text of label 0 about which the answer says something.
    """
    scores = _scores(answer, labels.name)
    rows = np.flatnonzero(np.isfinite(scores).all(axis=0) & (labels.labels == 0))
    if not len(rows):
        raise RepengError(f"{target.distribution}: it has no text of label 0 to set a threshold on")
    return np.array([[threshold_at(own[rows], rate) for rate in FALSE_POSITIVE_RATES] for own in scores])


def two_labels(rows: Int[np.ndarray, " row"], labels: ResponseLabels) -> Int[np.ndarray, " row"]:
    """The rows, if both labels are among them.

    Raises:
        RepengError: one is missing.
    """
    if len(np.unique(labels.labels[rows])) < 2:
        raise RepengError(
            f"{labels.name}: its {len(rows)} texts that can be read are all of one label, so nothing can be told apart "
            "there; give texts of both labels (--limit takes the first ones, --too-long skips long ones)"
        )
    return rows


def null_aurocs(
    null: NullScores | None,
    rows: Int[np.ndarray, " row"],
    positive: Bool[np.ndarray, " row"],
    labels: ResponseLabels,
    target: Target,
) -> dict[str, Float[np.ndarray, " null"]]:
    """AUROC of each null: of those on shuffled labels by labels turned round a group at a time, and as they are.

    Args:
        null: what it says of every text.
        rows: those that are evaluated.
        positive: their labels.
        labels: of all texts.
        target: what was asked.
    """
    if null is None:
        return {}
    units, _ = independent_groups(labels.groups[rows], labels.units[rows])
    names, place = np.unique(units, return_inverse=True)
    rng = np.random.default_rng(zlib.crc32(target.key.encode()))
    shuffled = null.shuffled[:, rows]
    turned = [_turned(positive, place, len(names), rng) for _ in shuffled]
    found = {
        "shuffled": np.array([_auroc(own, by) for own, by in zip(shuffled, turned, strict=True)]),
        "unlabelled": np.array([_auroc(own, positive) for own in shuffled]),
    }
    if null.random is not None:
        found["random"] = np.array([_auroc(own, positive) for own in null.random[:, rows]])
    return found


def _turned(
    positive: Bool[np.ndarray, " row"], place: Int[np.ndarray, " row"], n_groups: int, rng: np.random.Generator
) -> Bool[np.ndarray, " row"]:
    """Labels, of which both are there, with those of whole groups turned round by coin until both are left."""
    while True:
        turned = positive ^ (rng.random(n_groups) < 0.5)[place]
        if 0 < turned.sum() < len(turned):
            return turned


def _auroc(scores: Float[np.ndarray, " row"], positive: Bool[np.ndarray, " row"]) -> float:
    return float(np.clip(auroc_values(scores, positive).mean(), 0.0, 1.0))


def _scores(answer: Answer, name: str) -> Float[np.ndarray, "fit response"]:
    if answer.scores is None:
        raise RepengError(f"{name}: the method prefers one of two responses, and gives no text a score of its own")
    return np.atleast_2d(answer.scores)


def _thresholds(texts: Sequence[TextCalibration]) -> Float[np.ndarray, "fit rate"]:
    return np.array([[one.threshold_at_1, one.threshold_at_5] for one in texts])


def _pairs(answer: Answer, answered: Bool[np.ndarray, " response"], labels: ResponseLabels) -> Evaluation | None:
    """p(best) of the pairs that rivals form; None where there is none."""
    pairs = labels.pairs
    pairs = pairs[answered[pairs].all(axis=1)]
    if not len(pairs) or not isinstance(answer, ResponseScores):
        return None
    scores = np.atleast_2d(answer.scores)
    gaps = scores[:, pairs[:, 0]] - scores[:, pairs[:, 1]]
    return Evaluation.of_fits(
        sigmoid(gaps / np.broadcast_to(answer.temperature, len(scores))[:, None]),
        example=labels.units[pairs[:, 0]],
        group=labels.groups[pairs[:, 0]],
    )
