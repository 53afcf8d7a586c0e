"""A finished study in Python: its frames, its charts and comparisons."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import repeng
from repeng.errors import BadInput, UnknownName
from repeng.report.compare import compare_results
from repeng.report.study import StudyResults
from repeng.report.tables import short_figure, study_table
from repeng.results import read_results
from repeng.study.study import StudyOutcome


@pytest.fixture(scope="module")
def study(finished: StudyOutcome) -> StudyResults:
    return repeng.load(finished.out)


def drawn(chart: Any) -> list[dict[str, Any]]:
    """The rows that a chart draws."""
    (rows,) = json.loads(chart.to_json())["datasets"].values()
    return rows


def test_means_of_the_frame_are_those_of_the_report(study: StudyResults) -> None:
    means = study.frame.groupby("method").accuracy.mean()
    assert not means.isna().any()
    table = Console(file=io.StringIO(), width=200, record=True)
    table.print(study_table(study.rows))
    (shown,) = [line for line in table.export_text().splitlines() if line.startswith("mean of all")]
    assert shown.split()[3:] == [short_figure(means[method]) for method in dict.fromkeys(study.frame.method)]


def test_capability_has_a_frame_of_its_own(study: StudyResults) -> None:
    assert set(study.capability.target) == {"hard", "polite"}
    assert study.capability.method.str.startswith("target-tuned:").all()
    stated = read_results(study.folder / "results.csv")
    assert len(study.frame) + len(study.capability) == len(study.rows) == len(stated)
    known = study.frame.dropna(subset=["target_tuned_capability"]).groupby("target_reference").target_tuned_capability
    assert known.first().to_dict() == study.capability.set_index("target").accuracy.to_dict()


def test_a_sweep_draws_the_layers_that_are_asked_for(study: StudyResults) -> None:
    assert {(row["method"], row["source"]) for row in drawn(study.sweep())} == set(
        zip(study.layers.probe, study.layers.source, strict=True)
    )
    rows = drawn(study.sweep("mms", source="easy", target=["hard", "polite"]))
    wanted = study.layers.query("probe == 'mms' and source == 'easy' and target in ('hard', 'polite')")
    assert [row["accuracy"] for row in rows] == wanted.accuracy.tolist() and len(rows) == 2 * 3


def test_a_matrix_has_the_cells_that_were_asked_and_no_others(study: StudyResults) -> None:
    found = study.matrix("mms")
    square = found.matrix()
    assert (list(square.index), list(square.columns)) == (["easy", "polite"], ["easy", "polite", "hard", "terse"])
    asked = {("easy", "hard"), ("easy", "polite"), ("polite", "terse"), ("easy", "easy"), ("polite", "polite")}
    for source, target in asked:
        assert square.loc[source, target] == pytest.approx(study.evaluation("mms", source, target).accuracy)
    assert square.notna().sum().sum() == len(asked) == len(drawn(found.chart()))
    assert "NaN" not in repr(found) + found._repr_html_()


def test_a_comparison_is_that_of_the_command_as_frames_and_charts(study: StudyResults) -> None:
    found = study.compare(against="mms")
    assert found == compare_results([study.folder], against="mms")
    assert set(found.frames["paired_tests"].b) | set(found.frames["paired_tests"].a) > {"mms", "length"}
    assert set(found.charts) == {"scatter", "mistakes"}
    assert found._repr_html_().count("<table") == len(found.frames) - 1
    for again in (study, str(study.folder)):
        with pytest.raises(BadInput, match="the same results are given twice"):
            study.compare(again)
    answer = study.compare(question="perplexity")
    assert set(answer.frames) == {one.name for one in answer.tables if one.rows} and answer.charts
    assert answer.sentences[0].split(" ")[0] in answer._repr_html_()


def test_what_a_study_does_not_have_is_named(study: StudyResults, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown probe of layers.csv 'msm'; did you mean mms\? Choose from .*mms"):
        study.sweep(["mms", "msm"])
    with pytest.raises(UnknownName, match="unknown method 'target-tuned:mms'; choose from"):
        study.matrix("target-tuned:mms")
    with pytest.raises(BadInput, match="question and against: two options conflict"):
        study.compare(question="scale", against="mms")
    with pytest.raises(BadInput, match="no results.csv here; give the folder that `repeng run` wrote"):
        repeng.load(tmp_path)
    (tmp_path / "results.csv").write_bytes((study.folder / "results.csv").read_bytes())
    with pytest.raises(BadInput, match="has no layers.csv: no probe of the study was fitted at several layers"):
        repeng.load(tmp_path).sweep()
