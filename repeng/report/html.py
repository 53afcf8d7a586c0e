"""The report of a study: one HTML file that opens offline, and its pictures beside it.

Pictures stand in the page as SVG rather than as scripts that draw them: a page of some hundred kilobytes instead of
megabytes, no script at all, sharp in print, one colour scheme or the other by CSS, and named for screen readers, with
a table beside each. Interactive ones are `save_chart(chart, "FILE.html")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repeng.atomic import write_atomically
from repeng.distributions.schema import Distribution
from repeng.errors import BadInput
from repeng.report.grouping import Column, column_title, columns_of, labels_of, mean_of, sections_of, shift_rows
from repeng.report.mistakes import mean_estimate, reliability_frame, rows_of, wrong_pairs
from repeng.report.page import Cell, Drawing, Grid, Line, draw, environment, figure, static_text
from repeng.report.predictions import Key, Prediction, by_key, read_predictions
from repeng.report.published import GENIES_MEANS, MODEL, is_genies
from repeng.report.tables import summary_sentence
from repeng.report.text_solved import text_solved_sentence
from repeng.results import LayerRow, ResultRow, read_layers, read_results
from repeng.version import __version__

if TYPE_CHECKING:
    import pandas as pd


def write_report(
    results: Path, out: Path | None = None, *, distributions: Mapping[str, Distribution] | None = None
) -> Path:
    """Write the report of a results folder.

    Args:
        results: a study's folder: `results.csv`, and where there are, `layers.csv`, `predictions/` and `study.toml`.
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
    layers = read_layers(results / "layers.csv") if (results / "layers.csv").is_file() else []
    pictures = draw(_drawings(rows, predictions, layers), folder)
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
            surface=text_solved_sentence(rows),
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
            beside=f"as SVG in {folder.name}/",
        )
    )
    write_atomically(page, text)
    return page


def _headline(rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction]) -> Grid:
    labels = labels_of(rows) if len(labels_of(rows)) > 1 else ()
    columns = columns_of(rows)
    lines = []
    for column in columns:
        own = rows_of(rows, column)
        cells = [_mean_cell([row for row in own if (row.label or "") == label], predictions) for label in labels]
        cells.append(_mean_cell(own, predictions))
        for name in ("elicitation", "differential_elicitation", "source_id_accuracy", "rms_calibration_error"):
            cells.append(figure(mean_of(own, attrgetter(name))[0]))
        lines.append(Line(column_title(column, columns, between=" · "), tuple(cells)))
    names = ["method", *(label or "other" for label in labels), "all", "elicitation", "diff. elicitation", "source-ID"]
    return Grid((*names, "RMS calibration error"), tuple(lines))


def _mean_cell(rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction]) -> Cell:
    found = mean_estimate(rows, predictions)
    return figure(None) if found is None else figure(found.value, found.low, found.high)


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
    return Grid(("method", MODEL, *models), tuple(lines))


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


def _drawings(
    rows: Sequence[ResultRow], predictions: Mapping[Key, Prediction], layers: Sequence[LayerRow]
) -> list[Drawing]:
    from repeng.report import charts
    from repeng.report.frames import shift_frame
    from repeng.report.layer_section import layer_drawings

    frame = shift_frame(rows)
    found = []
    if frame["accuracy"].notna().any():
        caption = "Orange is below chance, blue above; every cell holds its accuracy."
        chart = charts.heat_map(frame)
        found.append(Drawing("heat-map", "Accuracy by shift and method", caption, chart, _shift_grid(rows)))
        caption = "The nearer a point to the solid mark, the more of what the model can do was elicited."
        chart = charts.elicitation_plot(frame)
        found.append(Drawing("elicitation", "Elicitation", caption, chart, _elicitation_grid(rows)))
    found += layer_drawings(layers, rows)
    bins = reliability_frame(rows, predictions)
    if len(bins):
        caption = "Ten bins of equal mass a label. Under the diagonal a method is surer than it is right."
        chart = charts.reliability_chart(bins)
        found.append(Drawing("reliability", "Reliability", caption, chart, _reliability_grid(bins)))
    return found


def _reliability_grid(bins: pd.DataFrame) -> Grid:
    lines = tuple(
        Line(f"{method}, {label}", (figure(confidence), figure(accuracy), Cell(str(pairs))))
        for method, label, confidence, accuracy, pairs in bins.to_numpy().tolist()
    )
    return Grid(("method", "mean confidence", "share right", "pairs"), lines)


def _shift_grid(rows: Sequence[ResultRow]) -> Grid:
    columns = columns_of(rows)
    lines = []
    for section in sections_of(rows):
        lines.append(Line(section.title))
        for key, cells in section.shifts:
            lines.append(Line(key.title, tuple(_accuracy_cell(cells.get(column)) for column in columns)))
    return Grid(("shift", *(column_title(column, columns, between=" · ") for column in columns)), tuple(lines))


def _accuracy_cell(row: ResultRow | None) -> Cell:
    return figure(None) if row is None else figure(row.accuracy, row.accuracy_low, row.accuracy_high)


def _elicitation_grid(rows: Sequence[ResultRow]) -> Grid:
    columns = columns_of(rows)
    lines = []
    for section in sections_of(rows):
        lines.append(Line(section.title))
        for key, cells in section.shifts:
            first = next(iter(cells.values()))
            found = (_elicitation_cell(cells, column) for column in columns)
            marks = (figure(first.baseline_accuracy), figure(first.target_tuned_capability))
            lines.append(Line(key.title, (*marks, *found)))
    names = (column_title(column, columns, between=" · ") for column in columns)
    return Grid(("shift", "baseline", "capability", *(f"elicitation, {name}" for name in names)), tuple(lines))


def _elicitation_cell(cells: Mapping[Column, ResultRow], column: Column) -> Cell:
    row = cells.get(column)
    return figure(None if row is None else row.elicitation)
