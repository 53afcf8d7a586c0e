"""What is stated in one place and denied in another is shown with both figures."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from made_up_study import write_study

import repeng
from repeng.metrics import TextFigures
from repeng.report.compare import compare_results
from repeng.report.contradictions import FIGURES, INFERRED, settle, stated_contradictions
from repeng.report.html import write_report
from repeng.report.predictions import read_predictions
from repeng.report.tables import study_table
from repeng.results import read_results, write_results

ACCURACIES = {"mms": (0.9, 0.95, 0.5, 0.45), "zero-shot": (0.7, 0.725, 0.5, 0.475)}

BLANK = (
    *("source_id_accuracy", "baseline_accuracy", "differential_elicitation", "auroc", "rms_calibration_error_debiased"),
    *("fit_sd", "fit_lowest", "fit_highest", "unlabelled_sd", "null_sd", "selectivity", "random_mean", "random_sd"),
    *(figure.name for figure in fields(TextFigures)),
)
"""Figures that the made-up study does not have."""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_study(tmp_path / "study", ACCURACIES)
    return tmp_path / "study"


def edit(study: Path, **figures: float | None) -> None:
    """Changes figures of the first row of results.csv."""
    first, *others = read_results(study / "results.csv")
    write_results([replace(first, **figures), *others], study / "results.csv")


def restate(path: Path, accuracy: float, *, foreign: bool) -> None:
    """Changes what an evaluation file says of its accuracy; `foreign` makes it another's file."""
    held = json.loads(path.read_text()) | {"eval_accuracy": accuracy}
    if foreign:
        held = {key: value for key, value in held.items() if key in ("eval_accuracy", "eval_probabilities")}
    path.write_text(json.dumps(held))


