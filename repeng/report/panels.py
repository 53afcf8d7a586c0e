"""Small pictures of one kind in a grid: titles in line, and no axis under an empty cell."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from repeng.report.theme import MUTED


def panel_title(text: str) -> Any:
    """The title of a panel, over its left edge."""
    return alt.TitleParams(text, fontSize=12, color=MUTED, frame="group", anchor="start", offset=6)


def in_panels(panel: Any, column: str, names: list[str], *, columns: int) -> Any:
    """A panel a value of the column, each with an x axis of its own, for one in common stands under empty cells too.

    Marks that stick out of a panel push its title out of line: scales must leave room for them.

    Args:
        panel: the chart of all rows.
        column: which has the panels' names.
        names: its values, in order.
        columns: most panels next to each other.
    """
    facet = alt.Facet(f"{column}:N", sort=names, title=None)
    return panel.facet(facet=facet, columns=columns, spacing={"row": 12, "column": 18}).resolve_axis(x="independent")


def named_rows(name: str) -> Any:
    """Rows that a whole picture holds once, under this name; what `with_rows` gives it."""
    return alt.NamedData(name=name)


def with_rows(chart: Any, **frames: pd.DataFrame) -> Any:
    """The picture, given its rows by name. Altair copies what a chart holds at every step, so many panels hold none."""
    # Set as it is, neither copied nor validated row by row.
    chart.datasets = {name: alt.to_values(frame.reset_index(drop=True))["values"] for name, frame in frames.items()}
    return chart
