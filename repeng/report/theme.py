"""How every picture looks: colours that read on white and on black, and shapes that read without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

INK, MUTED, GRID = "#1f2430", "#5b6473", "#dfe3e8"
"""Text, secondary text and rules. In a page they become CSS variables, so that one picture serves both schemes."""

METHOD_COLOURS = (
    *("#2f7fc1", "#d0731c", "#2b9960", "#9a6bd0", "#d3524e"),
    *("#1c96a0", "#c2559a", "#878c1e", "#7b838f", "#a56f40"),
)
"""Each at 3 to 1 or better against white and against the page's black."""

STAR = "M0,-1L0.24,-0.32L0.95,-0.31L0.38,0.12L0.59,0.81L0,0.4L-0.59,0.81L-0.38,0.12L-0.95,-0.31L-0.24,-0.32Z"
METHOD_SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "cross", "triangle-down"),
    *("triangle-right", STAR, "triangle-left"),
)
"""Each reads on top of a line through its middle. Nine, so that with ten colours no two of 90 names look alike."""

BELOW, CHANCE, ABOVE = "#b35806", "#f4f4f4", "#2166ac"
"""A diverging scale about chance: orange below, blue above."""

FIFTHS: dict[str, Any] = {"values": [place / 5 for place in range(6)], "tickCount": 6, "format": ".1f"}
"""Ticks of an axis from 0 to 1; without their count every second is left out."""
BESIDE = alt.Legend(symbolOpacity=1)
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


def themed(chart: Any, *, title: Any, description: str) -> Any:
    """The chart, given a title (text, or `TitleParams`), a description for screen readers, and repeng's look."""
    text: dict[str, Any] = {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 600,
    }
    rules: dict[str, Any] = {"gridColor": GRID, "domainColor": MUTED, "tickColor": MUTED}
    config = alt.Config(
        font=FONT,
        background="white",
        view=alt.ViewConfig(stroke=GRID),
        axis=alt.AxisConfig(labelLimit=320, **text, **rules),
        legend=alt.LegendConfig(
            symbolLimit=40,
            labelLimit=260,
            symbolBaseFillColor=INK,
            symbolBaseStrokeColor=INK,
            **text,
        ),
        header=alt.HeaderConfig(
            labelOrient="top",
            labelAnchor="start",
            title=None,
            labelFontWeight=600,
            labelColor=INK,
            labelFontSize=12,
        ),
        title=alt.TitleConfig(anchor="start", color=INK, fontSize=15, subtitleColor=MUTED),
    )
    # Set on the chart, which is nobody else's yet: a call that changes a chart copies all of it.
    chart.title, chart.description, chart.config = title, description, config
    return chart


def colour_by(column: str, names: list[str], *, title: str | None = None, legend: Any = BESIDE) -> Any:
    """Colour by a column, its values in this order; the legend shows it in full, however faint the mark.

    Args:
        column: the column.
        names: its values.
        title: of the legend.
        legend: to the right by default, or as `legend_above` gives it; None draws none.
    """
    scale = alt.Scale(domain=names, range=[METHOD_COLOURS[i % len(METHOD_COLOURS)] for i in range(len(names))])
    return alt.Color(f"{column}:N", scale=scale, sort=names, title=title, legend=legend)


def legend_above(names: Sequence[str], *, width: int = 900, **settings: Any) -> Any:
    """A legend over a picture, in as many columns as the names leave room for.

    Args:
        names: what it names.
        width: pixels.
        settings: others of the legend.
    """
    columns, _ = legend_columns(names, width=width)
    return alt.Legend(orient="top", columns=columns, symbolOpacity=1, **settings)


def legend_columns(names: Sequence[str], *, width: int = 900) -> tuple[int, int]:
    """In how many columns a legend over a picture stands, and how many pixels wide each is."""
    wide = 36 + 7 * max(map(len, names), default=1)
    return max(1, min(len(names), width // wide)), wide


def shape_by(column: str, names: list[str], *, legend: Any = BESIDE) -> Any:
    """Shape by a column, its values in this order: what colour says, said again."""
    scale = alt.Scale(domain=names, range=[METHOD_SHAPES[i % len(METHOD_SHAPES)] for i in range(len(names))])
    return alt.Shape(f"{column}:N", scale=scale, sort=names, title=None, legend=legend)


def tooltips(*names: str, figures: tuple[str, ...], accuracy: str = "accuracy") -> list[Any]:
    """What a mark says on hover: columns as they are, then figures of three decimals.

    Args:
        names: of the columns.
        figures: columns, those that begin with `accuracy` among them.
        accuracy: what accuracies are called, where they are AUROCs.
    """
    # A channel by its class: Altair looks through all of its schema for the class of a bare name, at each one.
    return [*map(alt.Tooltip, names), *(_of_figure(figure, accuracy) for figure in figures)]


def _of_figure(figure: str, accuracy: str) -> Any:
    if accuracy == "accuracy" or not figure.startswith("accuracy"):
        return alt.Tooltip(f"{figure}:Q", format=".3f")
    title = figure.replace("accuracy", accuracy).replace("_", " ")
    return alt.Tooltip(f"{figure}:Q", format=".3f", title=title)


def heat_cells(
    base: Any,
    figure: str,
    ends: tuple[float, float, float],
    *,
    title: str,
    corner: int = 0,
    size: int | None = 11,
    under: str | None = None,
) -> Any:
    """Cells coloured by a figure.

    Args:
        base: the chart, with its cells' places.
        figure: the column.
        ends: of the colour scale, with its middle between them.
        title: of the legend.
        corner: radius.
        size: of the figure written in each cell; None writes none.
        under: a column of text that is written small under each figure, such as its interval.
    """
    scale = alt.Scale(domain=list(ends), range=[BELOW, CHANCE, ABOVE], clamp=True)
    cells = base.mark_rect(cornerRadius=corner).encode(color=alt.Color(f"{figure}:Q", scale=scale, title=title))
    if size is None:
        return cells
    ink = ink_on(figure, ends)
    text = base.mark_text(fontSize=size, dy=0 if under is None else -5)
    written = cells + text.encode(text=alt.Text(f"{figure}:Q", format=".2f"), color=ink)
    return (
        written
        if under is None
        else written + base.mark_text(fontSize=9, dy=8).encode(text=alt.Text(f"{under}:N"), color=ink)
    )


def ink_on(figure: str, ends: tuple[float, float, float]) -> Any:
    """The colour of a text on a cell of `heat_cells`."""
    # White on the two ends of the scale, black elsewhere: 4 to 1 or better throughout.
    far = f"abs(datum.{figure} - {ends[1]}) > {0.9 * (ends[2] - ends[1])}"
    return alt.ColorValue("black", condition={"test": far, "value": "white"})


def diagonal(base: Any, low: float) -> Any:
    """The line on which two figures between `low` and 1 are alike."""
    rule = base.mark_rule(strokeDash=[4, 4], color=MUTED)
    return rule.encode(x=alt.XDatum(low), y=alt.YDatum(low), x2=alt.X2Datum(1.0), y2=alt.Y2Datum(1.0))
