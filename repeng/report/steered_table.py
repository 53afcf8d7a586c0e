"""A model's answers as it is and steered, for a terminal and as JSON: `repeng steer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from repeng.metrics import Estimate
from repeng.report.interval_text import with_ends
from repeng.report.wide_table import WideTable
from repeng.study.steered_scores import MEASURES, SteeredRow

HEADS = ("edit", "pair\naccuracy", "preference\n(nats)", "verdict\n(log-odds)", "verdict\ngap", "perplexity\n(times)")
CAPTION = (
    "preference: log-probability of the best response less that of the worse; verdict: log-odds that a response is "
    "right, by the model's own answer; verdict gap: best less worse; perplexity: of the prompts, over the model's own. "
    "In brackets 95 % intervals over prompts."
)


def steered_record(row: SteeredRow) -> dict[str, Any]:
    """A row as plain values."""
    return asdict(row)


def steered_tables(rows: Sequence[SteeredRow]) -> list[WideTable | str]:
    """One table a target."""
    shown: list[WideTable | str] = []
    for target in dict.fromkeys(row.target for row in rows):
        own = [row for row in rows if row.target == target]
        title = f"{target}: {own[0].n_pairs} pairs of {own[0].n_prompts} prompts"
        lines = [
            tuple(
                map(
                    Text,
                    (
                        row.edit,
                        _cell(row.accuracy, 3),
                        *(_cell(getattr(row, name), 2) for name in MEASURES[1:]),
                        _cell(row.perplexity, 2),
                    ),
                )
            )
            for row in own
        ]
        shown += [WideTable(HEADS, tuple(lines), title=title), ""]
    return [*shown, CAPTION]


def _cell(figure: Estimate | None, digits: int) -> str:
    return "" if figure is None else with_ends(figure.value, figure.low, figure.high, digits=digits)
