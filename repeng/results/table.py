"""The results table: one row a model, method and shift."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from repeng.atomic import write_atomically
from repeng.errors import BadInput
from repeng.metrics import (
    Evaluation,
    accuracy_interval,
    auroc,
    brier,
    differential_elicitation,
    elicitation,
    genies_rms_calibration_error,
    rms_calibration_error,
)


@runtime_checkable
class ShiftNames(Protocol):
    """What a row takes from a shift; `distributions.schema.Shift` has it."""

    @property
    def source(self) -> str:
        """Fitted on."""

    @property
    def target(self) -> str:
        """Tested on."""

    @property
    def target_reference(self) -> str:
        """The target with its spurious cue removed."""

    @property
    def label(self) -> str:
        """Extreme or probing."""

    @property
    def category(self) -> str:
        """What changes."""


@dataclass(frozen=True)
class ResultRow:
    """One row of results.csv: a model, a method and a shift. None is a blank; fields are the columns, in order.

    Raises:
        BadInput: a figure is not finite.
    """

    model: str
    method: str
    layers: str
    source: str
    target: str
    target_reference: str
    label: str
    category: str
    n_pairs: int | None = None
    n_prompts: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    source_id_accuracy: float | None = None
    baseline_accuracy: float | None = None
    target_tuned_capability: float | None = None
    elicitation: float | None = None
    differential_elicitation: float | None = None
    rms_calibration_error: float | None = None
    genies_rms_calibration_error: float | None = None
    brier: float | None = None
    auroc: float | None = None

    def __post_init__(self) -> None:
        for name in FIGURES:
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise BadInput(f"{name} is {value}; leave it blank (None) where it is unknown")


COLUMNS = tuple(field.name for field in fields(ResultRow))
TEXTS = COLUMNS[:8]
COUNTS = COLUMNS[8:10]
FIGURES = COLUMNS[10:]


def row_from(
    evaluation: Evaluation | None,
    *,
    model: str,
    method: str,
    layers: str,
    shift: ShiftNames,
    source_id: Evaluation | None = None,
    baseline: Evaluation | None = None,
    capability: float | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> ResultRow:
    """The row of one evaluation. What it cannot support stays blank, never invented.

    Args:
        evaluation: fitted on the shift's source, scored on its target; None leaves every figure of it blank.
        model: the model's name.
        method: the method's name.
        layers: the layers that it reads, as text.
        shift: what was asked.
        source_id: the same method on its source's test split.
        baseline: zero-shot on the target.
        capability: what the best method reaches when tuned on the target's reference.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    names: dict[str, Any] = {
        name: getattr(shift, name) for name in ("source", "target", "target_reference", "label", "category")
    }
    beside: dict[str, Any] = {
        "source_id_accuracy": None if source_id is None else source_id.accuracy,
        "baseline_accuracy": None if baseline is None else baseline.accuracy,
        "target_tuned_capability": capability,
    }
    found: dict[str, Any] = {}
    if evaluation is not None:
        found |= {"n_pairs": evaluation.n_pairs, "n_prompts": evaluation.n_prompts, "accuracy": evaluation.accuracy}
        interval = accuracy_interval(evaluation, seed=seed, resamples=resamples)
        if interval is not None:
            found |= dict(zip(("accuracy_low", "accuracy_high"), interval, strict=True))
        if capability:
            found["elicitation"] = elicitation(evaluation.accuracy, capability)
            if baseline is not None:
                found["differential_elicitation"] = differential_elicitation(
                    evaluation.accuracy, baseline.accuracy, capability
                )
        found |= _figures_of_pairs(evaluation)
    return ResultRow(model=model, method=method, layers=layers, **names, **beside, **found)


def _figures_of_pairs(evaluation: Evaluation) -> dict[str, float | None]:
    """Calibration, Brier score and AUROC, as far as the evaluation goes."""
    found: dict[str, float | None] = {}
    if evaluation.probabilities is not None:
        found["rms_calibration_error"] = rms_calibration_error(evaluation.probabilities)
        released = genies_rms_calibration_error(evaluation.probabilities)
        found["genies_rms_calibration_error"] = None if math.isnan(released) else released
        found["brier"] = brier(evaluation.probabilities)
    if evaluation.response_scores is not None:
        found["auroc"] = auroc(*evaluation.response_scores)
    return found


def write_results(rows: Sequence[ResultRow], path: Path) -> None:
    """Write results.csv atomically; figures to the last bit, blanks as nothing between commas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(getattr(row, name)) for name in COLUMNS] for row in rows)
    write_atomically(path, text.getvalue())


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


def read_results(path: Path) -> list[ResultRow]:
    """Read a results table. Columns may stand in any order; others than ours are passed over.

    Raises:
        BadInput: there is no such file, a column is missing, or a cell is not what its column holds.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise BadInput(
                    f"{path}: no column {', '.join(absent)}; its first line must name the columns {', '.join(COLUMNS)}"
                )
            return [_row(cells, f"{path}: row {number}") for number, cells in enumerate(reader, start=1)]
    except OSError as error:
        raise BadInput(f"{path}: cannot read the results: {error.strerror}; give a study's results.csv") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a CSV file in UTF-8: {error}; give a study's results.csv") from error


def _row(cells: dict[str | None, Any], where: str) -> ResultRow:
    if None in cells or None in cells.values():
        raise BadInput(f"{where}: more or fewer cells than there are columns; quote cells that hold a comma")
    values: dict[str, Any] = {name: cells[name] for name in TEXTS}
    for name in COUNTS + FIGURES:
        text, kind = cells[name].strip(), int if name in COUNTS else float
        try:
            values[name] = kind(text) if text else None
            if text and not math.isfinite(values[name]):
                raise ValueError
        except ValueError as error:
            wanted = "a whole number" if kind is int else "a number"
            raise BadInput(
                f"{where}, column {name}: {text!r} is not {wanted}; write one, or nothing if unknown"
            ) from error
    return ResultRow(**values)
