"""Pictures of sweeps over layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt
import pandas as pd

from repeng.errors import BadInput
from repeng.report.frames import in_order
from repeng.report.panels import in_panels
from repeng.report.theme import FIFTHS, MUTED, colour_by, heat_cells, legend_above, themed, tooltips
from repeng.results import figure_name, figure_names

SWEEP_FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "held_out_accuracy")
FEW_PANELS = 4
MOST_TOGETHER = 3
"""More probes than these in one panel hide each other's bands and marks."""
DASHES = ([1, 0], [7, 3], [3, 2])
"""What colour says of a few probes, said again."""


def sweep_chart(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> Any:
    """Accuracy by layer, of labelled texts the AUROC: one line a probe with its interval as a band, one panel a target.

    More than three probes get a panel each. A filled disc marks a layer that the source alone would have chosen (fits
    may choose several), a hollow diamond the one that the target's labels would have: an oracle. Where a panel has one
    probe, the dotted line is its accuracy on held-out prompts of the source. Where layers have several heads each, a
    heat map of layers by heads, one panel a probe and target.

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
    if frame.duplicated(["method", "panel", "layer"]).any():
        return _head_map(frame)
    return _layer_lines(frame, together=len(in_order(frame["method"])) <= MOST_TOGETHER)


def _layer_lines(frame: pd.DataFrame, *, together: bool) -> Any:
    """A panel a target with a line a probe; where they are too many to tell apart, a panel a target and probe."""
    methods = in_order(frame["method"])
    targets = frame["panel"].nunique()
    if not together:
        only = targets == 1
        frame = frame.assign(panel=frame["method"] if only else frame["method"] + ": " + frame["panel"])
        frame = frame.sort_values("method", key=lambda column: column.map(methods.index), kind="stable")
    panels = in_order(frame["panel"])
    shown = figure_names(frame["figure"])
    called = "accuracy" if shown == "pair accuracy" else shown
    alone = not together or len(methods) == 1
    width, height, columns = (340, 200, 2) if len(panels) <= FEW_PANELS else (290, 130, 3)
    columns = columns if together or targets == 1 else min(columns, targets)
    lowest, highest = int(frame["layer"].min()), int(frame["layer"].max())
    step = max(1, math.ceil((highest - lowest) * 36 / width))
    figures = ["accuracy_low", "accuracy", *(["held_out_accuracy"] if alone else [])]
    low = min(0.4, float(frame[figures].min().min()))
    # A scale that ends at the outermost mark would let it stick out, by up to 12 pixels.
    room = (1.0 - low) * 12 / height
    reach = alt.Scale(domain=[lowest - 0.4, highest + 0.4], nice=False)
    scale = alt.Scale(domain=[low - room, 1.0 + room], nice=False, zero=False)
    ticks = list(range(lowest, highest + 1, step))
    said = f"(datum.value == {lowest} ? 'layer ' : '') + datum.value"
    layers = alt.Axis(values=ticks, tickCount=len(ticks), labelExpr=said, title=None)
    left = alt.Axis(**FIFTHS, title=shown)
    legend = legend_above(methods, symbolType="stroke", symbolSize=500) if together and len(methods) > 1 else None
    base = alt.Chart(frame).encode(
        x=alt.X("layer:Q", scale=reach, axis=layers), color=colour_by("method", methods, title="probe", legend=legend)
    )

    def y(figure: str) -> Any:
        return alt.Y(f"{figure}:Q", scale=scale, axis=left)

    at = base.encode(y=y("accuracy"), tooltip=tooltips("method:N", "layer:Q", figures=SWEEP_FIGURES, accuracy=called))
    band = base.mark_area(opacity=0.15).encode(y=y("accuracy_low"), y2=alt.Y2("accuracy_high:Q"))
    held_out = base.mark_line(strokeDash=[1, 3], strokeWidth=1.5).encode(y=y("held_out_accuracy"))
    dashes = alt.Scale(domain=methods, range=list(DASHES[: len(methods)]))
    line = at.mark_line(strokeWidth=2)
    if not alone:
        line = line.encode(
            strokeDash=alt.StrokeDash("method:N", scale=dashes, sort=methods, title="probe", legend=legend)
        )
    marks = [
        at.transform_filter(f"datum.{which}").mark_point(
            size=size, strokeWidth=1.8, opacity=1, filled=filled, shape=shape
        )
        for which, shape, filled, size in (("chosen", "circle", True, 55), ("oracle", "diamond", False, 190))
    ]
    first = alt.Chart(frame).transform_filter(f"datum.layer == {lowest}")
    chance = first.mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.YDatum(0.5))
    panel = alt.layer(chance, band, *([held_out] if alone else []), line, *marks).properties(width=width, height=height)
    chart = in_panels(panel, "panel", panels, columns=columns)
    what = ["disc: a layer that the source chose", "diamond: the target's own best, an oracle"]
    what += ["dotted: held out of the source"] if alone else []
    name = f"{called[0].upper()}{called[1:]} by layer"
    title = alt.TitleParams(text=name, subtitle=["; ".join([*what, "band: interval"])])
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
        y=alt.Y("auroc_low:Q", scale=scale, title="AUROC"), y2=alt.Y2("auroc_high:Q")
    )
    lines = base.mark_line(strokeWidth=2, point=True).encode(
        y=y, tooltip=tooltips("probe:N", "layer:Q", figures=("auroc", "auroc_low", "auroc_high"))
    )
    chance = alt.Chart(frame).mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.YDatum(0.5))
    chart = alt.layer(chance, bands, lines).properties(width=360, height=220)
    return themed(chart, title="AUROC by layer", description=f"AUROC by layer of {', '.join(probes)}.")
