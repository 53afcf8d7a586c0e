"""The report's causal part: a conclusion for each probe and target, the figures behind it, and curves over doses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import pandas as pd

from repeng.report.causal_sentences import CausalSentence, causal_sentences, where_of
from repeng.report.frames import in_order
from repeng.report.interval_text import ends
from repeng.report.page import Cell, Grid, Line, Picture, figure
from repeng.report.panels import panel_title
from repeng.report.theme import MUTED, colour_by, shape_by, themed, tooltips
from repeng.results import (
    ADD,
    CAUSAL_LEVEL,
    LEACE,
    PREFERENCE,
    REMOVE,
    VERDICT,
    VERDICT_GAP,
    CausalRow,
    DoseRow,
    ResultRow,
    record_of,
)

SHOWN = (
    (ADD, VERDICT, "added: verdict"),
    (ADD, PREFERENCE, "added: preference"),
    (REMOVE, PREFERENCE, "taken away: preference"),
    (REMOVE, VERDICT_GAP, "taken away: verdict gap"),
    (LEACE, PREFERENCE, "LEACE: preference"),
)
CAPTION = (
    "Accuracy: of the probe, on the whole split. Then changes in nats where one standard deviation of the source "
    "along the direction is added at every token, where the direction is taken away, and where LEACE's subspace of "
    "the source's labels is; all at the first layer that a fit chose. Preference: log-probability of the best "
    "response less that of the worse. Verdict: log-odds of Yes, asked whether a response is right; its gap: best "
    "less worse. A star: beyond no change and beyond random directions of the same length, after Holm's correction "
    "over a row's four tests. Perplexity: of the source's prompts, over the model's own."
)
PANELS = (
    (VERDICT, "verdict, log-odds in nats"),
    (PREFERENCE, "preference, nats"),
    ("perplexity", "perplexity, times its own"),
)


@dataclass(frozen=True)
class CausalSection:
    """What the page shows.

    Attributes:
        sentences: one for each probe, source and target.
        table: the figures behind them.
        caption: of the table.
        pictures: curves over doses, one a probe; none where there are none.
    """

    sentences: tuple[CausalSentence, ...]
    table: Grid
    caption: str
    pictures: tuple[Picture, ...]


def causal_section(
    rows: Sequence[CausalRow], doses: Sequence[DoseRow], results: Sequence[ResultRow] = ()
) -> CausalSection | None:
    """None of a study without causal figures.

    Args:
        rows: of causal.csv.
        doses: of doses.csv.
        results: of results.csv, for the accuracy of each probe next to what its direction does.
    """
    if not rows:
        return None
    pictures = tuple(dose_pictures(doses, rows))
    return CausalSection(tuple(causal_sentences(rows)), _table(rows, _accuracies(results)), CAPTION, pictures)


def _accuracies(results: Sequence[ResultRow]) -> dict[tuple[str, str, str], Cell]:
    """Of each method, source and target, the source's own test split among them."""
    known = {(row.method, row.source, row.source): figure(row.source_id_accuracy) for row in results}
    return known | {
        (row.method, row.source, row.target): figure(row.accuracy, row.accuracy_low, row.accuracy_high)
        for row in results
    }


def dose_pictures(doses: Sequence[DoseRow], rows: Sequence[CausalRow]) -> list[Picture]:
    """Answers and perplexity over strengths, the first probe's picture with those of the others on demand."""
    found = []
    for number, method in enumerate(in_order(row.method for row in doses), start=1):
        own = [row for row in doses if row.method == method]
        bands = [row for row in rows if row.method == method and row.edit == ADD]
        caption = (
            "The model's answers at several strengths of the direction, in standard deviations of the source along it; "
            "bands are intervals over prompts and fits. Grey bars at 1: where a random direction of the same length "
            "leads, 95 % of the time."
        )
        picture = Picture(
            "doses" if number == 1 else f"doses-{number}",
            f"Doses: {method}",
            caption,
            dose_chart(own, bands),
            _dose_table(own),
        )
        found.append(picture)
    return [replace(found[0], more=tuple(found[1:]))] if found else []


def dose_chart(doses: Sequence[DoseRow], rows: Sequence[CausalRow]) -> Any:
    """Verdict, preference and perplexity of one probe over strengths: a row of panels a source, a line a target.

    Args:
        doses: of one probe.
        rows: of the same probe, `add` alone, for the grey bars.
    """
    frame = pd.DataFrame([record_of(row) for row in doses])
    bars = pd.DataFrame([record_of(row) for row in rows])
    if not bars.empty:
        low, high = bars["before"] + bars["random_low"], bars["before"] + bars["random_high"]
        bars = bars.assign(strength=1.0, low=low, high=high).dropna(subset=["low", "high"])
    targets = in_order(frame["target"])
    panels = []
    for source in in_order(frame["source"]):
        own = frame[frame["source"] == source]
        about = bars[bars["source"] == source] if not bars.empty else bars
        panels.append(alt.hconcat(*(_panel(own, about, source, targets, *panel) for panel in PANELS), spacing=16))
    method = str(frame["method"].iloc[0])
    said = f"Answers and perplexity over strengths of the direction of {method}."
    return themed(alt.vconcat(*panels, spacing=20), title=f"Doses: {method}", description=said)


