"""What else is said of labelled texts: figures at thresholds, for the report and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.text import Text

from repeng.report.frames import in_order, once_each, shift_frame
from repeng.report.page import Grid, Line, figure
from repeng.report.wide_table import WideTable
from repeng.results import AUROC, ResultRow

OWN_NEGATIVES = "held-out texts of the source without the label"
FIGURES = {
    "accuracy": ("AUROC", "AUROC"),
    "pair_accuracy": ("pairs", "pair accuracy"),
    "balanced_accuracy": ("balanced", "balanced accuracy at the threshold"),
    "accuracy_at_threshold": ("accuracy", "accuracy at the threshold"),
    "recall_at_1": ("recall 1\u00a0%", "recall at 1 % false positives"),
    "false_positives_at_1": ("FP 1\u00a0%", "false positives there"),
    "recall_at_5": ("recall 5\u00a0%", "recall at 5 % false positives"),
    "false_positives_at_5": ("FP 5\u00a0%", "false positives there"),
    "average_precision": ("av. prec.", "average precision"),
    "brier": ("Brier", "Brier score"),
}
"""Figures of labelled texts by their columns in results.csv: how a wide table names them, and at length."""


def text_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of labelled texts that were scored, each once."""
    return once_each(frame[frame["figure"].eq(AUROC) & frame["accuracy"].notna()])


def text_table(frame: pd.DataFrame) -> Grid | None:
    """A line a shift and method, with the interval of each figure that has one; None where there are no texts.

    Args:
        frame: as `shift_frame` gives it.
    """
    rows = text_rows(frame)
    if rows.empty:
        return None
    shown = [name for name in FIGURES if rows[name].notna().any()]
    lines = []
    many = rows["section"].nunique() > 1
    for section, chosen in rows.groupby("section", sort=False):
        for shift, own in chosen.groupby("shift", sort=False):
            lines.append(Line(": ".join(filter(None, [str(section) if many else "", str(shift), _counted(own)]))))
            for row in own.to_dict("records"):
                cells = [figure(row[name], row.get(f"{name}_low"), row.get(f"{name}_high")) for name in shown]
                lines.append(Line(row["name"], tuple(cells)))
    return Grid(("shift and method", *(FIGURES[name][0] for name in shown)), tuple(lines))


def _counted(rows: pd.DataFrame) -> str:
    """How many texts were scored, and how many of them have the label; methods may skip texts."""
    counts = dict.fromkeys(zip(rows["n_texts"], rows["n_positive"], strict=True))
    return " or ".join(f"{texts:.0f} texts, {positive:.0f} with the label" for texts, positive in counts)


def thresholds_note(frame: pd.DataFrame) -> str:
    """On which texts the thresholds of 1 % and 5 % false positives were set."""
    names = in_order(text_rows(frame)["benign"].fillna(""))
    return " or ".join(f"the test texts of {name} without the label" if name else OWN_NEGATIVES for name in names)


def text_means(rows: Sequence[ResultRow]) -> WideTable | None:
    """For a terminal: one line a method, means over the shifts of labelled texts; None where there are none."""
    frame = shift_frame(rows)
    texts = text_rows(frame)
    if texts.empty:
        return None
    shown = [name for name in FIGURES if texts[name].notna().any()]
    count = texts["shift"].nunique()
    title = f"Labelled texts, means over {count} shifts" if count > 1 else "Labelled texts"
    lines = tuple(
        (Text(str(method)), *(Text(figure(own[name].mean()).text) for name in shown))
        for method, own in texts.groupby("name", sort=False)
    )
    caption = (
        "balanced accuracy and accuracy are at the threshold that the source chose; recall at thresholds that flag 1 % "
        f"and 5 % of {thresholds_note(frame)}; FP: what these flag of the targets' own texts without the label"
    )
    heads = ("method", *(FIGURES[name][0] for name in shown))
    return WideTable(heads, lines, title=title, caption=caption)
