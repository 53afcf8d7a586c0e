"""A study's layers as pictures: in distribution, and on the shifts of each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from repeng.report.grouping import labels_of
from repeng.report.layer_charts import sweep_chart
from repeng.report.page import Cell, Drawing, Grid, Line
from repeng.results import LayerRow, ResultRow

Shift = tuple[str, str]
"""Source and target."""


def layer_drawings(layers: Sequence[LayerRow], rows: Sequence[ResultRow]) -> list[Drawing]:
    """Accuracy by layer of every probe: one picture in distribution, and one for each label's shifts.

    Args:
        layers: of layers.csv.
        rows: the study's results, which say what its shifts are.
    """
    groups: list[tuple[str, str, dict[Shift, None]]] = [
        ("layers-source", "in distribution", {(row.source, row.source): None for row in rows})
    ]
    for number, label in enumerate(labels_of(rows), start=1):
        shifts = {(row.source, row.target): None for row in rows if (row.label or "") == label}
        groups.append((f"layers-{number}", f"{label or 'unlabelled'} shifts", shifts))
    known: dict[Shift, list[LayerRow]] = {}
    for row in layers:
        known.setdefault((row.source, row.target), []).append(row)
    found = []
    for name, what, shifts in groups:
        chosen = {shift: known[shift] for shift in shifts if shift in known}
        if chosen:
            caption = (
                "Filled discs: the layer that the source alone chose. Hollow diamonds: the target's own best, an "
                "oracle that no method may use. Dotted: held out of the source. Bands: intervals over prompts."
            )
            chart = sweep_chart([asdict(row) for listed in chosen.values() for row in listed])
            found.append(Drawing(name, f"Accuracy by layer, {what}", caption, chart, _grid(chosen)))
    return found


def _grid(chosen: dict[Shift, list[LayerRow]]) -> Grid:
    """Layers down under each shift's title, probes across."""
    probes = list(dict.fromkeys(row.probe for listed in chosen.values() for row in listed))
    lines = []
    for (source, target), listed in chosen.items():
        lines.append(Line(source if source == target else f"{source} → {target}"))
        cells = {(row.layer, row.probe): row for row in listed}
        for layer in sorted({row.layer for row in listed}):
            lines.append(Line(f"layer {layer}", tuple(_cell(cells.get((layer, probe))) for probe in probes)))
    return Grid(("shift and layer", *probes), tuple(lines))


def _cell(row: LayerRow | None) -> Cell:
    if row is None:
        return Cell("–")
    marks = [f"head {row.head}"] if row.head is not None else []
    marks += [mark for mark, holds in (("chosen", row.chosen), ("oracle", row.oracle)) if holds]
    low, high = row.accuracy_low, row.accuracy_high
    text = " ".join([f"{row.accuracy:.3f}", *([f"({', '.join(marks)})"] if marks else [])])
    return Cell(text, "" if low is None or high is None else f"{low:.3f}–{high:.3f}")
