"""Several models, methods or studies next to each other: `repeng compare`, in the terminal and as a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas as pd

from repeng.atomic import write_atomically
from repeng.places import Place
from repeng.report.answer import MOST_ROWS, Row
from repeng.report.compared_sizes import elicitation_on_shared_shifts, no_sizes
from repeng.report.compared_studies import ComparedStudy, compared_methods, method_pairs, read_compared_studies
from repeng.report.comparisons import QUESTIONS, scatter_rows
from repeng.report.frames import items_of
from repeng.report.meaning import MEANING
from repeng.report.page import Grid, Picture, draw, grid_of, write_page
from repeng.report.tables import grid_table
from repeng.report.wide_table import WideTable
from repeng.results import AUROC, PAIR_ACCURACY, write_csv

SIZES = "Elicitation by model size"


@dataclass(frozen=True)
class Comparison:
    """What was found: one list of rows a question.

    Attributes:
        tables: rows by question, in reading order; a question without an answer in these data has none.
        missing: by question what it needs, of those that have no rows.
        scatter: accuracy of two methods on each shift that both have.
        sizes: mean elicitation by model size, where a method is on models of known sizes; else `no_sizes` says why not.
        methods: every method, with its model and study where there are several.
        contradictions: figures that one file states and that the probabilities of their pairs deny.
        notes: what of the given results is not compared, and why.
        figures: what the accuracies are, as in results.csv.
    """

    tables: dict[str, list[Row]]
    missing: dict[str, str]
    scatter: list[Row]
    sizes: list[Row]
    no_sizes: str
    methods: tuple[str, ...]
    contradictions: list[Row]
    notes: tuple[str, ...] = ()
    figures: tuple[str, ...] = (PAIR_ACCURACY,)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        others = {"scatter": self.scatter, "elicitation_on_shared_shifts": self.sizes}
        return {**self.tables, **others, "contradictions": self.contradictions}

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

    def renderables(self) -> list[WideTable | str]:
        """For a terminal: one table a question that has an answer, and a line for each that has none."""
        shown: list[WideTable | str] = [line for note in self.notes for line in (note, "")]
        if AUROC in self.figures:
            both = "; of the others pair accuracy, and no mean is over both" if len(self.figures) > 1 else ""
            shown += [f"Accuracy of labelled texts is AUROC, what is right is by the source's threshold{both}.", ""]
        if self.contradictions:
            shown += [grid_table("Contradictions", grid_of(self.contradictions)), ""]
        for one in QUESTIONS:
            rows = self.tables[one.name]
            title = self.worded(one.title)
            if not rows:
                shown += [f"{title}: {self.worded(self.missing[one.name])}", ""]
            elif one.of_pairs or len(rows) <= MOST_ROWS:
                shown += [grid_table(title, self.grid(rows)), ""]
            else:
                shown += [f"{title}: {len(rows)} rows, which --out DIR writes and --json prints.", ""]
        if self.sizes:
            shown += [grid_table(f"{SIZES}, over shared shifts", self.grid(self.sizes)), ""]
        else:
            shown += [f"{SIZES}: {self.no_sizes}", ""]
        return shown[:-1]

    def pictures(self) -> list[Picture]:
        """Those that these data can carry."""
        from repeng.report.compare_charts import agreement_chart, scatter_chart, size_chart

        kappas = self.tables["mistake_agreement"]
        found = []
        if self.scatter:
            how = "A point a shift, with its intervals where they are known; on the diagonal both are alike."
            found.append(self._picture("scatter", "Shift by shift", how, scatter_chart, self.scatter))
        if self.sizes:
            known = _interval_over("prompts and fits, capability as measured", self.sizes)
            how = f"Mean over the shifts that a method's models share, {known}. Side by side are points of one size."
            found.append(self._picture("elicitation-by-size", SIZES, how, size_chart, self.sizes))
        if kappas:
            items = items_of(self.figures)
            chart = partial(agreement_chart, items=items)
            title = f"Do they fail on the same {items}?"
            found.append(self._picture("mistakes", title, self._how_of_kappas(kappas), chart, kappas))
        return found

    def _picture(
        self, name: str, title: str, how: str, chart: Callable[[pd.DataFrame], Any], rows: list[Row]
    ) -> Picture:
        return Picture(name, self.worded(title), self.worded(how), chart(pd.DataFrame(rows)), self.grid(rows))

    def _how_of_kappas(self, rows: list[Row]) -> str:
        """The caption, which also names whom the map leaves out or leaves blank."""
        shown = {row[name] for row in rows for name in ("a", "b")}
        known = _interval_over("prompts", rows)
        how = f"Cohen's kappa of every two on the {items_of(self.figures)} of all shifts that both have, {known}."
        if len(rows) < len(shown) * (len(shown) - 1) / 2:
            how += " Two without a cell, as in maps apart, have no such shift, or a kappa that is not defined."
        absent = [one for one in self.methods if one not in shown]
        return how + (f" Left out, for want of such predictions: {', '.join(absent)}." if absent else "")

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables that have rows as pandas frames, by their names in comparison.json."""
        return {name: pd.DataFrame(rows) for name, rows in self.as_dict().items() if rows}

    @property
    def charts(self) -> dict[str, Any]:
        """The pictures of the page as Altair charts, by their names."""
        return {picture.id: picture.chart for picture in self.pictures()}

    def __repr__(self) -> str:
        tables = ", ".join(f"{name} ({len(rows)})" for name, rows in self.as_dict().items() if rows)
        return f"Comparison of {len(self.methods)} methods; .frames, and how many rows each has: {tables or 'none'}"

    def _repr_html_(self) -> str:
        titled = [("contradictions", "Contradictions"), *((one.name, self.worded(one.title)) for one in QUESTIONS)]
        known = [(title, self.frames[name]) for name, title in titled if name in self.frames]
        return "".join(f"<p>{title}</p>{frame.round(3).to_html(index=False)}" for title, frame in known)


