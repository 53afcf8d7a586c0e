"""A picture of erasing: accuracy by layer before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt
import pandas as pd

from repeng.errors import BadInput
from repeng.report.frames import in_order
from repeng.report.panels import in_panels
from repeng.report.theme import FIFTHS, MUTED, colour_by, legend_above, themed, tooltips
from repeng.results import figure_names
from repeng.study.erasure import FRESH

FIGURES = ("accuracy", "accuracy_low", "accuracy_high")
BEFORE = "before"
MOST_TICKS = 12


def erasure_chart(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Accuracy by layer, a panel a probe and tested distribution: before, and after each way of erasing, with bands.

    Args:
        rows: as `Erasure.records` has them, of one source; those of probes fitted on fresh rows are drawn.

    Raises:
        BadInput: there is no such row, or the site has heads.
    """
    frame = pd.DataFrame(list(rows))
    frame = frame[frame["rows"] == FRESH] if len(frame) else frame
    if frame.empty:
        raise BadInput("no layer to draw; erase with one probe fitted again at least")
    if frame["head"].notna().any():
        raise BadInput("a picture of every head is not drawn; take the table (--csv), or a site without heads")
    panel = frame["probe"] + " on " + frame["target"]
    lines = [
        frame.assign(panel=panel, when=when, accuracy=frame[name], accuracy_low=low, accuracy_high=high)
        for when, name, low, high in (
            (BEFORE, "before", frame["before_low"], frame["before_high"]),
            ("after " + frame["by"], "after", frame["after_low"], frame["after_high"]),
        )
    ]
    # Every way of erasing has its own line; before is one and the same for all.
    drawn = pd.concat(lines).drop_duplicates(["panel", "when", "layer"])
    when = in_order(drawn["when"])
    layers = sorted(int(layer) for layer in drawn["layer"].unique())
    layers = layers[:: -(-len(layers) // MOST_TICKS)]
    shown = figure_names(frame["figure"])
    low = min(0.4, float(drawn[["accuracy_low", "accuracy"]].min().min()))
    scale = alt.Scale(domain=[low - 0.05, 1.05], nice=False, zero=False)
    legend = legend_above(when, symbolType="stroke", symbolSize=500)
    base = alt.Chart(drawn).encode(
        x=alt.X("layer:Q", axis=alt.Axis(values=layers, format="d"), title="layer"),
        color=colour_by("when", when, title="", legend=legend),
    )
    y = alt.Y("accuracy:Q", scale=scale, axis=alt.Axis(**FIFTHS, title=shown))
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("accuracy_low:Q", scale=scale, axis=alt.Axis(**FIFTHS, title=shown)), y2=alt.Y2("accuracy_high:Q")
    )
    line = base.mark_line(strokeWidth=2, point=True).encode(
        y=y, tooltip=tooltips("when:N", "layer:Q", figures=FIGURES, accuracy=shown)
    )
    chance = alt.Chart(drawn).mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.YDatum(0.5))
    panels = in_order(drawn["panel"])
    chart = in_panels(
        alt.layer(chance, band, line).properties(width=290, height=170),
        "panel",
        panels,
        columns=min(3, frame["target"].nunique()),
    )
    source = str(frame["source"].iloc[0])
    title = alt.TitleParams(
        text=f"Before and after {source} is erased",
        subtitle=["eraser and probe fitted on different halves of the training prompts; band: 95 % interval"],
    )
    return themed(chart, title=title, description=f"{shown} by layer before and after {source} is erased.")
