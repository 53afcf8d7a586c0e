"""Picture of elicitation: what each method reaches, next to the zero-shot baseline and the target-tuned capability."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import altair as alt
import pandas as pd

from repeng.report.frames import accuracy_name, in_order, once_each
from repeng.report.panels import named_rows, panel_title, with_rows
from repeng.report.theme import GRID, INK, MUTED, colour_by, legend_above, shape_by, themed, tooltips
from repeng.report.wording import capital

WIDTH, NAME, ROW, BETWEEN = 320, 16, 6.5, 8
"""Pixels: a panel's width, a shift's name over its rows, a method's row, and what lies between two shifts."""
COLUMNS = 3
LEGEND_WIDTH = 600
"""Of the methods; what the two lines and the band mean stands next to them."""
MOST_SHIFTS = 8
"""More shifts of one category get several panels, so that none is taller than a screen."""

CAPABILITY, BASELINE = "target-tuned capability", "zero-shot baseline"
ROOM, BEYOND = "capability above baseline", "baseline above capability"
NAMES = ("section", "model", "method", "name", "shift", "figure")
SHIFT_FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "elicitation")


def elicitation_plot(frame: pd.DataFrame) -> Any:
    """Accuracy of each method on each shift, next to the zero-shot baseline and the target-tuned capability.

    In the manner of the paper: the nearer a point to the capability's mark, the more was elicited. Between the two
    marks a grey band where the capability is the higher; an outline where the baseline is. One panel a label,
    category and model. A shift that a benchmark lists twice under one label is drawn once.

    Args:
        frame: as `shift_frame` gives it.
    """
    frame = once_each(frame)[[*NAMES, *SHIFT_FIGURES, *(figure for _, figure in _MARKS)]]
    methods, models = in_order(frame["method"]), in_order(frame["model"])
    rows = pd.concat(
        [
            _placed(part, name, methods)
            for section in in_order(frame["section"])
            for model in models
            for name, part in _parts(
                frame[(frame["section"] == section) & (frame["model"] == model)],
                " · ".join(filter(None, (section, model if len(models) > 1 else ""))),
            )
        ]
    )
    called = accuracy_name(frame)
    rows["said"] = [_said(row, called) for row in rows[["shift", "name", *SHIFT_FIGURES]].to_dict("records")]
    shifts = rows.drop_duplicates(["panel", "shift"])
    values = {what: shifts.assign(mark=what, value=shifts[figure]) for what, figure in _MARKS}
    marks = pd.concat([one for one in values.values() if one["value"].notna().any()] or values.values())
    marks = marks.dropna(subset=["value"])
    marks["said"] = [f"shift: {row.shift}; {row.mark}: {row.value:.3f}" for row in marks.itertuples()]
    both = shifts.dropna(subset=[figure for _, figure in _MARKS])
    ahead = both["target_tuned_capability"] >= both["baseline_accuracy"]
    bands = both.assign(between=ahead.map({True: ROOM, False: BEYOND}))
    known = in_order(marks["mark"])
    panels = [_panel(str(name), own, methods, known) for name, own in rows.groupby("panel", sort=False)]
    shown = accuracy_name(frame, pairs="pair accuracy")
    title = alt.TitleParams(
        text=f"Elicitation: {shown} next to {' and '.join(known)}" if known else f"{capital(shown)} of each method",
        subtitle=[f"points: {shown} with its 95 % interval; dotted: chance"],
    )
    summary = f"{capital(shown)} of {len(methods)} methods on each shift"
    summary += f", with {' and '.join(known)} marked." if known else "."
    chart = alt.concat(*panels, columns=COLUMNS, align="each", spacing={"row": 16, "column": 24})
    chart = themed(chart, title=title, description=summary)
    points = rows[rows["accuracy"].notna()]
    return with_rows(
        chart,
        points=points[["panel", "shift", "name", "method", "at", *SHIFT_FIGURES, "said"]],
        shifts=shifts[["panel", "shift", "name_at", "top", "bottom"]],
        marks=marks[["panel", "shift", "model", "mark", "value", "top", "bottom", "said"]],
        bands=bands[["panel", "shift", "top", "bottom", "between", *(figure for _, figure in _MARKS)]],
    )


_MARKS = ((CAPABILITY, "target_tuned_capability"), (BASELINE, "baseline_accuracy"))


