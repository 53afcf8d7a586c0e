"""Picture of the cosine of two directions, layer by layer, over where shuffled labels would have it."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from repeng.report.frames import in_order
from repeng.report.theme import METHOD_COLOURS, MUTED, themed, tooltips

ACROSS = 4
SD_OF_95 = 1.96


def cosine_chart(frame: pd.DataFrame, *, title: str) -> Any:
    """Cosine by layer, one panel a source.

    Args:
        frame: with `source`, `layer`, `chosen` (yes or no), `cosine`, `sd_over_fits` (None of one fit), `shuffled`,
            `shuffled_low`, `shuffled_high`, `random_expected`.
        title: over it.
    """
    spread = frame["sd_over_fits"].astype(float).fillna(0.0)
    drawn = frame.assign(
        low=frame["cosine"] - spread, high=frame["cosine"] + spread, above=SD_OF_95 * frame["random_expected"]
    )
    drawn = drawn.assign(below=-drawn["above"])
    scale = alt.Scale(domain=[-1, 1])
    base = alt.Chart(drawn).encode(x=alt.X("layer:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="layer"))
    y = alt.Y("cosine:Q", scale=scale, title="cosine")
    by_chance = base.mark_area(color=MUTED, opacity=0.25).encode(
        y=alt.Y("shuffled_low:Q", scale=scale, title="cosine"), y2=alt.Y2("shuffled_high:Q")
    )
    band = base.mark_area(color=METHOD_COLOURS[0], opacity=0.3).encode(
        y=alt.Y("low:Q", scale=scale, title="cosine"), y2=alt.Y2("high:Q")
    )
    dashes = [
        base.mark_line(strokeDash=[3, 3], strokeWidth=1, color=MUTED).encode(y=alt.Y(f"{end}:Q", scale=scale))
        for end in ("above", "below")
    ]
    line = base.mark_line(color=METHOD_COLOURS[0], strokeWidth=2).encode(y=y)
    figures = ("cosine", "sd_over_fits", "shuffled", "shuffled_low", "shuffled_high")
    discs = (
        base.transform_filter("datum.chosen == 'yes'")
        .mark_point(color=METHOD_COLOURS[0], filled=True, size=50, opacity=1)
        .encode(y=y, tooltip=tooltips("source:N", "layer:Q", figures=figures))
    )
    chart = (
        alt.layer(by_chance, *dashes, band, line, discs)
        .properties(width=190, height=120)
        .facet(facet=alt.Facet("source:N", sort=in_order(frame["source"]), title=None), columns=ACROSS, spacing=12)
    )
    return themed(chart, title=title, description=f"{title}, by layer, a panel a source.")
