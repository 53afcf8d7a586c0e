"""One method of a study, source by target: the cells that the study asked about, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from repeng.errors import UnknownName
from repeng.report.frames import in_order
from repeng.report.theme import heat_cells, themed, tooltips
from repeng.results import PAIR_ACCURACY, ResultRow, figure_names

NAMES = ["source", "target", "figure", "accuracy", "accuracy_low", "accuracy_high"]


@dataclass(frozen=True)
class StudyMatrix:
    """Accuracy of one method from each source to each target, of labelled texts the AUROC: a table and a chart.

    Attributes:
        method: its name.
        frame: one row a cell, with `source`, `target`, `figure`, `accuracy`, `accuracy_low`, `accuracy_high`. On a
            source's own test split there is no interval.
    """

    method: str
    frame: pd.DataFrame

    @property
    def targets(self) -> list[str]:
        """The distributions that were tested on, those that were fitted on first."""
        asked = set(self.frame["target"])
        return [name for name in in_order([*self.frame["source"], *self.frame["target"]]) if name in asked]

    def matrix(self, figure: str = "accuracy") -> pd.DataFrame:
        """A figure, fitted on the row and tested on the column; NaN where the study did not ask."""
        wide = self.frame.pivot(index="source", columns="target", values=figure)
        return wide.loc[in_order(self.frame["source"]), self.targets]

    def chart(self) -> Any:
        """The same as a heat map: an Altair chart."""
        shown = figure_names(self.frame["figure"])
        called = "accuracy" if shown == PAIR_ACCURACY else shown
        base = alt.Chart(self.frame).encode(
            x=alt.X("target:N", sort=self.targets, axis=alt.Axis(orient="top", labelAngle=-40, domain=False)),
            y=alt.Y("source:N", sort=in_order(self.frame["source"]), axis=alt.Axis(domain=False, ticks=False)),
            tooltip=tooltips(
                "source:N", "target:N", figures=("accuracy", "accuracy_low", "accuracy_high"), accuracy=called
            ),
        )
        cells = heat_cells(base, "accuracy", (0.0, 0.5, 1.0), title=called, size=10)
        title = f"{self.method}: {called}, fitted on the row and tested on the column"
        return themed(cells.properties(width=alt.Step(36), height=alt.Step(24)), title=title, description=title)

    def __repr__(self) -> str:
        return str(self.matrix().round(3).to_string(na_rep=""))

    def _repr_html_(self) -> str:
        return str(self.matrix().round(3).to_html(na_rep=""))


def study_matrix(rows: Iterable[ResultRow], method: str) -> StudyMatrix:
    """A method's accuracy on each shift and on each source's own test split.

    Raises:
        UnknownName: the rows have no such method.
    """
    rows = list(rows)
    own = [row for row in rows if row.method == method]
    if not own:
        raise UnknownName("method", method, {row.method for row in rows})
    cells: list[tuple[Any, ...]] = []
    for row in own:
        intervals = (row.accuracy, row.accuracy_low, row.accuracy_high)
        cells.append((row.source, row.target, row.figure or PAIR_ACCURACY, *intervals))
    for row in own:
        at_home = (row.source_id_figure or row.figure or PAIR_ACCURACY, row.source_id_accuracy, None, None)
        cells.append((row.source, row.source, *at_home))
    frame = pd.DataFrame(cells, columns=NAMES).astype(dict.fromkeys(NAMES[3:], float))
    known = frame.dropna(subset=["accuracy"]).drop_duplicates(["source", "target"])
    return StudyMatrix(method, known.reset_index(drop=True))
