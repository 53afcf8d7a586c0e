"""What is compared: studies, results tables and folders of evaluations, ours or published."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from repeng.distributions.schema import Shift
from repeng.errors import BadInput
from repeng.report.grouping import shift_rows
from repeng.report.predictions import Key, Prediction, by_key, read_predictions
from repeng.results import ResultRow, read_results, row_from

log = logging.getLogger(__name__)

RESAMPLES = 500


@dataclass(frozen=True)
class Entrant:
    """One method of one model in one study."""

    study: str
    model: str
    method: str


@dataclass(frozen=True)
class ComparedStudy:
    """One of the things compared: its rows, and what is known of single pairs."""

    name: str
    rows: tuple[ResultRow, ...]
    predictions: dict[Key, Prediction]

    def entrants(self) -> tuple[Entrant, ...]:
        """Its methods and models, by first appearance."""
        return tuple(dict.fromkeys(Entrant(self.name, row.model, row.method) for row in self.rows))


def read_compared_studies(paths: Sequence[Path]) -> tuple[ComparedStudy, ...]:
    """Read each path: a study's folder, a results.csv, or a folder METHOD/MODEL-SOURCE/TARGET.json.

    A folder of evaluations knows no labels: it takes the shifts of the other sides, or where they know none either,
    every pair of a source and another target.

    Raises:
        BadInput: a path is none of these, or nothing is given.
    """
    if not paths:
        raise BadInput("nothing to compare; give a results folder or more")
    names = _names(paths)
    tables = {path: _table(path) for path in paths}
    shifts = [_shift(row) for table in tables.values() if table is not None for row in table[0]]
    sides = []
    for path, name in zip(paths, names, strict=True):
        table = tables[path]
        if table is None:
            predictions = read_predictions(path) if path.is_dir() else []
            if not predictions:
                raise BadInput(f"{path}: no results.csv and no METHOD/MODEL-SOURCE/TARGET.json; give a study's folder")
            table = _rows_of_evaluations(path, predictions, shifts), by_key(predictions)
        sides.append(ComparedStudy(name, tuple(table[0]), table[1]))
    return tuple(sides)


def _table(path: Path) -> tuple[list[ResultRow], dict[Key, Prediction]] | None:
    """Rows and predictions of a study; None for a folder of evaluations."""
    if path.is_file():
        return shift_rows(read_results(path)), {}
    if not (path / "results.csv").is_file():
        return None
    found = read_predictions(path) if (path / "predictions").is_dir() else []
    return shift_rows(read_results(path / "results.csv")), by_key(found)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest end of each path that tells it from the others."""
    whole = [(path.parent if path.name == "results.csv" else path).resolve().parts for path in paths]
    for length in range(1, max(len(parts) for parts in whole) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    raise BadInput("the same results are given twice; give each once")


def _shift(row: ResultRow) -> Shift:
    return Shift(row.source, row.target, row.target_reference, row.label, row.category)


def _rows_of_evaluations(path: Path, predictions: Iterable[Prediction], shifts: Sequence[Shift]) -> list[ResultRow]:
    known = by_key(predictions)
    wanted = list(dict.fromkeys(shifts)) or [
        Shift(source, target)
        for source, target in dict.fromkeys(key[2:] for key in known)
        if source not in ("", target)
    ]
    rows = []
    for model, method in dict.fromkeys(key[:2] for key in known):
        for shift in wanted:
            found = known.get((model, method, shift.source, shift.target))
            if found is None:
                continue
            source_id = known.get((model, method, shift.source, shift.source))
            baseline = known.get((model, "zero-shot", shift.source, shift.target))
            rows.append(
                row_from(
                    found.evaluation,
                    model=model,
                    method=method,
                    layers="",
                    shift=shift,
                    source_id=None if source_id is None else source_id.evaluation,
                    baseline=None if baseline is None else baseline.evaluation,
                    capability=_capability(path, model, shift.target),
                    resamples=RESAMPLES,
                )
            )
    return rows


def _capability(path: Path, model: str, target: str) -> float | None:
    """What the released files say beside the evaluations: ../target_tuned_capability/MODEL/TARGET.json."""
    file = path.parent / "target_tuned_capability" / model / f"{target}.json"
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))["best_intervention_accuracy"]
    except (ValueError, KeyError, TypeError):
        log.warning("passed over: %s has no `best_intervention_accuracy`", file)
        return None
    return float(value)
