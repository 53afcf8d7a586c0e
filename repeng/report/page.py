"""What pages are made of: tables, pictures with their tables, and templates that escape every value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng.atomic import write_atomically

if TYPE_CHECKING:
    import jinja2


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
class Drawing:
    """A chart, what to say of it, and the table that says the same."""

    id: str
    title: str
    caption: str
    chart: Any
    table: Grid


@dataclass(frozen=True)
class Picture:
    """A drawing, ready for the page."""

    id: str
    title: str
    caption: str
    svg: str
    table: Grid


def figure(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    """A figure of three decimals with its interval; a dash where it is unknown."""
    if value is None:
        return Cell("–")
    return Cell(f"{value:.3f}", "" if low is None or high is None else f"{low:.3f}–{high:.3f}")


def draw(drawings: Sequence[Drawing], folder: Path) -> list[Picture]:
    """Each drawing as SVG for the page, and as `folder/ID.svg`."""
    from repeng.report.pictures import chart_svg, inline_svg

    found = []
    for one in drawings:
        svg = chart_svg(one.chart)
        write_atomically(folder / f"{one.id}.svg", svg)
        svg = inline_svg(svg, title=one.title, description=one.caption, prefix=one.id)
        found.append(Picture(one.id, one.title, one.caption, svg, one.table))
    return found


@cache
def environment() -> jinja2.Environment:
    """Templates in which every value is escaped unless a template says that it is markup of our own making."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("repeng.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )


def static_text(name: str) -> str:
    """A file of `static/`."""
    return (resources.files("repeng.report") / "static" / name).read_text(encoding="utf-8")
