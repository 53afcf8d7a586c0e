"""Figures that contradict each other: results.csv and its predictions, a stated accuracy and its probabilities."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from repeng.distributions.schema import Shift
from repeng.metrics import AGREES, Evaluation
from repeng.metrics import FIGURES as COMPUTED
from repeng.places import Place
from repeng.report.current import is_settled
from repeng.report.predictions import Key, Prediction, evaluations_of
from repeng.results import CAPABILITY, ResultRow, accuracy_of_probabilities, row_from
from repeng.study.text_forms import baseline_method

log = logging.getLogger(__name__)

FIGURES = tuple(figure.name for figure in COMPUTED)
INFERRED = tuple(name for name in FIGURES if name == "p" or name.endswith(("_low", "_high")))
"""Bounds of intervals and p-values: versions make them by other procedures, and none of them contradicts another."""


@dataclass(frozen=True)
class Contradiction:
    """A figure that is stated in one place and that the probabilities of its pairs deny.

    Attributes:
        stated_in: the file.
        used: which of the two the tables and pictures show, `stated` or `derived`.
    """

    method: str
    model: str
    source: str
    target: str
    figure: str
    stated: float
    derived: float
    used: str
    stated_in: str


def stated_contradictions(rows: Iterable[ResultRow], where: Place) -> list[Contradiction]:
    """Rows of files that state an accuracy which their own probabilities deny; what is stated stands."""
    return [
        Contradiction(*_names(row), "accuracy", row.accuracy, derived, "stated", str(where))
        for row in rows
        if row.accuracy is not None and (derived := accuracy_of_probabilities(row)) is not None
    ]


def settle(
    rows: Sequence[ResultRow],
    predictions: Mapping[Key, Prediction],
    table: Place,
    *,
    table_hash: str | None = None,
) -> tuple[list[ResultRow], list[Contradiction]]:
    """Hold a table of results against the predictions next to it.

    Every figure that the predictions give is made anew; where a row states another, the predictions' one is used and
    the contradiction is logged. Intervals and p-values are made anew without a word. Rows without predictions, and
    figures that these do not give, are taken as they are. Of files that `mark_settled` has marked nothing is made anew.

    Args:
        rows: as read from `table`.
        predictions: of the same study.
        table: the file, to name it.
        table_hash: `hash_of` it, where it has been taken.

    Returns:
        The rows, and what contradicts: also accuracies that a method states about itself against its probabilities.
    """
    if is_settled(table, table_hash=table_hash):
        return list(rows), stated_contradictions(rows, table)
    evaluations = evaluations_of(predictions)
    capabilities = {
        (row.model, row.target): evaluations[_key(row)]
        for row in rows
        if row.method.startswith(CAPABILITY) and _key(row) in evaluations
    }
    held = dict.fromkeys((*(_key(row)[:2] for row in rows), *(key[:2] for key in predictions)))
    baselines = {model: baseline_method(name for of, name in held if of == model) for model, _ in held}
    settled, found = [], []
    for row in rows:
        if _key(row) in evaluations:
            capability = capabilities.get((row.model, row.target_reference), row.target_tuned_capability)
            derived = _derive(row, evaluations, capability, baselines[row.model])
            denied = {name: getattr(derived, name) for name in FIGURES if _differ(row, derived, name)}
            found += [
                Contradiction(*_names(row), name, getattr(row, name), value, "derived", str(table))
                for name, value in denied.items()
            ]
            anew = {name: value for name in INFERRED if (value := getattr(derived, name)) is not None}
            row = replace(row, **denied, **anew, others={**row.others, **derived.others})
        settled.append(row)
    if found:
        first = found[0]
        log.warning(
            "%s: %d figure(s) are not what its predictions give, as the %s of %s from %s on %s, %.4g and not %.4g; the "
            "predictions are believed, run the study again to write it anew",
            table,
            len(found),
            first.figure,
            first.method,
            first.source,
            first.target,
            first.derived,
            first.stated,
        )
    return settled, found + stated_contradictions(settled, table)


def _derive(
    row: ResultRow, evaluations: Mapping[Key, Evaluation], capability: Evaluation | float | None, baseline: str
) -> ResultRow:
    model, method, source, target = _key(row)
    return row_from(
        evaluations[model, method, source, target],
        model=model,
        method=row.method,
        layers=row.layers,
        shift=Shift(source, target, row.target_reference, row.label, row.category),
        source_id=evaluations.get((model, method, source, source)),
        # What a capability gains over zero-shot is asked of methods, not of itself.
        baseline=None if row.method.startswith(CAPABILITY) else evaluations.get((model, baseline, source, target)),
        capability=capability,
        kind=row.kind,
    )


def _differ(row: ResultRow, derived: ResultRow, name: str) -> bool:
    """Whether a row states another figure than was derived; a blank on either side states nothing."""
    stated, found = getattr(row, name), getattr(derived, name)
    if stated is None or found is None or name in INFERRED:
        return False
    return bool(abs(stated - found) > AGREES)


def _key(row: ResultRow) -> Key:
    return row.model, row.method.removeprefix(CAPABILITY), row.source, row.target


def _names(row: ResultRow) -> tuple[str, str, str, str]:
    return row.method, row.model, row.source, row.target
