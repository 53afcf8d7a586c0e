"""A study in the terminal: one table, and one sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from rich.table import Table
from rich.text import Text

from repeng.report.grouping import (
    BASELINES,
    Column,
    Section,
    column_title,
    columns_of,
    labels_of,
    mean_of,
    sections_of,
    shift_rows,
)
from repeng.results import ResultRow

CHANCE = 0.5
MOST_METHODS_WITH_INTERVALS = 9


def study_table(rows: Sequence[ResultRow]) -> Table:
    """Accuracy of every shift and method, shifts grouped by label and category, with their means.

    A shift takes two lines: source and accuracies, target and intervals; where the study has several models, a title
    and then two lines a model. Nine methods fit a width of 100 columns; where there are more, the intervals are left
    to results.csv.
    """
    rows = shift_rows(rows)
    models = tuple(dict.fromkeys(row.model for row in rows))
    methods = tuple(dict.fromkeys(row.method for row in rows))
    intervals = len(methods) <= MOST_METHODS_WITH_INTERVALS
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left")
    table.caption = (
        "accuracy, and under it its interval over prompts; the best of a shift is bold, chance is 0.5"
        if intervals
        else "accuracy; the best of a shift is bold, chance is 0.5; results.csv has the intervals"
    )
    table.add_column("shift", min_width=16)
    for method in methods:
        title = method.replace("-", "-\n", 1)
        widest = max(len(line) for line in title.split("\n"))
        table.add_column(title, justify="right", overflow="fold", width=max(7 if intervals else 4, min(widest, 9)))
    for section in sections_of(rows):
        _add_section(table, section, models, methods, intervals=intervals)
    labels = labels_of(rows)
    for label in labels if len(labels) > 1 else ():
        chosen = [row for row in rows if (row.label or "") == label]
        _add_means(table, f"mean of {label or 'unlabelled'}", chosen, models, methods)
    _add_means(table, "mean of all", rows, models, methods)
    _add_means(table, "mean elicitation", rows, models, methods, figure="elicitation")
    _add_means(table, "mean source-ID accuracy", rows, models, methods, figure="source_id_accuracy")
    return table


def summary_sentence(rows: Sequence[ResultRow]) -> str:
    """What the figures show, in one sentence: the best fitted method by label, against zero-shot and chance."""
    rows = shift_rows(rows)
    fitted = [row for row in rows if row.method not in BASELINES]
    pool = fitted or list(rows)
    if not any(row.accuracy is not None for row in pool):
        return "No accuracy was measured."
    clauses = [clause for label in labels_of(rows) if (clause := _label_clause(rows, pool, label))]
    text = "; ".join(clauses)
    below = _surely_below_chance(pool)
    if below:
        text += f"; {below}"
    return text[0].upper() + text[1:] + "."


def verdict(accuracy: float) -> str:
    """What a mean pair accuracy says, in words; chance is 0.5."""
    if accuracy >= 0.75:
        return "generalises"
    if accuracy >= 0.6:
        return "generalises in part"
    if accuracy >= 0.55:
        return "is a little above chance"
    return "is at chance" if accuracy > 0.45 else "does worse than chance"


def interval_text(row: ResultRow) -> str:
    """`.88-.94`, or nothing where the row has no interval."""
    if row.accuracy_low is None or row.accuracy_high is None:
        return ""
    return f"{_short(row.accuracy_low)}-{_short(row.accuracy_high)}"


def _short(value: float) -> str:
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0.") else text[:3]


def _add_section(
    table: Table, section: Section, models: Sequence[str], methods: Sequence[str], *, intervals: bool
) -> None:
    table.add_row(_line(section.title, style="bold underline"))
    for key, cells in section.shifts:
        best = max((row.accuracy for row in cells.values() if row.accuracy is not None), default=None)
        if len(models) > 1:
            table.add_row(_line(f" {key.source}\n → {key.target}"))
        for model in models:
            title = f"   {model.rpartition('/')[2]}" if len(models) > 1 else f" {key.source}\n → {key.target}"
            found = [cells.get(Column(model, method)) for method in methods]
            table.add_row(_line(title), *(_cell(row, best, intervals=intervals) for row in found))
    if len(section.shifts) > 1:
        _add_means(table, " mean", section.rows(), models, methods)
    table.add_row()


def _line(text: str, style: str = "") -> Text:
    """Text of the first column, cut rather than wrapped, so that the second line stays beside the intervals."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _cell(row: ResultRow | None, best: float | None, *, intervals: bool) -> Text:
    if row is None or row.accuracy is None:
        return Text("-", style="dim")
    figure = Text(f"{row.accuracy:.2f}", style="bold" if row.accuracy == best else "")
    return Text.assemble(figure, "\n", (interval_text(row), "dim")) if intervals else figure


def _add_means(
    table: Table,
    title: str,
    rows: Iterable[ResultRow],
    models: Sequence[str],
    methods: Sequence[str],
    *,
    figure: str = "accuracy",
) -> None:
    """One row of means a model, or none where no row has the figure."""
    rows = list(rows)
    for model in models:
        means = [
            mean_of((r for r in rows if (r.model, r.method) == (model, m)), attrgetter(figure))[0] for m in methods
        ]
        if all(mean is None for mean in means):
            continue
        best = max(mean for mean in means if mean is not None)
        cells = (Text("-", style="dim") if mean is None else _mean_cell(mean, best) for mean in means)
        table.add_row(_line(f"{title}, {model.rpartition('/')[2]}" if len(models) > 1 else title, "italic"), *cells)


def _mean_cell(mean: float, best: float) -> Text:
    return Text(f"{mean:.2f}", style="bold" if mean == best else "")


def _label_clause(rows: Sequence[ResultRow], pool: Sequence[ResultRow], label: str) -> str:
    """`on extreme shifts mms is best and generalises (0.91 over 9 shifts; zero-shot 0.72)`."""
    chosen = [row for row in pool if (row.label or "") == label]
    columns = columns_of(chosen)
    means = {column: _column_mean(chosen, column) for column in columns}
    known = {column: mean for column, mean in means.items() if mean[0] is not None}
    if not known:
        return ""
    best = max(known, key=lambda column: known[column][0] or 0.0)
    accuracy, count = known[best]
    if accuracy is None:
        return ""
    name = column_title(best, columns_of(rows), between=" on ")
    zero_shot = _column_mean([row for row in rows if (row.label or "") == label], Column(best.model, "zero-shot"))[0]
    where = f"on {label} shifts" if label else "over all shifts" if len(labels_of(rows)) == 1 else "on the other shifts"
    rank = "is best and " if len(known) > 1 else ""
    against = "" if zero_shot is None or best.method == "zero-shot" else f"; zero-shot {zero_shot:.2f}"
    shifts = f"{count} shift{'s' if count > 1 else ''}"
    return f"{where} {name} {rank}{verdict(accuracy)} ({accuracy:.2f} over {shifts}{against})"


def _column_mean(rows: Iterable[ResultRow], column: Column) -> tuple[float | None, int]:
    return mean_of((r for r in rows if (r.model, r.method) == (column.model, column.method)), lambda row: row.accuracy)


def _surely_below_chance(rows: Sequence[ResultRow]) -> str:
    """How many (shift, method) intervals lie wholly under 0.5, or nothing."""
    measured = [row for row in rows if row.accuracy_high is not None]
    below = sum(row.accuracy_high is not None and row.accuracy_high < CHANCE for row in measured)
    if not below:
        return ""
    return f"{below} of {len(measured)} results lie wholly below chance, so what was learned there points the wrong way"
