"""What causal figures say of a probe's direction on one target: its conclusion, and the figures that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repeng.report.interval_text import ends
from repeng.results import (
    ADD,
    AS_SHUFFLED,
    BREAKS,
    BYSTANDER,
    CAUSAL_LEVEL,
    MOVES,
    PREFERENCE,
    REMOVE,
    VERDICT,
    VERDICT_GAP,
    CausalRow,
)

EDITS = {ADD: "added", REMOVE: "taken away"}
CALLED = {
    PREFERENCE: "the preference for best responses",
    VERDICT: "the verdict on all responses",
    VERDICT_GAP: "the verdict on best responses less that on worse ones",
}
SIGN_ALONE = "moves the answer, along a direction of which labels set the sign alone"
SAID = {
    MOVES: MOVES,
    AS_SHUFFLED: "moves the answer, but no further than the probe fitted on shuffled labels does",
    BYSTANDER: "bystander: no answer moves that is told from what random directions do",
    BREAKS: "breaks the model before it moves the answer",
}


@dataclass(frozen=True)
class CausalSentence:
    """Of one probe, source and target.

    Attributes:
        where: `mms: facts → myths`.
        conclusion: in words.
        grounds: the figures.
    """

    where: str
    conclusion: str
    grounds: str


def causal_sentences(rows: Iterable[CausalRow]) -> list[CausalSentence]:
    """One for each probe, source and target, in the order of the table."""
    grouped: dict[tuple[str, str, str], list[CausalRow]] = {}
    for row in rows:
        grouped.setdefault((row.method, row.source, row.target), []).append(row)
    return [_sentence(own) for own in grouped.values()]


def where_of(row: CausalRow) -> str:
    """`mms: facts → myths`; of the source's own test split `mms: facts`."""
    shift = row.source if row.source == row.target else f"{row.source} → {row.target}"
    return f"{row.method}: {shift}"


def _sentence(rows: Sequence[CausalRow]) -> CausalSentence:
    moved = [row for row in rows if row.p is not None and row.p < CAUSAL_LEVEL]
    said = [_moved(row) for row in moved]
    costs = {row.edit: row for row in rows if row.edit in EDITS and row.perplexity is not None}
    if costs:
        said.append("perplexity " + ", ".join(_times(row) for row in costs.values()))
    conclusion = SAID.get(rows[0].conclusion, rows[0].conclusion)
    if not rows[0].n_shuffled and rows[0].conclusion == AS_SHUFFLED:
        conclusion = SIGN_ALONE
    return CausalSentence(where_of(rows[0]), conclusion, "; ".join(said))


def _moved(row: CausalRow) -> str:
    random = ends(row.random_low, row.random_high)
    against = [ends(row.change_low, row.change_high), f"random directions {random}" if random else ""]
    interval = "; ".join(filter(None, against))
    moves = f"{EDITS[row.edit]}, it moves {CALLED[row.measure]} by {row.change:+.2f} nats"
    return f"{moves} ({interval})" if interval else moves


def _times(row: CausalRow) -> str:
    interval = ends(row.perplexity_low, row.perplexity_high)
    return f"{row.perplexity:.2f} times its own {EDITS[row.edit]}{f' ({interval})' if interval else ''}"
