"""A study in the terminal: one table, and one sentence that says what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.table import Table
from rich.text import Text

from repeng.report.frames import fitted, in_order, once_each, shift_frame
from repeng.report.page import Grid
from repeng.results import CONTRADICTED, ResultRow

CHANCE = 0.5
MOST_METHODS_WITH_INTERVALS = 9


def study_table(rows: Sequence[ResultRow]) -> Table:
    """Accuracy of every shift and method, shifts grouped by label and category, with their means.

    A shift takes two lines: source and accuracies, target and intervals; where the study has several models, a title
    and then two lines a model. Nine methods fit a width of 100 columns; where there are more, the intervals are left
    to results.csv.
    """
    frame = shift_frame(rows)
    models, methods = in_order(frame["model"]), in_order(frame["method"])
    intervals = len(methods) <= MOST_METHODS_WITH_INTERVALS
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left")
    table.caption = (
        "accuracy, and under it its interval over prompts; the best of a shift is bold, chance is 0.5"
        if intervals
        else "accuracy; the best of a shift is bold, chance is 0.5; results.csv has the intervals"
    )
    if CONTRADICTED in frame:
        table.caption += "; ! marks an accuracy that its own probabilities deny"
    table.add_column("shift", min_width=16)
    for method in methods:
        title = method.replace("-", "-\n", 1)
        widest = max(len(line) for line in title.split("\n"))
        table.add_column(title, justify="right", overflow="fold", width=max(7 if intervals else 4, min(widest, 9)))
    for section, chosen in once_each(frame).groupby("section", sort=False):
        table.add_row(_line(str(section), style="bold underline"))
        for (source, target), own in chosen.groupby(["source", "target"], sort=False):
            _add_shift(table, f" {source}\n → {target}", own, models, methods, intervals=intervals)
        if chosen["shift"].nunique() > 1:
            _add_means(table, " mean", chosen, models, methods)
        table.add_row()
    labels = in_order(frame["label"])
    for label in labels if len(labels) > 1 else ():
        _add_means(table, f"mean of {label or 'unlabelled'}", frame[frame["label"] == label], models, methods)
    _add_means(table, "mean of all", frame, models, methods)
    _add_means(table, "mean elicitation", frame, models, methods, figure="elicitation")
    _add_means(table, "mean source-ID accuracy", frame, models, methods, figure="source_id_accuracy")
    return table


def grid_table(title: str, grid: Grid) -> Table:
    """A page's table for the terminal."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for name in grid.columns:
        table.add_column(name, justify="left" if name in grid.words else "right", overflow="fold")
    for line in grid.rows:
        table.add_row(line.name, *(cell.text for cell in line.cells))
    return table


def summary_sentence(rows: Sequence[ResultRow]) -> str:
    """What the figures show, in one sentence: by label the fitted method with the highest mean, and its spread."""
    frame = shift_frame(rows)
    measured = frame[frame["accuracy"].notna()]
    pool = measured if fitted(measured).empty else fitted(measured)
    if pool.empty:
        return "No accuracy was measured."
    everywhere = "on all shifts" if pool["label"].nunique() == 1 else "on the other shifts"
    clauses = [
        f"{f'on {label} shifts' if label else everywhere} {_highest_mean(pool[pool['label'] == label])}"
        for label in in_order(pool["label"])
    ]
    below = int((pool["accuracy_high"] < CHANCE).sum())
    if below:
        of = "all methods" if fitted(measured).empty else "fitted methods"
        clauses.append(f"{below} of the {pool['accuracy_high'].count()} intervals of {of} lie wholly below chance")
    text = "; ".join(clauses)
    return text[0].upper() + text[1:] + "."


def _highest_mean(rows: pd.DataFrame) -> str:
    """`mms has the highest of 6 mean accuracies, 0.91 (9 shifts from 0.72 to 1.00; intervals: ...; zero-shot 0.72)`."""
    means = rows.groupby("name", sort=False)["accuracy"].mean()
    best = rows[rows["name"] == means.idxmax()]
    accuracy, baseline = best["accuracy"], best["baseline_accuracy"]
    rank = f"the highest of {len(means)} mean accuracies," if len(means) > 1 else "a mean accuracy of"
    notes = [f"{len(best)} shifts from {accuracy.min():.2f} to {accuracy.max():.2f}" if len(best) > 1 else "1 shift"]
    if best["accuracy_low"].notna().any():
        above, below = (best["accuracy_low"] > CHANCE).sum(), (best["accuracy_high"] < CHANCE).sum()
        notes.append(f"intervals: {above} above chance, {below} below")
    if baseline.notna().any() and not accuracy.equals(baseline):
        notes.append(f"zero-shot {baseline.mean():.2f}")
    return f"{means.idxmax()} has {rank} {accuracy.mean():.2f} ({'; '.join(notes)})"


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
        marked = own[CONTRADICTED].notna() if CONTRADICTED in own else [False] * len(own)
        cells = (
            _cell(*row, best=best, intervals=intervals, mark="!" if denied else "")
            for row, denied in zip(figures, marked, strict=True)
        )
        table.add_row(_line(name), *cells)


def _cell(
    accuracy: float, low: float = math.nan, high: float = math.nan, *, best: float, intervals: bool, mark: str = ""
) -> Text:
    if pd.isna(accuracy):
        return Text("-", style="dim")
    figure = Text(f"{accuracy:.2f}{mark}", style="bold" if accuracy == best else "")
    interval = "" if pd.isna(low) or pd.isna(high) else f"{_short(low)}-{_short(high)}"
    return Text.assemble(figure, "\n", (interval, "dim")) if intervals else figure


def _short(value: float) -> str:
    """`.88` of 0.88, `1.0` of 1."""
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
