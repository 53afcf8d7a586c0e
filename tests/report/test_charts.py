"""Every picture is drawn, saved in each form, and says what its data say."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from made_up_study import SHIFTS, make_rows

from repeng.errors import BadInput
from repeng.report.charts import (
    cluster_order,
    elicitation_plot,
    heat_map,
    inline_svg,
    matrix_chart,
    reliability_chart,
    save_chart,
    sweep_chart,
)
from repeng.report.frames import shift_frame
from repeng.results import COLUMNS, results_frame


def chart_svg(chart: Any) -> str:
    """The chart as SVG text."""
    with tempfile.TemporaryDirectory() as folder:
        return save_chart(chart, Path(folder) / "chart.svg").read_text()


DRAWN = set(
    ["svg", "title", "desc", "g", "path", "line", "rect", "text", "tspan", "defs", "linearGradient", "stop", "clipPath"]
)
ROWS = make_rows({"mms": (0.91, 0.95, 0.49, 0.45), "zero-shot": (0.7, 0.72, 0.5, 0.48)})


def sweep_rows() -> list[dict[str, Any]]:
    return [
        {
            "probe": probe,
            "source": "easy",
            "target": "hard",
            "layer": layer,
            "head": None,
            "accuracy": 0.5 + 0.1 * layer,
            "accuracy_low": 0.45 + 0.1 * layer,
            "accuracy_high": 0.55 + 0.1 * layer,
            "held_out_accuracy": 0.6 + 0.1 * layer,
            "chosen": layer == 1,
            "oracle": layer == 3,
        }
        for probe in ("mms", "lat")
        for layer in range(4)
    ]


def head_rows() -> list[dict[str, Any]]:
    return [
        {**row, "head": head, "accuracy": row["accuracy"] - 0.05 * head, "chosen": row["chosen"] and head == 2}
        for row in sweep_rows()
        for head in range(3)
    ]


def every_chart() -> dict[str, Any]:
    bins = pd.DataFrame({"method": "mms", "label": "extreme", "confidence": [0.6, 0.9], "accuracy": [0.5, 0.9]})
    return {
        "heat map": heat_map(shift_frame(ROWS)),
        "elicitation": elicitation_plot(shift_frame(ROWS)),
        "reliability": reliability_chart(bins.assign(n_pairs=20)),
        "sweep": sweep_chart(sweep_rows()),
        "heads": sweep_chart(head_rows()),
        "matrix": matrix_chart(["a", "b", "c"], np.eye(3).tolist(), np.eye(3).tolist()),
        "matrix without directions": matrix_chart(["a", "b"], [[0.9, 0.4], [0.6, 0.8]], None),
    }


CHARTS = ("heat map", "elicitation", "reliability", "sweep", "heads", "matrix", "matrix without directions")


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_drawn(name: str) -> None:
    svg = chart_svg(every_chart()[name])
    assert svg.startswith("<svg")
    assert "NaN" not in svg and "undefined" not in svg


def test_the_heat_map_writes_every_accuracy_in_its_cell() -> None:
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart_svg(heat_map(shift_frame(ROWS))))
    figures = [text for text in texts if re.fullmatch(r"0\.\d\d", text)]
    assert sorted(figures) == sorted(f"{row.accuracy:.2f}" for row in ROWS)
    assert {f"{source} → {target}" for source, target, _, _ in SHIFTS} <= set(texts)


def test_what_was_not_measured_has_no_cell_and_no_point() -> None:
    blank = {"accuracy": None, "accuracy_low": None, "accuracy_high": None, "elicitation": None}
    rows = [replace(ROWS[0], **blank), *ROWS[1:4]]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart_svg(heat_map(shift_frame(rows))))
    assert "easy → hard" in texts and "0.95" in texts
    assert not {"null", "NaN", "0.00"} & set(texts)
    points = re.findall(r'aria-label="([^"]*elicitation[^"]*)"', chart_svg(elicitation_plot(shift_frame(rows))))
    assert sorted(re.findall(r"shift: ([^;]*)", " ".join(points))) == [
        "plain → cued",
        "plain → sycophantic",
        "short → long",
    ]


def test_an_elicitation_plot_without_capability_or_baseline_leaves_out_their_marks() -> None:
    frame = shift_frame(make_rows({"mms": (0.9, 0.8, 0.7, 0.6)}, capability=None)).assign(baseline_accuracy=None)
    bare, full = chart_svg(elicitation_plot(frame)), chart_svg(elicitation_plot(shift_frame(ROWS)))
    assert bare.count("target_tuned_capability: 0.9") == 0
    assert full.count("target_tuned_capability: 0.900") == len(SHIFTS)


def drawn_marks(svg: str) -> list[dict[str, Any]]:
    """Every labelled line and point of a chart: what its label says, and where it begins and ends on a scale of 0 to 1.

    The elicitation plot is 380 pixels wide.
    """
    found = []
    for tag, label, x, y, rest in re.findall(
        r'<(line|path) aria-label="([^"]*)"[^>]*transform="translate\(([-\d.]+),([-\d.]+)\)[^"]*"([^>]*)>', svg
    ):
        said = dict(part.split(": ", 1) for part in label.split("; "))
        length = re.search(r'\bx2="([-\d.]+)"', rest)
        end = float(x) + float(length[1]) if length else float(x)
        found.append({"tag": tag, **said, "from": float(x) / 380, "to": end / 380, "y": float(y)})
    return found


def test_every_bar_of_the_elicitation_plot_lies_on_its_interval_and_in_its_methods_row() -> None:
    rows = [
        replace(row, accuracy_low=row.accuracy - 0.11, accuracy_high=row.accuracy + 0.04, baseline_accuracy=0.3)
        for row in make_rows({"mms": (0.91, 0.95, 0.49, 0.45), "lat": (0.6, 0.5, 0.2, 0.8)}, capability=0.8)
    ]
    marks = drawn_marks(chart_svg(elicitation_plot(shift_frame(rows))))
    bars = {(one["shift"], one["method"]): one for one in marks if one["tag"] == "line" and "method" in one}
    points = {(one["shift"], one["method"]): one for one in marks if one["tag"] == "path" and "method" in one}
    assert len(bars) == len(points) == len(rows)
    for row in rows:
        bar, point = (found[f"{row.source} → {row.target}", row.method] for found in (bars, points))
        assert (bar["from"], bar["to"]) == pytest.approx((row.accuracy_low, row.accuracy_high))
        assert point["from"] == pytest.approx(row.accuracy) and point["y"] == bar["y"]
    for label in ("extreme", "probing"):
        shifts = [f"{source} → {target}" for source, target, each, _ in SHIFTS if each == label]
        down = [bars[shift, method]["y"] for shift in shifts for method in ("mms", "lat")]
        assert down == sorted(set(down))


def test_the_elicitation_plot_spans_from_the_baseline_to_the_capability_of_each_shift() -> None:
    rows = make_rows({"mms": (0.9, 0.9, 0.5, 0.5)})
    rows = [
        replace(row, baseline_accuracy=0.2 + 0.1 * place, target_tuned_capability=0.9 - 0.1 * place)
        for place, row in enumerate(rows)
    ]
    marks = [one for one in drawn_marks(chart_svg(elicitation_plot(shift_frame(rows)))) if "method" not in one]
    for row in rows:
        own = [one for one in marks if one.get("shift") == f"{row.source} → {row.target}"]
        (span,) = [one for one in own if one["tag"] == "line"]
        assert (span["from"], span["to"]) == pytest.approx((row.baseline_accuracy, row.target_tuned_capability))
        ticks = [one["from"] for one in own if one["tag"] == "path"]
        assert sorted(ticks) == pytest.approx(sorted([row.baseline_accuracy, row.target_tuned_capability]))
        assert {one["y"] for one in own} == {span["y"]}


def test_two_models_stand_next_to_each_other() -> None:
    rows = ROWS + make_rows({"mms": (0.6, 0.6, 0.6, 0.6)}, model="org/small")
    assert set(shift_frame(rows)["name"]) == {"mms · tiny", "zero-shot · tiny", "mms · small"}
    assert "org/small" in chart_svg(elicitation_plot(shift_frame(rows)))


def test_a_sweep_marks_the_sources_choice_and_the_targets_oracle() -> None:
    spec = json.loads(sweep_chart(sweep_rows()).to_json())
    marked = {layer["transform"][0]["filter"]: layer["mark"] for layer in spec["spec"]["layer"] if "transform" in layer}
    assert marked["datum.chosen"]["filled"] is True
    assert marked["datum.oracle"]["filled"] is False
    assert "oracle" in json.dumps(spec["title"])


def test_every_head_of_every_layer_has_a_cell_and_the_source_and_the_target_each_their_mark() -> None:
    svg = chart_svg(sweep_chart([{**row, "oracle": row["oracle"] and row["head"] == 0} for row in head_rows()]))
    labels = re.findall(r'aria-label="layer: (\d); head: (\d); accuracy: (0\.\d+)[^"]*"', svg)
    units = Counter((int(layer), int(head)) for layer, head, _ in labels)
    marked = {(1, 2), (3, 0)}
    assert units == {
        (layer, head): 2 * (2 if (layer, head) in marked else 1) for layer in range(4) for head in range(3)
    }
    assert {(int(layer), int(head), round(float(accuracy), 3)) for layer, head, accuracy in labels} == {
        (row["layer"], row["head"], round(row["accuracy"], 3)) for row in head_rows()
    }
    assert "mms: easy → hard" in svg and "lat: easy → hard" in svg


def test_a_sweep_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="no layer to draw"):
        sweep_chart([])


def test_directions_that_point_alike_stand_together() -> None:
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [0.99, 0.1], [0.1, 0.99]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    order = cluster_order(list("abcd"), np.full((4, 4), 0.5).tolist(), (directions @ directions.T).tolist())
    assert sorted(order) == [0, 1, 2, 3]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1


def test_without_directions_distributions_of_like_accuracies_stand_together() -> None:
    alike = [[0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.1, 0.9]]
    order = cluster_order(list("abcd"), [alike[0], alike[1], alike[0], alike[1]], None)
    assert abs(order.index(0) - order.index(2)) == 1


def test_a_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(BadInput, match="N by N"):
        matrix_chart(["a", "b"], [[1.0, 0.0, 0.0]] * 3, None)


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<svg")])
def test_a_chart_is_saved_by_its_ending(tmp_path: Path, ending: str, start: bytes) -> None:
    path = save_chart(every_chart()["heat map"], tmp_path / "deep" / f"picture{ending}")
    assert path.read_bytes().lstrip().startswith(start)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_saved_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    text = save_chart(every_chart()["heat map"], tmp_path / "picture.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"<(script|link)[^>]*(src|href)=", text)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.png, \.svg, \.pdf or \.html"):
        save_chart(every_chart()["heat map"], tmp_path / "picture.gif")


def test_an_inline_picture_is_named_once_and_follows_the_pages_colours() -> None:
    svg = inline_svg(chart_svg(every_chart()["matrix"]), title="Transfer <1>", description="d & e", prefix="m")
    assert svg.count('role="') == 1 and 'role="img"' in svg
    assert '<title id="m-title">Transfer &lt;1&gt;</title>' in svg
    assert "var(--ink)" in svg and "aria-label=" not in svg
    assert "<title>and on: a; fitted on: a; cosine: 1</title>" in svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) and all(name.startswith("m-") for name in ids)
    assert all(name in ids for name in re.findall(r"url\(#([^)]+)\)", svg))


def test_figures_on_hover_have_three_decimals() -> None:
    rows = [replace(row, accuracy=0.547945205479452) for row in ROWS]
    svg = inline_svg(chart_svg(heat_map(shift_frame(rows))), title="t", description="d", prefix="p")
    assert "accuracy: 0.548" in svg and "0.54794" not in svg


def test_confidence_begins_at_chance() -> None:
    assert "'confidence' for a linear scale with values from 0.5 to 1.0" in chart_svg(every_chart()["reliability"])


def test_many_panels_are_small_and_held_out_lines_stay_inside() -> None:
    rows = [{**row, "target": f"t{number}", "held_out_accuracy": 0.1} for row in sweep_rows() for number in range(5)]
    few, many = json.loads(sweep_chart(sweep_rows()).to_json()), json.loads(sweep_chart(rows).to_json())
    assert (few["columns"], many["columns"]) == (2, 3)
    assert many["spec"]["width"] < few["spec"]["width"]
    assert "'pair accuracy' for a linear scale with values from 0.1 to 1.0" in chart_svg(sweep_chart(rows))


def test_a_frame_has_the_columns_of_the_results_table() -> None:
    frame = results_frame(ROWS)
    assert list(frame["accuracy"]) == [row.accuracy for row in ROWS]
    assert list(frame.columns) == list(COLUMNS)


def test_a_name_that_means_harm_stays_text_in_a_picture() -> None:
    name = "<script>alert('x')</script>\"&"
    rows = [replace(row, source=name) for row in ROWS]
    svg = inline_svg(chart_svg(heat_map(shift_frame(rows))), title=name, description=name, prefix="p")
    assert "<script" not in svg
    assert {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()} <= DRAWN
