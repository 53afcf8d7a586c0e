"""The panels of a chart: how small each may be, and how its size is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from repeng.report.chart_views import GROUPS, nodes, values, views
from repeng.report.restyle import BROAD
from repeng.report.style import Style

DISCRETE = ("nominal", "ordinal")
SHORT, FULL, SIGN, INTERVAL = 1.39, 1.95, 0.58, 4.5
"""Widths of `.97`, of `0.97`, of a minus and of `0.91–0.97`, as shares of the font's size."""
CHARACTER = 0.54
"""Mean width of a character, as a share of the font's size."""
BARE_CELL = 5.0
"""Least width and height of a cell without a figure, in pixels."""
LINE = 1.3
"""Height of a line of text, as a share of the font's size."""
WITHIN_A_ROW = 3.5
"""Least height of each of several marks in one row, in pixels."""
LOWEST = 40.0
"""Least height of a panel of lines, in pixels."""


@dataclass(frozen=True)
class Panel:
    """One panel, and its size in pixels before it is set.

    Attributes:
        view: its part of the specification, which is set.
        columns: how many names stand across; None where there is a scale of numbers.
        rows: how many names stand down; None where there is a scale of numbers.
        placed: whether its rows have places of their own on a scale that has no axis.
        marks: points and bars that are as high as their row, with their sizes.
    """

    view: dict[str, Any]
    width: float
    height: float
    columns: int | None
    rows: int | None
    placed: bool
    least_width: float
    least_height: float
    marks: tuple[tuple[dict[str, Any], str, float], ...]

    def widen(self, factor: float) -> None:
        """Set the width to so many times what it was. A scale of numbers keeps its shape, rows of text their height."""
        self.view["width"] = self.width * factor
        if self.rows is None and not self.placed:
            self.view["height"] = max(LOWEST, self.height * factor)
        elif self.columns is not None:
            self.view["height"] = max(self.least_height, self.height * min(1.0, factor))

    def heighten(self, factor: float) -> None:
        """Set the height to so many times what it was, and the marks that are as high as a row with it."""
        self.view["height"] = self.height * factor
        for mark, name, size in self.marks:
            share = factor if mark.get("shape") == "stroke" or name == "strokeWidth" else min(1.0, factor)
            mark[name] = size * (share if name == "strokeWidth" else share**2)


def panels_of(spec: dict[str, Any], style: Style) -> list[Panel]:
    """The panels of a specification, their steps made widths and heights."""
    return [
        _panel(view, rows, style)
        for view, rows in views(spec)
        if "width" in view and not any(group in view for group in GROUPS)
    ]


def _panel(view: dict[str, Any], data: list[dict[str, Any]], style: Style) -> Panel:
    columns, rows = (_count(view, channel, data) for channel in ("x", "y"))
    for side, count in (("width", columns), ("height", rows)):
        if isinstance(view.get(side), dict):
            view[side] = view[side]["step"] * (count or 1)
    cell = _least_cell(view, style)
    least_width = max(style.panel, _words(view, data)) if columns is None else columns * cell
    least_height = LOWEST if rows is None else rows * _least_row(view, style)
    marks = [layer["mark"] for layer in nodes(view) if isinstance(layer.get("mark"), dict)]
    sizes = tuple(
        (mark, name, float(mark[name]))
        for mark in marks
        for name in ("size", "strokeWidth")
        if rows is not None and name in mark and (name == "size" or mark[name] >= BROAD)
    )
    width, height = float(view["width"]), float(view.get("height", 200))
    placed = rows is None and _has_no_axis(view)
    least_height = height if placed else least_height
    return Panel(view, width, height, columns, rows, placed, least_width, least_height, sizes)


def _has_no_axis(view: dict[str, Any]) -> bool:
    down = [layer["encoding"]["y"] for layer in nodes(view) if "field" in layer.get("encoding", {}).get("y", {})]
    return bool(down) and all(one.get("axis", {}) is None for one in down)


def _count(view: dict[str, Any], channel: str, rows: list[dict[str, Any]]) -> int | None:
    """How many names an axis has; None where it is of numbers."""
    for layer in nodes(view):
        encoding = layer.get("encoding", {}).get(channel, {})
        if encoding.get("type") in DISCRETE:
            return len(encoding.get("scale", {}).get("domain") or values(encoding["field"], rows))
    return None


def _least_cell(view: dict[str, Any], style: Style) -> float:
    """Width of the broadest text in a cell."""
    colours = [layer.get("encoding", {}).get("color", {}) for layer in nodes(view)]
    signed = any(
        min(one.get("scale", {}).get("domain", [0])) < 0 for one in colours if one.get("type") == "quantitative"
    )
    figure = (SHORT if style.bare else FULL) + (SIGN if signed else 0.0)
    widths = [
        (INTERVAL if _is_words(layer) else figure) * float(layer["mark"].get("fontSize", style.labels)) + 2
        for layer in _texts(view)
    ]
    return max(widths, default=BARE_CELL)


def _words(view: dict[str, Any], data: list[dict[str, Any]]) -> float:
    """Width of the longest name that is written in a panel."""
    named = [layer for layer in _texts(view) if _is_words(layer)]
    return max(
        (
            CHARACTER * float(layer["mark"].get("fontSize", 11)) * len(str(name))
            for layer in named
            for name in values(layer["encoding"]["text"]["field"], data)
        ),
        default=0.0,
    )


def _least_row(view: dict[str, Any], style: Style) -> float:
    """Height of the lines of text in a row, or of the marks in it."""
    encodings = [layer.get("encoding", {}) for layer in nodes(view)]
    within = max((len(one.get("yOffset", {}).get("scale", {}).get("domain", ())) for one in encodings), default=0)
    return max(LINE * style.labels * max(1, len(_texts(view))), WITHIN_A_ROW * within)


def _texts(view: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        layer for layer in nodes(view) if isinstance(layer.get("mark"), dict) and layer["mark"].get("type") == "text"
    ]


def _is_words(layer: dict[str, Any]) -> bool:
    return layer.get("encoding", {}).get("text", {}).get("type") in DISCRETE
