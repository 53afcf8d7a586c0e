"""The report of a study: one HTML file that opens offline, and its pictures beside it.

Pictures stand in the page as SVG rather than as scripts that draw them: a page of some hundred kilobytes instead of
megabytes, no script at all, sharp in print, one colour scheme or the other by CSS, and named for screen readers, with
a table beside each. Interactive ones are `save_chart(chart, "FILE.html")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng import __version__
from repeng.distributions.schema import Distribution
from repeng.errors import BadInput
from repeng.report.evidence import mean_estimate, reliability_frame, rows_of, wrong_pairs
from repeng.report.grouping import Column, column_title, columns_of, labels_of, mean_of, sections_of, shift_rows
from repeng.report.predictions import Key, Prediction, by_key, read_predictions
from repeng.report.published import GENIES_MEANS, MODEL, is_genies
from repeng.report.tables import summary_sentence
from repeng.results import ResultRow, read_results, write_atomically

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
    """A table. `columns` names every column, or in the headline all but the first."""

    columns: tuple[str, ...]
    rows: tuple[Line, ...]


@dataclass(frozen=True)
class Picture:
    """A chart, ready for the page."""

    id: str
    title: str
    caption: str
    svg: str
    table: Grid | None = None


def write_report(
    results: Path, out: Path | None = None, *, distributions: Mapping[str, Distribution] | None = None
) -> Path:
    """Write the report of a results folder.

    Args:
        results: a study's folder: `results.csv`, and where there are, `predictions/`, `study.toml` and tables of
            `repeng sweep` (`sweep*.csv`).
        out: the HTML file; `results/report.html` by default. Its pictures go to a folder beside it.
        distributions: the texts of the targets, for the most confident mistakes.

    Returns:
        The HTML file.

    Raises:
        BadInput: there is no results table, or it has no row.
    """
    rows = shift_rows(read_results(results / "results.csv"))
    if not rows:
        raise BadInput(f"{results / 'results.csv'} has no row; run the study first")
    page = out or results / "report.html"
    folder = page.with_name(f"{page.stem}-pictures")
    shifts = {(row.source, row.target) for row in rows}
    predictions = by_key(read_predictions(results, shifts=shifts)) if (results / "predictions").is_dir() else {}
    pictures = _pictures(rows, predictions, results, folder)
    mistakes = _mistakes(rows, predictions, distributions or {})
    study = results / "study.toml"
    sections = [("headline", "Headline"), *((one.id, one.title) for one in pictures), ("mistakes", "Mistakes")]
    text = (
        environment()
        .get_template("report.html")
        .render(
            title="repeng: how it generalises",
            css=static_text("page.css"),
            sentence=summary_sentence(rows),
            models=list(dict.fromkeys(row.model for row in rows)),
            n_shifts=len({(row.source, row.target, row.label, row.category) for row in rows}),
            n_methods=len({row.method for row in rows}),
            sections=[*sections, ("study", "The study")] if study.is_file() else sections,
            headline=_headline(rows, predictions),
            published=_published(rows) if is_genies(rows) else None,
            published_model=MODEL,
            pictures=pictures,
            mistakes=mistakes,
            no_mistakes=_why_no_mistakes(predictions, distributions or {}),
            study=study.read_text(encoding="utf-8") if study.is_file() else "",
            version=__version__,
            folder=folder.name,
        )
    )
    write_atomically(page, text)
    return page


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


def _headline(rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction]) -> Grid:
    labels = labels_of(rows) if len(labels_of(rows)) > 1 else ()
    columns = columns_of(rows)
    lines = []
    for column in columns:
        own = rows_of(rows, column)
        cells = [_mean_cell([row for row in own if (row.label or "") == label], predictions) for label in labels]
        cells.append(_mean_cell(own, predictions))
        for figure in ("elicitation", "differential_elicitation", "source_id_accuracy", "rms_calibration_error"):
            cells.append(_figure(mean_of(own, attrgetter(figure))[0]))
        lines.append(Line(column_title(column, columns, between=" · "), tuple(cells)))
    names = [*(label or "other" for label in labels), "all", "elicitation", "diff. elicitation", "source-ID"]
    return Grid((*names, "RMS calibration error"), tuple(lines))


def _mean_cell(rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction]) -> Cell:
    found = mean_estimate(rows, predictions)
    return _figure(None) if found is None else _figure(found.value, found.low, found.high)


def _figure(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    if value is None:
        return Cell("–")
    return Cell(f"{value:.3f}", "" if low is None or high is None else f"{low:.3f}–{high:.3f}")


def _published(rows: Sequence[ResultRow]) -> Grid:
    columns = columns_of(rows)
    models = tuple(dict.fromkeys(column.model for column in columns))
    lines = []
    for one in GENIES_MEANS:
        names = {one.method, f"{one.method}-genies"} if one.method else set()
        cells = [Cell(f"{one.accuracy:.3f}")]
        for model in models:
            shown = []
            for column in columns:
                mean = mean_of(rows_of(rows, column), lambda row: row.accuracy)[0]
                if column.model == model and column.method in names and mean is not None:
                    shown.append(f"{mean:.3f}" + (" (preset)" if column.method.endswith("-genies") else ""))
            cells.append(Cell(", ".join(shown) or "–"))
        lines.append(Line(one.title, tuple(cells)))
    return Grid(models, tuple(lines))


def _mistakes(
    rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction], distributions: Mapping[str, Distribution]
) -> list[tuple[str, Any]]:
    columns = columns_of(rows)
    found = [
        (column_title(column, columns, between=" · "), wrong_pairs(rows_of(rows, column), predictions, distributions))
        for column in columns
    ]
    return [(name, pairs) for name, pairs in found if pairs]


def _why_no_mistakes(predictions: Mapping[Key, Prediction], distributions: Mapping[str, Distribution]) -> str:
    if not predictions:
        return "There are no predictions beside these results, so single pairs are unknown."
    if not distributions:
        return "The texts of these distributions are not at hand; make the report where the data are."
    return "No method is wrong about a pair whose texts are known."


def _pictures(
    rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction], results: Path, folder: Path
) -> list[Picture]:
    from repeng.report import charts
    from repeng.report.frames import shift_frame

    frame = shift_frame(rows)
    drawn: list[tuple[str, str, str, Any, Grid | None]] = []
    if frame["accuracy"].notna().any():
        caption = "Orange is below chance, blue above; every cell holds its accuracy."
        drawn.append(("heat-map", "Accuracy by shift and method", caption, charts.heat_map(frame), _shift_grid(rows)))
        caption = "The nearer a point to the solid mark, the more of what the model can do was elicited."
        drawn.append(("elicitation", "Elicitation", caption, charts.elicitation_plot(frame), _elicitation_grid(rows)))
    for number, sweep in enumerate(_sweeps(results), start=1):
        caption = "Bands are intervals over prompts. No method may use the oracle."
        drawn.append(
            (f"layers-{number}", f"Accuracy by layer: {sweep[0]}", caption, charts.sweep_chart(sweep[1]), None)
        )
    bins = reliability_frame(rows, predictions)
    if len(bins):
        caption = "Ten bins of equal mass a label. Under the diagonal a method is surer than it is right."
        cells = [(f"{m}, {label}", (f"{c:.3f}", f"{a:.3f}", str(n))) for m, label, c, a, n in bins.to_numpy().tolist()]
        lines = tuple(Line(name, tuple(Cell(text) for text in texts)) for name, texts in cells)
        grid = Grid(("method", "mean confidence", "share right", "pairs"), lines)
        drawn.append(("reliability", "Reliability", caption, charts.reliability_chart(bins), grid))
    found = []
    for name, title, caption, chart, table in drawn:
        svg = charts.chart_svg(chart)
        write_atomically(folder / f"{name}.svg", svg)
        svg = charts.inline_svg(svg, title=title, description=caption, prefix=name)
        found.append(Picture(name, title, caption, svg, table))
    return found


def _sweeps(results: Path) -> list[tuple[str, Any]]:
    """Tables of `repeng sweep --csv` that lie in the folder."""
    import pandas as pd

    found = [(path.stem, pd.read_csv(path)) for path in sorted(results.glob("sweep*.csv"))]
    return [(name, frame) for name, frame in found if {"probe", "layer", "chosen", "oracle"} <= set(frame.columns)]


def _shift_grid(rows: Sequence[ResultRow]) -> Grid:
    columns = columns_of(rows)
    lines = []
    for section in sections_of(rows):
        lines.append(Line(section.title))
        for key, cells in section.shifts:
            lines.append(Line(key.title, tuple(_accuracy_cell(cells.get(column)) for column in columns)))
    return Grid(("shift", *(column_title(column, columns, between=" · ") for column in columns)), tuple(lines))


def _accuracy_cell(row: ResultRow | None) -> Cell:
    return _figure(None) if row is None else _figure(row.accuracy, row.accuracy_low, row.accuracy_high)


def _elicitation_grid(rows: Sequence[ResultRow]) -> Grid:
    columns = columns_of(rows)
    lines = []
    for section in sections_of(rows):
        lines.append(Line(section.title))
        for key, cells in section.shifts:
            first = next(iter(cells.values()))
            found = (_elicitation_cell(cells, column) for column in columns)
            marks = (_figure(first.baseline_accuracy), _figure(first.target_tuned_capability))
            lines.append(Line(key.title, (*marks, *found)))
    names = (column_title(column, columns, between=" · ") for column in columns)
    return Grid(("shift", "baseline", "capability", *(f"elicitation, {name}" for name in names)), tuple(lines))


def _elicitation_cell(cells: Mapping[Column, ResultRow], column: Column) -> Cell:
    row = cells.get(column)
    return _figure(None if row is None else row.elicitation)
