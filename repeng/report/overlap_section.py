"""What the figures are without the test examples that stand in their source's train split: a table for the report."""

from __future__ import annotations

import pandas as pd

from repeng.report.frames import accuracy_name, items_of, once_each
from repeng.report.page import Cell, Grid, Line, figure
from repeng.results import AUROC


def overlap_table(frame: pd.DataFrame, *, dropped: bool) -> Grid | None:
    """A line a method and shift that overlap, by shift, the shift of the most such pairs first; None without any.

    Args:
        frame: as `shift_frame` gives it.
        dropped: whether the study leaves these examples out, so that its accuracies are without them.
    """
    found = once_each(frame)
    found = found[found["n_overlap"].notna()]
    if found.empty:
        return None
    most = found.groupby("shift")["n_overlap"].transform("max")
    found = found.loc[most.sort_values(ascending=False, kind="stable").index]
    lines = []
    for shift, own in found.groupby("shift", sort=False):
        lines.append(Line(str(shift)))
        for row in own.to_dict("records"):
            scored = row["n_texts"] if row["figure"] == AUROC else row["n_pairs"]
            count = Cell(f"{row['n_overlap']:.0f} of {scored + row['n_overlap'] if dropped else scored:.0f}")
            after = figure(row["accuracy_without_overlap"])
            lines.append(Line(row["name"], (count, after) if dropped else (count, figure(row["accuracy"]), after)))
    items, shown = items_of(found["figure"]), accuracy_name(found)
    names = ("method", items, f"{shown} without them") if dropped else ("method", items, shown, "without them")
    return Grid(names, tuple(lines))
