"""Studies next to each other: what is computed, what is read, and what is written."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsers import chromium, open_page, serious_faults  # noqa: F401
from made_up_study import SHIFTS, make_row, make_rows, write_study
from rich.console import Console

from repeng.errors import BadInput, UnknownName
from repeng.metrics import Evaluation, holm, mean_interval, mean_paired_difference
from repeng.report.compare import Comparison, compare_results
from repeng.report.compare_charts import agreement_chart
from repeng.report.compared_sizes import elicitation_on_shared_shifts, no_sizes
from repeng.report.compared_studies import ComparedStudy, compared_methods, read_compared_studies
from repeng.report.comparisons import QUESTIONS, capability_measures, model_size, scatter_rows
from repeng.report.mistake_agreement import mistake_agreement, no_shared_predictions, pooled
from repeng.report.predictions import Prediction, read_predictions
from repeng.results import evaluation_path, write_evaluation, write_results

SMALL = {"mms": (0.9, 0.9, 0.5, 0.4), "lat": (0.7, 0.8, 0.2, 0.3), "zero-shot": (0.7, 0.72, 0.5, 0.48)}
LARGE = {"mms": (0.95, 0.99, 0.6, 0.5), "lat": (0.8, 0.9, 0.3, 0.35), "zero-shot": (0.7, 0.8, 0.5, 0.48)}

MODELS = ("org/tiny-1b", "tiny-7b")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("studies")
    write_study(folder / "small", SMALL, model="org/tiny-1b")
    write_study(folder / "large", LARGE, model="tiny-7b")
    return folder / "small", folder / "large"


@pytest.fixture(scope="module")
def found(studies: tuple[Path, Path]) -> Comparison:
    return compare_results(studies, studies[0].parent / "out")


def row_of(rows: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def test_a_comparison_names_its_tables_at_a_prompt_and_does_not_print_their_rows(found: Comparison) -> None:
    assert "paired_tests (" in repr(found) and len(repr(found)) < 500


def test_the_accuracies_of_two_models_are_correlated_over_the_shifts(found: Comparison) -> None:
    row = row_of(found.tables["model_correlations"], a="mms · tiny-1b", b="mms · tiny-7b")
    a, b = [round(v * 80) / 80 for v in SMALL["mms"]], [round(v * 80) / 80 for v in LARGE["mms"]]
    assert row["shifts"] == 4
    assert row["pearson"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert row["low"] < row["pearson"] < row["high"]


def test_elicitation_stands_by_size_and_label(found: Comparison) -> None:
    row = row_of(found.tables["elicitation_by_size"], model="tiny-7b", method="lat", label="extreme")
    assert row["billions"] == 7.0
    assert row["elicitation"] == pytest.approx((0.8 + 0.9) / 2 / 0.95, abs=0.01)


def test_a_paired_test_is_of_the_mean_over_shifts_and_holm_makes_it_no_smaller(
    found: Comparison, studies: tuple[Path, Path]
) -> None:
    rows = found.tables["paired_tests"]
    row = row_of(rows, a="mms · tiny-1b", b="lat · tiny-1b")
    known = read_predictions(studies[0])
    one = [known["org/tiny-1b", "mms", source, target].evaluation for source, target, _, _ in SHIFTS]
    other = [known["org/tiny-1b", "lat", source, target].evaluation for source, target, _, _ in SHIFTS]
    slow = mean_paired_difference(one, other, [shift[1] for shift in SHIFTS])
    assert row["difference"] == pytest.approx(slow.value)
    assert row["p"] == pytest.approx(slow.p, abs=0.01)
    assert all(row["p"] <= row["p_holm"] <= 1 for row in rows)
    assert len(rows) == 2 * 3 + 3  # methods of each model, and each method on two models


def test_every_method_is_tested_against_one_and_corrected_for_these_tests_alone(
    found: Comparison, studies: tuple[Path, Path]
) -> None:
    of_all = found.tables["paired_tests"]
    rows = compare_results([studies[0]], against="zero-shot").tables["paired_tests"]
    assert {(row["a"], row["b"]) for row in rows} == {("mms", "zero-shot"), ("lat", "zero-shot")}
    for row in rows:
        same = row_of(of_all, a=f"{row['a']} · tiny-1b", b="zero-shot · tiny-1b")
        assert (row["difference"], row["p"]) == (same["difference"], same["p"])
    assert tuple(row["p_holm"] for row in rows) == holm([row["p"] for row in rows])
    with pytest.raises(UnknownName, match="unknown method to compare against 'lora'; choose from lat, mms, zero-shot"):
        compare_results([studies[0]], against="lora")


def test_two_methods_that_fail_alike_have_a_kappa_of_one(tmp_path: Path) -> None:
    write_study(tmp_path, {"mms": SMALL["mms"], "lat": SMALL["mms"]})
    for method in ("mms", "lat"):
        for source, target, _, _ in SHIFTS:
            p = np.where(np.arange(80) % 4 == 0, 0.2, 0.9)
            evaluation = Evaluation(p, group=np.arange(80) // 2)
            write_evaluation(evaluation_path(tmp_path / "predictions", method, "tiny", source, target), evaluation, {})
    comparison = compare_results([tmp_path])
    assert comparison.tables["mistake_agreement"][0]["kappa"] == pytest.approx(1.0)
    assert comparison.tables["paired_tests"][0]["difference"] == 0.0
    assert comparison.tables["paired_tests"][0]["p"] == 1.0


def test_every_two_methods_that_scored_the_same_pairs_have_a_kappa(
    found: Comparison, studies: tuple[Path, Path]
) -> None:
    assert len(found.methods) == 6
    for comparison in (found, compare_results(studies, against="zero-shot")):
        rows = comparison.tables["mistake_agreement"]
        assert {frozenset((row["a"], row["b"])) for row in rows} == {
            frozenset(two) for two in itertools.combinations(found.methods, 2)
        }
        assert {(row["shifts"], row["pairs"]) for row in rows} == {(4, 320)}
        assert all(row["low"] <= row["kappa"] <= row["high"] for row in rows)


def test_the_map_of_kappas_shows_every_two_once_and_parts_methods_that_share_nothing() -> None:
    two = [("a", "b"), ("a", "c"), ("b", "c"), ("x", "y")]
    frame = pd.DataFrame([{"a": a, "b": b, "kappa": 0.5, "low": 0.4, "high": 0.6} for a, b in two])
    drawn = agreement_chart(frame).to_dict()
    assert len(drawn["vconcat"]) == 2
    domains = [panel["layer"][0]["encoding"]["x"]["scale"]["domain"] for panel in drawn["vconcat"]]
    assert domains == [["a", "b"], ["x"]]
    cells = [cell for rows in drawn["datasets"].values() for cell in rows]
    assert sorted((cell["across"], cell["down"], cell["interval"]) for cell in cells) == [
        (a, b, "0.40 to 0.60") for a, b in two
    ]


def test_no_kappa_and_no_size_are_said_with_the_way_to_get_them(tmp_path: Path) -> None:
    write_results(
        make_rows({"mms": SMALL["mms"], "lat": SMALL["lat"]}, model="tiny"), tmp_path / "bare" / "results.csv"
    )
    found = compare_results([tmp_path / "bare"], tmp_path / "out")
    assert not (tmp_path / "out" / "mistakes.svg").exists()
    assert not (tmp_path / "out" / "elicitation-by-size.svg").exists()
    page, shown = (tmp_path / "out" / "comparison.html").read_text(), " ".join(map(str, found.renderables()))
    for text in (page, shown):
        assert "bare has no probabilities of single pairs: give the study&#39;s folder" in text.replace("'", "&#39;")
        assert "the size of tiny is not known. Give results of another model too" in text
    blank = make_rows({"mms": SMALL["mms"]}, capability=None)
    assert "without --no-capability" in no_sizes(compared_methods([ComparedStudy("s", tuple(blank), {})]))


def test_studies_of_other_data_are_told_that_they_share_no_pairs(studies: tuple[Path, Path]) -> None:
    small, large = (compared_methods([one])[0] for one in read_compared_studies(studies))
    other = {key: replace(one, data_hash="0" * 12) for key, one in large.predictions.items()}
    methods = [small, replace(large, predictions=other)]
    assert mistake_agreement(methods) == []
    assert "give studies of one benchmark and one --limit" in no_shared_predictions(methods)


def test_elicitation_by_size_is_over_the_shifts_that_the_models_share(studies: tuple[Path, Path]) -> None:
    methods = [one for study in read_compared_studies(studies) for one in compared_methods([study])]
    small, large = (next(one for one in methods if (one.method, one.model) == ("mms", name)) for name in MODELS)
    fewer = replace(large, rows=large.rows[large.rows["target"] != "hard"])
    rows = elicitation_on_shared_shifts([small, fewer])
    assert [(row["model"], row["label"], row["shifts"]) for row in rows] == [
        (model, label, count) for model in MODELS for label, count in (("extreme", 1), ("probing", 2))
    ]
    row = row_of(rows, model="tiny-7b", label="extreme")
    expected = fewer.measured.loc[("short", "long")]
    assert row["elicitation"] == expected["elicitation"]
    # Of one shift it is the interval of its accuracy by Student's t, as a share of the capability.
    evaluation = fewer.prediction("short", "long").evaluation
    alone = mean_interval(evaluation.wins, evaluation)
    assert (row["low"], row["high"]) == pytest.approx((alone.low / 0.95, alone.high / 0.95))
    assert elicitation_on_shared_shifts([small]) == []
    # A third model, of which no elicitation is known, hinders nothing.
    third = replace(large, model="tiny-13b", rows=large.rows.assign(elicitation=None))
    assert elicitation_on_shared_shifts([small, fewer, third]) == rows


def test_a_folder_without_a_shared_shift_is_named(tmp_path: Path, studies: tuple[Path, Path]) -> None:
    write_evaluation(
        evaluation_path(tmp_path / "theirs", "lora", "big", "a", "b"), Evaluation(np.array([0.9, 0.2])), {}
    )
    found = compare_results([studies[0], tmp_path / "theirs"], tmp_path / "out")
    note = "theirs holds none of the shifts of the other results, so nothing of it is compared"
    assert note in str(found.renderables()[0]) and note in (tmp_path / "out" / "comparison.html").read_text()


def test_released_files_that_deny_their_own_accuracy_are_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for target in ("a", "b", "c"):
        path = evaluation_path(tmp_path, "lora", "big", "s", target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"eval_accuracy": 0.9, "eval_probabilities": [0.9, 0.2, 0.5]}))
    compare_results([tmp_path])
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("3 files state an accuracy that their probabilities do not give; first ")
    assert "a.json: eval_accuracy is 0.9, its probabilities give 0.5 with 1 ties" in said


def test_methods_of_a_study_in_chat_form_are_shown_against_zero_shot_in_that_form() -> None:
    names = ("mms(stimulus='chat')", "zero-shot(stimulus='chat')")
    rows = [make_row(method=name, accuracy=share) for name, share in zip(names, (0.7, 0.4), strict=True)]
    (row,) = scatter_rows(compared_methods([ComparedStudy("s", tuple(rows), {})]))
    assert (row["x"], row["y"], row["x_accuracy"], row["y_accuracy"]) == (names[1], names[0], 0.4, 0.7)


def test_a_folder_of_evaluations_in_chat_form_has_zero_shot_in_that_form_for_its_baseline(tmp_path: Path) -> None:
    for name, share in (("mms(stimulus='chat')", 0.7), ("zero-shot(stimulus='chat')", 0.4)):
        evaluation = Evaluation(np.where(np.arange(100) < 100 * share, 0.9, 0.1))
        write_evaluation(evaluation_path(tmp_path, name, "tiny", "easy", "hard"), evaluation, {"method": name})
        write_evaluation(evaluation_path(tmp_path, name, "tiny", "easy", "easy"), evaluation, {"method": name})
    (study,) = read_compared_studies([tmp_path])
    assert {row.baseline_accuracy for row in study.rows} == {0.4}


def test_capability_is_measured_by_probe_or_tuning_on_target_or_reference() -> None:
    row = make_row(target="cued", target_reference="plain", accuracy=0.6, method="mms")
    tuned = make_row(target="cued", target_reference="plain", accuracy=0.5, method="lora")
    predictions = [
        Prediction("tiny", method, name, name, Evaluation(reported_accuracy=accuracy))
        for method, name, accuracy in [
            ("mms", "cued", 0.8),
            ("mms", "plain", 0.75),
            ("lora", "cued", 0.9),
            ("zero-shot", "cued", 1.0),
        ]
    ]
    study = ComparedStudy("s", (row, tuned), {one.key: one for one in predictions})
    rows = capability_measures(compared_methods([study]))
    values = {(found["method"], found["capability"]): found["elicitation"] for found in rows}
    assert values["mms", "best probe, target"] == pytest.approx(0.6 / 0.8)
    assert values["mms", "best probe, target reference"] == pytest.approx(0.6 / 0.75)
    assert values["lora", "best tuned, target"] == pytest.approx(0.5 / 0.9)
    assert ("lora", "best tuned, target reference") not in values


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("llama-30b", 30.0),
        ("EleutherAI/pythia-160m", 0.16),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1.5),
        ("meta-llama/Llama-3.2-1B", 1.0),
        ("gpt2", None),
        ("mini", None),
        ("7b-lab/gpt2", None),
    ],
)
def test_a_models_size_is_read_off_its_name(name: str, size: float | None) -> None:
    assert model_size(name) == size


def test_pooling_keeps_the_prompts_of_one_target_together() -> None:
    one = Evaluation(np.array([0.1, 0.9]), group=np.array([0, 1]))
    whole = pooled([("a", one), ("b", one), ("a", one)])
    assert whole.group is not None and whole.group.tolist() == [0, 1, 2, 3, 0, 1]
    assert pooled([("a", one), ("b", Evaluation(np.array([0.3])))]).group is None
    with pytest.raises(BadInput, match="bare accuracy"):
        pooled([("a", Evaluation(reported_accuracy=0.5))])


def test_pooled_prompts_are_numbered_as_a_plain_loop_numbers_them() -> None:
    generator = np.random.default_rng(0)
    listed = [(target, prompts_of(generator.integers(-3, 4, 20))) for target in ("b", "a", "b", "c")]
    known: dict[tuple[str, int], int] = {}
    wanted = [known.setdefault((target, int(own)), len(known)) for target, one in listed for own in one.group]
    assert pooled(listed).group.tolist() == wanted


def prompts_of(group: np.ndarray) -> Evaluation:
    return Evaluation(np.full(len(group), 0.7), group=group)


def test_what_is_found_is_shown_and_written(found: Comparison, studies: tuple[Path, Path]) -> None:
    out = studies[0].parent / "out"
    assert json.loads((out / "comparison.json").read_text()) == json.loads(json.dumps(found.as_dict()))
    with (out / "paired_tests.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(found.tables["paired_tests"])
    for name in ("scatter", "elicitation-by-size", "mistakes"):
        assert (out / f"{name}.svg").read_text().startswith("<svg")
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    stream = io.StringIO()
    for item in found.renderables():
        Console(file=stream, width=100).print(item)
    assert "Cohen's kappa" in stream.getvalue() and "fitted on the targets" in stream.getvalue()


def test_the_page_answers_every_question_and_has_a_table_for_every_picture(studies: tuple[Path, Path]) -> None:
    text = (studies[0].parent / "out" / "comparison.html").read_text()
    assert "<script" not in text
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert text.count("<figure>") == text.count("<summary>The same as a table</summary>") == 3
    for question in QUESTIONS[:3]:
        assert question.title in text
    for where in re.findall(r'<a href="#([^"]+)">', text):
        assert f'id="{where}"' in text
    assert "<p>Needs predictions of methods fitted on the targets themselves.</p>" in text


def test_the_pages_tables_hold_the_figures(found: Comparison, studies: tuple[Path, Path]) -> None:
    text = (studies[0].parent / "out" / "comparison.html").read_text()
    row = found.tables["paired_tests"][0]
    figures = "".join(f"<td>{row[name]:.3f}</td>" for name in ("difference", "low", "high"))
    assert f'<th scope="row">{row["a"]}</th><td class="text">{row["b"]}</td><td>{row["shifts"]}</td>{figures}' in text
    assert '<th scope="col">a</th>' not in text and '<th scope="col" class="text">b</th>' in text
    assert text.count(" → ") >= len(found.scatter)


def test_a_name_that_means_harm_stays_text_in_the_page(tmp_path: Path) -> None:
    name = "<script>window.pwned = 1</script><img src=x>\"'`{{ 7 * 7 }}"
    rows = [make_row(method=method, source=name, accuracy=0.7) for method in ("mms", "lat", "<b>")]
    write_results(rows, tmp_path / "results.csv")
    compare_results([tmp_path], tmp_path / "out")
    text = (tmp_path / "out" / "comparison.html").read_text()
    assert "{{ 7 * 7 }}" in text
    assert "<script>" not in text and "<img" not in text and "<b>" not in text


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("dark", 390)])
def test_axe_finds_no_serious_fault_in_the_page(
    found: Comparison,  # noqa: ARG001
    studies: tuple[Path, Path],
    chromium: Any,  # noqa: F811
    scheme: str,
    width: int,
) -> None:
    address = (studies[0].parent / "out" / "comparison.html").as_uri()
    page = open_page(chromium, address, scheme=scheme, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.faults == []
    assert serious_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_one_study_sets_its_methods_against_zero_shot(studies: tuple[Path, Path]) -> None:
    scatter = compare_results([studies[0]]).scatter
    assert {(row["x"], row["y"]) for row in scatter} == {("zero-shot", "mms"), ("zero-shot", "lat")}
    assert len(scatter) == 2 * len(SHIFTS)


def test_a_folder_of_released_evaluations_is_a_study_of_its_own(tmp_path: Path) -> None:
    write_results(make_rows({"mms": SMALL["mms"]}), tmp_path / "ours" / "results.csv")
    published = tmp_path / "theirs" / "evaluations"
    for method, accuracy in (("lora_fine_tuning", 0.8), ("zero_shot", 0.6)):
        for source, target, _, _ in SHIFTS:
            path = published / method / f"llama-7b-{source}" / f"{target}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"eval_accuracy": accuracy}))
    bare = published / "zero_shot" / "llama-7b" / "hard.json"
    bare.parent.mkdir()
    bare.write_text('{"eval_accuracy": 0.1}')
    capability = tmp_path / "theirs" / "target_tuned_capability" / "llama-7b" / "hard.json"
    capability.parent.mkdir(parents=True)
    capability.write_text('{"best_intervention": "mms", "best_intervention_accuracy": 0.9}')
    ours, theirs = read_compared_studies([tmp_path / "ours" / "results.csv", published])
    assert (ours.name, theirs.name) == ("ours", "evaluations")
    assert {(row.model, row.method) for row in theirs.rows} == {("llama-7b", "lora"), ("llama-7b", "zero-shot")}
    row = next(row for row in theirs.rows if (row.method, row.target) == ("lora", "hard"))
    assert (row.accuracy, row.baseline_accuracy, row.label) == (0.8, 0.6, "extreme")
    assert row.elicitation == pytest.approx(0.8 / 0.9)


def test_published_evaluations_correlate_across_models(genies_root: Path) -> None:
    comparison = compare_results([genies_root / "results" / "evaluations"])
    row = row_of(comparison.tables["model_correlations"], a="zero-shot · llama-30b", b="zero-shot · llama-7b")
    assert row["shifts"] == 56 and row["pearson"] > 0.9
    assert {found["model"] for found in comparison.tables["elicitation_by_size"]} >= {"llama-30b", "llama-7b"}


def test_rows_that_only_name_a_capability_are_no_methods(tmp_path: Path) -> None:
    rows = [make_row(accuracy=0.8), make_row(method="target-tuned:lora", source="hard", accuracy=0.9)]
    write_results(rows, tmp_path / "results.csv")
    assert [one.method for one in compared_methods(read_compared_studies([tmp_path]))] == ["mms"]


def test_what_cannot_be_compared_is_said(tmp_path: Path, studies: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match="no results.csv and no METHOD"):
        compare_results([tmp_path])
    with pytest.raises(BadInput, match="given twice"):
        compare_results([studies[0], studies[0]])
    with pytest.raises(BadInput, match="nothing to compare"):
        compare_results([])
