"""The headline of a report: each method's mean by label, and the means of its other figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from repeng.report.frames import accuracy_name, in_order, same_figure_at_home
from repeng.report.page import Cell, Grid, Line, figure
from repeng.report.predictions import Key, Prediction, mean_estimates
from repeng.results import figure_name
from repeng.results.verdicts import ABOVE, BELOW

MEANS = {
    "elicitation": "elicitation",
    "differential_elicitation": "diff. elicitation",
    "source_id_accuracy": "source-ID",
    "selectivity": "selectivity",
    "rms_calibration_error": "RMS calibration error",
    "rms_calibration_error_debiased": "debiased",
}
"""Columns of other figures' means, and what stands over them."""
OF_CAPABILITY = ("elicitation", "differential_elicitation")
"""Those that a study without capability does not have."""


def headline(frame: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> Grid:
    """Mean accuracies by label with their intervals, and how many results are above chance and below."""
    labels = in_order(frame["label"])
    labels = labels if len(labels) > 1 else []
    told = bool(frame["verdict"].fillna("").ne("").any())

    # Of a hundred columns, which every choice of rows would copy.
    looked_at = frame[["figure", "name", "label", "verdict", "model", "method", "source", "target", "accuracy"]]
    # In the order of the lines.
    methods = (
        own for _, rows in looked_at.groupby("figure", sort=False) for _, own in rows.groupby("name", sort=False)
    )
    parts = [part for own in methods for part in (*(own[own["label"] == label] for label in labels), own)]
    means = iter(mean_estimates(parts, predictions))

    def cells_of(own: pd.DataFrame) -> list[Cell]:
        own_means = itertools.islice(means, len(labels) + 1)
        cells = [figure(None) if one is None else figure(one.value, one.low, one.high) for one in own_means]
        return cells + [_count(own, side) for side in (ABOVE, BELOW) if told]

    heads = (*(label or "other" for label in labels), "all", *((ABOVE, BELOW) if told else ()))
    return _by_method(looked_at, heads, cells_of)


def headline_caption(frame: pd.DataFrame) -> str:
    """What the headline shows."""
    told = " How many results are above and below chance." if frame["verdict"].fillna("").ne("").any() else ""
    return f"Mean {accuracy_name(frame)} over shifts, by label.{told}"


def other_means(frame: pd.DataFrame) -> Grid:
    """Means over all shifts of the figures besides accuracy."""
    without = () if has_capability(frame) else OF_CAPABILITY
    heads = {column: head for column, head in MEANS.items() if column not in without}

    def cells_of(own: pd.DataFrame) -> list[Cell]:
        known = own.assign(source_id_accuracy=same_figure_at_home(own)["source_id_accuracy"])
        return [figure(known[column].mean()) for column in heads]

    return _by_method(frame, tuple(heads.values()), cells_of)


def other_means_caption(frame: pd.DataFrame) -> str:
    """What the other means are."""
    at_home = "source-ID AUROC" if accuracy_name(frame) == "AUROC" else "source-ID accuracy"
    if frame["figure"].nunique() > 1:
        at_home = "the same figure on the source's own test split (source-ID)"
    elicitation = "elicitation, " if has_capability(frame) else ""
    return f"Mean {elicitation}{at_home}, selectivity and calibration error, as it is and debiased, over all shifts."


def has_capability(frame: pd.DataFrame) -> bool:
    """Whether what the model can do on a target is known of any, so that there is elicitation to show."""
    return bool(frame["target_tuned_capability"].notna().any())


def _count(own: pd.DataFrame, side: str) -> Cell:
    told = own[own["verdict"].fillna("") != ""].drop_duplicates(["source", "target"])
    return Cell(f"{int((told['verdict'] == side).sum())} of {len(told)}" if len(told) else "–")


def _by_method(frame: pd.DataFrame, heads: Sequence[str], cells_of: Callable[[pd.DataFrame], Sequence[Cell]]) -> Grid:
    """A line a method; of pairs and of labelled texts apart, under titles."""
    kinds = list(frame.groupby("figure", sort=False))
    lines = []
    for kind, rows in kinds:
        lines += [Line(figure_name(str(kind)))] if len(kinds) > 1 else []
        lines += [Line(str(name), tuple(cells_of(own))) for name, own in rows.groupby("name", sort=False)]
    return Grid(("method", *heads), tuple(lines))
