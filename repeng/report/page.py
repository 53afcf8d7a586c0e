"""What pages are made of: tables, pictures with their tables, and templates that escape every value."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import pandas as pd

from repeng.atomic import write_atomically
from repeng.places import Place
from repeng.version import __version__


@dataclass(frozen=True)
class Cell:
    """A figure as text, and its interval."""

    text: str
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table; without cells it is the title of those under it."""

    name: str
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A table. `columns` names every column, that of the rows' names first; `words` those that stand to the left."""

    columns: tuple[str, ...]
    rows: tuple[Line, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A chart or its SVG, what to say of it, and the table that says the same; once drawn, also its SVG for the page.

    `more` are pictures that a page shows on demand; the table is theirs too.
    """

    id: str
    title: str
    caption: str
    chart: Any
    table: Grid
    more: tuple[Picture, ...] = ()
    svg: str = ""


def figure(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    """A figure of three decimals with its interval; a dash where it is unknown (None or nan)."""
    if pd.isna(value):
        return Cell("–")
    return Cell(f"{value:.3f}", "" if pd.isna(low) or pd.isna(high) else f"{low:.3f}–{high:.3f}")


def grid_of(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Rows of equal keys as a table; columns in which nothing is known are left out, and the first names the row."""
    frame = pd.DataFrame(rows).dropna(axis=1, how="all").rename(columns=lambda name: name.replace("_", " "))
    lines = [[_text(value) for value in row.values()] for row in frame.to_dict("records")]
    words = [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    rows_of_cells = (Line(name, tuple(map(Cell, cells))) for name, *cells in lines)
    return Grid(tuple(map(str, frame)), tuple(rows_of_cells), tuple(words))


def _text(value: Any) -> str:
    """A figure of three decimals, or four where it is small; nothing for what is unknown."""
    if pd.isna(value):
        return ""
    return str(value) if not isinstance(value, float) else f"{value:.{4 if 0 < abs(value) < 0.001 else 3}f}"


def draw(pictures: Sequence[Picture], folder: Place) -> list[Picture]:
    """Each picture, and each that is shown on demand, with its SVG, which also goes to `folder/ID.svg`."""
    from repeng.report.pictures import inline_svg, svg_of

    drawn = []
    for one in pictures:
        svg = one.chart if isinstance(one.chart, str) else svg_of(one.chart)
        write_atomically(folder / f"{one.id}.svg", svg)
        svg = inline_svg(svg, title=one.title, description=one.caption, prefix=one.id)
        drawn.append(replace(one, svg=svg, more=tuple(draw(one.more, folder))))
    return drawn


def write_page(path: Place, template: str, *, made_of: str = "", script: str = "", **values: Any) -> None:
    """Write a page from a template, with repeng's style and version, and a hash over what it is made of.

    Args:
        path: the page.
        template: its name.
        made_of: the hash.
        script: a file of `static/` that the page may run; by its policy it runs that text, and no other.
        values: what the template shows.
    """
    text = environment().get_template(template)
    known = {"css": static_text("page.css"), "script": static_text(script) if script else "", "version": __version__}
    allowed = base64.b64encode(hashlib.sha256(known["script"].encode()).digest()).decode() if script else ""
    write_atomically(path, text.render(**known, script_hash=allowed, made_of=made_of, **values))


@cache
def environment() -> jinja2.Environment:
    """Templates in which every value is escaped unless a template says that it is markup of our own making."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("repeng.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )


def static_text(name: str) -> str:
    """A file of `static/`."""
    return (resources.files("repeng.report") / "static" / name).read_text(encoding="utf-8")