def compare_results(paths: Sequence[Place], out: Place | None = None, *, against: str | None = None) -> Comparison:
    """Compare studies, results tables and folders of evaluations.

    Args:
        paths: each a study's folder, a results.csv, or a folder METHOD/MODEL-SOURCE/TARGET.json.
        out: a folder for comparison.html, comparison.json, one CSV a table, and the pictures as SVG and PNG.
        against: the method that every other is tested against; None tests every two. Fewer tests, milder correction.

    Raises:
        BadInput: a path is none of these.
        UnknownName: no such method to compare against.
    """
    studies = read_compared_studies(paths, scored=False)
    methods = compared_methods(studies)
    pairs = method_pairs(methods, against)
    tables = {one.name: one.answer(pairs if one.of_pairs else methods) for one in QUESTIONS}
    sizes = elicitation_on_shared_shifts(methods)
    found = Comparison(
        tables,
        {one.name: one.missing(methods) for one in QUESTIONS if not tables[one.name]},
        scatter_rows(methods),
        sizes,
        "" if sizes else no_sizes(methods),
        tuple(one.title for one in methods),
        [asdict(one) for study in studies for one in study.contradictions],
        tuple(map(_apart, (study for study in studies if not study.rows))),
        tuple(dict.fromkeys(one.figure for one in methods)),
    )
    if out is not None:
        _write(found, out)
    return found


def _interval_over(what: str, rows: Sequence[Row]) -> str:
    known = [row["low"] is not None for row in rows]
    if not any(known):
        return "without an interval, since prompts are not known"
    return f"with its interval over {what}" + ("" if all(known) else ", where prompts are known")


def _apart(study: ComparedStudy) -> str:
    """Why nothing of a folder of evaluations is compared: it takes the shifts of the studies that it is given with."""
    return (
        f"{study.name} holds none of the shifts of the other results, so nothing of it is compared: give it alone, or "
        "with a study on its benchmark."
    )


def _write(found: Comparison, out: Place) -> None:
    from repeng.report.pictures import save_chart

    tables = found.as_dict()
    write_atomically(out / "comparison.json", json.dumps(tables, ensure_ascii=False, allow_nan=False, indent=1))
    for name, rows in tables.items():
        if rows:
            write_csv(rows, out / f"{name}.csv")
    pictures = found.pictures()
    for one in pictures:
        save_chart(one.chart, out / f"{one.id}.png")
    drawn = {"mistake_agreement"} if tables["mistake_agreement"] else set()
    answers = [
        (
            one.name,
            found.worded(one.title),
            found.worded(one.how),
            found.worded(found.missing.get(one.name, "")),
            found.grid(tables[one.name]),
        )
        for one in QUESTIONS
        if one.name not in drawn
    ]
    if not found.sizes:
        answers.append(("elicitation-by-size", SIZES, "", found.no_sizes, found.grid([])))
    denied = [("contradictions", "Contradictions")] if found.contradictions else []
    sections = [*denied, *((one.id, one.title) for one in pictures), *(one[:2] for one in answers)]
    write_page(
        out / "comparison.html",
        "compare.html",
        title="repeng: compared",
        methods=found.methods,
        notes=found.notes,
        meaning=" ".join(MEANING[one] for one in MEANING if one in found.figures),
        sections=sections,
        contradictions=grid_of(found.contradictions) if found.contradictions else None,
        pictures=draw(pictures, out),
        answers=answers,
        pictures_lie="next to it, as SVG and PNG",
    )
