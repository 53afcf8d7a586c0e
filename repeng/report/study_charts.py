"""Pictures of a study: heat map of shifts by methods, elicitation plot, reliability diagrams."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from repeng.report.frames import accuracy_name, in_order, once_each
from repeng.report.theme import INK, MUTED, colour_by, diagonal, heat_cells, shape_by, themed, tooltips

STEP = 22
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
    for number, section in enumerate(in_order(frame["section"])):
        chosen = frame[frame["section"] == section]
        above = alt.Axis(orient="top", labelAngle=-40, domain=False) if number == 0 else None
        shifts = in_order(chosen["shift"])
        left = alt.Axis(domain=False, ticks=False, minExtent=extent)
        base = alt.Chart(chosen[chosen["accuracy"].notna()]).encode(
            x=alt.X("name:N", sort=names, scale=alt.Scale(domain=names), title=None, axis=above),
            y=alt.Y("shift:N", sort=None, scale=alt.Scale(domain=shifts), title=None, axis=left),
            tooltip=tooltips("shift:N", "name:N", figures=SHIFT_FIGURES, accuracy=accuracy_name(chosen)),
        )
        cells = heat_cells(base, "accuracy", (0.0, 0.5, 1.0), title=shown, corner=2)
        size: dict[str, Any] = {"width": 46 * len(names), "height": STEP * len(shifts)}
        panels.append(cells.properties(title=_panel_title(section), **size))
    summary = f"{shown} of {len(names)} methods on {frame['shift'].nunique()} shifts; 0.5 is chance."
    summary = summary if shown != "accuracy" else f"Pair {summary}"
    title = alt.TitleParams(f"{shown[0].upper()}{shown[1:]} by shift and method")
    return themed(alt.vconcat(*panels, spacing=4), title=title, description=summary)


def elicitation_plot(frame: pd.DataFrame) -> Any:
    """Accuracy of each method on each shift, between the zero-shot baseline and the target-tuned capability.

    In the manner of the paper: the nearer a point to the capability's mark, the more was elicited. Panels: labels
    down, models across. A shift that a benchmark lists twice under one label is drawn once.

    Args:
        frame: as `shift_frame` gives it.
    """
    frame = once_each(frame)
    methods, models = in_order(frame["method"]), in_order(frame["model"])
    extent = _label_extent(frame["shift"])
    panels = []
    for kind in in_order(frame["kind_of_shift"]):
        across = []
        for model in models:
            chosen = frame[(frame["kind_of_shift"] == kind) & (frame["model"] == model)]
            name = " · ".join(part for part in (kind, model if len(models) > 1 else "") if part)
            across.append(_elicitation_panel(chosen, methods, extent).properties(title=_panel_title(name)))
        panels.append(alt.hconcat(*across))
    title = alt.TitleParams(
        text=f"Elicitation: {accuracy_name(frame)} between baseline and capability",
        subtitle=["solid mark: target-tuned capability; dashed mark: zero-shot baseline; points: methods, intervals"],
    )
    shown = accuracy_name(frame, pairs="Accuracy")
    summary = f"{shown} of {len(methods)} methods on each shift, with baseline and capability marked."
    return themed(alt.vconcat(*panels), title=title, description=summary)


def _elicitation_panel(frame: pd.DataFrame, methods: list[str], extent: int) -> Any:
    row = max(STEP, 8 * len(methods) + 6)
    shifts = alt.Y("shift:N", sort=None, title=None, axis=alt.Axis(minExtent=extent, grid=True))
    x: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1]), "title": accuracy_name(frame, pairs="pair accuracy")}
    base = alt.Chart(frame).encode(
        y=shifts,
        yOffset=alt.YOffset("method:N", sort=methods, scale=alt.Scale(domain=methods, paddingOuter=0.5)),
        color=colour_by("method", methods),
    )
    # One row a shift: marks of several methods on one place would darken each other.
    known = alt.Chart(frame.groupby("shift", sort=False, as_index=False).first())
    span = known.mark_rule(color=MUTED, opacity=0.15, strokeWidth=row - 8).encode(
        x=alt.X("baseline_accuracy:Q", **x), x2="target_tuned_capability:Q", y=shifts
    )
    marks = [
        known.mark_point(shape="stroke", angle=90, size=(row - 8) ** 2, color=INK, strokeWidth=width, opacity=1).encode(
            x=alt.X(f"{figure}:Q", **x),
            y=shifts,
            strokeDash=alt.value(dash),
            tooltip=tooltips("shift:N", "model:N", figures=(figure,)),
        )
        for figure, width, dash in (("target_tuned_capability", 3, [1, 0]), ("baseline_accuracy", 2, [3, 2]))
        if frame[figure].notna().any()
    ]
    bars = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("accuracy_low:Q", **x), x2="accuracy_high:Q")
    points = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=alt.X("accuracy:Q", **x),
        shape=shape_by("method", methods),
        tooltip=tooltips("shift:N", "name:N", figures=SHIFT_FIGURES, accuracy=accuracy_name(frame)),
    )
    chance = known.mark_rule(strokeDash=[4, 4], color=MUTED).encode(x=alt.datum(0.5))
    height = row * frame["shift"].nunique()
    return alt.layer(span, chance, *marks, bars, points).properties(width=380, height=height)


def reliability_chart(frame: pd.DataFrame) -> Any:
    """How often a method is right against how sure it was; on the diagonal it is calibrated.

    Args:
        frame: one row a bin with `method`, `label`, `confidence`, `accuracy`, `n_pairs`.
    """
    labels = in_order(frame["label"])
    # The diagonal's ends would otherwise draw the scale to 0.
    x = alt.X("confidence:Q", scale=alt.Scale(domain=[0.5, 1], zero=False, nice=False), title="confidence")
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1]), title="share right")
    base = alt.Chart(frame)
    curves = base.encode(x=x, y=y, color=colour_by("label", labels))
    lines = curves.mark_line(strokeWidth=2)
    points = curves.mark_point(filled=True, opacity=1).encode(
        shape=shape_by("label", labels),
        size=alt.Size("n_pairs:Q", scale=alt.Scale(range=[20, 120], zero=False), legend=None),
        tooltip=[*tooltips("method:N", "label:N", figures=("confidence", "accuracy")), "n_pairs:Q"],
    )
    chart = (
        alt.layer(diagonal(base, 0.5), lines, points)
        .properties(width=190, height=190)
        .facet(facet=alt.Facet("method:N", sort=in_order(frame["method"]), title=None), columns=3)
    )
    summary = "Share of right pairs against mean confidence, in bins of equal mass, pooled over the shifts of a label."
    return themed(chart, title="Reliability", description=summary)


def _label_extent(shifts: pd.Series) -> int:
    """Room for the longest label, so that panels above each other stand in line."""
    return min(320, round(6.4 * max((len(shift) for shift in shifts), default=0)))


def _panel_title(text: str) -> Any:
    return alt.TitleParams(text or "shifts", fontSize=12, color=MUTED, frame="group", offset=4)
