"""Figures, with intervals, of a classifier on rows and labels: our probes, or any of scikit-learn's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from repeng.errors import BadInput
from repeng.metrics import Estimate
from repeng.metrics.intervals import accuracy_interval
from repeng.metrics.text_figures import accuracy_at_threshold, average_precision_of, balanced_accuracy, brier_of
from repeng.metrics.texts import TextEvaluation
from repeng.probes.ragged import Ragged
from repeng.study.text_activations import TextActivations

Rows = np.ndarray | Ragged
"""One row a text, or all tokens of each text."""


@dataclass(frozen=True, eq=False)
class ClassifierFigures:
    """How well a classifier tells two classes apart, each figure with its 95 % interval over groups.

    Attributes:
        auroc: the chance that a row of the positive class outscores one of the other, ties counted half.
        accuracy: the share of rows that it puts in their own class.
        balanced_accuracy: the mean of that share over the two classes.
        average_precision: area under precision and recall; what says nothing reaches the share of positives.
        brier: mean square error of its probabilities; None where it gives none.
        positive: the label of the positive class, the second of `classes_`.
        evaluation: scores, labels and groups; every figure of `repeng.metrics` takes it.
    """

    auroc: Estimate
    accuracy: Estimate
    balanced_accuracy: Estimate
    average_precision: Estimate
    brier: Estimate | None
    positive: Any
    evaluation: TextEvaluation

    @classmethod
    def of(
        cls, evaluation: TextEvaluation, *, positive: Any = True, has_probabilities: bool = True
    ) -> ClassifierFigures:
        """The figures of an evaluation whose probabilities are above 0.5 where a row is put in its own class.

        Args:
            evaluation: of the rows.
            positive: the label of the positive class.
            has_probabilities: False where those probabilities say no more than which class is chosen.
        """
        accuracy, balanced = accuracy_at_threshold(evaluation), balanced_accuracy(evaluation)
        if accuracy is None or balanced is None:
            raise BadInput("these scores have no threshold; give the probability of each row's own class too")
        return cls(
            auroc=Estimate(evaluation.accuracy, *(accuracy_interval(evaluation) or ())),
            accuracy=accuracy,
            balanced_accuracy=balanced,
            average_precision=average_precision_of(evaluation),
            brier=brier_of(evaluation) if has_probabilities else None,
            positive=positive,
            evaluation=evaluation,
        )

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.evaluation.n_texts

    @property
    def n_positive(self) -> int:
        """How many of them are of the positive class."""
        return self.evaluation.n_positive

    @property
    def n_groups(self) -> int:
        """Number of groups, of which rows without `groups` are one each."""
        return self.evaluation.n_prompts or self.n

    def as_dict(self) -> dict[str, float | int | None]:
        """One row of a table: each figure with its `_low` and `_high`, and the counts."""
        row: dict[str, float | int | None] = {}
        for name in ("auroc", "accuracy", "balanced_accuracy", "average_precision", "brier"):
            found: Estimate | None = getattr(self, name)
            row |= {
                name: None if found is None else found.value,
                f"{name}_low": None if found is None else found.low,
                f"{name}_high": None if found is None else found.high,
            }
        return {**row, "n": self.n, "n_positive": self.n_positive, "n_groups": self.n_groups}

    def __repr__(self) -> str:
        lines = [f"{self.n} rows, {self.n_positive} of class {self.positive!r}, {self.n_groups} groups"]
        for name in ("auroc", "accuracy", "balanced_accuracy", "average_precision", "brier"):
            found: Estimate | None = getattr(self, name)
            if found is not None:
                ends = "" if found.low is None or found.high is None else f"  [{found.low:.3f}, {found.high:.3f}]"
                lines.append(f"{name.replace('_', ' '):18}{found.value:.3f}{ends}")
        return "\n".join(lines)


def evaluate_classifier(classifier: Any, X: Any, y: Any, groups: Any = None) -> ClassifierFigures:  # noqa: N803
    """Figures of a fitted binary classifier on rows that it was not fitted on.

    Args:
        classifier: with `classes_`, and `decision_function` or `predict_proba`.
        X: rows `[n, d]`, as an array, a tensor or a data frame; or the activations of one layer. For a probe of all
            tokens a `repeng.probes.Ragged`, or one layer that was captured at `all`.
        y: a label a row, each one of `classes_`; the second of these is the positive class.
        groups: what belongs together, one a row: intervals resample these as one. None takes each row for itself.

    Raises:
        BadInput: the parts do not fit each other, or the labels are of one class.
    """
    rows = as_rows(X)
    check_reads(classifier, rows)
    classes = np.asarray(getattr(classifier, "classes_", ())).tolist()
    if len(classes) != 2:
        raise BadInput(
            f"{type(classifier).__name__} has {len(classes) or 'no'} classes; give a classifier that is fitted on two"
        )
    labels = as_array(y, "y", len(rows))
    if unknown := sorted({repr(label) for label in labels.tolist() if label not in classes}):
        raise BadInput(
            f"y holds {', '.join(unknown[:3])}; the classifier was fitted on {classes[0]!r} and {classes[1]!r}: give "
            "these very labels (a number and its text are two labels)"
        )
    positive = labels == classes[1]
    scores, has_probabilities = scores_of(classifier, rows)
    chosen = as_probabilities(classifier, rows) if has_probabilities else 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
    evaluation = row_evaluation(scores, positive, chosen, as_groups(groups, len(rows)))
    return ClassifierFigures.of(evaluation, positive=classes[1], has_probabilities=has_probabilities)


def row_evaluation(
    scores: Float[np.ndarray, " row"],
    positive: Bool[np.ndarray, " row"],
    probabilities: Float[np.ndarray, " row"],
    groups: Int[np.ndarray, " row"],
) -> TextEvaluation:
    """Scores, labels, the probability of the positive class and groups, as an evaluation of one fit.

    Groups are never parted, however few they are: they stand for examples too, which is what few groups are parted in.
    """
    return TextEvaluation.of_scores(scores[None], positive, probabilities[None], example=groups, group=groups)


def scores_of(classifier: Any, rows: Rows) -> tuple[Float[np.ndarray, " row"], bool]:
    """One score a row, higher where the positive class is likelier; and whether it gives probabilities too.

    Raises:
        BadInput: it has neither `decision_function` nor `predict_proba`.
    """
    has_probabilities = hasattr(classifier, "predict_proba")
    if hasattr(classifier, "decision_function"):
        return _flat(classifier.decision_function(rows), len(rows)), has_probabilities
    if not has_probabilities:
        raise BadInput(
            f"{type(classifier).__name__} has neither decision_function nor predict_proba, so it ranks nothing; "
            "give a classifier that has one of them"
        )
    return as_probabilities(classifier, rows) - 0.5, True


def as_probabilities(classifier: Any, rows: Rows) -> Float[np.ndarray, " row"]:
    """The probability of the positive class of each row."""
    return _flat(np.asarray(classifier.predict_proba(rows))[:, 1], len(rows))


def as_rows(X: Any) -> Rows:  # noqa: N803
    """Rows as an array in float32 or float64, as scikit-learn takes them; all tokens of each text as a `Ragged`.

    Raises:
        BadInput: these are activations of several layers, or a text has no token.
    """
    if isinstance(X, Mapping):
        if len(X) != 1:
            listing = ", ".join(map(str, X))
            raise BadInput(f"these are activations of {len(X)} layers ({listing}); choose one, as in acts[{[*X][-1]}]")
        return rows_at(X, next(iter(X)))
    if isinstance(X, Ragged):
        if X.ndim == 3 and len(X) == 1:
            return Ragged(X.values[0], X.offsets)
        if X.ndim > 2:
            raise BadInput(f"these tokens are of the shape {X.shape}; give those of one layer: [text, d]")
        return X
    if isinstance(X, torch.Tensor):
        found = X.detach().cpu()
        return (found if found.dtype in (torch.float32, torch.float64) else found.float()).numpy()
    return np.asarray(X)


def rows_at(acts: Mapping[int, Any], layer: int) -> Rows:
    """`as_rows` of one layer; of activations captured at every token, all tokens of each text."""
    if isinstance(acts, TextActivations) and acts.offsets is not None:
        return as_rows(Ragged(acts[layer], acts.offsets))
    return as_rows(acts[layer])


def check_reads(classifier: Any, rows: Rows) -> None:
    """Refuse all tokens of texts where a classifier, or what it wraps, reads one row a text.

    Raises:
        BadInput: it does.
    """
    if not isinstance(rows, Ragged):
        return
    parts = classifier.get_params().values() if hasattr(classifier, "get_params") else ()
    if not any(getattr(each, "ragged", False) for each in (classifier, *parts)):
        raise BadInput(
            f"{getattr(classifier, 'name', type(classifier).__name__)} reads one row a text, and these are all tokens "
            "of each: capture one token, such as last, or take a probe of all tokens (attention, mean-of-scores, "
            "softmax-pooling, max-of-means)"
        )


def as_array(values: Any, name: str, count: int) -> np.ndarray:
    """One value a row, as an array.

    Raises:
        BadInput: there are more, or fewer.
    """
    found = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if found.shape != (count,):
        tokens = "; of a capture at all, X is repeng.probes.Ragged(acts[4], acts.offsets), one row a text"
        fewer = found.ndim == 1 and len(found) < count
        raise BadInput(
            f"{name} is of shape {found.shape} for {count} rows; give one value a row{tokens if fewer else ''}"
        )
    return found


def as_groups(groups: Any, count: int) -> Int[np.ndarray, " row"]:
    """A number for each row's group; without groups each row is its own.

    Raises:
        BadInput: there are more, or fewer.
    """
    if groups is None:
        return np.arange(count)
    _, found = np.unique(as_array(groups, "groups", count), return_inverse=True)
    return found.astype(np.int64)


def _flat(scores: Any, count: int) -> Float[np.ndarray, " row"]:
    found = scores.detach().cpu().numpy() if isinstance(scores, torch.Tensor) else np.asarray(scores)
    return as_array(found.astype(np.float64), "what the classifier gives", count)
