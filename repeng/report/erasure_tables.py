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
    """What the intervals say, at the layer where the source's probe does best on held-out pairs."""
    here = found.at(found.layer, found.head)
    where = f"layer {found.layer}" + ("" if found.head is None else f" head {found.head}")
    own = [row for row in here if row.rows == FRESH and row.target == here[0].target]
    said = [f"{_kind(row)} ({row.probe}): {_left(row)}" for row in own]
    for target in dict.fromkeys(row.target for row in here if row.rows == FRESH and row.target != here[0].target):
        known = [row for row in here if row.rows == FRESH and row.target == target]
        said.append(f"on {target} " + ", ".join(f"{row.probe} {_left(row)}" for row in known))
    sentence = f"{found.source} by {found.by} at {where}, on {own[0].target if own else ''}: {'; '.join(said)}."
    lost = [row for row in here if row.rows == OWN]
    if not lost:
        return sentence
    went = [row for row in lost if row.went]
    listed = ", ".join(f"{row.target} {short_figure(row.before)} to {short_figure(row.after)}" for row in _worst(went))
    more = f", and {len(went) - MOST_NAMED} more" if len(went) > MOST_NAMED else ""
    count = f"{len(went)} of {len(lost)} other distributions lost their own labels' figure"
    return f"{sentence} {count}" + (f": {listed}{more}." if went else ".")


MOST_NAMED = 4
"""Distributions that lost something are named in a sentence, those that lost most."""


def variance_line(found: Erasure) -> str:
    """Which share of the source's activations' variance goes, over the layers."""
    rows = {row.layer: row for row in found.rows if row.rows == SAME}
    if not rows or found.head is not None:
        return ""
    cells = [f"{layer}: {_share(row.variance_removed)}" for layer, row in rows.items()]
    random = [row.variance_random for row in rows.values() if row.variance_random is not None]
    null = f" (a random direction: {_share(min(random))} to {_share(max(random))})" if random else ""
    return f"variance of {next(iter(rows.values())).target} removed, by layer  {'  '.join(cells)}{null}"


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
                _with_ends(fresh.change, fresh.change_low, fresh.change_high),
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
    figure = _with_ends(row.after, row.after_low, row.after_high)
    if row.after_low is None or row.after_high is None:
        return f"{figure} left of {_figure(row.before)}, without an interval"
    if row.after_low > CHANCE:
        fell = row.change_high is not None and row.change_high < 0
        return f"{figure} left" + (
            f" of {_figure(row.before)}" if fell else f", no less than the {_figure(row.before)}"
        )
    if row.after_high < CHANCE:
        return f"{figure}, below chance"
    before = "" if row.before_low is not None and row.before_low > CHANCE else " (nor was there before)"
    return f"nothing told from chance, {figure}{before}"


def _kind(row: ErasureRow) -> str:
    return "linear" if row.linear else "not linear"


def _worst(rows: Iterable[ErasureRow]) -> list[ErasureRow]:
    return sorted(rows, key=lambda row: row.change)[:MOST_NAMED]


def _with_ends(value: float, low: float | None, high: float | None) -> str:
    ends = "" if low is None or high is None else f" ({_figure(low)} to {_figure(high)})"
    return f"{_figure(value)}{ends}"


def _figure(value: float | None) -> str:
    return "" if value is None else short_figure(value)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
