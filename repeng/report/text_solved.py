"""Sources that a text-only baseline solves: where the words alone do as well as anything that was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from repeng.distributions.cautions import Caution
from repeng.report.frames import fitted, shift_frame
from repeng.results import ResultRow


@dataclass(frozen=True)
class TextSolvedSource:
    """A source on which no fitted method beats a text-only baseline, both on the source's own test split.

    Attributes:
        model: whose.
        source: the distribution.
        baseline: the text-only baseline that does best.
        baseline_accuracy: its accuracy; of a source of labelled texts its AUROC, as in the rest.
        method: the fitted method that does best.
        accuracy: its accuracy.
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
    return _solved_in(_known_at_home(rows))


def _known_at_home(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """What of the rows is looked at, of those with an accuracy on the source's own test split."""
    frame = shift_frame(rows)[["model", "source", "method", "kind", "source_id_accuracy"]]
    return frame.dropna(subset="source_id_accuracy")


def _solved_in(frame: pd.DataFrame) -> list[TextSolvedSource]:
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


def text_cautions(rows: Sequence[ResultRow], solved: Sequence[TextSolvedSource] | None = None) -> list[Caution]:
    """Those sources; and elsewhere the fitted methods that do no better than a text-only baseline, worst first.

    Args:
        rows: of a study.
        solved: what `text_solved_sources` says of them, where that is known already.
    """
    frame = _known_at_home(rows)
    solved = _solved_in(frame) if solved is None else solved
    frame = frame.drop_duplicates(["model", "source", "method"])
    solved_here = {(one.model, one.source) for one in solved}
    lost: dict[Caution, float] = {}
    for (model, source), own in frame.groupby(["model", "source"], sort=False):
        texts = own[own["kind"] == "text"]
        if texts.empty or (model, source) in solved_here:
            continue
        text = texts.iloc[texts["source_id_accuracy"].argmax()]
        beaten = fitted(own)[fitted(own)["source_id_accuracy"] <= text["source_id_accuracy"]]
        for method, reached in zip(beaten["method"], beaten["source_id_accuracy"].astype(float), strict=True):
            both = f"{reached:.2f}, {text['method']} {text['source_id_accuracy']:.2f}"
            lost[Caution("loses_to_text", f"{method} on {source}", both)] = reached
    found = [Caution("text_solved", one.source, _accuracies(one)) for one in solved]
    return found + sorted(lost, key=lost.__getitem__)


def _accuracies(one: TextSolvedSource) -> str:
    return f"{one.baseline} {one.baseline_accuracy:.2f}, {one.method} {one.accuracy:.2f}"


def text_solved_sentence(rows: Sequence[ResultRow], found: Sequence[TextSolvedSource]) -> str:
    """One line that names the sources that `text_solved_sources` found; empty where there is none."""
    if not found:
        return ""
    many = len({row.model for row in rows}) > 1
    named = ", ".join(f"{one.source}{f' on {one.model}' if many else ''} ({_accuracies(one)})" for one in found)
    return (
        f"Sources that a text-only baseline solves (no fitted method beats it on the source's own test split): {named}."
    )
