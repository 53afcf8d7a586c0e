"""Pictures of sweeps over layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt
import pandas as pd

from repeng.errors import BadInput
from repeng.report.frames import in_order
from repeng.report.theme import MUTED, colour_by, heat_cells, themed, tooltips
from repeng.results import figure_name, figure_names

SWEEP_FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "held_out_accuracy")
FEW_PANELS = 4


def sweep_chart(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> Any:
    """Accuracy by layer, of labelled texts the AUROC: one line a probe with its interval as a band, one panel a target.

    A filled disc marks the layer that the source alone would have chosen, a hollow diamond the one that the target's
    labels would have: an oracle. The dotted line is the source's held-out accuracy. Where layers have several heads
    each, a heat map of layers by heads, one panel a probe and target.

    Args:
        rows: with `probe`, `source`, `target`, `layer`, `head`, `accuracy`, `accuracy_low`, `accuracy_high`,
            `held_out_accuracy`, `chosen`, `oracle`; and `figure`, which says of what the accuracies are.

    Raises:
        BadInput: there is no row.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if frame.empty:
        raise BadInput("no layer to draw; sweep one probe at least")
    shift = (frame["source"] + " → " + frame["target"]).where(frame["source"] != frame["target"], frame["source"])
    figures = frame["figure"] if "figure" in frame else pd.Series("", index=frame.index)
    many = figures.nunique() > 1
    shift = shift + ", " + figures.map(figure_name) if many else shift
    frame = frame.rename(columns={"probe": "method"}).assign(panel=shift, figure=figures)
    shown = figure_names(figures)
    if frame.duplicated(["method", "panel", "layer"]).any():
        return _head_map(frame)
    methods = in_order(frame["method"])
    x = alt.X("layer:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="layer")
    panels = in_order(frame["panel"])
    width, height, across = (300, 200, 2) if len(panels) <= FEW_PANELS else (220, 130, 3)
    floor = float(frame[["accuracy_low", "accuracy", "held_out_accuracy"]].min().min())
    scale = alt.Scale(domain=[min(0.4, floor), 1.0], zero=False)
    y = alt.Y("accuracy:Q", scale=scale, title=shown)
    colour = colour_by("method", methods, title="probe")
    base = alt.Chart(frame).encode(x=x, color=colour)
    called = "accuracy" if shown == "pair accuracy" else shown
    accuracies = base.encode(y=y, tooltip=tooltips("method:N", "layer:Q", figures=SWEEP_FIGURES, accuracy=called))
    bands = base.mark_area(opacity=0.15, clip=True).encode(
        y=alt.Y("accuracy_low:Q", scale=scale, title=shown), y2="accuracy_high:Q"
    )
    held_out = base.mark_line(strokeDash=[1, 3], opacity=0.8).encode(
        y=alt.Y("held_out_accuracy:Q", scale=scale, title=shown)
    )
    lines = accuracies.mark_line(strokeWidth=2)
    marks = [
        accuracies.transform_filter(f"datum.{which}").mark_point(
            size=110, strokeWidth=2, opacity=1, filled=filled, shape=shape
        )
        for which, shape, filled in (("chosen", "circle", True), ("oracle", "diamond", False))
    ]
    chance = alt.Chart(frame).mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.datum(0.5))
    chart = (
        alt.layer(chance, bands, held_out, lines, *marks)
        .properties(width=width, height=height)
        .facet(facet=alt.Facet("panel:N", sort=panels, title=None), columns=across, spacing=12)
    )
    subtitle = "disc: the source's choice; diamond: the target's best, an oracle; dotted: held out of the source"
    name = f"{called[0].upper()}{called[1:]} by layer"
    title = alt.TitleParams(text=name, subtitle=[subtitle])
    return themed(chart, title=title, description=f"{name} of {', '.join(methods)}.")


def _head_map(frame: pd.DataFrame) -> Any:
    """Accuracy of every head of every layer, with the source's choice and the target's oracle marked."""
    methods = in_order(frame["method"])
    shown = figure_names(frame["figure"])
    called = "accuracy" if shown == "pair accuracy" else shown
    if len(methods) > 1:
        frame = frame.assign(panel=frame["method"] + ": " + frame["panel"])
    cells = alt.Chart(frame).encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, domain=False)),
        y=alt.Y("head:O", title="head", axis=alt.Axis(domain=False)),
        tooltip=tooltips("layer:O", "head:O", figures=SWEEP_FIGURES, accuracy=called),
    )
    # Black on white or white on black reads on every colour of the scale.
    marks = [
        cells.transform_filter(f"datum.{which}").mark_point(
            shape=shape, size=size, fill=fill, stroke=stroke, strokeWidth=1.5, opacity=1
        )
        for which, shape, size, fill, stroke in (
            ("oracle", "diamond", 130, "white", "black"),
            ("chosen", "circle", 35, "black", "white"),
        )
    ]
    longest = int(max(frame["layer"].nunique(), frame["head"].nunique()))
    step = max(12, min(24, 400 // longest))
    chart = (
        alt.layer(heat_cells(cells, "accuracy", (0.0, 0.5, 1.0), title=called, size=None), *marks)
        .properties(width=alt.Step(step), height=alt.Step(step))
        .facet(facet=alt.Facet("panel:N", sort=in_order(frame["panel"]), title=None), columns=2)
    )
    subtitle = "disc: the source's choice; diamond: the target's best, an oracle"
    name = f"{called[0].upper()}{called[1:]} by layer and head"
    title = alt.TitleParams(text=name, subtitle=[subtitle])
    return themed(chart, title=title, description=f"{name} of {', '.join(methods)}.")


def auroc_chart(frame: pd.DataFrame) -> Any:
    """AUROC by layer, one line a probe with its interval as a band.

    Args:
        frame: with `probe`, `layer`, `auroc`, `auroc_low`, `auroc_high`.

    Raises:
        BadInput: there is no row.
    """
    if frame.empty:
        raise BadInput("no layer to draw; sweep one probe at least")
    probes = in_order(frame["probe"])
    floor = float(frame[["auroc", "auroc_low"]].min().min())
    scale = alt.Scale(domain=[min(0.4, floor), 1.0], zero=False)
    y = alt.Y("auroc:Q", scale=scale, title="AUROC")
    base = alt.Chart(frame).encode(
        x=alt.X("layer:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="layer"),
        color=colour_by("probe", probes, title="probe"),
    )
    bands = base.mark_area(opacity=0.15, clip=True).encode(
        y=alt.Y("auroc_low:Q", scale=scale, title="AUROC"), y2="auroc_high:Q"
    )
    lines = base.mark_line(strokeWidth=2, point=True).encode(
        y=y, tooltip=tooltips("probe:N", "layer:Q", figures=("auroc", "auroc_low", "auroc_high"))
    )
    chance = alt.Chart(frame).mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.datum(0.5))
    chart = alt.layer(chance, bands, lines).properties(width=360, height=220)
    return themed(chart, title="AUROC by layer", description=f"AUROC by layer of {', '.join(probes)}.")
