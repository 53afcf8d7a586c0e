"""A chart made exactly as wide, and as high, as was asked: its panels shrink or grow, its text stays as it is."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from repeng.errors import BadInput, RepengError
from repeng.report.chart_panels import CHARACTER, DISCRETE, panels_of
from repeng.report.chart_views import facet_names, nodes
from repeng.report.style import Style

SYMBOL = 34.0
"""Width of a legend's symbol with the space about it, in pixels."""
ARROW = " → "
IN_LEGENDS = ("color", "shape", "strokeDash")
ROUNDS = 12
NEAR = 4.0
"""Pixels: panels are drawn in whole ones, and the rest is left blank at a side."""
PADDING = 5
"""Vega's, where a style sets none."""


class DoesNotFit(BadInput):
    """A width or height into which a chart's text does not fit.

    Attributes:
        side: `width` or `height`.
        least: the least that does, in pixels.
    """

    def __init__(self, side: str, least: float) -> None:
        self.side, self.least = side, least
        super().__init__(f"the {side} is too little for the text to be legible; give {math.ceil(least)}px at least")


def fitted(spec: dict[str, Any], style: Style, width: float | None, height: float | None = None) -> dict[str, Any]:
    """A chart's specification at exactly a width and a height.

    Panels that stand next to each other go below each other where they would be too narrow otherwise.

    Args:
        spec: in that style.
        width: of the whole picture in pixels, its legend and titles included; None leaves it as it is.
        height: of the whole picture; None lets panels keep their shape, and rows of text their height.

    Raises:
        DoesNotFit: the narrowest arrangement is wider, or the lowest higher.
    """
    found = deepcopy(spec) if width is None else _of_width(spec, style, width)
    if height is not None:
        panels = panels_of(found, style)

        def draw(factor: float) -> float:
            for panel in panels:
                panel.heighten(factor)
            return extent_of(found)[1]

        drawn, fits = _solve(draw, max(panel.least_height / panel.height for panel in panels), height)
        if not fits:
            raise DoesNotFit("height", drawn)
        _pad(found, "bottom", height - drawn)
    return found


