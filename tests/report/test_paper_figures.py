"""Every figure in every style and format: exactly as wide as asked, its text at the printed size, with a caption."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from figure_files import read_pdf
from made_up_study import SHIFTS, make_layers, make_row, make_rows, write_study

import repeng
from repeng.errors import BadInput, UnknownName
from repeng.report.charts import elicitation_plot, save_chart, sweep_chart
from repeng.report.figures import KINDS, Figure, make_figure, styled
from repeng.report.frames import shift_frame
from repeng.report.restyle import restyled
from repeng.report.style import PAPER, SCREEN
from repeng.results import PAIR_ACCURACY, write_layers, write_results
from repeng.study.cached_sweep import Transfer

METHODS = {"mms": (0.91, 0.95, 0.49, 0.45), "lat": (0.8, 0.7, 0.3, 0.6), "zero-shot": (0.7, 0.72, 0.5, 0.48)}
WIDTHS = {"paper": "3.3in", "screen": "640px"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with predictions and layers, and next to it the matrix of a probe."""
    folder = tmp_path_factory.mktemp("figures") / "study"
    write_study(folder, METHODS)
    write_layers(make_layers(), folder / "layers.csv")
    accuracy = [[0.9, 0.5, 0.1], [0.6, 0.8, 1.0], [0.4, 0.0, 0.95]]
    matrix = Transfer(
        "tiny",
        "mms",
        names=("a", "b", "c"),
        targets=("a", "b", "c"),
        layers=((3,), (2, 3), (1,)),
        accuracy=accuracy,
        accuracy_low=[[max(0.0, value - 0.1) for value in row] for row in accuracy],
        accuracy_high=[[min(1.0, value + 0.1) for value in row] for row in accuracy],
        n=(40, 50, 60),
        n_prompts=(40, 50, 60),
        figures=(PAIR_ACCURACY,) * 3,
        cosine=[[1.0, 0.2, -0.1], [0.2, 1.0, -0.9], [-0.1, -0.9, 1.0]],
        cosine_layer=3,
    )
    (folder.parent / "matrix.json").write_text(json.dumps(asdict(matrix)))
    return folder


@pytest.fixture(scope="module")
def drawn(study: Path) -> Callable[[str, str], Figure]:
    """A figure of the study in a style, made once."""

    @cache
    def figure(kind: str, style: str) -> Figure:
        results = study.parent / "matrix.json" if kind == "matrix" else study
        methods = "mms" if kind == "transfer" else None
        return make_figure(kind, results, methods=methods, style=style, width=WIDTHS[style])

    return figure


