"""Results as pandas frames: what every picture is drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from repeng.report.grouping import Column, column_title, columns_of, sections_of
from repeng.results import COLUMNS, ResultRow

if TYPE_CHECKING:
    import pandas as pd


def results_frame(rows: Iterable[ResultRow]) -> pd.DataFrame:
    """One row a model, method and shift, with the columns of results.csv; blanks are NaN."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS))


def shift_frame(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """`results_frame` in reading order, with `shift`, `section` and `name` (method, and model where there are many)."""
    import pandas as pd

    columns = columns_of(rows)
    found = [
        {
            **asdict(row),
            "shift": key.title,
            "section": section.title,
            "name": column_title(Column(row.model, row.method), columns, between=" · "),
        }
        for section in sections_of(rows)
        for key, cells in section.shifts
        for row in cells.values()
    ]
    return pd.DataFrame(found, columns=[*COLUMNS, "shift", "section", "name"])
