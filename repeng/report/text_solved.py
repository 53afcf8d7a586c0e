"""Sources that a text-only baseline solves: where the words alone do as well as anything that was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repeng.report.frames import fitted, shift_frame
from repeng.results import ResultRow


@dataclass(frozen=True)
class TextSolvedSource:
    """A source on which no fitted method beats a text-only baseline, both on the source's own test split.

    Attributes:
        model: whose.
        source: the distribution.
        baseline: the text-only baseline that does best.
        baseline_accuracy: its pair accuracy.
        method: the fitted method that does best.
        accuracy: its pair accuracy.
    """

    model: str
    source: str
    baseline: str
    baseline_accuracy: float
    method: str
    accuracy: float


def text_solved_sources(rows: Sequence[ResultRow]) -> list[TextSolvedSource]:
    """The sources of a study where the best text-only baseline does at least as well as the best fitted method.

    Only methods that are fitted on the source unmixed compete.
    """
    frame = shift_frame(rows).dropna(subset="source_id_accuracy")
    found = []
    for _, own in frame.groupby(["model", "source"], sort=False):
        texts, methods = own[own["kind"] == "text"], fitted(own[~own["method"].str.contains("+", regex=False)])
        if texts.empty or methods.empty:
            continue
        text, method = (one.iloc[one["source_id_accuracy"].argmax()] for one in (texts, methods))
        reached, beaten = float(text["source_id_accuracy"]), float(method["source_id_accuracy"])
        if reached >= beaten:
            names = (text["model"], text["source"], text["method"])
            found.append(TextSolvedSource(*names, reached, method["method"], beaten))
    return found


def text_solved_sentence(rows: Sequence[ResultRow]) -> str:
    """One line that names those sources; empty where there is none."""
    found = text_solved_sources(rows)
    if not found:
        return ""
    many = shift_frame(rows)["model"].nunique() > 1
    named = ", ".join(
        f"{one.source}{f' on {one.model}' if many else ''} ({one.baseline} {one.baseline_accuracy:.2f}, "
        f"{one.method} {one.accuracy:.2f})"
        for one in found
    )
    return (
        f"Sources that a text-only baseline solves (no fitted method beats it on the source's own test split): {named}."
    )