def texts_of(chart: Any, folder: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", save_chart(chart, folder / "chart.svg").read_text())


@pytest.mark.parametrize("style", ["paper", pytest.param("screen", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_written_in_every_format_and_as_wide_as_asked(
    drawn: Callable[[str, str], Figure], kind: str, style: str, tmp_path: Path
) -> None:
    chart = drawn(kind, style).chart
    points = {"paper": 3.3 * 72, "screen": 640 * 0.75}[style]
    pdf = read_pdf(save_chart(chart, tmp_path / "figure.pdf").read_bytes())
    assert pdf.width == pytest.approx(points, abs=1)
    assert pdf.fonts > 0 and pdf.images == 0
    svg = save_chart(chart, tmp_path / "figure.svg").read_text()
    (width,) = re.findall(r'^<svg[^>]* width="([\d.]+)"', svg)
    assert float(width) * 0.75 == pytest.approx(pdf.width, abs=0.01)
    assert "NaN" not in svg and "undefined" not in svg
    png = save_chart(chart, tmp_path / "figure.png", dpi=144).read_bytes()
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">I", png[16:20])[0] == pytest.approx(2 * points, abs=2)
    page = save_chart(chart, tmp_path / "figure.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and not re.search(r"<(script|link)[^>]*(src|href)=", page)


@pytest.mark.parametrize("kind", KINDS)
def test_text_on_paper_is_of_seven_to_eight_points_at_the_printed_width(
    drawn: Callable[[str, str], Figure], kind: str, tmp_path: Path
) -> None:
    sizes = read_pdf(save_chart(drawn(kind, "paper").chart, tmp_path / "figure.pdf").read_bytes()).text_sizes
    assert sizes and min(sizes) >= 7 and max(sizes) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_on_paper_leaves_its_title_to_the_caption(drawn: Callable[[str, str], Figure], kind: str) -> None:
    paper, screen = (drawn(kind, style) for style in ("paper", "screen"))
    assert "title" not in paper.chart.to_dict() and "title" in screen.chart.to_dict()
    assert "mms" in paper.caption or "3 methods" in paper.caption or "mms, lat" in paper.caption


def test_the_caption_says_model_benchmark_how_many_pairs_and_what_the_intervals_are(
    drawn: Callable[[str, str], Figure],
) -> None:
    head, intervals = drawn("heat-map", "paper").caption.split(" 95 % ")
    assert head == (
        "Pair accuracy of mms, lat, zero-shot on 4 shifts of mini, model tiny. Rows are shifts (fitted on → tested "
        "on), columns are methods; 0.5 is chance. n = 80 pairs a shift."
    )
    reach = r"intervals over prompts, not drawn, reach 0\.1\d to either side in the median, 0\.1\d at most\."
    assert re.fullmatch(reach, intervals)
    assert "a box spans the two" in drawn("elicitation", "paper").caption
    assert "or the layers, whose scores are then averaged" in drawn("sweep", "paper").caption
    assert "Bars: 95 % intervals over prompts" in drawn("elicitation", "paper").caption
    assert "Bands: 95 % intervals over prompts" in drawn("sweep", "paper").caption


def test_cells_on_paper_hold_short_figures_in_an_ink_that_reads(
    drawn: Callable[[str, str], Figure], tmp_path: Path
) -> None:
    svg = save_chart(drawn("matrix", "paper").chart, tmp_path / "matrix.svg").read_text()
    figures = re.findall(r'<text[^>]*fill="(\w+)"[^>]*>([-−]?\d?\.\d+)</text>', svg)
    assert {"1.0", ".95", ".00", "−.90", ".20"} <= {text for _, text in figures}
    assert {ink for ink, text in figures if text in (".95", "1.0")} == {"white"}
    assert {ink for ink, text in figures if text in (".00", ".50", "−.90")} == {"black"}


def test_probes_on_paper_differ_in_their_dashes_and_the_legend_shows_them(
    drawn: Callable[[str, str], Figure], tmp_path: Path
) -> None:
    spec = drawn("sweep", "paper").chart.to_dict()
    lines = [layer for layer in spec["spec"]["layer"] if layer.get("mark", {}).get("type") == "line"]
    (dashed,) = [line for line in lines if "strokeDash" in line["encoding"]]
    dashes = dashed["encoding"]["strokeDash"]["scale"]["range"]
    assert len(dashes) == len({tuple(dash) for dash in dashes}) == 2
    assert lines == [dashed]
    svg = save_chart(drawn("sweep", "paper").chart, tmp_path / "sweep.svg").read_text()
    assert re.search(r'role-legend-symbol.*?stroke-dasharray="5,2"', svg)


def test_panels_that_do_not_fit_next_to_each_other_stand_below(study: Path) -> None:
    matrix = study.parent / "matrix.json"
    narrow, broad = (make_figure("matrix", matrix, style="paper", width=width).inches for width in ("2.5in", "7in"))
    assert narrow[0] == pytest.approx(2.5, abs=0.02) and broad[0] == pytest.approx(7, abs=0.02)
    assert narrow[1] > 1.2 * broad[1]
    columns = [
        make_figure("sweep", study, style="paper", width=width).chart.to_dict()["columns"] for width in ("1.7in", "5in")
    ]
    assert columns == [1, 2]


@pytest.mark.parametrize("kind", ["elicitation", "sweep"])
def test_a_figure_is_as_high_as_asked_too(study: Path, kind: str) -> None:
    high = make_figure(kind, study, style="paper", width="9cm", height="4.5in")
    assert high.inches == pytest.approx((9 / 2.54, 4.5), abs=0.02)


def test_methods_stand_in_the_order_asked_for_and_shifts_as_chosen(study: Path, tmp_path: Path) -> None:
    figure = make_figure("heat-map", study, methods=("zero-shot", "mms"), shifts="probing", style="paper")
    texts = texts_of(figure.chart, tmp_path)
    assert [text for text in texts if text in METHODS] == ["zero-shot", "mms"]
    assert [text for text in texts if "→" in text] == ["plain → sycophantic", "plain → cued"]
    texts = texts_of(make_figure("heat-map", study, source="easy").chart, tmp_path)
    assert [text for text in texts if "→" in text] == ["easy → hard"]


def test_a_sweep_is_of_the_shifts_and_on_request_of_the_sources_own_test_splits(study: Path, tmp_path: Path) -> None:
    def panels(**options: Any) -> set[str]:
        spec = make_figure("sweep", study, **options).chart.to_dict()
        return {row["panel"] for rows in spec["datasets"].values() for row in rows}

    assert panels() == {f"{source} → {target}" for source, target, _, _ in SHIFTS}
    assert panels(shifts="in-distribution") == {"easy", "short", "plain"}
    assert panels(shifts=["spurious_cues", "in-distribution"], source="plain") == {"plain", "plain → cued"}
    assert panels(source="plain", target="plain") == {"plain"}


def test_a_transfer_map_has_the_cells_that_were_asked_and_no_others(study: Path, tmp_path: Path) -> None:
    figure = make_figure("transfer", study, methods="lat")
    figures = [text for text in texts_of(figure.chart, tmp_path) if re.fullmatch(r"\d\.\d\d", text)]
    assert len(figures) == len(SHIFTS)
    assert "a cell is blank where it was not asked" in figure.caption


def test_a_table_of_a_sweep_is_drawn_too(study: Path, tmp_path: Path) -> None:
    write_layers([row for row in make_layers() if row.target == "hard"], tmp_path / "sweep.csv")
    figure = make_figure("sweep", tmp_path / "sweep.csv", methods="lat", style="paper")
    assert figure.caption.startswith("Pair accuracy by layer of lat on 1 shift, model tiny.")
    with pytest.raises(BadInput, match=r"sweep\.csv does not say the labels"):
        make_figure("sweep", tmp_path / "sweep.csv", shifts="extreme")


def test_any_chart_takes_a_style_and_a_width_and_on_a_screen_keeps_its_look() -> None:
    chart = sweep_chart([asdict(row) for row in make_layers() if row.target == "hard"])
    assert styled(chart) is chart
    before, paper, screen = (one.to_dict() for one in (chart, styled(chart, style="paper"), styled(chart, width="5in")))
    assert screen["config"] == before["config"] != paper["config"]
    drawn = json.dumps(paper["spec"])
    assert PAPER.colours[0] in drawn and SCREEN.colours[0] not in drawn


def test_a_study_in_python_draws_what_the_command_draws(study: Path) -> None:
    options = {"methods": "mms", "style": "paper", "width": "8cm"}
    same = make_figure("reliability", study, **options)
    assert repeng.load(study).reliability(**options).to_dict() == same.chart.to_dict()
    assert repeng.load(study).figure("reliability", **options).caption == same.caption
    assert repeng.save_chart is save_chart


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("heatmap", {}, UnknownName, "unknown figure 'heatmap'.*heat-map"),
        ("heat-map", {"methods": "msm"}, UnknownName, "unknown method 'msm'.*mms"),
        ("sweep", {"methods": "msm"}, UnknownName, "unknown method 'msm'.*mms"),
        ("heat-map", {"source": "eazy"}, UnknownName, "unknown source 'eazy'.*easy"),
        ("heat-map", {"shifts": "hard"}, UnknownName, "unknown label or category 'hard'"),
        ("heat-map", {"source": "easy", "target": "long"}, BadInput, "nothing is left to draw"),
        ("sweep", {"source": "easy", "shifts": "spurious_cues"}, UnknownName, "unknown source 'easy'.*plain"),
        ("heat-map", {"style": "print"}, UnknownName, "unknown style 'print'"),
        ("heat-map", {"width": "3.3"}, BadInput, "width '3.3' has no unit; give in, cm, mm, pt or px, as 3.3in"),
        ("heat-map", {"width": "3.3inches"}, BadInput, "unknown unit 'inches'"),
        ("heat-map", {"height": "tall"}, BadInput, "height 'tall' is no length"),
        ("heat-map", {"width": "0in"}, BadInput, "must lie between 0 and 100in"),
        ("transfer", {}, BadInput, "a transfer is of one method; give it with --methods, one of mms, lat, zero-shot"),
        ("matrix", {"methods": "mms"}, BadInput, "did not ask mms from every distribution to every other"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(
    study: Path, kind: str, options: dict[str, str], error: type[BadInput], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_figure(kind, study, **options)


@pytest.mark.parametrize(("kind", "side", "word"), [("transfer", "width", "narrow"), ("sweep", "height", "low")])
def test_too_little_to_be_legible_is_refused_with_what_would_do(study: Path, kind: str, side: str, word: str) -> None:
    message = f"{side} 20mm is too {word} for the {kind} figure of one method with text of 7 pt"
    with pytest.raises(BadInput, match=message) as refused:
        make_figure(kind, study, methods="mms", style="paper", **{side: "20mm"})
    (least,) = re.findall(r"that works is ([\d.]+mm)", str(refused.value))
    make_figure(kind, study, methods="mms", style="paper", **{side: least})


@pytest.mark.parametrize("kind", ["sweep", "reliability", "elicitation"])
def test_a_folder_that_lacks_what_the_figure_is_made_of_is_refused(study: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "results.csv").write_text(
        re.sub(r"0\.95(?=,)", "", (study / "results.csv").read_text()), encoding="utf-8"
    )
    with pytest.raises(BadInput, match="has no (layers|predictions|target-tuned capability)"):
        make_figure(kind, tmp_path)


def test_another_json_is_no_matrix(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"names": ["a"]}')
    with pytest.raises(BadInput, match=r"other\.json: this is no output of repeng matrix --json"):
        make_figure("matrix", tmp_path / "other.json")


def test_a_study_of_every_distribution_against_every_one_has_a_matrix(tmp_path: Path) -> None:
    rows = [
        make_row(source=source, target=target, accuracy=0.7, source_id_accuracy=0.9)
        for source, target in (("a", "b"), ("b", "a"))
    ]
    write_results(rows, tmp_path / "results.csv")
    figure = make_figure("matrix", tmp_path)
    assert figure.caption.startswith("Pair accuracy of mms on 2 shifts")
    figures = [text for text in texts_of(figure.chart, tmp_path) if re.fullmatch(r"0\.\d\d", text)]
    assert sorted(figures) == ["0.70", "0.70", "0.90", "0.90"]


def test_on_paper_the_capability_is_a_thicker_line_than_the_baseline() -> None:
    rows = [replace(row, baseline_accuracy=0.6) for row in make_rows(METHODS, capability=0.95)]
    spec = restyled(elicitation_plot(shift_frame(rows)).to_dict(), PAPER)
    svg = vl_convert.vegalite_to_svg(spec)

    def widths(mark: str) -> set[str]:
        return set(re.findall(rf'aria-label="shift:[^"]*; {mark}:[^>]*stroke-width="([\d.]+)"', svg))

    (capability,), (baseline,) = widths("target-tuned capability"), widths("zero-shot baseline")
    assert float(capability) > 1.5 * float(baseline)


def test_the_elicitation_picture_has_keys_for_the_marks_that_are_known_alone() -> None:
    rows = [replace(row, baseline_accuracy=None) for row in make_rows(METHODS, capability=0.95)]
    texts = re.findall(r">([^<]+)</text>", vl_convert.vegalite_to_svg(elicitation_plot(shift_frame(rows)).to_dict()))
    assert "target-tuned capability" in texts and "zero-shot baseline" not in texts
