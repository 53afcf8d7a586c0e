"""What hangs on the fit: results whose fits disagree, fit by fit; ties between layers; and what nulls reach."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from repeng.report.frames import accuracy_name, in_order, once_each, units_of
from repeng.report.page import Cell, Grid, Line, Picture, figure
from repeng.report.panels import in_panels
from repeng.report.predictions import Key, Prediction
from repeng.report.theme import INK, METHOD_COLOURS, MUTED, colour_by, shape_by, themed, tooltips
from repeng.results import figure_name

MOST_DRAWN = 40
LEAST_RANGE = 0.05
"""Ties between layers whose accuracies on the target lie closer than this change little."""
STEP = 20
UPRIGHT = "M0,-1L0,1"


def fit_pictures(frame: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> list[Picture]:
    """Results whose fits disagree, and what each probe's null reaches on its own source; none where there is neither.

    Args:
        frame: as `shift_frame` gives it.
        predictions: of the same study.
    """
    return [*_disagreeing(frame, predictions), *_nulls(frame, predictions)]


def tie_table(frame: pd.DataFrame) -> Grid | None:
    """Results in which a tie-break between layers decides much; None where there is none."""
    tied = once_each(frame).dropna(subset=["tied_lowest", "tied_highest"])
    tied = tied.assign(span=tied["tied_highest"] - tied["tied_lowest"])
    tied = tied[tied["span"] >= LEAST_RANGE].sort_values("span", ascending=False, kind="stable")
    if tied.empty:
        return None
    mixed = frame["figure"].nunique() > 1
    lines = tuple(
        Line(
            _result(row, mixed=mixed),
            (
                *(Cell(str(row[name])) for name in ("tied_layers", "layers")),
                *(figure(row[name]) for name in ("accuracy", "tied_lowest", "tied_highest")),
            ),
        )
        for row in tied.to_dict("records")
    )
    shown = accuracy_name(tied)
    columns = ("method and shift", "tied layers", "chosen", shown, "lowest of the tied", "highest of the tied")
    return Grid(columns, lines, ("tied layers", "chosen"))


def _result(row: Mapping[Hashable, Any], *, mixed: bool) -> str:
    """A method and a shift, and where a study has pairs and texts what the accuracy is."""
    name = f"{row['name']}: {row['shift']}"
    return f"{name}, {figure_name(row['figure'])}" if mixed else name


def _disagreeing(frame: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> list[Picture]:
    rows = once_each(frame)
    rows = rows[rows["fits_disagree"].eq(True)]
    rows = rows.assign(span=rows["fit_highest"] - rows["fit_lowest"]).sort_values(
        "span", ascending=False, kind="stable"
    )
    drawn, lines = [], []
    mixed = frame["figure"].nunique() > 1
    for row in rows.to_dict("records"):
        prediction = predictions.get((row["model"], row["method"], row["source"], row["target"]))
        if prediction is None:
            continue
        accuracies = sorted(one.accuracy for one in prediction.evaluation.fits)
        name = _result(row, mixed=mixed)
        place = {
            "result": name,
            "figure": row["figure"],
            "method": row["name"],
            "low": row["accuracy_low"],
            "high": row["accuracy_high"],
        }
        drawn += [{**place, "accuracy": accuracy, "fit": f"fit {number}"} for number, accuracy in enumerate(accuracies)]
        shown = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
        lines.append(Line(name, (figure(row["accuracy"], row["accuracy_low"], row["accuracy_high"]), Cell(shown))))
    if not drawn:
        return []
    over = units_of(rows["figure"])
    caption = (
        f"Each dot is one fit: another split of the source, other draws and starts. Lines are intervals over {over} "
        f"and fits. Shown are the results whose fits differ by more than the {over} explain, the widest first"
        + (f"; the first {MOST_DRAWN} of {len(lines)}, the table has all." if len(lines) > MOST_DRAWN else ".")
    )
    table = Grid(("method and shift", "mean over fits", "each fit"), tuple(lines), ("each fit",))
    return [Picture("fits", "Fits that disagree", caption, _fit_chart(pd.DataFrame(drawn)), table)]


def _fit_chart(frame: pd.DataFrame) -> Any:
    results = in_order(frame["result"])[:MOST_DRAWN]
    frame = frame[frame["result"].isin(results)]
    methods = in_order(frame["method"])
    y = alt.Y("result:N", sort=results, title=None, axis=alt.Axis(grid=True, domain=False, ticks=False, labelPadding=8))
    shown = accuracy_name(frame, pairs="pair accuracy")
    x: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1]), "title": shown}
    base = alt.Chart(frame).encode(y=y, color=colour_by("method", methods))
    spans = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=alt.X("low:Q", **x), x2=alt.X2("high:Q"))
    dots = base.mark_point(filled=True, size=60, opacity=0.75).encode(
        x=alt.X("accuracy:Q", **x),
        shape=shape_by("method", methods),
        tooltip=tooltips("result:N", "fit:N", figures=("accuracy",), accuracy=accuracy_name(frame)),
    )
    chance = alt.Chart(frame.head(1)).mark_rule(strokeDash=[4, 4], color=MUTED).encode(x=alt.XDatum(0.5))
    chart = alt.layer(chance, spans, dots).properties(width=380, height=STEP * len(results))
    return themed(
        chart,
        title="Fits that disagree",
        description=f"The {accuracy_name(frame)} of every fit of the results that vary.",
    )


def _nulls(frame: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> list[Picture]:
    records = []
    for model, method, source, name in frame[["model", "method", "source", "name"]].drop_duplicates().to_numpy():
        prediction = predictions.get((model, method, source, source))
        evaluation = prediction.evaluation if prediction else None
        if evaluation is None or evaluation.shuffled is None:
            continue
        for what, reached in (("shuffled labels", evaluation.shuffled), ("random directions", evaluation.random)):
            if reached is not None:
                spread = {"low": reached.min(), "mean": reached.mean(), "high": reached.max()}
                facts = {"method": name, "source": source, "figure": evaluation.figure}
                records.append({**facts, "accuracy": evaluation.accuracy, "null": what, **spread})
    if not records:
        return []
    known = pd.DataFrame(records)
    if known["figure"].nunique() > 1:
        known["source"] += ", " + known["figure"].map(figure_name)
    shown = accuracy_name(known)
    return [
        Picture(
            "nulls",
            "Null of each probe on its source",
            f"{shown[0].upper()}{shown[1:]} on the source's own test split: of the probe (upright mark); the range of "
            "the same search on shuffled labels, judged by shuffled labels; the range of random directions whose sign "
            "and layer the source chose. A probe is worth reading where it lies beyond what shuffled labels reach.",
            _null_chart(known),
            _null_grid(known),
        )
    ]


def _null_chart(frame: pd.DataFrame) -> Any:
    methods = in_order(frame["method"])
    shown = accuracy_name(frame, pairs="pair accuracy")
    # Where sources differ in what is shown, their names say it.
    title = "on the source" if frame["figure"].nunique() > 1 else f"{shown} on the source"
    nulls = ["shuffled labels", "random directions"]
    sources = in_order(frame["source"])
    y = alt.Y("source:N", sort=sources, title=None, axis=alt.Axis(grid=True, domain=False, ticks=False))
    x: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1]), "title": title}
    key = alt.Legend(symbolType="stroke", symbolOpacity=1, symbolSize=200)
    colours = alt.Color(
        "null:N", scale=alt.Scale(domain=nulls, range=[MUTED, METHOD_COLOURS[1]]), sort=nulls, title=None, legend=key
    )
    # What colour says, said again.
    widths = alt.StrokeWidth("null:N", scale=alt.Scale(domain=nulls, range=[6, 3]), sort=nulls, title=None, legend=key)
    # The two ranges of a source lie one above the other.
    beside = alt.YOffset("null:N", sort=nulls, scale=alt.Scale(domain=nulls, paddingOuter=0.5))
    base = alt.Chart(frame).encode(y=y, yOffset=beside, color=colours, strokeWidth=widths)
    ranges = base.mark_rule(opacity=0.9).encode(
        x=alt.X("low:Q", **x),
        x2=alt.X2("high:Q"),
        tooltip=tooltips("source:N", "null:N", figures=("low", "mean", "high")),
    )
    called = accuracy_name(frame)
    probe = alt.Shape("what:N", scale=alt.Scale(domain=["the probe"], range=[UPRIGHT]), title=None)
    own = (
        alt.Chart(frame)
        .transform_filter(f"datum.null == '{nulls[0]}'")
        .transform_calculate(what="'the probe'")
        .mark_point(size=260, strokeWidth=3, color=INK, opacity=1)
        .encode(
            y=y,
            x=alt.X("accuracy:Q", **x),
            shape=probe,
            tooltip=tooltips("source:N", figures=("accuracy",), accuracy=called),
        )
    )
    chance = alt.Chart(frame).transform_filter(f"datum.source == {json.dumps(sources[0])}")
    chance = chance.mark_rule(strokeDash=[4, 4], color=MUTED).encode(x=alt.XDatum(0.5))
    panel = alt.layer(chance, ranges, own).properties(width=190, height=STEP * len(sources))
    chart = in_panels(panel, "method", methods, columns=3)
    return themed(chart, title="Null of each probe on its source", description="Probes against their nulls.")


def _null_grid(frame: pd.DataFrame) -> Grid:
    lines = []
    for (method, source), own in frame.groupby(["method", "source"], sort=False):
        by = {str(row["null"]): figure(row["mean"], row["low"], row["high"]) for row in own.to_dict("records")}
        nulls = [by.get(what, figure(None)) for what in ("shuffled labels", "random directions")]
        lines.append(Line(f"{method}: {source}", (figure(own["accuracy"].iloc[0]), *nulls)))
    shown = accuracy_name(frame)
    names: Sequence[str] = ("probe and source", shown, "shuffled labels, mean and range", "random directions")
    return Grid(tuple(names), tuple(lines))
