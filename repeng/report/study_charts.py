"""Pictures of a study: heat map of shifts by methods, reliability diagrams."""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import pandas as pd

from repeng.report.frames import accuracy_name, in_order, once_each
from repeng.report.panels import in_panels, panel_title
from repeng.report.theme import FIFTHS, colour_by, diagonal, heat_cells, shape_by, themed, tooltips

STEP = 22
FEW_SHIFTS = 15
"""Under more of these the methods are named again."""
SHIFT_FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "elicitation")


def heat_map(frame: pd.DataFrame) -> Any:
    """Accuracy of every shift (down) and method (across), one panel a label and category; of labelled texts the AUROC.

    Args:
        frame: as `shift_frame` gives it.
    """
    frame = once_each(frame)
    names = in_order(frame["name"])
    extent = _label_extent(frame["shift"])
    shown = accuracy_name(frame)
    panels = []
    sections = in_order(frame["section"])
    last = len(sections) - 1 if frame["shift"].nunique() > FEW_SHIFTS else None

    def names_at(orient: Literal["top", "bottom"]) -> Any:
        return alt.Axis(orient=orient, labelAngle=-40, domain=False)

    for number, section in enumerate(sections):
        chosen = frame[frame["section"] == section]
        above = names_at("top") if number == 0 else names_at("bottom") if number == last else None
        shifts = in_order(chosen["shift"])
        left = alt.Axis(domain=False, ticks=False, minExtent=extent)
        # The columns that are drawn alone, of sixty.
        base = alt.Chart(chosen.loc[chosen["accuracy"].notna(), ["shift", "name", *SHIFT_FIGURES]]).encode(
            x=alt.X("name:N", sort=names, scale=alt.Scale(domain=names), title=None, axis=above),
            y=alt.Y("shift:N", sort=None, scale=alt.Scale(domain=shifts), title=None, axis=left),
            tooltip=tooltips("shift:N", "name:N", figures=SHIFT_FIGURES, accuracy=accuracy_name(chosen)),
        )
        cells = heat_cells(base, "accuracy", (0.0, 0.5, 1.0), title=shown, corner=2)
        size: dict[str, Any] = {"width": 46 * len(names), "height": STEP * len(shifts)}
        panels.append(cells.properties(title=panel_title(section), **size))
    summary = f"{shown} of {len(names)} methods on {frame['shift'].nunique()} shifts; 0.5 is chance."
    summary = summary if shown != "accuracy" else f"Pair {summary}"
    title = alt.TitleParams(f"{shown[0].upper()}{shown[1:]} by shift and method")
    return themed(alt.vconcat(*panels, spacing=4), title=title, description=summary)


def reliability_chart(frame: pd.DataFrame) -> Any:
    """How often a method is right against how sure it was; on the diagonal it is calibrated.

    Args:
        frame: one row a bin with `method`, `label`, `confidence`, `accuracy`, `n_pairs`.
    """
    labels = in_order(frame["label"])
    tenths = [place / 10 for place in range(5, 11)]
    x = alt.X(
        "confidence:Q",
        scale=alt.Scale(domain=[0.48, 1.02], zero=False, nice=False),
        axis=alt.Axis(values=tenths, tickCount=len(tenths), format=".1f"),
        title="confidence",
    )
    y = alt.Y(
        "accuracy:Q",
        scale=alt.Scale(domain=[-0.04, 1.04], nice=False),
        axis=alt.Axis(**FIFTHS),
        title="share right",
    )
    base = alt.Chart(frame)
    curves = base.encode(x=x, y=y, color=colour_by("label", labels))
    lines = curves.mark_line(strokeWidth=2)
    points = curves.mark_point(filled=True, size=45, opacity=1).encode(
        shape=shape_by("label", labels),
        tooltip=[*tooltips("method:N", "label:N", figures=("confidence", "accuracy")), alt.Tooltip("n_pairs:Q")],
    )
    panel = alt.layer(diagonal(base, 0.5), lines, points).properties(width=190, height=190)
    chart = in_panels(panel, "method", in_order(frame["method"]), columns=3)
    summary = "Share right against mean confidence, in bins of equal mass, pooled over the shifts of a label."
    return themed(chart, title="Reliability", description=summary)


def _label_extent(shifts: pd.Series) -> int:
    """Room for the longest label, so that panels above each other stand in line."""
    return min(320, round(6.4 * max((len(shift) for shift in shifts), default=0)))
