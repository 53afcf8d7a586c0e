"""What erasing a concept leaves and takes, for a terminal: `repeng erase`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from repeng.report.tables import short_figure
from repeng.report.wide_table import WideTable
from repeng.results import figure_names
from repeng.study.erasure import FRESH, OWN, SAME, Erasure, ErasureRow

CHANCE = 0.5


def erasure_tables(found: Erasure) -> list[Any]:
    """Two tables, how much is left of the source's concept and what other distributions lost, and the verdict."""
    left = [row for row in found.rows if row.rows != OWN]
    lost = [row for row in found.rows if row.rows == OWN]
    shown: list[Any] = [
        f"{found.by} of {found.source} on {found.model}: {figure_names(row.figure for row in left)} of probes fitted "
        "on the source, before and after",
        _left_table(left),
        "fresh: eraser on half of the training prompts, probe on the other half; same: both on all of them",
    ]
    if found.draws:
        shown.append(f"random: {found.draws} random directions erased instead, lowest to highest (fitted as in same)")
    if lost:
        shown += [
            "",
            f"what else went: {lost[0].probe} fitted and tested on each other distribution, before and after",
            _lost_table(lost),
            "* fell by its interval" + (", and below what any random direction leaves" if found.draws else ""),
        ]
    gone = variance_line(found)
    return [*shown, "", *([gone] if gone else []), verdict(found)]


def verdict(found: Erasure) -> str:
    """What the intervals say, at the layer where the source's probe does best on held-out pairs.

    Of the probes that are fitted again the first linear one speaks, and the first that is not linear.
    """
    here = found.at(found.layer, found.head)
    where = f"layer {found.layer}" + ("" if found.head is None else f" head {found.head}")
    fresh = [row for row in here if row.rows == FRESH]
    said = []
    for target in dict.fromkeys(row.target for row in fresh):
        of_kind: dict[bool, ErasureRow] = {}
        for row in fresh:
            if row.target == target:
                of_kind.setdefault(row.linear, row)
        said.append(f"On {target} " + "; ".join(f"{_kind(row)}: {_left(row)}" for row in of_kind.values()))
    sentence = f"{found.source} erased by {found.by} at {where}. {'. '.join(said)}."
    lost = [row for row in here if row.rows == OWN]
    if not lost:
        return sentence
    went = [row for row in lost if row.went]
    listed = ", ".join(f"{row.target} {_figure(row.before)} to {_figure(row.after)}" for row in _worst(went))
    more = f", and {len(went) - MOST_NAMED} more" if len(went) > MOST_NAMED else ""
    if not went:
        return f"{sentence} None of {len(lost)} other distributions lost accuracy on its own labels by its interval."
    return f"{sentence} Accuracy on their own labels fell on {len(went)} of {len(lost)} others: {listed}{more}."


MOST_NAMED = 4
"""Distributions that lost something are named in a sentence, those that lost most."""


def variance_line(found: Erasure) -> str:
    """Which share of the source's activations' variance goes, over the layers."""
    same = [row for row in found.rows if row.rows == SAME]
    rows = {row.layer: row for row in same if row.target == same[0].target}
    if not rows or found.head is not None:
        return ""
    cells = [f"{layer}: {_share(row.variance_removed)}" for layer, row in rows.items()]
    random = [row.variance_random for row in rows.values() if row.variance_random is not None]
    null = f" (a random direction: {_share(min(random))} to {_share(max(random))})" if random else ""
    return f"variance of {same[0].target}'s test split removed, by layer  {'  '.join(cells)}{null}"


def _left_table(rows: Sequence[ErasureRow]) -> WideTable:
    keys = dict.fromkeys((row.layer, row.head, row.target, row.probe) for row in rows)
    by = {(row.layer, row.head, row.target, row.probe, row.rows): row for row in rows}
    lines = []
    for layer, head, target, probe in keys:
        fresh, same = (by[layer, head, target, probe, which] for which in (FRESH, SAME))
        lines.append(
            (
                f"{layer}" if head is None else f"{layer}.{head}",
                *(probe, target),
                _figure(fresh.before),
                _with_ends(fresh.after, fresh.after_low, fresh.after_high),
                _change(fresh),
                _with_ends(same.after, same.after_low, same.after_high),
                "" if same.random is None else f"{_figure(same.random_low)}-{_figure(same.random_high)}",
            )
        )
    heads = ("layer", "probe", "tested on", "before", "fresh after", "change", "same after", "random")
    return WideTable(heads, tuple(tuple(map(Text, line)) for line in lines), frozenset({1, 2}), names=3)


def _lost_table(rows: Sequence[ErasureRow]) -> WideTable:
    units = dict.fromkeys((row.layer, row.head) for row in rows)
    by = {(row.layer, row.head, row.target): row for row in rows}
    lines = [
        (target, *(_lost_cell(by.get((*unit, target))) for unit in units))
        for target in dict.fromkeys(row.target for row in rows)
    ]
    heads = ("layer", *(f"{layer}" if head is None else f"{layer}.{head}" for layer, head in units))
    return WideTable(heads, tuple(tuple(map(Text, line)) for line in lines))


def _lost_cell(row: ErasureRow | None) -> str:
    if row is None:
        return ""
    return f"{_figure(row.before)}>{_figure(row.after)}{'*' if row.went else ' '}"


def _left(row: ErasureRow) -> str:
    """One accuracy in words, by its interval."""
    figure, before = _with_ends(row.after, row.after_low, row.after_high), _figure(row.before)
    if row.after_low is None or row.after_high is None:
        return f"{figure} of {before}, without an interval"
    if row.before_low is not None and row.before_low <= CHANCE <= (row.before_high or 1):
        return f"{before} before was chance already, {figure} after"
    if row.after_low > CHANCE:
        fell = row.change_high is not None and row.change_high < 0
        return f"{figure} left of {before}" + ("" if fell else ", which is no less by its interval")
    if row.after_high < CHANCE:
        return f"{figure} of {before}, below chance"
    return f"nothing told from chance, {figure} of {before}"


def _kind(row: ErasureRow) -> str:
    return f"{'linear' if row.linear else 'not linear'} ({row.probe})"


def _worst(rows: Iterable[ErasureRow]) -> list[ErasureRow]:
    return sorted(rows, key=lambda row: row.change)[:MOST_NAMED]


def _with_ends(value: float, low: float | None, high: float | None) -> str:
    return _figure(value) + ("" if low is None or high is None else f" ({_figure(low)}-{_figure(high)})")


def _change(row: ErasureRow) -> str:
    low, high = row.change_low, row.change_high
    return _figure(row.change) + ("" if low is None or high is None else f" ({_figure(low)}, {_figure(high)})")


def _figure(value: float | None) -> str:
    return "" if value is None else short_figure(value)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
