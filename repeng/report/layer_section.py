"""A study's layers as pictures: in distribution, and on the shifts of each label."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from repeng.report.frames import in_order, units_of
from repeng.report.layer_charts import MOST_TOGETHER, sweep_chart
from repeng.report.layer_svg import layer_svg
from repeng.report.page import Cell, Grid, Line, Picture, figure
from repeng.results import PAIR_ACCURACY, LayerRow, figure_name, record_of

CAPTION = (
    "Filled discs: layers that the source alone chose{of_fits}. Hollow diamonds: the target's own best, an oracle that "
    "no method may use. Bands: intervals over {over}."
)
HELD_OUT = " Dotted: held-out prompts of the source."
Shifts = dict[tuple[str, str], list[LayerRow]]


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
            of_pairs = "Pair accuracy" if len(figures) > 1 else "Accuracy"
            title = f"{of_pairs if kind == PAIR_ACCURACY else figure_name(kind)} by layer, {what}"
            place = name if len(figures) == 1 else f"{name}-{'pairs' if kind == PAIR_ACCURACY else 'texts'}"
            found.append(_picture(place, title, chosen, kind))
    return found


def _picture(place: str, title: str, chosen: Shifts, kind: str) -> Picture:
    """The probes together; where they are too many for that, those that lead, and each of the others on demand."""
    rows = [row for listed in chosen.values() for row in listed]
    probes = in_order(row.probe for row in rows)
    choices = Counter((row.probe, row.source, row.target) for row in rows if row.chosen)
    over = units_of([kind])
    caption = CAPTION.format(over=over, of_fits=", each fit its own" if max(choices.values(), default=0) > 1 else "")
    if any(row.head is not None for row in rows) or len(probes) <= MOST_TOGETHER:
        alone = HELD_OUT if len(probes) == 1 and rows[0].head is None else ""
        return Picture(place, title, caption + alone, _chart(rows), _grid(chosen))
    leading = _leading(probes, rows)
    first = [row for row in rows if row.probe in leading]
    table = _grid(chosen)
    more = tuple(
        Picture(
            f"{place}-{number}",
            f"{title}: {probe} alone",
            caption + HELD_OUT,
            _chart([row for row in rows if row.probe == probe]),
            table,
        )
        for number, probe in enumerate(probes, start=1)
        if probe not in leading
    )
    caption = f"The {MOST_TOGETHER} of {len(probes)} probes with the highest means here; the others below. {caption}"
    return Picture(place, title, caption, _chart(first), table, more)


def _chart(rows: Sequence[LayerRow]) -> Any:
    """The layers' lines as SVG; of several heads a layer the chart, which is a map of them."""
    if any(row.head is not None for row in rows):
        return sweep_chart(map(record_of, rows))
    return layer_svg(rows)


def _leading(probes: Sequence[str], rows: Sequence[LayerRow]) -> list[str]:
    """The probes of the highest means over shifts at the layers that their fits chose, in the order given."""
    means = {}
    for probe in probes:
        own = [(row, row.chosen_share or float(row.chosen)) for row in rows if row.probe == probe]
        weight = sum(share for _, share in own)
        means[probe] = sum(share * row.accuracy for row, share in own) / weight if weight else 0.0
    best = sorted(probes, key=lambda probe: -means[probe])[:MOST_TOGETHER]
    return [probe for probe in probes if probe in best]


def _of_figure(rows: Sequence[LayerRow], figure: str) -> list[LayerRow]:
    return [row for row in rows if (row.figure or PAIR_ACCURACY) == figure]


def _grid(chosen: Shifts) -> Grid:
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
