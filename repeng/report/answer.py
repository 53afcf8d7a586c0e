"""An answer to one question about compared studies: sentences first, then the tables and pictures behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from repeng.atomic import write_atomically
from repeng.metrics import Estimate
from repeng.places import Place
from repeng.report.page import Cell, Grid, Line, Picture, draw, grid_of, write_page
from repeng.report.tables import grid_table
from repeng.report.wide_table import WideTable
from repeng.results import write_csv

Row = dict[str, Any]
"""Of a table: what stands in it, by column."""

MOST_ROWS = 60
"""A longer table is not for a terminal, and folded on a page."""


@dataclass(frozen=True)
class AnswerTable:
    """One table of an answer.

    Attributes:
        name: of its file (QUESTION-NAME.csv) and its key in JSON.
        title: over it.
        how: what its columns mean.
        rows: of equal keys; the first names the row. A figure `x` whose interval stands in `x_low` and `x_high` is
            shown with it in one cell. A table without rows is not shown: the answer's sentences say why.
    """

    name: str
    title: str
    how: str
    rows: Sequence[Mapping[str, Any]]

    def grid(self) -> Grid:
        """The table for a page."""
        return _with_intervals(self.rows)


@dataclass(frozen=True)
class Answer:
    """What was found about one question.

    Attributes:
        question: its name, as `--question` takes it, and the name of its files.
        title: the question in words.
        sentences: what the figures and their intervals allow to say.
        tables: what the sentences rest on.
        pictures: their ids name the files ID.svg and ID.png.
    """

    question: str
    title: str
    sentences: tuple[str, ...]
    tables: tuple[AnswerTable, ...]
    pictures: tuple[Picture, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        tables = {one.name: [dict(row) for row in one.rows] for one in self.tables}
        return {"question": self.question, "title": self.title, "sentences": list(self.sentences), "tables": tables}

    def renderables(self) -> list[WideTable | str]:
        """For a terminal: the sentences, then each table with what it means."""
        shown: list[WideTable | str] = [self.title, "", *self.sentences]
        for one in self.tables:
            if len(one.rows) > MOST_ROWS:
                shown += ["", f"{one.title}: {len(one.rows)} rows, which --out DIR writes and --json prints."]
            elif one.rows:
                shown += ["", grid_table(one.title, _in_one_line(one.grid())), one.how]
        return shown

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables that have rows as pandas frames, by name."""
        return {one.name: pd.DataFrame(one.rows) for one in self.tables if one.rows}

    @property
    def charts(self) -> dict[str, Any]:
        """The pictures as Altair charts, by name."""
        return {one.id: one.chart for one in self.pictures}

    def _repr_html_(self) -> str:
        shown = [f"<p>{escape(' '.join(self.sentences))}</p>"]
        for one in self.tables:
            if 0 < len(one.rows) <= MOST_ROWS:
                shown.append(f"<p>{escape(one.title)}</p>{self.frames[one.name].round(3).to_html(index=False)}")
        return "".join(shown)

    def write(self, out: Place) -> None:
        """Write `out/QUESTION.html` and `.json`, a CSV a table, and the pictures as SVG and PNG.

        Args:
            out: a folder; it is made.
        """
        from repeng.report.pictures import save_chart

        text = json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        write_atomically(out / f"{self.question}.json", text)
        tables = [one for one in self.tables if one.rows]
        for one in tables:
            write_csv([dict(row) for row in one.rows], out / f"{self.question}-{one.name}.csv")
        for picture in self.pictures:
            save_chart(picture.chart, out / f"{picture.id}.png")
        titled = [*((one.id, one.title) for one in self.pictures), *((one.name, one.title) for one in tables)]
        write_page(
            out / f"{self.question}.html",
            "answer.html",
            title=f"repeng: {self.question}",
            asked=self.title,
            sentences=self.sentences,
            sections=titled,
            pictures=draw(self.pictures, out),
            tables=[(one.name, one.title, one.how, one.grid()) for one in tables],
            most_rows=MOST_ROWS,
            pictures_lie="next to it, as SVG and PNG",
        )


def interval_columns(name: str, found: Estimate | None) -> Row:
    """A figure and its interval as three columns; blank where there is none."""
    ends = (None, None, None) if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def interval_text(row: Mapping[str, Any], name: str) -> str:
    """`0.53 (0.31 to 0.70)`, or the figure alone where it has no interval."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    ends = "no interval" if low is None or high is None else f"{low:.2f} to {high:.2f}"
    return f"{row[name]:.2f} ({ends})"


def _with_intervals(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Rows as a table in which `x_low` and `x_high` stand under `x`, without columns that are empty throughout."""
    ends = {name for name in rows[0] if f"{name}_low" in rows[0] and f"{name}_high" in rows[0]}
    said = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    grid = grid_of([{name: row[name] for name in said if _figure_of(name) not in ends} for row in rows])
    shown = {name.replace("_", " "): name for name in ends}
    lines = [
        Line(
            line.name,
            tuple(
                Cell(cell.text, _interval(row, shown[name])) if name in shown else cell
                for name, cell in zip(grid.columns[1:], line.cells, strict=True)
            ),
        )
        for line, row in zip(grid.rows, rows, strict=True)
    ]
    return Grid(grid.columns, tuple(lines), grid.words)


def _figure_of(name: str) -> str | None:
    """The figure whose interval ends in a column of this name."""
    return next((name.removesuffix(end) for end in ("_low", "_high") if name.endswith(end)), None)


def _interval(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if pd.isna(low) or pd.isna(high) else f"{low:.3f} to {high:.3f}"


def _in_one_line(grid: Grid) -> Grid:
    """A table for a terminal, each interval after its figure."""
    lines = [
        Line(line.name, tuple(Cell(f"{one.text} ({one.interval})" if one.interval else one.text) for one in line.cells))
        for line in grid.rows
    ]
    return Grid(grid.columns, tuple(lines), grid.words)
