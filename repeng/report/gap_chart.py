"""Picture of generalization accuracy against the log-probability gap on the target."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from repeng.report.frames import in_order
from repeng.report.theme import MUTED, colour_by, shape_by, themed, tooltips

ACROSS = 3
LARGE = 30.0
"""Nats; a gap beyond it would press the others together."""
TICKS = (-1000, -100, -10, 0, 10, 100, 1000)


def gap_chart(frame: pd.DataFrame) -> Any:
    """Accuracy against the mean gap, a point a shift, one panel a method.

    Args:
        frame: with `method`, `shift`, `label`, `accuracy`, `zero_shot_of_target`, `gap_of_target`.
    """
    labels = in_order(frame["label"])
    panels = []
    for method, own in frame.groupby("method", sort=False):
        # Gaps of a few nats and of hundreds stand in one panel: near 0 such a scale is linear, beyond logarithmic.
        wide = own["gap_of_target"].abs().max() > LARGE
        scale = alt.Scale(type="symlog", zero=True) if wide else alt.Scale(zero=True)
        axis = alt.Axis(values=list(TICKS)) if wide else alt.Axis(tickCount=4, labelOverlap=True)
        x = alt.X("gap_of_target:Q", scale=scale, axis=axis, title="gap on the target, nats")
        y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, 1]), title="accuracy")
        points = (
            alt.Chart(own)
            .mark_point(filled=True, size=60, opacity=0.9)
            .encode(
                x=x,
                y=y,
                color=colour_by("label", labels),
                shape=shape_by("label", labels),
                tooltip=tooltips("shift:N", "label:N", figures=("accuracy", "zero_shot_of_target", "gap_of_target")),
            )
        )
        no_gap = alt.Chart(own.head(1)).mark_rule(strokeDash=[4, 4], color=MUTED).encode(x=alt.XDatum(0))
        chance = alt.Chart(own.head(1)).mark_rule(strokeDash=[4, 4], color=MUTED).encode(y=alt.YDatum(0.5))
        panels.append(alt.layer(no_gap, chance, points).properties(width=220, height=220, title=str(method)))
    summary = f"Accuracy on each shift against the log-probability gap on its target, {len(panels)} panels."
    chart = alt.concat(*panels, columns=ACROSS)
    return themed(chart, title="Accuracy against the log-probability gap", description=summary)
