"""The styles of pictures: on a screen, and on paper."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from repeng.errors import BadInput, UnknownName

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
        """The style as a configuration of Vega-Lite."""
        text = {"labelColor": self.ink, "titleColor": self.ink, "titleFontSize": self.text, "titleFontWeight": 600}
        rules = {"gridColor": self.grid, "domainColor": self.muted, "tickColor": self.muted}
        config: dict[str, Any] = {
            "font": self.font,
            "background": "white",
            "view": {"stroke": self.grid},
            "axis": {"labelFontSize": self.labels, "labelLimit": 320 * self.labels / 12, **text, **rules},
            "legend": {
                "labelFontSize": self.text,
                "labelLimit": 260 * self.text / 12,
                "symbolLimit": 40,
                "symbolBaseFillColor": self.ink,
                "symbolBaseStrokeColor": self.ink,
                **text,
            },
            "header": {
                "labelOrient": "top",
                "labelAnchor": "start",
                "title": None,
                "labelFontWeight": 600,
                "labelColor": self.ink,
                "labelFontSize": self.text,
            },
            "title": {
                "anchor": "start",
                "color": self.ink,
                "fontSize": self.title or self.text,
                "subtitleColor": self.muted,
            },
        }
        if self.legend == "bottom":
            config["padding"] = 1
            config["view"]["strokeWidth"] = self.rules
            config["facet"] = {"spacing": 10}
            config["rule"] = {"strokeWidth": self.rules}
            config["axis"] |= {"gridWidth": self.rules, "domainWidth": self.rules, "tickWidth": self.rules}
            config["axis"] |= {"tickSize": 3, "labelPadding": 2, "titlePadding": 3, "titleFontWeight": "normal"}
            config["legend"] |= {
                "orient": "bottom",
                "direction": "horizontal",
                "offset": 6,
                "titleFontWeight": "normal",
            }
            config["legend"] |= {"columnPadding": 6, "rowPadding": 1, "gradientThickness": 7, "gradientLength": 110}
            config["header"] |= {"labelPadding": 3, "labelFontWeight": "normal"}
        return config


SCREEN = Style(
    name="screen",
    font="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
    text=12.0,
    labels=12.0,
    smallest=8.0,
    title=15.0,
    rules=1.0,
    points=1.0,
    rows=1.0,
    ink="#1f2430",
    muted="#5b6473",
    grid="#dfe3e8",
    heat=("#b35806", "#f4f4f4", "#2166ac"),
    # Each at 3 to 1 or better against white and against the page's black.
    colours=(
        *("#2f7fc1", "#d0731c", "#2b9960", "#9a6bd0", "#d3524e"),
        *("#1c96a0", "#c2559a", "#878c1e", "#7b838f", "#a56f40"),
    ),
    dashes=(),
    legend="right",
    bare=False,
    panel=120.0,
    width=None,
)
"""In a page its ink, muted and grid colours become CSS variables, so that one picture serves both schemes."""

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
    panel=58 * POINT,
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
