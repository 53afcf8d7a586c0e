"""Classifiers at every layer of activations of one's own, and from one labelled set to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from repeng.errors import BadInput
from repeng.methods.names import parse_name
from repeng.probes.base import Probe
from repeng.probes.registry import get_probe
from repeng.study.classifier_figures import (
    ClassifierFigures,
    Rows,
    as_array,
    as_groups,
    as_probabilities,
    as_rows,
    check_reads,
    evaluate_classifier,
    row_evaluation,
    rows_at,
    scores_of,
)

FOLDS = 5
"""Of a cross-validation."""


@dataclass(frozen=True)
class LayerFigures:
    """One classifier at one layer.

    Attributes:
        probe: its name.
        layer: the layer.
        figures: on rows that it was not fitted on.
    """

    probe: str
    layer: int
    figures: ClassifierFigures


@dataclass(frozen=True)
class TransferFigures:
    """One classifier fitted on one labelled set and tested on another.

    Attributes:
        fitted_on: the name of the first.
        tested_on: the name of the second; where both are one, by cross-validation.
        figures: on rows that it was not fitted on.
        cosine: of the directions that are fitted on the two; None where the classifier has none.
    """

    fitted_on: str
    tested_on: str
    figures: ClassifierFigures
    cosine: float | None


def sweep_layers(
    acts: Mapping[int, Any],
    y: Any,
    probes: Any = ("mms", "logistic"),
    *,
    groups: Any = None,
    test: tuple[Any, ...] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> list[LayerFigures]:
    """Every classifier at every layer, on rows that it was not fitted on.

    Args:
        acts: rows by layer, each `[n, d]`: what `repeng.capture` gives for texts, for probes of all tokens at `all`;
            or a `repeng.probes.Ragged` by layer.
        y: a label a row, of two classes; the higher is the positive one.
        probes: names, unfitted probes or scikit-learn classifiers, one or several; or a mapping of names to them.
        groups: what belongs together, one a row: never parted by a fold, and resampled as one by intervals.
        test: `(acts, y)` or `(acts, y, groups)` to test on; None cross-validates.
        folds: of the cross-validation.
        seed: of its folds.

    Raises:
        BadInput: the parts do not fit each other, no such layer in the test rows, or too few rows of a class.
        UnknownName: no such probe.
    """
    found = []
    for name, classifier in named_classifiers(probes):
        for layer in acts:
            rows = rows_at(acts, layer)
            if test is None:
                figures = cross_validated(classifier, rows, y, groups, folds=folds, seed=seed)
            else:
                test_acts, *labelled = test
                if layer not in test_acts:
                    raise BadInput(f"the rows to test on are not of layer {layer}; capture the same layers of both")
                fitted = _fitted(classifier, rows, as_array(y, "y", len(rows)), groups)
                figures = evaluate_classifier(fitted, rows_at(test_acts, layer), *labelled)
            found.append(LayerFigures(name, layer, figures))
    return found


def transfer_between(
    sets: Mapping[str, tuple[Any, ...]], probe: Any = "mms", *, folds: int = FOLDS, seed: int = 0
) -> list[TransferFigures]:
    """Fit on each of some labelled sets, test on each; on its own by cross-validation.

    Args:
        sets: by name, `(X, y)` or `(X, y, groups)`; all of one width and the same two classes. X is rows `[n, d]`, or
            for probes of all tokens a `repeng.probes.Ragged`.
        probe: a name, an unfitted probe or an unfitted scikit-learn classifier.
        folds: of the cross-validations.
        seed: of their folds.

    Raises:
        BadInput: fewer than two sets, or the parts do not fit each other.
        UnknownName: no such probe.
    """
    if len(sets) < 2:
        raise BadInput(f"a transfer matrix needs 2 labelled sets or more; given {', '.join(sets) or 'none'}")
    ((_, classifier),) = named_classifiers(probe)
    parts = {name: _labelled(name, given) for name, given in sets.items()}
    fits = {name: _fitted(classifier, *part) for name, part in parts.items()}
    directions = {name: direction_of(fitted) for name, fitted in fits.items()}
    found = []
    for source, fitted in fits.items():
        for target, (x, y, groups) in parts.items():
            if source == target:
                figures = cross_validated(classifier, x, y, groups, folds=folds, seed=seed)
            else:
                figures = evaluate_classifier(fitted, x, y, groups)
            one, other = directions[source], directions[target]
            cosine = None if one is None or other is None else float(one @ other)
            found.append(TransferFigures(source, target, figures, cosine))
    return found


def cross_validated(
    classifier: Any, rows: Rows, y: Any, groups: Any = None, *, folds: int = FOLDS, seed: int = 0
) -> ClassifierFigures:
    """Figures of the scores that each row gets from the fit that did not see its fold.

    Folds are of like shares of the classes and never part a group. Scores of different fits are ranked with each other,
    so each fit's are divided by their standard deviation over the rows that it was fitted on; its threshold stays 0.

    Raises:
        BadInput: there are too few rows, or groups, of a class for so many folds.
    """
    labels = as_array(y, "y", len(rows))
    classes = np.unique(labels)
    if len(classes) != 2:
        raise BadInput(f"y holds {len(classes)} classes; give labels of two")
    positive, units = labels == classes[1], as_groups(groups, len(rows))
    scores, probabilities = np.zeros(len(rows)), np.zeros(len(rows))
    has_probabilities = True
    for train, test in _folds(positive, units, folds, seed):
        fitted = _fitted(classifier, rows[train], labels[train], None if groups is None else units[train])
        own, has_probabilities = scores_of(fitted, rows[train])
        spread = float(own.std()) or 1.0
        scores[test] = scores_of(fitted, rows[test])[0] / spread
        probabilities[test] = as_probabilities(fitted, rows[test]) if has_probabilities else scores[test] > 0
    evaluation = row_evaluation(scores, positive, probabilities, units)
    return ClassifierFigures.of(evaluation, positive=classes[1].item(), has_probabilities=has_probabilities)


def named_classifiers(probes: Any) -> list[tuple[str, Any]]:
    """Classifiers with their names: one or several of names, probes and scikit-learn classifiers, or a mapping.

    Raises:
        UnknownName: no such probe.
        BadInput: there is none, or two of one name.
    """
    if isinstance(probes, Mapping):
        return [(str(name), _unfitted(each)) for name, each in probes.items()]
    several: Iterable[Any] = probes if isinstance(probes, Sequence) and not isinstance(probes, str) else (probes,)
    found = [(_name_of(each), _unfitted(each)) for each in several]
    if len({name for name, _ in found}) < len(found) or not found:
        raise BadInput(f"{len(found)} probes, two of one name or none; give a mapping of names to probes")
    return found


def direction_of(fitted: Any) -> Float[np.ndarray, " d"] | None:
    """The direction, of length 1, along which a fitted linear classifier's score rises; None where it has none."""
    for attribute in ("direction_", "coef_"):
        values = getattr(fitted, attribute, None)
        if values is not None:
            flat = np.asarray(as_rows(values), dtype=np.float64).reshape(-1)
            return flat / max(float(np.linalg.norm(flat)), 1e-12)
    return None


