"""A study's layers as pictures: in distribution, and on the shifts of each label."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from repeng.report.frames import in_order, units_of
from repeng.report.layer_charts import sweep_chart
from repeng.report.page import Cell, Grid, Line, Picture, figure
from repeng.results import PAIR_ACCURACY, LayerRow, figure_name, record_of

CAPTION = (
    "Filled discs: the layer that the source alone chose. Hollow diamonds: the target's own best, an oracle that no "
    "method may use. Dotted: held out of the source. Bands: intervals over {over}."
)


def layer_pictures(layers: Sequence[LayerRow], frame: pd.DataFrame) -> list[Picture]:
    """Accuracy by layer of every probe: one picture in distribution, and one for each label's shifts; of pairs and of
    labelled texts one each.

    Args:
        layers: of layers.csv.
        frame: the study's results as `shift_frame` gives them, which say what its shifts are.
    """
    known: dict[tuple[str, str], list[LayerRow]] = {}
    for row in layers:
        known.setdefault((row.source, row.target), []).append(row)
    figures = in_order(row.figure or PAIR_ACCURACY for row in layers)
    at_home = list(zip(frame["source"], frame["source"], strict=True))
    groups = [("layers-source", "in distribution", at_home)]
    for number, label in enumerate(in_order(frame["label"]), start=1):
        own = frame[frame["label"] == label]
        shifts = list(zip(own["source"], own["target"], strict=True))
        groups.append((f"layers-{number}", f"{label or 'unlabelled'} shifts", shifts))
    found = []
    for (name, what, shifts), kind in itertools.product(groups, figures):
        of_kind = {shift: _of_figure(known.get(shift, []), kind) for shift in shifts}
        chosen = {shift: rows for shift, rows in of_kind.items() if rows}
        if chosen:
            chart = sweep_chart([record_of(row) for listed in chosen.values() for row in listed])
            of_pairs = "Pair accuracy" if len(figures) > 1 else "Accuracy"
            title = f"{of_pairs if kind == PAIR_ACCURACY else figure_name(kind)} by layer, {what}"
            place = name if len(figures) == 1 else f"{name}-{'pairs' if kind == PAIR_ACCURACY else 'texts'}"
            caption = CAPTION.format(over=units_of([kind]))
            found.append(Picture(place, title, caption, chart, _grid(chosen)))
    return found


def _of_figure(rows: Sequence[LayerRow], figure: str) -> list[LayerRow]:
    return [row for row in rows if (row.figure or PAIR_ACCURACY) == figure]


def _grid(chosen: dict[tuple[str, str], list[LayerRow]]) -> Grid:
    """Layers down under each shift's title, probes across."""
    probes = in_order(row.probe for listed in chosen.values() for row in listed)
    lines = []
    for (source, target), listed in chosen.items():
        lines.append(Line(source if source == target else f"{source} → {target}"))
        cells = {(row.layer, row.probe): _cell(row) for row in listed}
        for layer in sorted({row.layer for row in listed}):
            lines.append(Line(f"layer {layer}", tuple(cells.get((layer, probe), figure(None)) for probe in probes)))
    return Grid(("shift and layer", *probes), tuple(lines))


def _cell(row: LayerRow) -> Cell:
    marks = [f"head {row.head}"] if row.head is not None else []
    marks += [mark for mark, holds in (("chosen", row.chosen), ("oracle", row.oracle)) if holds]
    cell = figure(row.accuracy, row.accuracy_low, row.accuracy_high)
    return replace(cell, text=f"{cell.text} ({', '.join(marks)})") if marks else cell
