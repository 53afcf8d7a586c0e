"""The results table: one row a model, method and shift."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
from pydantic import with_config

from repeng.distributions.schema import Shift
from repeng.errors import BadInput
from repeng.metrics import (
    FIGURES,
    Evaluation,
    Figures,
    TextEvaluation,
    TextFigures,
    figure_inputs,
    figures_of,
    fits_disagree,
)
from repeng.places import Place
from repeng.results.csv_table import columns_of, read_rows, record_of, write_rows
from repeng.results.kinds import kind_of


@dataclass(frozen=True)
class RowNames:
    """What a row of results is about, and how much was scored for it."""

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


@dataclass(frozen=True)
class RowOfFits(Figures, RowNames):
    """What a row of results says of its figures: of overlap, of fits, and what its p-value allows to say.

    Attributes:
        n_overlap: pairs whose prompt stands in the source's train split, to the letter, nearly or inside a text.
        accuracy_without_overlap: of the other pairs.
        kind: what the method is: `probe`, `prompted`, `tuned`, `text`, `plugin`, `published` or `chance`. Where it is
            not given, `kind_of` tells it from the method's name.
        n_fits: how often the method was fitted; the figures are means over fits.
        fits_disagree: whether its fits differ by more than prompts explain; None with one fit.
        tied_layers: the layers that no other beats on held-out source pairs, as `0 1 2`, where they are several.
        tied_lowest, tied_highest: the lowest and the highest accuracy among those, each the mean over fits.
        p_corrected: `p` after correction over the study (Holm).
        verdict: what that allows to say: `above chance`, `below chance`, `no better than its null`, or, of a method
            without a null, `not told from chance`.
    """

    n_overlap: int | None = None
    accuracy_without_overlap: float | None = None
    kind: str = ""
    n_fits: int | None = None
    fits_disagree: bool | None = None
    tied_layers: str = ""
    tied_lowest: float | None = None
    tied_highest: float | None = None
    p_corrected: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class RowOfTexts:
    """What kind of items a row of results is of.

    Attributes:
        figure: what `accuracy` is: `pair accuracy`, or `auroc` of labelled texts; empty where nothing was scored, and
            in tables of earlier versions, which hold pairs.
        n_texts: labelled texts scored; None of pairs.
        n_positive: those that have the label.
        benign: the distribution that the thresholds of 1 % and 5 % false positives were set on; empty for the source's
            own negatives.
        source_id_figure: what `source_id_accuracy` is, as `figure` of the source's own test split; empty without one.
    """

    figure: str = ""
    n_texts: int | None = None
    n_positive: int | None = None
    benign: str = ""
    source_id_figure: str = ""


@with_config(allow_inf_nan=False)
@dataclass(frozen=True)
class ResultRow(TextFigures, RowOfTexts, RowOfFits):
    """One row of results.csv: a model, a method and a shift. None is a blank; fields are the columns, in order.

    Attributes:
        others: cells of columns that are none of ours, as text.

    Raises:
        BadInput: a figure is not finite.
    """

    others: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", kind_of(self.method))
        for figure in FIGURES:
            value = getattr(self, figure.name)
            if value is not None and not math.isfinite(value):
                raise BadInput(f"{figure.name} is {value}; leave it blank (None) where it is unknown")


CONTRADICTED = "accuracy_of_probabilities"
"""What the probabilities give where they deny the accuracy that their file states; without such a row no column."""
COLUMNS = columns_of(ResultRow)
NUMBERS = (
    *("n_pairs", "n_prompts", "n_overlap", "n_fits", "tied_lowest", "tied_highest", "p_corrected"),
    *("n_texts", "n_positive"),
)
"""Numbers of a row that are not among `FIGURES`."""


def row_from(
    evaluation: Evaluation | None,
    *,
    model: str,
    method: str,
    layers: str,
    shift: Shift,
    source_id: Evaluation | None = None,
    baseline: Evaluation | None = None,
    capability: Evaluation | float | None = None,
    kind: str = "",
) -> ResultRow:
    """The row of one evaluation. What it cannot support stays blank, never invented.

    Where a foreign file's accuracy is one that its probabilities deny, it stands, and `others` has what they give.

    Args:
        evaluation: fitted on the shift's source, scored on its target; None leaves every figure of it blank.
        model: the model's name.
        method: the method's name.
        layers: the layers that it reads, as text.
        shift: what was asked.
        source_id: the same method on its source's test split.
        baseline: zero-shot on the target.
        capability: the best method, tuned on the target's reference, on that; or its accuracy alone, which leaves the
            interval of elicitation blank.
        kind: what the method is; by default what its name tells.
    """
    texts = evaluation if isinstance(evaluation, TextEvaluation) else None
    denied = evaluation and evaluation.contradicted_by
    figures: dict[str, Any] = figures_of(
        figure_inputs(
            evaluation,
            source_id=source_id,
            baseline=baseline,
            capability=capability,
            same_target=shift.target == shift.target_reference,
        )
    )
    return ResultRow(
        model=model,
        method=method,
        layers=layers,
        **asdict(shift),
        n_pairs=evaluation.n_pairs if evaluation else None,
        n_prompts=evaluation.n_prompts if evaluation else None,
        kind=kind,
        n_fits=evaluation.n_fits if evaluation and not evaluation.is_bare else None,
        fits_disagree=fits_disagree(evaluation) if evaluation and evaluation.n_fits > 1 else None,
        figure=evaluation.figure if evaluation else "",
        n_texts=texts.n_texts if texts else None,
        n_positive=texts.n_positive if texts else None,
        benign=texts.benign if texts else "",
        source_id_figure=source_id.figure if source_id else "",
        others={} if denied is None else {CONTRADICTED: str(denied)},
        **figures,
    )


def accuracy_of_probabilities(row: ResultRow) -> float | None:
    """What the probabilities give, where a row's accuracy is one that a file states and they deny; None else."""
    with suppress(ValueError):
        return float(row.others.get(CONTRADICTED, ""))
    return None


def write_results(rows: Sequence[ResultRow], path: Place) -> None:
    """Write results.csv atomically; figures to the last bit, blanks as nothing between commas."""
    write_rows(rows, path, ResultRow)


def read_results(path: Place) -> list[ResultRow]:
    """Read a results table by column names. Columns that are none of ours are kept, missing ones are blank.

    Raises:
        BadInput: there is no such file, no column of names, or a cell is not what its column holds.
    """
    return read_rows(path, ResultRow, what="results", needed=("model", "method", "source", "target"))


def results_frame(rows: Iterable[ResultRow]) -> pd.DataFrame:
    """Rows as a frame with the columns of results.csv, others after them; blanks are NaN."""
    records = [record_of(row) for row in rows]
    frame = pd.DataFrame(records, columns=None if records else list(COLUMNS))
    frame = frame.astype(dict.fromkeys([*(figure.name for figure in FIGURES), *NUMBERS], float))
    for name in frame.columns[len(COLUMNS) :]:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if (numbers.isna() == (frame[name].fillna("") == "")).all():
            frame[name] = numbers
    return frame
