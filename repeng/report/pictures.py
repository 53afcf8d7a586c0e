"""Charts into files, and into pages: PNG, SVG and HTML, all offline."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from repeng.atomic import write_atomically
from repeng.errors import BadInput
from repeng.report.theme import GRID, INK, MUTED

SVG = "http://www.w3.org/2000/svg"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}


def save_chart(chart: Any, path: Path | str, *, scale: float = 2.0) -> Path:
    """Write an Altair chart as `.png`, `.svg` or `.html` (interactive, all scripts inside: it opens offline).

    Args:
        chart: any Altair chart.
        path: the file; its ending says which kind. Folders are made.
        scale: pixels of a PNG for each of the chart's.

    Raises:
        BadInput: another ending.
    """
    import vl_convert

    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".png", ".svg", ".html"):
        raise BadInput(f"cannot draw {path.name!r}; end the file in .png, .svg or .html")
    if kind == ".svg":
        write_atomically(path, chart_svg(chart))
    elif kind == ".html":
        spec = _spec(chart)
        page = vl_convert.vegalite_to_html(spec, bundle=True, vl_version=_version(spec))
        write_atomically(path, page)
    else:
        spec = _spec(chart)
        write_atomically(path, vl_convert.vegalite_to_png(spec, scale=scale, vl_version=_version(spec)))
    return path


def chart_svg(chart: Any) -> str:
    """The chart as SVG text."""
    import vl_convert

    spec = _spec(chart)
    svg: str = vl_convert.vegalite_to_svg(spec, vl_version=_version(spec))
    return svg


def inline_svg(svg: str, *, title: str, description: str, prefix: str) -> str:
    """A chart's SVG for a page: follows its colour scheme, named for screen readers, figures on hover.

    Args:
        svg: of `chart_svg`.
        title: what the picture is.
        description: what it shows.
        prefix: makes its ids unique in the page.
    """
    ElementTree.register_namespace("", SVG)
    # Parsed from what the renderer just wrote, never from a file.
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        _plain(element)
    background = root.find(f"{{{SVG}}}rect")
    if background is not None:
        root.remove(background)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    root.set("style", f"max-width:{root.get('width')}px")
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        node = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{prefix}-{tag}"})
        node.text = text
        root.insert(place, node)
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r'\b(id="|url\(#|href="#)(gradient|clip)', rf"\g<1>{prefix}-\g<2>", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def _plain(element: ElementTree.Element) -> None:
    """Drop the renderer's roles (the picture as a whole has one) and keep a mark's label as its hover text."""
    label = element.attrib.pop("aria-label", None)
    role = element.attrib.pop("role", None)
    for name in ("aria-roledescription", "aria-hidden"):
        element.attrib.pop(name, None)
    if label and role == "graphics-symbol" and element.tag in (f"{{{SVG}}}path", f"{{{SVG}}}line"):
        hover = ElementTree.SubElement(element, f"{{{SVG}}}title")
        hover.text = re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.3f}", label)


def _spec(chart: Any) -> dict[str, Any]:
    """The chart's specification. Its size is the caller's business: a picture on disk has no row limit."""
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=None):
        spec: dict[str, Any] = json.loads(chart.to_json())
    return spec


def _version(spec: dict[str, Any]) -> str:
    """`6.1` of `https://vega.github.io/schema/vega-lite/v6.1.0.json`."""
    found = re.search(r"/v(\d+\.\d+)", spec.get("$schema", ""))
    return found[1] if found else "6.1"
