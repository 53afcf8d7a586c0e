"""What a probe's score on each target is, for a terminal and as JSON: `repeng score`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from repeng.metrics import Evaluation, TextEvaluation, accuracy_interval, figure_inputs, figures_of
from repeng.report.interval_text import ends
from repeng.report.text_section import FIGURES
from repeng.report.wide_table import WideTable
from repeng.results import PAIR_ACCURACY


def score_row(target: str, evaluation: Evaluation) -> dict[str, Any]:
    """The accuracy on a target with its interval, and of labelled texts their other figures: columns of results.csv."""
    low, high = accuracy_interval(evaluation) or (None, None)
    row: dict[str, Any] = {"target": target, "figure": evaluation.figure, "n_pairs": evaluation.n_pairs}
    row |= {"accuracy": evaluation.accuracy, "accuracy_low": low, "accuracy_high": high}
    if isinstance(evaluation, TextEvaluation):
        row |= {"n_texts": evaluation.n_texts, "n_positive": evaluation.n_positive}
        found = figures_of(figure_inputs(evaluation))
        row |= {
            place: found[place]
            for name in FIGURES
            for place in (name, f"{name}_low", f"{name}_high")
            if found.get(place) is not None
        }
    return row


def score_tables(rows: Sequence[Mapping[str, Any]]) -> list[WideTable | str]:
    """One table of all targets of pairs, and one of each of labelled texts.

    Args:
        rows: as `score_row` makes them.
    """
    pairs = [row for row in rows if row["figure"] == PAIR_ACCURACY]
    texts = [row for row in rows if row["figure"] != PAIR_ACCURACY]
    shown: list[WideTable | str] = [_of_pairs(pairs), ""] if pairs else []
    for row in texts:
        counts = f"{row['n_texts']} labelled texts, {row['n_positive']} with the label"
        shown += [f"{row['target']}: {counts}", _of_texts(row), ""]
    notes = ["every threshold was set on held-out texts of the source"] if texts else []
    return [*shown, *notes] if notes else shown[:-1]


def _of_pairs(rows: Iterable[Mapping[str, Any]]) -> WideTable:
    return _table(
        ("target", "pairs", "pair accuracy", "95 % interval"),
        [(row["target"], str(row["n_pairs"]), f"{row['accuracy']:.3f}", _interval(row, "accuracy")) for row in rows],
    )


def _of_texts(row: Mapping[str, Any]) -> WideTable:
    return _table(
        ("figure", "value", "95 % interval"),
        [
            (shown, f"{row[name]:.3f}", _interval(row, name))
            for name, (_, shown) in FIGURES.items()
            if row.get(name) is not None
        ],
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> WideTable:
    return WideTable(heads, tuple(tuple(map(Text, row)) for row in rows))


def _interval(row: Mapping[str, Any], name: str) -> str:
    return ends(row.get(f"{name}_low"), row.get(f"{name}_high"), digits=3)
