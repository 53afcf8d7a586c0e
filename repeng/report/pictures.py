"""Charts into files, and into pages: PNG, SVG, PDF and HTML, all offline."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

import altair as alt
from altair.utils.schemapi import debug_mode

from repeng.atomic import write_atomically
from repeng.errors import BadInput
from repeng.places import Place, place
from repeng.report.theme import GRID, INK, MUTED

SVG = "http://www.w3.org/2000/svg"
LEGIBLE = 0.85
"""Share of its size to which a picture may shrink in a narrow window; below that it scrolls."""
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}
FORMATS = ("png", "svg", "pdf", "html")
POINTS_A_PIXEL = 0.75
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
"""The version of charts, for the renderer."""


def picture_format(path: Place) -> str:
    """Which of `FORMATS` a file's ending names.

    Raises:
        BadInput: none of them.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise BadInput(f"cannot draw {path.name!r}; end the file in .png, .svg, .pdf or .html")
    return kind


def save_chart(chart: Any, path: Place | str, *, dpi: int = 192) -> Place:
    """Write an Altair chart as `.png`, `.svg`, `.pdf` or `.html` (interactive, all scripts inside: it opens offline).

    A pixel of the chart is 1/96 inch. A PDF holds lines and embedded fonts, and no image.

    Args:
        chart: any Altair chart.
        path: the file; its ending says which kind. Folders are made.
        dpi: pixels of a PNG for each inch of the chart.

    Raises:
        BadInput: another ending.
    """
    path = place(path)
    kind = picture_format(path)
    buffer = io.BytesIO() if kind == "png" else io.StringIO()
    # The renderer counts 72 pixels to the inch.
    options: dict[str, dict[str, Any]] = {"png": {"scale_factor": POINTS_A_PIXEL, "ppi": dpi}, "html": {"inline": True}}
    # The size of a chart's data is the caller's business: a picture on disk has no row limit.
    with alt.data_transformers.enable("default", max_rows=None):
        chart.save(buffer, format="svg" if kind == "pdf" else kind, **options.get(kind, {}))
    written = buffer.getvalue()
    write_atomically(path, _pdf(written) if kind == "pdf" and isinstance(written, str) else written)
    return path


def svg_of(chart: Any) -> str:
    """The SVG of one of repeng's own charts, as `save_chart` writes it but unchecked."""
    import vl_convert

    with alt.data_transformers.enable("default", max_rows=None), unchecked():
        spec = chart.to_dict(validate=False)
    svg: str = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    return svg


def unchecked() -> AbstractContextManager[None]:
    """Charts made meanwhile are not held against Vega-Lite's schema at every step, which takes as long as the rest."""
    return debug_mode(False)


def _pdf(svg: str) -> bytes:
    """An SVG as PDF, its pixels three quarters of a point."""
    import vl_convert

    def in_points(found: re.Match[str]) -> str:
        return f' {found[1]}="{float(found[2]) * POINTS_A_PIXEL:g}"'

    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="([\d.]+)"', in_points, head)
    pdf: bytes = vl_convert.svg_to_pdf(f"{head}>{rest}")
    return pdf


def inline_svg(svg: str, *, title: str, description: str, prefix: str) -> str:
    """A chart's SVG for a page: follows its colour scheme, named for screen readers, figures on hover.

    Args:
        svg: as `save_chart` writes it.
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
    width = float(root.get("width", "0"))
    root.set("style", f"max-width:{width:.0f}px;min-width:{LEGIBLE * width:.0f}px")
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    for number, (tag, text) in enumerate((("title", title), ("desc", description))):
        node = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{prefix}-{tag}"})
        node.text = text
        root.insert(number, node)
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
