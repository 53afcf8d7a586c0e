"""A caption to begin with for each figure: model, benchmark, how many pairs, what the intervals are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from repeng.report.frames import accuracy_name, in_order, items_of, units_of, with_figures
from repeng.results import figure_names

if TYPE_CHECKING:
    # It brings torch, which a study's figures need not.
    from repeng.study.cached_sweep import Transfer

READ = {
    "heat-map": "Rows are shifts (fitted on → tested on), columns are methods; 0.5 is chance.",
    "transfer": "Fitted on the row, tested on the column; a cell is blank where it was not asked, and 0.5 is chance.",
    "matrix": "Fitted on the row, tested on the column; 0.5 is chance.",
    "elicitation": "Each row is a shift (fitted on → tested on). Solid marks: target-tuned capability; dashed marks: "
    "zero-shot baseline; a box spans the two, white where the baseline is higher; broken line at 0.5: chance.",
    "reliability": "Share right against mean confidence, in ten bins of equal mass for each label of shifts; on the "
    "diagonal a method is calibrated.",
    "sweep": "One panel a shift (fitted on → tested on); the broken line is chance. Discs: the layer that the source "
    "alone chose, or the layers, whose scores are then averaged; diamonds: "
    "the layer that is best on the target, which no method may choose by.",
}


def caption_of(kind: str, frame: pd.DataFrame, benchmark: str) -> str:
    """The caption of a figure.

    Args:
        kind: which figure.
        frame: its results as `shift_frame` gives them; of a sweep the rows of layers.csv.
        benchmark: what its shifts are from; empty where that is unknown.
    """
    frame = with_figures(frame)
    shown = accuracy_name(frame, pairs="pair accuracy")
    what = {
        "elicitation": f"{shown}, baseline and capability",
        "reliability": "Reliability",
        "sweep": f"{shown} by layer",
    }
    methods = in_order(frame["probe"] if kind == "sweep" else frame["method"])
    shifts = frame[["source", "target"]].drop_duplicates()
    count = f"{len(shifts)} shift{'s' if len(shifts) > 1 else ''}"
    of = f" of {benchmark}" if benchmark else ""
    head = what.get(kind, shown)
    models = " and ".join(in_order(frame["model"]))
    said = f"{head[0].upper()}{head[1:]} of {_listed(methods)} on {count}{of}, model {models}."
    return " ".join(filter(None, (said, READ[kind], _counted(frame), _intervals(kind, frame))))


def matrix_caption(found: Transfer) -> str:
    """The caption of a transfer matrix that `repeng matrix` computed."""
    shown = figure_names(found.figures)
    how = "its own chosen layers" if found.chosen_layers else f"layer {found.cosine_layer}"
    low, high = min(found.n), max(found.n)
    items = items_of(found.figures)
    known = all(end is not None for row in found.accuracy_low for end in row)
    parts = [
        f"{shown[0].upper()}{shown[1:]} of {found.probe} between {len(found.names)} distributions, "
        f"model {found.model}, each source at {how}.",
        READ["matrix"],
        "" if found.cosine is None else f"Cosines are of the directions at layer {found.cosine_layer}.",
        f"n = {low if low == high else f'{low} to {high}'} {items} a target.",
        "95 % intervals are over prompts." if known else "",
    ]
    return " ".join(filter(None, parts))


def _listed(methods: list[str]) -> str:
    return ", ".join(methods) if len(methods) < 4 else f"{len(methods)} methods"


def _counted(frame: pd.DataFrame) -> str:
    """How many pairs, or texts, a shift has."""
    columns = [name for name in ("n_pairs", "n_texts") if name in frame]
    known = frame[columns].bfill(axis=1).iloc[:, 0].dropna() if columns else pd.Series(dtype=float)
    if known.empty:
        return ""
    low, high = int(known.min()), int(known.max())
    return f"n = {low if low == high else f'{low} to {high}'} {items_of(frame['figure'])} a shift."


def _intervals(kind: str, frame: pd.DataFrame) -> str:
    if kind == "reliability":
        return ""
    known = frame.dropna(subset=["accuracy_low", "accuracy_high"])
    if known.empty:
        return "No interval is known."
    fits = " and fits" if "n_fits" in frame and frame["n_fits"].max() > 1 else ""
    over = f"95 % intervals over {units_of(frame['figure'])}{fits}"
    if kind in ("elicitation", "sweep"):
        return f"{'Bars' if kind == 'elicitation' else 'Bands'}: {over}."
    half = (known["accuracy_high"] - known["accuracy_low"]) / 2
    reach = f"reach {half.median():.2f} to either side in the median, {half.max():.2f} at most"
    return f"{over}, not drawn, {reach}."
