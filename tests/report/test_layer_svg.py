"""Accuracy by layer as SVG: the same panels, lines and marks as the Vega-Lite chart of the same rows."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from made_up_study import make_layers

from repeng.report.layer_charts import sweep_chart
from repeng.report.layer_svg import layer_svg
from repeng.report.pictures import SVG, svg_of
from repeng.results import LayerRow, record_of


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in drawn(svg).iter(f"{{{SVG}}}text")]


def in_vega(rows: list[LayerRow]) -> str:
    return svg_of(sweep_chart(map(record_of, rows)))


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """The points of every line of accuracies but those held out, in pixels of its panel."""
    found = re.findall(r'<path(?=[^>]*aria-label)[^>]* d="(M[\d.,-]+(?:L[\d.,-]+)+)"([^>]*)', svg)
    paths = [path for path, look in found if 'dasharray="1,3"' not in look]
    return [[tuple(map(float, point.split(","))) for point in path[1:].split("L")] for path in paths]  # type: ignore[misc]


@pytest.mark.parametrize("probes", [("mms", "lat"), ("mms",)])
@pytest.mark.parametrize("few", [True, False])
def test_it_says_and_draws_what_the_chart_does(probes: tuple[str, ...], few: bool) -> None:
    rows = make_layers(probes=probes)
    rows = [row for row in rows if row.source == "easy"] if few else rows
    ours, theirs = layer_svg(rows), in_vega(rows)
    assert sorted(texts(ours)) == sorted(texts(theirs))
    for own, other in zip(sorted(lines(ours)), sorted(lines(theirs)), strict=True):
        assert sum(own, ()) == pytest.approx(sum(other, ()), abs=0.06)
    for symbol in ("a3.71", "l6.89,-6.89"):
        assert ours.count(symbol) >= len(rows) // 4
    assert ours.count('opacity="0.15"') == theirs.count('opacity="0.15"')


def test_a_mark_says_its_figures_and_names_are_escaped() -> None:
    rows = [replace(row, probe="a<b", target='"&') for row in make_layers(probes=("mms",)) if row.source == row.target]
    svg = layer_svg(rows)
    labels = [element.get("aria-label") for element in drawn(svg).iter() if element.get("aria-label")]
    chosen = next(row for row in rows if row.chosen)
    assert (
        f"method: a<b; layer: 1; accuracy: {chosen.accuracy:.3f}; accuracy low: {chosen.accuracy_low:.3f}; "
        f"accuracy high: {chosen.accuracy_high:.3f}; held out accuracy: 0.600"
    ) in labels
    assert 'easy → "&' in texts(svg)


def test_a_band_is_drawn_where_the_interval_is_known_alone() -> None:
    rows = [row for row in make_layers(probes=("mms",)) if row.target == "hard"]
    assert layer_svg([replace(row, accuracy_low=None) for row in rows]).count('opacity="0.15"') == 0
    cut = [replace(row, accuracy_low=None) if row.layer == 1 else row for row in rows]
    assert layer_svg(cut).count('opacity="0.15"') == 2
