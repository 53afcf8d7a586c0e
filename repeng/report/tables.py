"""A study in the terminal: one table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.table import Table
from rich.text import Text

from repeng.report.frames import in_order, once_each, same_figure_at_home, shift_frame, shown_methods, units_of
from repeng.report.page import Grid
from repeng.results import AUROC, CONTRADICTED, ResultRow, figure_name, figure_names
from repeng.results.verdicts import NOTHING_OVER_CHANCE, NOTHING_OVER_NULL

CHANCE = 0.5
MOST_METHODS_WITH_INTERVALS = 9
UNTOLD = (NOTHING_OVER_NULL, NOTHING_OVER_CHANCE)


def study_table(rows: Sequence[ResultRow]) -> Table:
    """Accuracy of every shift and method, of labelled texts the AUROC; shifts by label and category, with their means.

    A shift takes two lines: source and accuracies, target and intervals; where the study has several models, a title
    and then two lines a model. Nine methods fit a width of 100 columns; where there are more, the intervals are left
    to results.csv.
    """
    frame = shift_frame(rows)
    models, methods = in_order(frame["model"]), in_order(frame["method"])
    intervals = len(methods) <= MOST_METHODS_WITH_INTERVALS
    marked = max(map(len, marks_of(frame)), default=0)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left")
    repeated = frame["n_fits"].max() > 1
    figures = in_order(frame["figure"])
    over = f"{units_of(figures)}{' and fits' if repeated else ''}"
    shown = figure_names(figures) + (" of labelled texts" if AUROC in figures else "")
    table.caption = (
        f"{shown}, and under it its interval over {over}; the highest of a shift is bold, chance is 0.5"
        if intervals
        else f"{shown}; the highest of a shift is bold, chance is 0.5; results.csv has the intervals"
    )
    if len(figures) > 1:
        table.caption += "; a heading says which it is, and no mean is over both"
    if (frame["verdict"].isin(UNTOLD)).any():
        table.caption += "; ? no better than its null or than chance"
    if frame["fits_disagree"].eq(True).any():
        table.caption += f"; ~ fits disagree by more than {over.removesuffix(' and fits')} explain"
    if CONTRADICTED in frame:
        table.caption += "; ! its own probabilities deny it"
    shown_as = shown_methods(methods)
    if shown_as:
        table.caption += "; (chat): texts written with the model's chat template"
    table.add_column("shift", min_width=16)
    for method in methods:
        title = _head(shown_as.get(method, method))
        widest = max(len(line) for line in title.split("\n"))
        table.add_column(
            title, justify="right", overflow="fold", width=max(7 if intervals else 4 + marked, min(widest, 9))
        )
    for section, chosen in once_each(frame).groupby("section", sort=False):
        table.add_row(_line(str(section), style="bold underline"))
        for (source, target), own in chosen.groupby(["source", "target"], sort=False):
            _add_shift(table, f" {source}\n → {target}", own, models, methods, intervals=intervals)
        if chosen["shift"].nunique() > 1:
            _add_means(table, " mean", chosen, models, methods)
        table.add_row()
    for figure in figures:
        own = frame[frame["figure"] == figure]
        if len(figures) > 1:
            table.add_row(_line(f"means: {figure_name(figure)}", style="bold underline"))
        labels = in_order(own["label"])
        for label in labels if len(labels) > 1 else ():
            _add_means(table, f"mean of {label or 'unlabelled'}", own[own["label"] == label], models, methods)
        _add_means(table, "mean of all", own, models, methods)
        _add_means(table, "mean elicitation", own, models, methods, figure="elicitation")
        at_home = f"mean source-ID {'AUROC' if figure == AUROC else 'accuracy'}"
        _add_means(table, at_home, same_figure_at_home(own), models, methods, figure="source_id_accuracy")
        _add_means(table, "mean selectivity", own, models, methods, figure="selectivity")
    return table


def _head(method: str) -> str:
    """A method over its column: its parameters and its form on lines of their own."""
    name, *rest = method.replace(" (", "(").split("(")
    return "\n(".join([name.replace("-", "-\n", 1), *rest])


def grid_table(title: str, grid: Grid) -> Table:
    """A page's table for the terminal."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for name in grid.columns:
        table.add_column(name, justify="left" if name in grid.words else "right", overflow="fold")
    for line in grid.rows:
        table.add_row(line.name, *(cell.text for cell in line.cells))
    return table


def _add_shift(
    table: Table, title: str, rows: pd.DataFrame, models: list[str], methods: list[str], *, intervals: bool
) -> None:
    """One line a model, under the shift's title where there are several."""
    best = rows["accuracy"].max()
    if len(models) > 1:
        table.add_row(_line(title))
    for model in models:
        name = f"   {model.rpartition('/')[2]}" if len(models) > 1 else title
        own = rows[rows["model"] == model].set_index("method").reindex(methods)
        figures = own[["accuracy", "accuracy_low", "accuracy_high"]].to_numpy()
        marks = marks_of(own)
        cells = (
            _cell(*row, best=best, intervals=intervals, mark=mark) for row, mark in zip(figures, marks, strict=True)
        )
        table.add_row(_line(name), *cells)


def marks_of(rows: pd.DataFrame) -> list[str]:
    """Of each row: `?` where nothing is told from a null or from chance, `~` where fits disagree, `!` where denied."""
    denied = rows[CONTRADICTED].notna() if CONTRADICTED in rows else pd.Series(False, index=rows.index)
    marked = {"?": rows["verdict"].isin(UNTOLD), "~": rows["fits_disagree"].eq(True), "!": denied}
    return ["".join(mark for mark, holds in marked.items() if holds.iloc[place]) for place in range(len(rows))]


def _cell(
    accuracy: float, low: float = math.nan, high: float = math.nan, *, best: float, intervals: bool, mark: str = ""
) -> Text:
    if pd.isna(accuracy):
        return Text("-", style="dim")
    figure = Text(f"{accuracy:.2f}{mark}", style="bold" if accuracy == best else "")
    interval = "" if pd.isna(low) or pd.isna(high) else f"{short_figure(low)}-{short_figure(high)}"
    return Text.assemble(figure, "\n", (interval, "dim")) if intervals else figure


def short_figure(value: float) -> str:
    """A share for a grid of a terminal: `.88` of 0.88, `1.0` of 1."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0.") else text[:3]


def _line(text: str, style: str = "") -> Text:
    """Text of the first column, cut rather than wrapped, so that the second line stays level with the intervals."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _add_means(
    table: Table,
    title: str,
    rows: pd.DataFrame,
    models: list[str],
    methods: list[str],
    *,
    figure: str = "accuracy",
) -> None:
    """One row of means a model, or none where no row has the figure."""
    for model in models:
        means = rows[rows["model"] == model].groupby("method")[figure].mean().reindex(methods)
        if means.notna().any():
            cells = [_cell(mean, best=means.max(), intervals=False) for mean in means]
            name = f"{title}, {model.rpartition('/')[2]}" if len(models) > 1 else title
            table.add_row(_line(name, "italic"), *cells)