def _panel(frame: pd.DataFrame, bars: pd.DataFrame, source: str, targets: list[str], name: str, title: str) -> Any:
    """One measure over strengths."""
    of_cost = name == "perplexity"
    measure = VERDICT if of_cost else name
    own = frame[frame["measure"] == measure]
    # What it costs is asked of the source's prompts alone.
    own = own[own["target"] == source].dropna(subset=["perplexity"]) if of_cost else own
    value = "perplexity" if of_cost else "value"
    strengths = sorted(frame["strength"].unique())
    reach = alt.Scale(domain=[strengths[0] - 0.3, strengths[-1] + 0.3], nice=False)
    x = alt.X(
        "strength:Q",
        scale=reach,
        axis=alt.Axis(values=strengths, tickCount=len(strengths), format="g", title="strength"),
    )
    scale = alt.Scale(type="log") if of_cost else alt.Scale(zero=False)
    figures = ("perplexity",) if of_cost else ("value", "value_low", "value_high")
    base = alt.Chart(own).encode(
        x=x,
        y=alt.Y(f"{value}:Q", scale=scale, title=None),
        color=colour_by("target", targets, title="target"),
        tooltip=tooltips("target:N", "strength:Q", figures=figures),
    )
    layers = []
    if not of_cost:
        layers.append(
            base.mark_area(opacity=0.15).encode(y=alt.Y("value_low:Q", scale=scale, title=None), y2="value_high:Q")
        )
        here = bars[bars["measure"] == measure] if not bars.empty else bars
        if not here.empty:
            grey = alt.Chart(here).mark_bar(width=7, color=MUTED, opacity=0.35)
            layers.append(grey.encode(x=x, y=alt.Y("low:Q", scale=scale, title=None), y2="high:Q"))
    layers.append(base.mark_line(strokeWidth=2))
    layers.append(
        base.mark_point(filled=True, size=42, opacity=1).encode(shape=shape_by("target", targets, legend=None))
    )
    over = f"{source}: {title}" if name == PANELS[0][0] else title
    return alt.layer(*layers).properties(width=230, height=170, title=panel_title(over))


def _table(rows: Sequence[CausalRow], accuracies: Mapping[tuple[str, str, str], Cell]) -> Grid:
    lines = []
    for where in in_order(where_of(row) for row in rows):
        own = {(row.edit, row.measure): row for row in rows if where_of(row) == where}
        first = next(iter(own.values()))
        accuracy = accuracies.get((first.method, first.source, first.target), figure(None))
        cells = [Cell(first.conclusion), Cell(first.layers), accuracy]
        cells += [_change(own.get((edit, measure))) for edit, measure, _ in SHOWN]
        for edit in (ADD, REMOVE):
            row = own[edit, PREFERENCE]
            cells.append(figure(row.perplexity, row.perplexity_low, row.perplexity_high))
        lines.append(Line(where, tuple(cells)))
    heads = ("probe and target", "conclusion", "layers", "accuracy", *(head for *_, head in SHOWN))
    return Grid((*heads, "added: perplexity", "taken away: perplexity"), tuple(lines), ("conclusion", "layers"))


def _change(row: CausalRow | None) -> Cell:
    if row is None:
        return figure(None)
    star = "*" if row.p is not None and row.p < CAUSAL_LEVEL else ""
    return Cell(f"{row.change:+.2f}{star}", ends(row.change_low, row.change_high))


def _dose_table(doses: Sequence[DoseRow]) -> Grid:
    strengths = sorted({row.strength for row in doses})
    lines = []
    known = {(row.source, row.target, row.measure, row.strength): row for row in doses}
    for measure, title in PANELS[:2]:
        for source, target in dict.fromkeys((row.source, row.target) for row in doses):
            shift = source if source == target else f"{source} → {target}"
            cells = (_dose(known.get((source, target, measure, strength))) for strength in strengths)
            lines.append(Line(f"{shift}: {title}", tuple(cells)))
    return Grid(("shift and measure", *(f"{strength:+g}" if strength else "0" for strength in strengths)), tuple(lines))


def _dose(row: DoseRow | None) -> Cell:
    if row is None:
        return figure(None)
    return Cell(f"{row.value:.2f}", ends(row.value_low, row.value_high))
