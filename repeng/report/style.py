"""The styles of pictures: on a screen, and on paper."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from repeng.errors import BadInput, UnknownName
from repeng.report.theme import ABOVE, BELOW, CHANCE, FONT, GRID, INK, METHOD_COLOURS, MUTED

PIXELS = {"in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "pt": 96 / 72, "px": 1.0}
"""How many pixels a unit has: as in CSS, 96 to the inch, so that three quarters of one are a printer's point."""
POINT = PIXELS["pt"]
LONGEST = 100 * PIXELS["in"]
LENGTH = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z%\"']*)\s*")


@dataclass(frozen=True)
class Style:
    """How a picture looks. Sizes are in pixels, 96 to the inch.

    Attributes:
        font: as CSS writes it.
        text: size of titles of panels and axes, and of legends.
        labels: size of the names and numbers along axes.
        smallest: size that no text is below.
        title: size of the picture's own title; None leaves it out, for the caption to say.
        rules: how thick lines are, as a share of what they are on a screen.
        points: how large points are, as a share of their area on a screen.
        rows: how high the rows of a heat map are, as a share of what they are on a screen.
        ink: of text.
        muted: of secondary text and of axes.
        grid: of rules.
        heat: colours of a heat map at the low end of its scale, in the middle and at the high end.
        colours: of methods or labels, in turn.
        dashes: of methods or labels where they are lines, in turn; none where colour alone tells lines apart.
        legend: on which side it is.
        bare: figures in cells are `.97` and `1.0`, not 0.97 and 1.00.
        panel: least width of a panel of lines or points.
        width: of the whole picture, where none is asked for; None leaves it as it comes.
    """

    name: str
    font: str
    text: float
    labels: float
    smallest: float
    title: float | None
    rules: float
    points: float
    rows: float
    ink: str
    muted: str
    grid: str
    heat: tuple[str, str, str]
    colours: tuple[str, ...]
    dashes: tuple[tuple[float, ...], ...]
    legend: str
    bare: bool
    panel: float
    width: float | None

    def config(self) -> dict[str, Any]:
        """The style as a configuration of Vega-Lite, over the one that charts are drawn with."""
        text = {"labelColor": self.ink, "titleColor": self.ink, "titleFontSize": self.text, "titleFontWeight": "normal"}
        rules = {"gridColor": self.grid, "domainColor": self.muted, "tickColor": self.muted}
        widths = dict.fromkeys(("gridWidth", "domainWidth", "tickWidth"), self.rules)
        labels = {"labelFontSize": self.labels, "labelLimit": 320 * self.labels / SCREEN.labels, "labelPadding": 2}
        columns = {"columnPadding": 6, "rowPadding": 1, "gradientThickness": 7, "gradientLength": 110}
        return {
            "font": self.font,
            "background": "white",
            "padding": 1,
            "view": {"stroke": self.grid, "strokeWidth": self.rules},
            "facet": {"spacing": 10},
            "axis": {**text, **rules, **widths, **labels, "labelSeparation": 4, "tickSize": 3, "titlePadding": 3},
            "legend": {
                **text,
                **columns,
                "labelFontSize": self.text,
                "symbolBaseFillColor": self.ink,
                "symbolBaseStrokeColor": self.ink,
                "orient": self.legend,
                "direction": "horizontal" if self.legend == "bottom" else "vertical",
                "offset": 6,
            },
            "header": {
                "labelFontWeight": "normal",
                "labelColor": self.ink,
                "labelFontSize": self.text,
                "labelPadding": 3,
            },
            "title": {"color": self.ink, "subtitleColor": self.muted, "fontSize": self.title or self.text},
        }


SCREEN = Style(
    name="screen",
    font=FONT,
    text=12.0,
    labels=12.0,
    smallest=8.0,
    title=15.0,
    rules=1.0,
    points=1.0,
    rows=1.0,
    ink=INK,
    muted=MUTED,
    grid=GRID,
    heat=(BELOW, CHANCE, ABOVE),
    colours=METHOD_COLOURS,
    dashes=(),
    legend="right",
    bare=False,
    panel=120.0,
    width=None,
)
"""As theme.py draws every chart."""

PAPER = Style(
    name="paper",
    # Metrics of Arial and Helvetica; the renderer brings it, so that a figure is the same on every machine.
    font="'Liberation Sans', Arial, Helvetica, sans-serif",
    text=8 * POINT,
    labels=7 * POINT,
    smallest=7 * POINT,
    title=None,
    rules=0.6,
    points=0.4,
    rows=0.7,
    ink="#000000",
    muted="#4d4d4d",
    grid="#d9d9d9",
    # Lighter is lower, so that it reads in grey too.
    heat=("#ffd9a0", "#a8abb3", "#12427e"),
    # Chosen so that any two lie far apart in CIELAB, also as red- and green-blind readers see them.
    colours=(
        *("#1227a6", "#f66a00", "#0e4a48", "#4692ff", "#922909"),
        *("#a08cb5", "#020039", "#8f9772", "#3a3af0"),
    ),
    dashes=(
        *((1.0, 0.0), (5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0), (9.0, 2.0)),
        *((6.0, 1.5, 1.5, 1.5, 1.5, 1.5), (3.0, 3.0), (12.0, 2.0, 4.0, 2.0), (1.5, 4.0)),
    ),
    legend="bottom",
    bare=True,
    panel=54 * POINT,
    width=3.3 * PIXELS["in"],
)

STYLES = {style.name: style for style in (SCREEN, PAPER)}


def style_named(name: str) -> Style:
    """The style of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in STYLES:
        raise UnknownName("style", name, STYLES)
    return STYLES[name]


def length(text: str, what: str = "width") -> float:
    """A length as users type it, in pixels: `3.3in`, `8cm`, `84mm`, `240pt`, `400px`.

    Args:
        text: number and unit.
        what: it is of, for the error.

    Raises:
        BadInput: there is no number or no unit, an unknown unit, or more than 100 inches.
    """
    units = f"{', '.join(list(PIXELS)[:-1])} or {list(PIXELS)[-1]}"
    found = LENGTH.fullmatch(text)
    if found is None:
        raise BadInput(f"{what} {text!r} is no length; give a number and a unit ({units}), as 3.3in")
    number, unit = found[1], found[2]
    if not unit:
        raise BadInput(f"{what} {text!r} has no unit; give {units}, as {number}in")
    if unit.lower() not in PIXELS:
        raise BadInput(f"{what} {text!r}: unknown unit {unit!r}; give {units}, as 3.3in")
    pixels = float(number) * PIXELS[unit.lower()]
    if not 0 < pixels <= LONGEST:
        raise BadInput(f"{what} {text!r} must lie between 0 and {LONGEST / PIXELS['in']:.0f}in")
    return pixels


def unit_of(text: str) -> str:
    """The unit of a length that `length` reads."""
    found = LENGTH.fullmatch(text)
    return found[2].lower() if found else "px"
