"""Every picture is drawn, saved in each form, and says what its data say."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from made_up_study import SHIFTS, make_row, make_rows

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
    transfer_chart,
)
from repeng.report.elicitation_chart import BEYOND, ROOM
from repeng.report.frames import shift_frame
from repeng.report.theme import GRID, MUTED
from repeng.results import COLUMNS, PAIR_ACCURACY, results_frame
from repeng.study.cached_sweep import Transfer


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


BINS = pd.DataFrame({"method": "mms", "label": "extreme", "confidence": [0.6, 0.9], "accuracy": [0.5, 0.9]})
CHARTS: dict[str, Callable[[], Any]] = {
    "heat map": lambda: heat_map(shift_frame(ROWS)),
    "elicitation": lambda: elicitation_plot(shift_frame(ROWS)),
    "reliability": lambda: reliability_chart(BINS.assign(n_pairs=20)),
    "sweep": lambda: sweep_chart(sweep_rows()),
    "heads": lambda: sweep_chart(head_rows()),
    "matrix": lambda: matrix_chart(["a", "b", "c"], np.eye(3).tolist(), np.eye(3).tolist()),
    "matrix without directions": lambda: matrix_chart(["a", "b"], [[0.9, 0.4], [0.6, 0.8]], None),
}


@cache
def svg_of(name: str) -> str:
    """One of `CHARTS` as SVG text, drawn once."""
    return chart_svg(CHARTS[name]())


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_drawn(name: str) -> None:
    svg = svg_of(name)
    assert svg.startswith("<svg")
    assert "NaN" not in svg and "undefined" not in svg


def test_the_heat_map_writes_every_accuracy_in_its_cell() -> None:
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg_of("heat map"))
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
    assert Counter(re.findall(r"shift: ([^;]*)", " ".join(points))) == {
        "plain → cued": 2,  # an interval and a point
        "plain → sycophantic": 2,
        "short → long": 2,
    }


def test_an_elicitation_plot_without_capability_or_baseline_leaves_out_their_marks() -> None:
    frame = shift_frame(make_rows({"mms": (0.9, 0.8, 0.7, 0.6)}, capability=None)).assign(baseline_accuracy=None)
    bare, full = chart_svg(elicitation_plot(frame)), svg_of("elicitation")
    assert "target-tuned capability: 0.9" not in bare
    assert full.count("target-tuned capability: 0.900") == len(SHIFTS)
    for absent in ("capability", "baseline", "Elicitation"):
        assert absent not in bare and absent in full


def drawn_marks(svg: str) -> list[dict[str, Any]]:
    """Every labelled line and point of a chart: what its label says, and where it begins and ends on a scale of 0 to 1.

    A panel of the elicitation plot is 320 pixels wide.
    """
    found = []
    for tag, label, x, y, rest in re.findall(
        r'<(line|path) aria-label="([^"]*)"[^>]*transform="translate\(([-\d.]+),([-\d.]+)\)[^"]*"([^>]*)>', svg
    ):
        said = dict(part.split(": ", 1) for part in label.split("; "))
        length = re.search(r'\bx2="([-\d.]+)"', rest)
        end = float(x) + float(length[1]) if length else float(x)
        found.append({"tag": tag, **said, "from": float(x) / 320, "to": end / 320, "y": float(y)})
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
    for source, target, *_ in SHIFTS:
        down = [bars[f"{source} → {target}", method]["y"] for method in ("mms", "lat")]
        assert down == sorted(set(down))


def test_the_elicitation_plot_marks_the_baseline_and_the_capability_of_each_shift() -> None:
    rows = [
        replace(row, baseline_accuracy=0.2 + 0.1 * place, target_tuned_capability=0.9 - 0.1 * place)
        for place, row in enumerate(make_rows({"mms": (0.9, 0.9, 0.5, 0.5)}))
    ]
    marks = drawn_marks(chart_svg(elicitation_plot(shift_frame(rows))))
    for row in rows:
        for mark, value in (("baseline", row.baseline_accuracy), ("capability", row.target_tuned_capability)):
            name = next(key for one in marks for key in one if mark in key)
            (own,) = [one for one in marks if one["shift"] == f"{row.source} → {row.target}" and name in one]
            assert own["tag"] == "line" and own["from"] == own["to"] == pytest.approx(value)


@pytest.mark.parametrize(("baseline", "between", "filled"), [(0.6, ROOM, True), (0.95, BEYOND, False)])
def test_a_baseline_above_the_capability_has_an_outline_in_place_of_the_grey_band(
    baseline: float, between: str, filled: bool
) -> None:
    rows = [replace(row, baseline_accuracy=baseline) for row in make_rows({"mms": (0.9, 0.9, 0.5, 0.5)})]
    chart = elicitation_plot(shift_frame(rows))
    assert {row["between"] for row in chart.to_dict()["datasets"]["bands"]} == {between}
    svg = chart_svg(chart)
    bands = re.findall(r"<path [^>]*\bd=\"M[\d.]+,[\d.]+h[\d.-]+v[\d.]+h[\d.-]+Z\"([^>]*)stroke=\"" + MUTED, svg)
    assert len(bands) == len(SHIFTS) and all((GRID in band) == filled for band in bands)
    assert all(f">{text}<" in svg for text in (ROOM, BEYOND, "target-tuned capability", "zero-shot baseline"))


def test_no_panel_of_the_elicitation_plot_is_taller_than_a_screen_and_each_has_its_own_scale() -> None:
    shifts = [make_row(method=method, target=f"t{n}", accuracy=0.5) for n in range(20) for method in "abcdefghi"]
    panels = elicitation_plot(shift_frame(shifts)).to_dict()["concat"]
    assert [panel["title"]["text"] for panel in panels] == [f"shifts, {part} of 3" for part in (1, 2, 3)]
    assert all(panel["height"] < 700 for panel in panels)
    orients = [layer["encoding"]["x"]["axis"]["orient"] for panel in panels for layer in panel["layer"][-2:]]
    assert orients == ["top"] * 6


def test_every_marker_reads_on_top_of_its_own_interval_and_differs_from_the_others() -> None:
    names = list("abcdefghij")
    rows = [make_row(method=name, accuracy=0.5, accuracy_low=0.4, accuracy_high=0.6) for name in names]
    points = re.findall(
        r'aria-label="shift[^"]*method: (\w);[^>]*? d="([^"]+)"', chart_svg(elicitation_plot(shift_frame(rows)))
    )
    assert [name for name, _ in points] == names
    for _, path in points:
        if "A" not in path:
            heights = [float(y) for y in re.findall(r"[ML][-\d.]+,([-\d.]+)", path)]
            tall = max(heights) - min(heights) if "V" not in path and "v" not in path else 9
            assert tall >= 4
    assert len({path for _, path in points[:9]}) == 9


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


def test_a_transfer_matrix_says_probe_model_layers_counts_and_intervals_and_outlines_what_was_fitted_on() -> None:
    found = Transfer(
        "mini",
        "mms",
        names=("a", "b", "a+b"),
        targets=("a", "b"),
        layers=((2, 3, 4), (1,), (2, 4)),
        accuracy=[[0.91, 0.62], [0.53, 0.94], [0.85, 0.86]],
        accuracy_low=[[0.81, 0.42], [0.33, 0.84], [0.75, None]],
        accuracy_high=[[0.97, 0.72], [0.73, 0.98], [0.95, None]],
        n=(40, 55),
        n_prompts=(40, 50),
        figures=(PAIR_ACCURACY, PAIR_ACCURACY),
        cosine=np.eye(3).tolist(),
        cosine_layer=2,
    )
    texts = set(re.findall(r"<t(?:ext|span)[^>]*>([^<]+)<", chart_svg(transfer_chart(found))))
    assert {"Transfer of mms on mini", "a (2-4)", "b (1)", "a+b (2, 4)", "a (40)", "b (55)"} <= texts
    assert {"0.91", "0.81–0.97", "0.42–0.72", "cosine of directions at layer 2"} <= texts
    assert "95 % intervals over prompts, under each figure, are 0.14 to 0.40 wide" in texts
    drawn = json.loads(transfer_chart(found).to_json())
    cells = [row for rows in drawn["datasets"].values() for row in rows if "own" in row]
    outlined = {(row["fitted on"], row["tested on"]) for row in cells if row["own"]}
    assert outlined == {("a", "a"), ("b", "b"), ("a+b", "a"), ("a+b", "b")}


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<svg")])
def test_a_chart_is_saved_by_its_ending(tmp_path: Path, ending: str, start: bytes) -> None:
    path = save_chart(CHARTS["heat map"](), tmp_path / "deep" / f"picture{ending}")
    assert path.read_bytes().lstrip().startswith(start)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_saved_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    text = save_chart(CHARTS["heat map"](), tmp_path / "picture.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"<(script|link)[^>]*(src|href)=", text)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.png, \.svg, \.pdf or \.html"):
        save_chart(CHARTS["heat map"](), tmp_path / "picture.gif")


def test_an_inline_picture_is_named_once_and_follows_the_pages_colours() -> None:
    svg = inline_svg(svg_of("matrix"), title="Transfer <1>", description="d & e", prefix="m")
    assert svg.count('role="') == 1 and 'role="img"' in svg
    assert '<title id="m-title">Transfer &lt;1&gt;</title>' in svg
    assert "var(--ink)" in svg and "aria-label=" not in svg
    assert "<title>a and b: cosine 0.000</title>" in svg and "<title>a on a: accuracy 1.000</title>" in svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) and all(name.startswith("m-") for name in ids)
    assert all(name in ids for name in re.findall(r"url\(#([^)]+)\)", svg))


def test_figures_on_hover_have_three_decimals() -> None:
    rows = [replace(row, accuracy=0.547945205479452) for row in ROWS]
    svg = inline_svg(chart_svg(heat_map(shift_frame(rows))), title="t", description="d", prefix="p")
    assert "accuracy: 0.548" in svg and "0.54794" not in svg


def test_confidence_begins_at_chance() -> None:
    svg = svg_of("reliability")
    assert ">0.5<" in svg and ">0.4<" not in svg.split("share right")[0]


def many_probes(count: int, targets: int = 1) -> list[dict[str, Any]]:
    return [
        {**row, "probe": f"p{number}", "target": f"t{target}", "held_out_accuracy": 0.1}
        for row in sweep_rows()
        if row["probe"] == "mms"
        for number in range(count)
        for target in range(targets)
    ]


def test_many_panels_are_small_and_held_out_lines_stay_inside() -> None:
    few, many = (json.loads(sweep_chart(many_probes(1, targets)).to_json()) for targets in (1, 5))
    assert (few["columns"], many["columns"]) == (2, 3)
    assert many["spec"]["width"] < few["spec"]["width"]
    domains = [layer["encoding"]["y"]["scale"]["domain"] for layer in few["spec"]["layer"][1:]]
    assert all(low < 0.1 for low, _ in domains)


@pytest.mark.parametrize(("probes", "panels"), [(1, ["e → t0"]), (3, ["e → t0"]), (5, [f"p{n}" for n in range(5)])])
def test_more_than_three_probes_get_a_panel_each(probes: int, panels: list[str]) -> None:
    spec = sweep_chart(many_probes(probes)).to_dict()
    rows = next(iter(spec["datasets"].values()))
    assert [*dict.fromkeys(row["panel"].replace("easy", "e") for row in rows)] == panels
    dotted = [
        layer for layer in spec["spec"]["layer"] if "held_out" in str(layer["encoding"].get("y", {}).get("field"))
    ]
    assert len(dotted) == (0 if probes == 3 else 1)
    assert ("dotted" in json.dumps(spec["title"])) == (probes != 3)


@pytest.mark.parametrize("name", ["sweep", "reliability"])
def test_no_axis_stands_under_an_empty_cell_and_titles_are_in_line(name: str) -> None:
    bins = [{"method": f"m{n}", "label": "a", "confidence": x, "accuracy": 1.0} for n in range(4) for x in (0.5, 1.0)]
    rows = [{**row, "accuracy": 1.0, "accuracy_high": 1.0} for row in many_probes(2, 5)]
    chart = sweep_chart(rows) if name == "sweep" else reliability_chart(pd.DataFrame(bins).assign(n_pairs=9))
    svg = chart_svg(chart)
    assert len(re.findall(r'aria-label="X-axis', svg)) == (5 if name == "sweep" else 4)
    first = [f"easy → t{n}" for n in range(3)] if name == "sweep" else ["m0", "m1", "m2"]
    heights = [height_of(svg, title) for title in first]
    assert heights == pytest.approx([heights[0]] * 3, abs=0.1)


def height_of(svg: str, text: str) -> float:
    """Where a text stands in a picture, from its top."""

    def found(element: ElementTree.Element, above: float) -> list[float]:
        moved = re.search(r"translate\([-\d.]+,([-\d.]+)\)", element.get("transform", ""))
        here = above + (float(moved[1]) if moved else 0.0)
        own = [here] if element.tag.endswith("text") and element.text == text else []
        return own + [height for child in element for height in found(child, here)]

    (height,) = found(ElementTree.fromstring(svg), 0.0)
    return height


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
