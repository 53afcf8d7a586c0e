"""Labelled texts in tables, sentences, reports and comparisons: named as what they are, never averaged with pairs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_study import make_row
from made_up_texts import SHIFTS, statements, text_evaluation, write_text_study
from rich.console import Console
from sklearn.metrics import cohen_kappa_score, roc_auc_score

import repeng
from repeng.distributions.schema import Distribution
from repeng.metrics import FIGURES, mean_paired_difference
from repeng.report.charts import elicitation_plot, heat_map, matrix_chart, reliability_chart, sweep_chart
from repeng.report.compare import compare_results
from repeng.report.contradictions import settle
from repeng.report.frames import accuracy_name, shift_frame
from repeng.report.html import write_report
from repeng.report.predictions import evaluations_of, mean_estimates, read_predictions, reliability_frame
from repeng.report.score_table import score_row, score_tables
from repeng.report.sentences import summary_sentences
from repeng.report.tables import study_table
from repeng.report.text_section import text_means, text_table, thresholds_note
from repeng.results import (
    AUROC,
    PAIR_ACCURACY,
    LayerFigure,
    ResultRow,
    layer_rows,
    read_provenance,
    read_results,
    record_of,
    write_evaluation,
    write_results,
)

STRENGTHS = {"mms": 2.0, "lat": 1.0}
Made = tuple[Path, list[ResultRow], dict[str, Distribution]]
"""A results folder, its rows and its distributions."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("texts")
    yield folder, *write_text_study(folder, STRENGTHS)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("mixed")
    yield folder, *write_text_study(folder, STRENGTHS, pairs=True)


def shown(*renderables: object, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, no_color=True).print(*renderables)
    return stream.getvalue()


def mean(rows: list[ResultRow], method: str, figure: str, name: str = "accuracy") -> float:
    return float(np.mean([getattr(row, name) for row in rows if (row.method, row.figure) == (method, figure)]))


def short(value: float) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}")


def test_a_study_of_texts_calls_nothing_an_accuracy(
    texts: Made,
) -> None:
    _, rows, _ = texts
    table = " ".join(shown(study_table(rows)).split())
    assert "AUROC of labelled texts, and under it its interval over groups and fits" in table
    assert "mean source-ID AUROC" in table and "accuracy" not in table
    assert "accuracy" not in summary_sentences(rows)
    assert "mean AUROCs of 2 methods go from" in summary_sentences(rows)
    frame = shift_frame(rows)
    for chart in (heat_map(frame), elicitation_plot(frame)):
        said = re.sub(r'"field": "\w+"|target_tuned_capability|"baseline_accuracy"', "", chart.to_json(indent=None))
        titles = re.findall(r'"(?:title|text|description)": "([^"]*)"', said)
        assert any("AUROC" in title for title in titles) and not any("accuracy" in title.lower() for title in titles)


def test_means_of_pairs_and_of_texts_stand_apart(mixed: Made) -> None:
    folder, rows, _ = mixed
    lines = [line.split() for line in shown(study_table(rows)).splitlines()]
    of_all = [line[-2:] for line in lines if line[:3] == ["mean", "of", "all"]]
    expected = [[short(mean(rows, method, figure)) for method in STRENGTHS] for figure in (PAIR_ACCURACY, AUROC)]
    assert of_all == expected
    selectivity = [line[-2:] for line in lines if line[:2] == ["mean", "selectivity"]]
    assert selectivity == [[short(mean(rows, method, AUROC, "selectivity")) for method in STRENGTHS]]
    said = summary_sentences(rows)
    assert "On the one shift of pairs mean pair accuracies of 2" in said
    assert "On the 2 shifts of labelled texts mean AUROCs of 2" in said
    assert accuracy_name(shift_frame(rows)) == "pair accuracy or AUROC"


def test_a_source_of_texts_and_a_target_of_pairs_have_no_mean_together(
    mixed: Made,
) -> None:
    _, rows, _ = mixed
    assert {row.source_id_figure for row in rows} == {AUROC}
    lines = shown(study_table(rows)).splitlines()
    assert sum(line.startswith("mean source-ID AUROC") for line in lines) == 1
    assert not any(line.startswith("mean source-ID accuracy") for line in lines)


def test_the_leader_among_texts_is_tested_on_the_same_texts(
    texts: Made,
) -> None:
    folder, rows, _ = texts
    known = evaluations_of(read_predictions(folder))
    found = mean_paired_difference(*([known["tiny", method, *s] for s in SHIFTS] for method in STRENGTHS), ["a", "b"])
    assert found.p is not None and found.p < 0.05
    assert "mms has the highest mean AUROC, 0.9" in summary_sentences(rows, known)
    with_fewer = {**known, ("tiny", "lat", *SHIFTS[0]): text_evaluation(statements("cities").test, keep=range(40))}
    assert "untested" in summary_sentences(rows, with_fewer)