def test_a_table_that_its_predictions_bear_out_is_taken_as_it_is(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = read_results(study / "results.csv")
    assert settle(rows, read_predictions(study), study / "results.csv") == (rows, [])
    write_report(study)
    assert "Contradictions" not in (study / "report.html").read_text()
    assert compare_results([study]).contradictions == [] and not caplog.records


def test_a_row_of_capability_gets_no_interval_of_a_figure_that_it_has_not(study: Path) -> None:
    first = read_results(study / "results.csv")[0]
    capability = replace(first, method="target-tuned:mms", baseline_accuracy=None, differential_elicitation=None)
    settled, _ = settle([first, capability], read_predictions(study), study / "results.csv")
    assert settled[0].differential_elicitation_low is not None
    assert settled[1].differential_elicitation_low is None


@pytest.mark.parametrize("figure", ["accuracy_low", "accuracy_high", "p"])
def test_an_interval_of_another_version_is_made_anew_and_contradicts_nothing(
    study: Path, figure: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = read_results(study / "results.csv")
    for stated in (0.123, None):
        edit(study, **{figure: stated})
        rows, found = settle(read_results(study / "results.csv"), read_predictions(study), study / "results.csv")
        assert found == [] and not caplog.records
        assert getattr(rows[0], figure) == getattr(before[0], figure)


@pytest.mark.parametrize("figure", [name for name in FIGURES if name not in (*BLANK, *INFERRED)])
def test_every_figure_that_the_predictions_deny_is_found_and_made_anew(study: Path, figure: str) -> None:
    before = read_results(study / "results.csv")
    edit(study, **{figure: 0.123})
    rows, found = settle(read_results(study / "results.csv"), read_predictions(study), study / "results.csv")
    if figure == "target_tuned_capability":
        # The study has no row of its own for it; what rests on it is found.
        assert {one.figure for one in found} == {"elicitation", "elicitation_capped"}
        return
    assert [(one.figure, one.stated, one.used) for one in found] == [(figure, 0.123, "derived")]
    assert getattr(rows[0], figure) == found[0].derived == pytest.approx(getattr(before[0], figure), abs=1e-12)
    assert rows[1:] == before[1:]


def test_an_edited_table_is_named_by_report_compare_and_notebook(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = compare_results([study]).tables
    edit(study, accuracy=0.123)
    write_report(study)
    page = (study / "report.html").read_text()
    section = page.partition('<h2 id="contradictions">')[2].partition("<h2")[0]
    assert "0.123" in section and "0.900" in section and "results.csv" in section
    assert "0.123" not in page.replace(section, "")
    for path in (study, study / "results.csv"):
        found = compare_results([path], study.parent / "compared")
        (row,) = found.contradictions
        assert (row["method"], row["target"], row["stated"], row["derived"]) == ("mms", "hard", 0.123, 0.9)
        assert found.tables == clean
    assert "0.123" in (study.parent / "compared" / "comparison.html").read_text()
    assert repeng.load(study).frame["accuracy"][0] == 0.9
    assert "1 figure(s) are not what its predictions give, as the accuracy of mms from easy on hard" in caplog.text


def test_an_edited_capability_is_found_in_every_row_that_rests_on_it(study: Path) -> None:
    rows = read_results(study / "results.csv")
    winner = replace(rows[0], method="target-tuned:mms", source="hard", target="hard", accuracy=0.123)
    known = read_predictions(study)
    known["tiny", "mms", "hard", "hard"] = replace(known["tiny", "mms", "easy", "hard"], source="hard")
    rows, found = settle([*rows, winner], known, study / "results.csv")
    capability = {(one.method, one.source) for one in found if one.figure == "target_tuned_capability"}
    assert {("mms", "easy"), ("zero-shot", "easy")} <= capability
    assert rows[-1].accuracy == 0.9 and rows[0].target_tuned_capability == 0.9 and rows[0].elicitation == 1.0


def test_our_own_file_whose_accuracy_was_changed_is_derived_anew(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = study / "predictions" / "mms" / "tiny-easy" / "hard.json"
    restate(path, 0.123, foreign=False)
    evaluation = read_predictions(study)["tiny", "mms", "easy", "hard"].evaluation
    assert evaluation.accuracy == 0.9 and evaluation.reported_accuracy is None
    assert (
        "hard.json was changed since repeng wrote it: eval_accuracy is 0.123, its probabilities give 0.9" in caplog.text
    )
    held = json.loads(path.read_text())
    del held["eval_accuracy_reported"]
    path.write_text(json.dumps(held | {"repeng_version": "0.1.0"}))
    assert read_predictions(study)["tiny", "mms", "easy", "hard"].evaluation.accuracy == 0.9
    path.write_text(json.dumps(held | {"repeng_version": "0.1.0", "method": "a-plug-in"}))
    assert read_predictions(study)["tiny", "a-plug-in", "easy", "hard"].evaluation.accuracy == 0.123


def test_a_foreign_accuracy_stands_and_both_figures_are_shown(study: Path) -> None:
    evaluations = study / "predictions"
    restate(evaluations / "mms" / "tiny-easy" / "hard.json", 0.123, foreign=True)
    (study / "results.csv").unlink()
    found = compare_results([evaluations])
    (row,) = found.contradictions
    assert (row["stated"], row["derived"], row["used"]) == (0.123, 0.9, "stated")


def test_a_row_of_a_contradictory_file_is_marked_wherever_it_goes(study: Path) -> None:
    evaluations = study / "predictions"
    restate(evaluations / "mms" / "tiny-easy" / "hard.json", 0.123, foreign=True)
    edit(study, accuracy=0.123, accuracy_low=None, accuracy_high=None)
    rows, found = settle(read_results(study / "results.csv"), read_predictions(study), study / "results.csv")
    assert [(one.figure, one.derived, one.used) for one in found if one.figure == "accuracy"] == [
        ("accuracy", 0.9, "stated")
    ]
    write_results(rows, study / "results.csv")
    again = read_results(study / "results.csv")
    assert len(stated_contradictions(again, study)) == 1
    table = study_table(again)
    assert "! its own probabilities deny it" in table.caption
    assert [cell.plain for row in table.rows for cell in row if "!" in cell.plain] == [".12!\n"]


def test_the_baseline_of_a_study_in_chat_form_is_held_against_zero_shot_in_that_form(tmp_path: Path) -> None:
    names = {"mms(stimulus='chat')": ACCURACIES["mms"], "zero-shot(stimulus='chat')": ACCURACIES["zero-shot"]}
    write_study(tmp_path, names)
    rows = [replace(row, baseline_accuracy=0.123) for row in read_results(tmp_path / "results.csv")]
    settled, found = settle(rows, read_predictions(tmp_path), tmp_path / "results.csv")
    assert [row.baseline_accuracy for row in settled] == pytest.approx([*ACCURACIES["zero-shot"]] * 2)
    assert "baseline_accuracy" in {one.figure for one in found}