def _unfitted(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    name, parameters = parse_name(given)
    return get_probe(name, **parameters)


def _name_of(given: Any) -> str:
    if isinstance(given, str):
        return given
    return given.name if isinstance(given, Probe) else type(given).__name__


def _fitted(classifier: Any, rows: Rows, labels: np.ndarray, groups: Any) -> Any:
    """A clone, fitted; a probe that holds some groups out of what it learns from is given them."""
    from sklearn.base import clone

    check_reads(classifier, rows)
    if groups is not None and isinstance(classifier, Probe) and classifier.in_groups:
        return clone(classifier).fit(rows, labels, as_groups(groups, len(rows)))
    return clone(classifier).fit(rows, labels)


def _labelled(name: str, given: tuple[Any, ...]) -> tuple[Rows, np.ndarray, Any]:
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise BadInput(f"the labelled set {name!r} is not (X, y) or (X, y, groups)")
    rows = as_rows(given[0])
    return rows, as_array(given[1], f"y of {name!r}", len(rows)), given[2] if len(given) == 3 else None


def _folds(
    positive: Bool[np.ndarray, " row"], units: Int[np.ndarray, " row"], folds: int, seed: int
) -> list[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]]:
    """Rows to fit on and rows to score, of each fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    fewest = min(len(np.unique(units[positive == label])) for label in (True, False))
    if not 2 <= folds <= fewest:
        raise BadInput(
            f"{folds} folds of which each needs both classes, and one class is in {fewest} groups of rows; "
            f"give more rows, or folds from 2 to {fewest}"
        )
    alone = len(np.unique(units)) == len(units)
    splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    return list(splitter.split(units, positive, None if alone else units))
