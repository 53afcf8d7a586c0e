"""A comparison as one HTML page that opens offline: each question with its answer, pictures beside their tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repeng.atomic import write_atomically
from repeng.report import compare_charts
from repeng.report.compare import MISSING, TABLES, Comparison, cell_text, columns_of, is_numeric
from repeng.report.comparisons import Row
from repeng.report.page import Cell, Drawing, Grid, Line, draw, environment, static_text
from repeng.version import __version__

HOW = {
    "elicitation_by_size": "Means over the shifts of a label; the model's size is read off its name.",
    "model_correlations": "Does one model's accuracy foretell another's? Pearson's coefficient with its interval, and "
    "Spearman's.",
    "zero_shot_correlations": "Does zero-shot accuracy on the target foretell generalization? Pearson's coefficient "
    "with its interval, and Spearman's.",
    "paired_tests": "Difference of mean accuracy over the shared shifts, a minus b: interval and p over prompts, and p "
    "corrected for all tests of this table.",
    "mistake_agreement": "1 where they fail on the same pairs, 0 where they agree no more than by chance.",
    "capability_measures": "Mean elicitation if capability were what the best probe, or the best tuned model, reaches "
    "on the target or on its reference.",
}


def drawings_of(found: Comparison) -> list[Drawing]:
    """The pictures of a comparison, as far as it has answers to draw."""
    drawings = []
    if found.scatter:
        caption = "A point a shift; on the diagonal both are alike."
        chart = compare_charts.scatter_chart(found.frame("scatter"))
        drawings.append(Drawing("scatter", "Shift by shift", caption, chart, _grid(found.scatter)))
    sizes = found.tables["elicitation_by_size"]
    if any(row["elicitation"] is not None for row in sizes):
        caption = "Mean elicitation of each method, one panel a label."
        chart = compare_charts.size_chart(found.frame("elicitation_by_size"))
        drawings.append(Drawing("elicitation-by-size", "Elicitation by model size", caption, chart, _grid(sizes)))
    mistakes = found.tables["mistake_agreement"]
    if mistakes:
        caption = "Cohen's kappa of every two; the table has its intervals."
        chart = compare_charts.agreement_chart(found.frame("mistake_agreement"))
        drawings.append(Drawing("mistakes", "Do they fail on the same pairs?", caption, chart, _grid(mistakes)))
    return drawings


def write_page(found: Comparison, drawings: Sequence[Drawing], page: Path) -> None:
    """Write the page, and its pictures as SVG beside it."""
    pictures = draw(drawings, page.parent)
    drawn = {"elicitation_by_size": "elicitation-by-size", "mistake_agreement": "mistakes"}
    shown = {picture.id for picture in pictures}
    answers = [
        (name, title, HOW[name], _grid(found.tables[name]) if found.tables[name] else None, MISSING[name])
        for name, title, _ in TABLES
        if drawn.get(name) not in shown
    ]
    sections = [*((one.id, one.title) for one in pictures), *((name, title) for name, title, *_ in answers)]
    text = (
        environment()
        .get_template("compare.html")
        .render(
            title="repeng: compared",
            css=static_text("page.css"),
            entrants=found.entrants,
            sections=sections,
            pictures=pictures,
            answers=answers,
            version=__version__,
            beside="beside it, as SVG and PNG",
        )
    )
    write_atomically(page, text)


def _grid(rows: Sequence[Row]) -> Grid:
    """Rows as a table; columns in which nothing is known are left out, and the first names the row."""
    names = columns_of(rows)
    lines = [Line(cell_text(row[names[0]]), tuple(Cell(cell_text(row[name])) for name in names[1:])) for row in rows]
    titles = {name: name.replace("_", " ") for name in names}
    words = tuple(titles[name] for name in names if not is_numeric(rows, name))
    return Grid(tuple(titles.values()), tuple(lines), words)
