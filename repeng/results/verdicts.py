"""What may be said of each accuracy of a study, after correction for how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from repeng.metrics import holm
from repeng.results.kinds import CAPABILITY
from repeng.results.table import ResultRow

ABOVE, BELOW = "above chance", "below chance"
NOTHING_OVER_NULL, NOTHING_OVER_CHANCE = "no better than its null", "not told from chance"
LEVEL = 0.05


def with_verdicts(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows with `p_corrected` and `verdict`: Holm's correction over every p-value of the table.

    A method on a shift that a benchmark lists twice is one result, and counts once.

    Args:
        rows: of a study; those without a p-value, and those of target-tuned capability, keep a blank.
    """
    tested = [row for row in rows if row.p is not None and not row.method.startswith(CAPABILITY)]
    known = {_cell(row): row.p for row in tested if row.p is not None}
    corrected = dict(zip(known, holm(list(known.values())), strict=True))
    found = {id(row): corrected[_cell(row)] for row in tested}
    return [
        replace(row, p_corrected=found[id(row)], verdict=verdict(row, found[id(row)])) if id(row) in found else row
        for row in rows
    ]


def verdict(row: ResultRow, p: float) -> str:
    """What a corrected p-value allows to say of a row's accuracy; empty where it has none."""
    if row.accuracy is None:
        return ""
    if p < LEVEL:
        return ABOVE if row.accuracy > 0.5 else BELOW
    return NOTHING_OVER_CHANCE if row.null_sd is None else NOTHING_OVER_NULL


def _cell(row: ResultRow) -> tuple[str, str, str, str]:
    return row.model, row.method, row.source, row.target
