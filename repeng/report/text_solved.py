"""Sources that their surface may solve: where the words alone do as well as anything that was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repeng.report.grouping import BASELINES, TEXT_BASELINES, shift_rows
from repeng.results import ResultRow


@dataclass(frozen=True)
class TextSolvedSource:
    """A source on which no fitted method beats a text baseline, both on the source's own test split.

    Attributes:
        model: whose.
        source: the distribution.
        baseline: the text baseline that does best.
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
    """The sources of a study where the best text baseline does at least as well as the best fitted method."""
    reached: dict[tuple[str, str], dict[str, float]] = {}
    for row in shift_rows(rows):
        if row.source_id_accuracy is not None:
            reached.setdefault((row.model, row.source), {})[row.method] = row.source_id_accuracy
    found = []
    for (model, source), accuracy in reached.items():
        texts = [name for name in accuracy if name in TEXT_BASELINES]
        fitted = [name for name in accuracy if _is_fitted(name)]
        if texts and fitted:
            text, method = max(texts, key=accuracy.__getitem__), max(fitted, key=accuracy.__getitem__)
            if accuracy[text] >= accuracy[method]:
                found.append(TextSolvedSource(model, source, text, accuracy[text], method, accuracy[method]))
    return found


def text_solved_sentence(rows: Sequence[ResultRow]) -> str:
    """One line that names those sources; empty where there is none."""
    found = text_solved_sources(rows)
    if not found:
        return ""
    many = len({row.model for row in shift_rows(rows)}) > 1
    named = ", ".join(
        f"{one.source}{f' on {one.model}' if many else ''} ({one.baseline} {one.baseline_accuracy:.2f}, "
        f"{one.method} {one.accuracy:.2f})"
        for one in found
    )
    return (
        "Sources that their surface may solve (no fitted method beats a text baseline on the source's own test split): "
        f"{named}."
    )


def _is_fitted(method: str) -> bool:
    """Whether it is a probe or a tuned model, fitted on the source unmixed."""
    return method not in BASELINES and "+" not in method
