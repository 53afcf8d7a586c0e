"""Several models, methods or studies beside each other: `repeng compare`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from repeng.atomic import write_atomically
from repeng.report import comparisons
from repeng.report.compared_studies import read_compared_studies
from repeng.report.comparisons import Field, Row

TABLES = (
    ("elicitation_by_size", "Elicitation by model size", comparisons.elicitation_by_size),
    ("model_correlations", "Accuracy over shifts, one model against another", comparisons.model_correlations),
    ("zero_shot_correlations", "Accuracy against zero-shot accuracy, over shifts", comparisons.zero_shot_correlations),
    ("paired_tests", "Paired tests, corrected by Holm for all of them", comparisons.paired_tests),
    ("mistake_agreement", "Agreement of mistakes (Cohen's kappa)", comparisons.mistake_agreement),
    ("capability_measures", "Elicitation under other measures of capability", comparisons.capability_measures),
)


@dataclass(frozen=True)
class Comparison:
    """What was found: one list of rows a question.

    Attributes:
        tables: rows by question, in reading order; a question without an answer in these data has none.
        scatter: accuracy of two entrants on each shift that both have.
        entrants: every method, with its model and study where there are several.
    """

    tables: dict[str, list[Row]]
    scatter: list[Row]
    entrants: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.tables, "scatter": self.scatter}

    def renderables(self) -> list[Table | str]:
        """For a terminal: one table a question that has an answer, and a line for each that has none."""
        shown: list[Table | str] = []
        for name, title, _ in TABLES:
            shown.append(_table(title, self.tables[name]) if self.tables[name] else f"{title}: {MISSING[name]}")
            shown.append("")
        return shown[:-1]

    def frame(self, name: str) -> Any:
        """One question's rows as a pandas frame."""
        import pandas as pd

        return pd.DataFrame(self.scatter if name == "scatter" else self.tables[name])


MISSING = {
    "elicitation_by_size": "there are no rows.",
    "model_correlations": "needs one method on two models or in two studies.",
    "zero_shot_correlations": "needs a fitted method and a zero-shot baseline.",
    "paired_tests": "needs two methods with predictions on the same pairs.",
    "mistake_agreement": "needs two methods with predictions on the same pairs.",
    "capability_measures": "needs predictions of methods fitted on the targets themselves.",
}


def compare_results(paths: Sequence[Path], out: Path | None = None, *, against: str | None = None) -> Comparison:
    """Compare studies, results tables and folders of evaluations.

    Args:
        paths: each a study's folder, a results.csv, or a folder METHOD/MODEL-SOURCE/TARGET.json.
        out: a folder for comparison.html, comparison.json, one CSV a table, and the pictures as SVG and PNG.
        against: the method that every other is tested against; None tests every two. Fewer tests, milder correction.

    Raises:
        BadInput: a path is none of these.
        UnknownName: no such method to compare against.
    """
    field = Field(read_compared_studies(paths), against)
    tables = {name: compute(field) for name, _, compute in TABLES}
    entrants = tuple(field.title(entrant) for entrant in field.entrants)
    found = Comparison(tables, comparisons.scatter_rows(field), entrants)
    if out is not None:
        _write(found, out)
    return found


def _write(found: Comparison, out: Path) -> None:
    from repeng.report.compare_page import drawings_of, write_page
    from repeng.report.pictures import save_chart

    write_atomically(
        out / "comparison.json", json.dumps(found.as_dict(), ensure_ascii=False, allow_nan=False, indent=1)
    )
    for name, rows in found.as_dict().items():
        if rows:
            write_atomically(out / f"{name}.csv", _csv(rows))
    drawings = drawings_of(found)
    for drawing in drawings:
        save_chart(drawing.chart, out / f"{drawing.id}.png")
    write_page(found, drawings, out / "comparison.html")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    names = columns_of(rows)
    for name in names:
        justify: Literal["left", "right"] = "right" if is_numeric(rows, name) else "left"
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(cell_text(row[name]) for name in names))
    return table


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns of a table in which something is known."""
    return [name for name in rows[0] if any(row[name] is not None for row in rows)]


def is_numeric(rows: Sequence[Row], name: str) -> bool:
    """Whether a column holds figures alone."""
    return all(row[name] is None or isinstance(row[name], int | float) for row in rows)


def cell_text(value: object) -> str:
    """A figure of three decimals, or four where it is small; nothing for what is unknown."""
    if isinstance(value, float):
        return f"{value:.4f}" if 0 < abs(value) < 0.001 else f"{value:.3f}"
    return "" if value is None else str(value)