def _parts(frame: pd.DataFrame, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows by shifts that one panel holds, under its name, which has a number where there are several."""
    shifts = in_order(frame["shift"])
    count = -(-len(shifts) // MOST_SHIFTS)
    for number in range(count):
        own = shifts[number * MOST_SHIFTS : (number + 1) * MOST_SHIFTS]
        yield f"{name}, {number + 1} of {count}" if count > 1 else name, frame[frame["shift"].isin(own)]


def _placed(frame: pd.DataFrame, panel: str, methods: list[str]) -> pd.DataFrame:
    """A panel's rows with their places: where a shift's name stands, its rows begin and end, and each row's own."""
    top = NAME + frame["shift"].map(in_order(frame["shift"]).index) * _block(methods)
    at = top + ROW * (frame["method"].map(methods.index) + 0.5)
    return frame.assign(panel=panel, name_at=top - NAME / 2, top=top, bottom=top + ROW * len(methods), at=at)


def _said(row: Mapping[Hashable, Any], called: str) -> str:
    """What a point says on hover."""
    figures = {called: "accuracy", "low": "accuracy_low", "high": "accuracy_high", "elicitation": "elicitation"}
    known = [f"{name}: {row[figure]:.3f}" for name, figure in figures.items() if not pd.isna(row[figure])]
    return "; ".join([f"shift: {row['shift']}", f"method: {row['name']}", *known])


def _block(methods: list[str]) -> float:
    """Pixels from one shift to the next."""
    return NAME + ROW * len(methods) + BETWEEN


def _panel(name: str, rows: pd.DataFrame, methods: list[str], known: list[str]) -> Any:
    height = _block(methods) * rows["shift"].nunique() - BETWEEN / 2
    down = alt.Scale(domain=[0, height], reverse=True, nice=False, zero=False)
    ticks = alt.Axis(orient="top", values=[0, 0.25, 0.5, 0.75, 1], format=".2f", title=None, domain=False)
    across: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1], nice=False), "axis": ticks}

    def drawn_from(source: str) -> Any:
        only = alt.FieldEqualPredicate(equal=name, field="panel")
        return alt.Chart(named_rows(source)).transform_filter(only)

    def y(column: str) -> Any:
        return alt.Y(f"{column}:Q", scale=down, axis=None)

    upright = {"y": y("top"), "y2": alt.Y2("bottom")}
    names = (
        drawn_from("shifts")
        .mark_text(align="left", aria=False, baseline="middle", fontSize=11, color=INK, limit=WIDTH - 4)
        .encode(x=alt.XValue(2), y=y("name_at"), text=alt.Text("shift:N"))
    )
    chance = (
        drawn_from("shifts").mark_rule(strokeDash=[2, 2], color=MUTED, aria=False).encode(x=alt.XDatum(0.5), **upright)
    )
    legend = legend_above(methods, width=LEGEND_WIDTH)
    said = tooltips("shift:N", "name:N", figures=SHIFT_FIGURES, accuracy=accuracy_name(rows))
    base = drawn_from("points").encode(
        y=y("at"),
        color=colour_by("method", methods, legend=legend),
        tooltip=said,
        description=alt.Description("said:N"),
    )
    bars = base.mark_rule(strokeWidth=1.2).encode(x=alt.X("accuracy_low:Q", **across), x2=alt.X2("accuracy_high:Q"))
    points = base.mark_point(filled=True, size=42, opacity=1).encode(
        x=alt.X("accuracy:Q", **across),
        shape=shape_by("method", methods, legend=legend),
    )
    here = [figure for _, figure in _MARKS if rows[figure].notna().any()]
    bands = [_band(drawn_from("bands"), across, upright)] if len(here) == 2 else []
    marks = [_mark(drawn_from("marks"), across, upright, known)] if here else []
    layers = [*bands, names, chance, *marks, bars, points]
    return alt.layer(*layers).properties(width=WIDTH, height=height, title=panel_title(name))


def _band(base: Any, across: dict[str, Any], upright: dict[str, Any]) -> Any:
    """From the baseline to the capability: filled where that is the higher, else an outline."""
    fill = alt.Scale(domain=[ROOM, BEYOND], range=[GRID, "transparent"])
    return base.mark_rect(stroke=MUTED, strokeWidth=0.8, opacity=1, aria=False).encode(
        x=alt.X("baseline_accuracy:Q", **across),
        x2=alt.X2("target_tuned_capability:Q"),
        fill=alt.Fill("between:N", scale=fill, title=None, legend=_key("square", symbolStrokeColor=MUTED)),
        tooltip=[alt.Tooltip("shift:N"), alt.Tooltip("between:N")],
        **upright,
    )


def _mark(base: Any, across: dict[str, Any], upright: dict[str, Any], known: list[str]) -> Any:
    """An upright line a shift for the capability, thick, and for the baseline, thin and dashed, as far as known."""
    dash, width = (
        alt.Scale(domain=[what for what, _ in _MARKS], range=looks) for looks in ([[1, 0], [3, 2]], [3, 1.6])
    )
    legend = _key("stroke", symbolSize=300, values=known)
    return base.mark_rule(color=INK).encode(
        x=alt.X("value:Q", **across),
        strokeDash=alt.StrokeDash("mark:N", scale=dash, title=None, legend=legend),
        strokeWidth=alt.StrokeWidth("mark:N", scale=width, title=None, legend=legend),
        tooltip=[*map(alt.Tooltip, ("shift:N", "model:N", "mark:N")), alt.Tooltip("value:Q", format=".3f")],
        description=alt.Description("said:N"),
        **upright,
    )


def _key(symbol: str, **settings: Any) -> Any:
    return alt.Legend(orient="top", columns=1, symbolType=symbol, symbolOpacity=1, **settings)
