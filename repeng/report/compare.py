"""Several models, methods or studies next to each other: `repeng compare`, in the terminal and as a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from repeng.atomic import write_atomically
from repeng.report.answer import Row
from repeng.report.compare_charts import agreement_chart, scatter_chart, size_chart
from repeng.report.compared_studies import compared_methods, method_pairs, read_compared_studies
from repeng.report.comparisons import QUESTIONS, scatter_rows
from repeng.report.frames import items_of
from repeng.report.meaning import MEANING
from repeng.report.page import Grid, Picture, draw, grid_of, write_page
from repeng.report.pictures import save_chart
from repeng.report.tables import grid_table
from repeng.results import AUROC, PAIR_ACCURACY, write_csv

PICTURES = (
    (
        "scatter",
        "y_accuracy",
        "scatter",
        "Shift by shift",
        "A point a shift; on the diagonal both are alike.",
        scatter_chart,
    ),
    (
        "elicitation_by_size",
        "elicitation",
        "elicitation-by-size",
        "Elicitation by model size",
        "Mean elicitation of each method, one panel a label.",
        size_chart,
    ),
    (
        "mistake_agreement",
        "kappa",
        "mistakes",
        "Do they fail on the same pairs?",
        "Cohen's kappa of every two; the table has its intervals.",
        agreement_chart,
    ),
)
"""Of each picture the table and the figure that it draws, its name, title, caption and chart."""


@dataclass(frozen=True)
class Comparison:
    """What was found: one list of rows a question.

    Attributes:
        tables: rows by question, in reading order; a question without an answer in these data has none.
        scatter: accuracy of two methods on each shift that both have.
        methods: every method, with its model and study where there are several.
        contradictions: figures that one file states and that the probabilities of their pairs deny.
        figures: what the accuracies are, as in results.csv.
    """

    tables: dict[str, list[Row]]
    scatter: list[Row]
    methods: tuple[str, ...]
    contradictions: list[Row]
    figures: tuple[str, ...] = (PAIR_ACCURACY,)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.tables, "scatter": self.scatter, "contradictions": self.contradictions}

    def worded(self, text: str) -> str:
        """A text about accuracies of pairs, where labelled texts are compared: with their AUROC, and with texts."""
        if AUROC not in self.figures:
            return text
        both = len(self.figures) > 1
        named = re.sub("([Aa]ccuracy)", r"\1 or AUROC" if both else "AUROC", text)
        return named.replace("pairs", items_of(self.figures))

    def grid(self, rows: list[Row]) -> Grid:
        """Rows as a table whose columns say what its accuracies are."""
        return grid_of([{self.worded(name): value for name, value in row.items()} for row in rows])

    def renderables(self) -> list[Table | str]:
        """For a terminal: one table a question that has an answer, and a line for each that has none."""
        shown: list[Table | str] = []
        if AUROC in self.figures:
            both = "; of the others pair accuracy, and no mean is over both" if len(self.figures) > 1 else ""
            shown += [f"Accuracy of labelled texts is AUROC, what is right is by the source's threshold{both}.", ""]
        if self.contradictions:
            shown += [grid_table("Contradictions", grid_of(self.contradictions)), ""]
        for one in QUESTIONS:
            rows = self.tables[one.name]
            title = self.worded(one.title)
            shown += [grid_table(title, self.grid(rows)) if rows else f"{title}: {self.worded(one.missing)}", ""]
        return shown[:-1]

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables that have rows as pandas frames, by their names in comparison.json."""
        return {name: pd.DataFrame(rows) for name, rows in self.as_dict().items() if rows}

    @property
    def charts(self) -> dict[str, Any]:
        """The pictures of the page as Altair charts, by their names."""
        frames, found = self.frames, {}
        for table, figure, name, _, _, chart in PICTURES:
            if table in frames and frames[table][figure].notna().any():
                items = {"items": items_of(self.figures)} if chart is agreement_chart else {}
                found[name] = chart(frames[table], **items)
        return found

    def _repr_html_(self) -> str:
        titled = [("contradictions", "Contradictions"), *((one.name, self.worded(one.title)) for one in QUESTIONS)]
        known = [(title, self.frames[name]) for name, title in titled if name in self.frames]
        return "".join(f"<p>{title}</p>{frame.round(3).to_html(index=False)}" for title, frame in known)


def compare_results(paths: Sequence[Path], out: Path | None = None, *, against: str | None = None) -> Comparison:
    """Compare studies, results tables and folders of evaluations.

    Args:
        paths: each a study's folder, a results.csv, or a folder METHOD/MODEL-SOURCE/TARGET.json.
        out: a folder for comparison.html, comparison.json, one CSV a table, and the pictures as SVG and PNG.
        against: the method that every other is tested against; None tests every two. Fewer tests, milder correction.

    Raises:
        BadInput: a path is none of these.
        UnknownName: no such method to compare against.
    """
    studies = read_compared_studies(paths)
    methods = compared_methods(studies)
    pairs = method_pairs(methods, against)
    tables = {one.name: one.answer(pairs if one.of_pairs else methods) for one in QUESTIONS}
    figures = tuple(dict.fromkeys(one.figure for one in methods))
    contradictions = [asdict(one) for study in studies for one in study.contradictions]
    found = Comparison(tables, scatter_rows(methods), tuple(one.title for one in methods), contradictions, figures)
    if out is not None:
        _write(found, out)
    return found


def _write(found: Comparison, out: Path) -> None:
    tables = found.as_dict()
    write_atomically(out / "comparison.json", json.dumps(tables, ensure_ascii=False, allow_nan=False, indent=1))
    for name, rows in tables.items():
        if rows:
            write_csv(rows, out / f"{name}.csv")
    drawn, pictures = [], []
    for table, figure, name, title, caption, chart in PICTURES:
        rows = tables[table]
        if any(row[figure] is not None for row in rows):
            drawn.append(table)
            items = {"items": items_of(found.figures)} if chart is agreement_chart else {}
            drawing = chart(pd.DataFrame(rows), **items)
            pictures.append(Picture(name, found.worded(title), found.worded(caption), drawing, found.grid(rows)))
            save_chart(pictures[-1].chart, out / f"{name}.png")
    asked = [one for one in QUESTIONS if one.name not in drawn]
    answers = [
        (one.name, *map(found.worded, (one.title, one.how, one.missing)), found.grid(tables[one.name])) for one in asked
    ]
    denied = [("contradictions", "Contradictions")] if found.contradictions else []
    sections = [*denied, *((one.id, one.title) for one in pictures), *(one[:2] for one in answers)]
    write_page(
        out / "comparison.html",
        "compare.html",
        title="repeng: compared",
        methods=found.methods,
        meaning=" ".join(MEANING[one] for one in MEANING if one in found.figures),
        sections=sections,
        contradictions=grid_of(found.contradictions) if found.contradictions else None,
        pictures=draw(pictures, out),
        answers=answers,
        pictures_lie="next to it, as SVG and PNG",
    )
