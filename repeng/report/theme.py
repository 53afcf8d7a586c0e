"""How every picture looks: colours that read on white and on black, and shapes that read without colour."""

from __future__ import annotations

from typing import Any

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
        .configure_header(labelOrient="top", labelAnchor="start", title=None, labelFontWeight=600, **_header(text))
        .configure_title(anchor="start", color=INK, fontSize=15, subtitleColor=MUTED)
    )


def method_colour(names: list[str], *, title: str | None = None) -> Any:
    """Colour by `method`, in this order; the legend shows it in full, however faint the mark."""
    import altair as alt

    scale = alt.Scale(domain=names, range=[METHOD_COLOURS[i % len(METHOD_COLOURS)] for i in range(len(names))])
    return alt.Color("method:N", scale=scale, sort=names, title=title, legend=alt.Legend(symbolOpacity=1))


def method_shape(names: list[str], *, title: str | None = None) -> Any:
    """Shape by `method`, in this order: what colour says, said again."""
    import altair as alt

    scale = alt.Scale(domain=names, range=[METHOD_SHAPES[i % len(METHOD_SHAPES)] for i in range(len(names))])
    return alt.Shape("method:N", scale=scale, sort=names, title=title)


def diverging(low: float, middle: float, high: float) -> Any:
    """The diverging colour scale."""
    import altair as alt

    return alt.Scale(domain=[low, middle, high], range=[BELOW, CHANCE, ABOVE], clamp=True)


def _header(text: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in text.items() if name in ("labelColor", "labelFontSize")}