def extent_of(spec: dict[str, Any]) -> tuple[float, float]:
    """Width and height of a chart as it is drawn, in pixels."""
    import vl_convert

    found = re.match(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"', vl_convert.vegalite_to_svg(spec))
    if found is None:
        raise RepengError("the renderer gave a picture without a size; check the version of vl-convert-python")
    return float(found[1]), float(found[2])


def _of_width(spec: dict[str, Any], style: Style, width: float) -> dict[str, Any]:
    least = math.inf
    for arranged in _arrangements(spec):
        _fold_titles(arranged, style, width)
        _fold_headers(arranged)
        _fold_legends(arranged, style, width)
        panels = panels_of(arranged, style)

        def draw(factor: float, arranged: dict[str, Any] = arranged, panels: list[Any] = panels) -> float:
            for panel in panels:
                panel.widen(factor)
            return extent_of(arranged)[0]

        smallest = max(panel.least_width / panel.width for panel in panels)
        if any(view.get("columns", 1) > 1 for view in nodes(arranged) if "facet" in view):
            smallest = max(smallest, _heading(arranged, style) / min(panel.width for panel in panels))
        drawn, fits = _solve(draw, smallest, width)
        if fits:
            _pad(arranged, "right", width - drawn)
            return arranged
        least = min(least, drawn)
    raise DoesNotFit("width", least)


def _solve(draw: Callable[[float], float], least: float, wanted: float) -> tuple[float, bool]:
    """Find the factor at which a picture is drawn at the wanted size, by false position.

    The size grows with the factor, evenly where it is the panels and not a legend that are the broadest.

    Returns:
        The size that was drawn last, at most `NEAR` below the wanted one; or that of the least factor, and False.
    """
    smallest = draw(least)
    if smallest > wanted:
        return smallest, False
    aim = wanted - NEAR / 2
    below, above = (least, smallest), None
    factor = max(1.0, 1.5 * least)
    for _ in range(ROUNDS):
        drawn = draw(factor)
        if wanted - NEAR <= drawn <= wanted:
            return drawn, True
        ends = below, (factor, drawn)
        if drawn > wanted:
            above = (factor, drawn)
        else:
            below = (factor, drawn)
        (low, low_drawn), (high, high_drawn) = ends if above is None else (below, above)
        growth = (high_drawn - low_drawn) / (high - low)
        factor = low + (aim - low_drawn) / growth if growth > 0 else 2 * factor
    return smallest, False


def _pad(spec: dict[str, Any], side: str, length: float) -> None:
    """Leave that much more space at a side: the renderer draws panels in whole pixels, which may not add up."""
    around = spec.get("padding", spec.get("config", {}).get("padding", PADDING))
    around = around if isinstance(around, dict) else dict.fromkeys(("left", "right", "top", "bottom"), around)
    spec["padding"] = around | {side: around.get(side, 0) + length}


def _arrangements(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The chart with its panels in ever fewer columns."""
    names = len(set(facet_names(spec))) or math.inf
    most = max((_columns(view) for view in nodes(spec)), default=1)
    for columns in range(int(min(most, names)), 0, -1):
        arranged = deepcopy(spec)
        for view in nodes(arranged):
            if "hconcat" in view and len(view["hconcat"]) > columns:
                view["concat"] = view.pop("hconcat")
            if _columns(view) > columns or "concat" in view:
                view["columns"] = min(columns, _columns(view))
        yield arranged


def _columns(view: dict[str, Any]) -> int:
    """How many panels of a view stand next to each other."""
    if "hconcat" in view:
        return len(view["hconcat"])
    if "concat" in view:
        return min(int(view.get("columns", len(view["concat"]))), len(view["concat"]))
    return int(view.get("columns", 1)) if "facet" in view else 1


def _heading(spec: dict[str, Any], style: Style) -> float:
    """Width of the longest line over the panels of a facet."""
    lines = [line for name in facet_names(spec) for line in name.replace(ARROW, f"\n{ARROW}").split("\n")]
    return CHARACTER * style.text * max(map(len, lines), default=0)


def _fold_titles(spec: dict[str, Any], style: Style, width: float) -> None:
    title = spec.get("title")
    for key, size in (("text", style.title or style.text), ("subtitle", style.labels)):
        if isinstance(title, dict) and key in title:
            text = title[key] if isinstance(title[key], str) else " ".join(title[key])
            title[key] = textwrap.wrap(text, max(12, int(width / (1.1 * CHARACTER * size))))


def _fold_headers(spec: dict[str, Any]) -> None:
    """What stands over the panels of a facet in two lines, its source and its target."""
    for view in nodes(spec):
        if "facet" in view and any(ARROW in name for name in facet_names(view | {"datasets": spec.get("datasets")})):
            fold = f"split(replace(datum.label, '{ARROW}', '\\n{ARROW}'), '\\n')"
            view["facet"]["header"] = {**(view["facet"].get("header") or {}), "labelExpr": fold}


def _fold_legends(spec: dict[str, Any], style: Style, width: float) -> None:
    """Legends in as many columns as fit: the longest below the picture, others above it, for they cannot be stacked."""
    if style.legend != "bottom":
        return
    legends: dict[str, list[dict[str, Any]]] = {}
    for view in nodes(spec):
        for encoding in (view.get("encoding", {}).get(channel, {}) for channel in IN_LEGENDS):
            known = encoding.get("type") in DISCRETE and "domain" in encoding.get("scale", {})
            if known and encoding.get("legend", {}) is not None:
                legends.setdefault(encoding["field"], []).append(encoding)
    entries = {
        field: SYMBOL + CHARACTER * style.text * max(len(str(name)) for name in found[0]["scale"]["domain"])
        for field, found in legends.items()
    }
    longest = max(legends, key=lambda field: len(legends[field][0]["scale"]["domain"]), default="")
    for field, found in legends.items():
        above = [other for other in legends if other not in (field, longest)]
        room = width if field == longest else width - sum(entries[other] for other in above)
        columns = max(1, min(len(found[0]["scale"]["domain"]), int(room / entries[field])))
        for encoding in found:
            side = {} if field == longest else {"orient": "top"}
            encoding["legend"] = {**(encoding.get("legend") or {}), "columns": columns, **side}