def test_a_mean_over_texts_has_an_interval(texts: Made) -> None:
    folder, rows, _ = texts
    own = shift_frame([row for row in rows if row.method == "mms"])
    (found,) = mean_estimates([own], read_predictions(folder))
    assert found is not None and found.low is not None and found.value == pytest.approx(mean(rows, "mms", AUROC))


def test_the_table_of_texts_has_every_figure_and_says_where_thresholds_were_set(
    texts: Made,
) -> None:
    _, rows, _ = texts
    grid = text_table(shift_frame(rows))
    assert grid is not None and grid.columns[1:5] == ("AUROC", "pairs", "balanced", "accuracy")
    assert grid.rows[0].name == "cities → cities: 60 texts, 30 with the label"
    row = rows[0]
    cells = dict(zip(grid.columns[1:], grid.rows[1].cells, strict=True))
    assert cells["recall 5\u00a0%"].text == f"{row.recall_at_5:.3f}"
    assert cells["recall 5\u00a0%"].interval == f"{row.recall_at_5_low:.3f}–{row.recall_at_5_high:.3f}"
    assert cells["FP 5\u00a0%"].text == f"{row.false_positives_at_5:.3f}" and not cells["FP 5\u00a0%"].interval
    assert thresholds_note(shift_frame(rows)) == "held-out texts of the source without the label"
    benign = shift_frame([replace(row, benign="chat") for row in rows])
    assert thresholds_note(benign) == "the test texts of chat without the label"
    table = text_means(rows)
    assert table is not None and f"{mean(rows, 'mms', AUROC, 'balanced_accuracy'):.3f}" in shown(table)
    pairs = [make_row(accuracy=0.8)]
    assert text_means(pairs) is None and text_table(shift_frame(pairs)) is None


def test_a_report_of_texts_names_its_figures_and_shows_texts(texts: Made, tmp_path: Path) -> None:
    folder, rows, distributions = texts
    page = write_report(folder, tmp_path / "r.html", distributions=distributions).read_text()
    assert "Contradictions" not in page and "Labelled texts" in page
    assert "AUROC by shift and method" in page and "Accuracy by shift" not in page
    assert "AUROC of labelled texts: how often a text with the label scores above one without it" in page
    assert "Pair accuracy: how often" not in page and "Prompt</h4>" not in page
    assert re.search(r"cities → cities, example \d+: p\(label [01]\) = 0\.\d{3}", page)
    assert "mms: 4 texts" in page or "mms: 3 texts" in page


def test_a_report_of_pairs_and_texts_shows_both(mixed: Made, tmp_path: Path) -> None:
    folder, _, distributions = mixed
    page = write_report(folder, tmp_path / "r.html", distributions=distributions).read_text()
    for said in (
        "Pair accuracy: how often",
        "AUROC of labelled texts: how often",
        " pairs</summary>",
        " texts</summary>",
    ):
        assert said in page
    headline = page.partition("Headline means")[2].partition("</table>")[0]
    sections = re.findall(r'scope="rowgroup" colspan="\d+">([^<]*)', headline)
    assert sections == ["pair accuracy", "AUROC"]


@pytest.mark.parametrize(
    "figure", ["accuracy", "balanced_accuracy", "recall_at_1", "average_precision", "pair_accuracy"]
)
def test_predictions_of_texts_deny_an_edited_figure_and_no_other(texts: Made, tmp_path: Path, figure: str) -> None:
    folder, rows, _ = texts
    predictions = read_predictions(folder)
    assert settle(rows, predictions, folder / "results.csv") == (rows, [])
    table = tmp_path / "results.csv"
    write_results([replace(rows[0], **{figure: 0.123}), *rows[1:]], table)
    settled, found = settle(read_results(table), predictions, table)
    assert [(one.figure, one.stated) for one in found] == [(figure, 0.123)]
    assert [getattr(settled[0], one.name) for one in FIGURES] == pytest.approx(
        [getattr(rows[0], one.name) for one in FIGURES], nan_ok=True
    )


def test_reliability_counts_texts_by_their_own_label(
    mixed: Made,
) -> None:
    folder, rows, _ = mixed
    bins = reliability_frame(shift_frame(rows), read_predictions(folder))
    assert set(bins["label"]) == {"pairs", "texts"}
    own = bins[(bins["method"] == "mms") & (bins["label"] == "texts")]
    known = evaluations_of(read_predictions(folder))
    p = np.concatenate([known["tiny", "mms", *shift].probabilities for shift in SHIFTS])
    assert own["n_pairs"].sum() == len(p)
    assert (own["accuracy"] * own["n_pairs"]).sum() == pytest.approx((p > 0.5).sum())
    reliability_chart(bins)


