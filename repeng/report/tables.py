"""A study in the terminal: one table."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pandas as pd
from rich.text import Text

from repeng.report.frames import in_order, once_each, same_figure_at_home, shift_frame, shown_methods, units_of
from repeng.report.page import Grid
from repeng.report.wide_table import WideTable
from repeng.results import AUROC, CONTRADICTED, ResultRow, figure_name, figure_names
from repeng.results.verdicts import NOTHING_OVER_CHANCE, NOTHING_OVER_NULL

CHANCE = 0.5
MOST_METHODS_WITH_INTERVALS = 9
UNTOLD = (NOTHING_OVER_NULL, NOTHING_OVER_CHANCE)


def study_table(rows: Sequence[ResultRow]) -> WideTable:
    """Accuracy of every shift and method, of labelled texts the AUROC; shifts by label and category, with their means.

    A shift takes two lines: source and accuracies, target and intervals; where the study has several models, a title
    and then two lines a model. Methods that do not fit a terminal stand in blocks, one under the other. Where there are
    more than nine, the intervals are left to results.csv.
    """
    frame = shift_frame(rows)
    models, methods = in_order(frame["model"]), in_order(frame["method"])
    intervals = len(methods) <= MOST_METHODS_WITH_INTERVALS
    shown_as = shown_methods(methods)
    lines: list[tuple[Text, ...]] = []
    for section, chosen in once_each(frame).groupby("section", sort=False):
        lines.append(_title(str(section)))
        for (source, target), own in chosen.groupby(["source", "target"], sort=False):
            lines += _shift_lines(f" {source}\n → {target}", own, models, methods, intervals=intervals)
        if chosen["shift"].nunique() > 1:
            lines += _mean_lines(" mean", chosen, models, methods)
        lines.append((Text(),))
    figures = in_order(frame["figure"])
    for figure in figures:
        own = frame[frame["figure"] == figure]
        if len(figures) > 1:
            lines.append(_title(f"means: {figure_name(figure)}"))
        labels = in_order(own["label"])
        for label in labels if len(labels) > 1 else ():
            lines += _mean_lines(f"mean of {label or 'unlabelled'}", own[own["label"] == label], models, methods)
        lines += _mean_lines("mean of all", own, models, methods)
        lines += _mean_lines("mean elicitation", own, models, methods, figure="elicitation")
        at_home = f"mean source-ID {'AUROC' if figure == AUROC else 'accuracy'}"
        lines += _mean_lines(at_home, same_figure_at_home(own), models, methods, figure="source_id_accuracy")
        lines += _mean_lines("mean selectivity", own, models, methods, figure="selectivity")
    heads = ("shift", *(_head(shown_as.get(method, method)) for method in methods))
    return WideTable(heads, tuple(lines), caption=_caption(frame, intervals=intervals), gap=1)


def _caption(frame: pd.DataFrame, *, intervals: bool) -> str:
    """What the figures are, and what the marks mean that some of them have."""
    figures = in_order(frame["figure"])
    repeated = frame["n_fits"].max() > 1
    over = f"{units_of(figures)}{' and fits' if repeated else ''}"
    shown = figure_names(figures) + (" of labelled texts" if AUROC in figures else "")
    said = (
        f"{shown}, and under it its interval over {over}; the highest of a shift is bold, chance is 0.5"
        if intervals
        else f"{shown}; the highest of a shift is bold, chance is 0.5; results.csv has the intervals"
    )
    if len(figures) > 1:
        said += "; a heading says which it is, and no mean is over both"
    if (frame["verdict"].isin(UNTOLD)).any():
        said += "; ? no better than its null or than chance"
    if frame["fits_disagree"].eq(True).any():
        said += f"; ~ fits disagree by more than {over.removesuffix(' and fits')} explain"
    if CONTRADICTED in frame:
        said += "; ! its own probabilities deny it"
    if shown_methods(in_order(frame["method"])):
        said += "; (chat): texts written with the model's chat template"
    return said


def _head(method: str) -> str:
    """A method over its column: its parameters and its form on lines of their own."""
    name, *rest = method.replace(" (", "(").split("(")
    return "\n(".join([name.replace("-", "-\n", 1), *rest])


def grid_table(title: str, grid: Grid) -> WideTable:
    """A page's table for the terminal."""
    rows = tuple((Text(line.name), *(Text(cell.text) for cell in line.cells)) for line in grid.rows)
    left = frozenset(place for place, name in enumerate(grid.columns) if name in grid.words)
    names = next((place for place, name in enumerate(grid.columns) if place and name not in grid.words), 1)
    return WideTable(grid.columns, rows, left, title=title, names=names)


def _shift_lines(
    title: str, rows: pd.DataFrame, models: list[str], methods: list[str], *, intervals: bool
) -> list[tuple[Text, ...]]:
    """One line a model, under the shift's title where there are several."""
    best = rows["accuracy"].max()
    lines: list[tuple[Text, ...]] = [(_line(title),)] if len(models) > 1 else []
    for model in models:
        name = f"   {model.rpartition('/')[2]}" if len(models) > 1 else title
        own = rows[rows["model"] == model].set_index("method").reindex(methods)
        figures = own[["accuracy", "accuracy_low", "accuracy_high"]].to_numpy()
        marks = marks_of(own)
        cells = (
            _cell(*row, best=best, intervals=intervals, mark=mark) for row, mark in zip(figures, marks, strict=True)
        )
        lines.append((_line(name), *cells))
    return lines


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
    figure = Text(f"{short_figure(accuracy)}{mark}", style="bold" if accuracy == best else "")
    interval = "" if pd.isna(low) or pd.isna(high) else f"{short_figure(low)}-{short_figure(high)}"
    return Text.assemble(figure, "\n", (interval, "dim")) if intervals else figure


def short_figure(value: float) -> str:
    """A share for a grid of a terminal: `.88` of 0.88, `-.02` of -0.02, `1.00` of 1."""
    return re.sub(r"^(-?)0", r"\1", f"{value:z.2f}")


def _line(text: str, style: str = "") -> Text:
    """Text of the first column, cut rather than wrapped, so that the second line stays level with the intervals."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _title(text: str) -> tuple[Text, ...]:
    return (Text(text, style="bold underline"),)


def _mean_lines(
    title: str,
    rows: pd.DataFrame,
    models: list[str],
    methods: list[str],
    *,
    figure: str = "accuracy",
) -> list[tuple[Text, ...]]:
    """One row of means a model, or none where no row has the figure."""
    lines = []
    for model in models:
        means = rows[rows["model"] == model].groupby("method")[figure].mean().reindex(methods)
        if means.notna().any():
            cells = [_cell(mean, best=means.max(), intervals=False) for mean in means]
            name = f"{title}, {model.rpartition('/')[2]}" if len(models) > 1 else title
            lines.append((_line(name, "italic"), *cells))
    return lines
