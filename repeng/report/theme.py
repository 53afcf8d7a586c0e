"""How every picture looks: colours that read on white and on black, and shapes that read without colour."""

from __future__ import annotations

from typing import Any

import altair as alt

INK, MUTED, GRID = "#1f2430", "#5b6473", "#dfe3e8"
"""Text, secondary text and rules. In a page they become CSS variables, so that one picture serves both schemes."""

METHOD_COLOURS = (
    *("#2f7fc1", "#d0731c", "#2b9960", "#9a6bd0", "#d3524e"),
    *("#1c96a0", "#c2559a", "#878c1e", "#7b838f", "#a56f40"),
)
"""Each at 3 to 1 or better against white and against the page's black."""

METHOD_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")

BELOW, CHANCE, ABOVE = "#b35806", "#f4f4f4", "#2166ac"
"""A diverging scale about chance: orange below, blue above."""

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


def themed(chart: Any, *, title: Any, description: str) -> Any:
    """The chart with a title (text, or `TitleParams`), a description for screen readers, and repeng's look."""
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 600}
    rules = {"gridColor": GRID, "domainColor": MUTED, "tickColor": MUTED}
    return (
        chart.properties(title=title, description=description)
        .configure(font=FONT, background="white")
        .configure_view(stroke=GRID)
        .configure_axis(labelLimit=320, **text, **rules)
        .configure_legend(symbolLimit=40, labelLimit=260, symbolBaseFillColor=INK, symbolBaseStrokeColor=INK, **text)
        .configure_header(
            labelOrient="top",
            labelAnchor="start",
            title=None,
            labelFontWeight=600,
            labelColor=INK,
            labelFontSize=12,
        )
        .configure_title(anchor="start", color=INK, fontSize=15, subtitleColor=MUTED)
    )


def colour_by(column: str, names: list[str], *, title: str | None = None) -> Any:
    """Colour by a column, its values in this order; the legend shows it in full, however faint the mark."""
    scale = alt.Scale(domain=names, range=[METHOD_COLOURS[i % len(METHOD_COLOURS)] for i in range(len(names))])
    return alt.Color(f"{column}:N", scale=scale, sort=names, title=title, legend=alt.Legend(symbolOpacity=1))


def shape_by(column: str, names: list[str]) -> Any:
    """Shape by a column, its values in this order: what colour says, said again."""
    scale = alt.Scale(domain=names, range=[METHOD_SHAPES[i % len(METHOD_SHAPES)] for i in range(len(names))])
    return alt.Shape(f"{column}:N", scale=scale, sort=names, title=None)


def tooltips(*names: str, figures: tuple[str, ...], accuracy: str = "accuracy") -> list[Any]:
    """What a mark says on hover: columns as they are, then figures of three decimals.

    Args:
        names: of the columns.
        figures: columns, those that begin with `accuracy` among them.
        accuracy: what accuracies are called, where they are AUROCs.
    """
    return [*names, *(_of_figure(figure, accuracy) for figure in figures)]


def _of_figure(figure: str, accuracy: str) -> Any:
    if accuracy == "accuracy" or not figure.startswith("accuracy"):
        return alt.Tooltip(f"{figure}:Q", format=".3f")
    title = figure.replace("accuracy", accuracy).replace("_", " ")
    return alt.Tooltip(f"{figure}:Q", format=".3f", title=title)


def heat_cells(
    base: Any, figure: str, ends: tuple[float, float, float], *, title: str, corner: int = 0, size: int | None = 11
) -> Any:
    """Cells coloured by a figure.

    Args:
        base: the chart, with its cells' places.
        figure: the column.
        ends: of the colour scale, with its middle between them.
        title: of the legend.
        corner: radius.
        size: of the figure written in each cell; None writes none.
    """
    scale = alt.Scale(domain=list(ends), range=[BELOW, CHANCE, ABOVE], clamp=True)
    cells = base.mark_rect(cornerRadius=corner).encode(color=alt.Color(f"{figure}:Q", scale=scale, title=title))
    if size is None:
        return cells
    # White on the two ends of the scale, black elsewhere: 4 to 1 or better throughout.
    far = f"abs(datum.{figure} - {ends[1]}) > {0.9 * (ends[2] - ends[1])}"
    ink = alt.condition(far, alt.value("white"), alt.value("black"))
    return cells + base.mark_text(fontSize=size).encode(text=alt.Text(f"{figure}:Q", format=".2f"), color=ink)


def diagonal(base: Any, low: float) -> Any:
    """The line on which two figures between `low` and 1 are alike."""
    rule = base.mark_rule(strokeDash=[4, 4], color=MUTED)
    return rule.encode(x=alt.datum(low), y=alt.datum(low), x2=alt.datum(1.0), y2=alt.datum(1.0))
