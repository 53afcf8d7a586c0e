"""What every layout promises."""

from __future__ import annotations

from collections.abc import Sequence

from repeng.activations.layouts.batch import Batch, TextRequest


def check_layout(texts: Sequence[TextRequest], batches: Sequence[Batch]) -> list[str]:
    """Everything that a layout promises and `batches` break, in words; empty where they keep it all.

    Every text stands in exactly one batch, and its cells hold its ids and positions 0, 1, 2, ...
    """
    problems: list[str] = []
    seen = [text for batch in batches for text in batch.texts]
    if sorted(seen) != list(range(len(texts))):
        problems.append(f"texts {sorted(seen)} stand in batches instead of 0 to {len(texts) - 1}, once each")
    for number, batch in enumerate(batches):
        for text, row, columns in zip(batch.texts, batch.rows, batch.columns, strict=True):
            if tuple(batch.input_ids[row, columns].tolist()) != texts[text].ids:
                problems.append(f"batch {number}: the cells of text {text} do not hold its ids")
            if batch.position_ids[row, columns].tolist() != list(range(len(texts[text].ids))):
                problems.append(f"batch {number}: the positions of text {text} do not count from 0")
    return problems