def test_comparisons_of_texts_are_paired_on_texts_and_kappa_is_at_the_threshold(
    texts: Made,
) -> None:
    folder, _, _ = texts
    found = compare_results([folder])
    known = evaluations_of(read_predictions(folder))
    one, other = ([known["tiny", method, *shift] for shift in SHIFTS] for method in STRENGTHS)
    (test,) = found.tables["paired_tests"]
    assert test["difference"] == pytest.approx(
        np.mean([a.accuracy - b.accuracy for a, b in zip(one, other, strict=True)])
    )
    right = [np.concatenate([e.probabilities for e in side]) > 0.5 for side in (one, other)]
    (agreement,) = found.tables["mistake_agreement"]
    assert agreement["kappa"] == pytest.approx(cohen_kappa_score(*right))
    text = shown(*found.renderables(), width=200)
    assert "Accuracy of labelled texts is AUROC" in text and "same texts" not in text.partition("Agreement")[0]
    assert "accuracy" not in text.partition("AUROC")[2].replace("zero-shot accuracy", "").lower()


def test_pairs_and_texts_are_compared_apart(mixed: Made, tmp_path: Path) -> None:
    folder, _, _ = mixed
    found = compare_results([folder], tmp_path)
    tests = {(row["a"], row["b"]): row["shifts"] for row in found.tables["paired_tests"]}
    assert tests == {
        ("mms · pair accuracy", "lat · pair accuracy"): 1,
        ("mms · AUROC", "lat · AUROC"): 2,
    }
    holm = [row["p_holm"] for row in found.tables["paired_tests"]]
    assert max(holm) <= 2 * max(row["p"] for row in found.tables["paired_tests"]) and len(holm) == 2
    assert "Do they fail on the same pairs or texts?" in (tmp_path / "comparison.html").read_text()


def test_texts_without_probabilities_have_paired_tests_and_no_kappa(tmp_path: Path) -> None:
    write_text_study(tmp_path, STRENGTHS)
    split = statements("sums").test
    path = tmp_path / "predictions" / "lat" / "tiny-cities" / "sums.json"
    write_evaluation(path, text_evaluation(split, seed=1, calibrated=False), read_provenance(path))
    found = compare_results([tmp_path])
    assert found.tables["paired_tests"][0]["shifts"] == 2
    assert found.tables["mistake_agreement"][0]["shifts"] == 1


def test_a_score_of_texts_has_their_figures_with_intervals() -> None:
    split = statements("cities").test
    evaluation = text_evaluation(split)
    row = score_row("cities", evaluation)
    area = np.mean([roc_auc_score(evaluation.labels, own) for own in evaluation.text_scores])
    assert row["accuracy"] == pytest.approx(area) and row["figure"] == AUROC and row["n_texts"] == 60
    assert row["recall_at_5_low"] < row["recall_at_5"] < row["recall_at_5_high"]
    text = shown(*score_tables([row, score_row("asked", evaluation.pairs)]))
    assert "60 labelled texts, 30 with the label" in text and "recall at 1 % false positives" in text
    assert re.search(r"AUROC +0\.\d{3} +0\.\d{3} to 0\.\d{3}", text) and re.search(r"asked +30 +0\.", text)


def test_layers_and_matrices_name_the_figure_of_each_target() -> None:
    figures = [LayerFigure(layer, None, 0.7, 0.6, 0.8, 0.9, float(layer == 0)) for layer in range(2)]
    names = {"model": "m", "probe": "mms", "source": "a"}
    texts = [record_of(row) for row in layer_rows(figures, **names, target="b", figure=AUROC)]
    both = texts + [record_of(row) for row in layer_rows(figures, **names, target="c", figure=PAIR_ACCURACY)]
    assert (
        '"AUROC by layer"' in sweep_chart(texts).to_json() and "accuracy by layer" not in sweep_chart(texts).to_json()
    )
    assert {"a → b, AUROC", "a → c, pair accuracy"} == set(pd.DataFrame(panels(sweep_chart(both)))["panel"])
    square = [[0.9, 0.8], [0.7, 0.6]]
    assert '"AUROC"' in matrix_chart(["a", "b"], square, None, figures=[AUROC, AUROC]).to_json()
    assert "b, AUROC" in matrix_chart(["a", "b"], square, None, figures=[PAIR_ACCURACY, AUROC]).to_json()


def panels(chart: object) -> list[dict[str, object]]:
    datasets = chart.to_dict()["datasets"]  # type: ignore[attr-defined]
    return [row for rows in datasets.values() for row in rows if "panel" in row]


def test_a_notebook_shows_what_the_figures_are(mixed: Made) -> None:
    folder, _, _ = mixed
    shown_as = repeng.load(folder)._repr_html_()
    assert "<th>figure</th>" in shown_as and "AUROC" in shown_as and "pair accuracy" in shown_as
