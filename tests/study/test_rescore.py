"""Shift lists against the real ones, and figures from evaluation files against the published ones."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repeng.benchmarks.shift_lists import BENCHMARKS, CATEGORIES, get_benchmark
from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Benchmark, Shift
from repeng.distributions.shifts import LABELS
from repeng.errors import BadData, BadInput, UnknownName
from repeng.metrics import Evaluation, accuracy_interval, brier
from repeng.results import evaluation_path, read_evaluation, results_frame, write_evaluation
from repeng.study.rescore import Rescored, read_capability, rescore, target_groups, write_published

TEXTS = {
    "source",
    "target",
    "target_reference",
    "baseline_intervention",
    "target_tuned_capability_intervention",
}


def real_shifts(path: Path) -> list[dict[str, str]]:
    return [{"target_reference": row["target"], **row} for row in json.loads(path.read_text())]


def names(shift: Shift) -> tuple[str, str, str]:
    return shift.source, shift.target, shift.target_reference


def real_names(row: dict[str, str]) -> tuple[str, str, str]:
    return row["source"], row["target"], row["target_reference"]


def test_the_headline_shifts_are_those_of_the_real_file_with_its_labels(genies_root: Path) -> None:
    real = real_shifts(genies_root / "distribution_shifts" / "GENIES.json")
    ours = get_benchmark("genies").shifts
    assert [(*names(s), s.label, s.category) for s in ours] == [
        (*real_names(row), row["label"], row["category"]) for row in real
    ]


def test_all_shifts_are_those_of_the_real_file_in_its_order(genies_root: Path) -> None:
    real = real_shifts(genies_root / "distribution_shifts" / "all.json")
    assert [names(shift) for shift in get_benchmark("genies-all").shifts] == [real_names(row) for row in real]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_holds_the_shifts_of_its_folder(genies_root: Path, label: str) -> None:
    real = real_shifts(genies_root / "distribution_shifts" / label / "all.json")
    assert [names(shift) for shift in get_benchmark(label).shifts] == [real_names(row) for row in real]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_holds_the_shifts_of_its_file(genies_root: Path, category: str) -> None:
    (path,) = (genies_root / "distribution_shifts").glob(f"*/{category}.json")
    ours = get_benchmark(category).shifts
    assert {names(shift) for shift in ours} == {real_names(row) for row in real_shifts(path)}
    assert {shift.label for shift in ours} == {path.parent.name}


def test_the_long_list_repeats_thirteen_shifts_and_the_short_one_none() -> None:
    counts = Counter(get_benchmark("genies-all").shifts)
    assert (sum(counts.values()), len(counts), Counter(counts.values())[2]) == (69, 56, 13)
    assert len(get_benchmark("genies").shifts) == len(set(get_benchmark("genies").shifts)) == 15


def test_each_list_keeps_its_own_label() -> None:
    of = {
        name: next(s.label for s in get_benchmark(name).shifts if s.target == "alpaca_long")
        for name in ("genies", "genies-all")
    }
    assert of == {"genies": "extreme", "genies-all": "probing"}


def test_labels_and_categories_part_the_long_list() -> None:
    every = Counter(get_benchmark("genies-all").shifts)
    for parts in (LABELS, CATEGORIES):
        assert sum((Counter(get_benchmark(name).shifts) for name in parts), Counter()) == every


def test_a_shift_file_is_a_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('[{"source": "a", "target": "b", "label": "extreme", "category": "length"}]')
    assert get_benchmark(path) == Benchmark("mine", (Shift("a", "b", "b", "extreme", "length"),))


def test_an_unknown_benchmark_is_refused_with_the_known_names() -> None:
    with pytest.raises(UnknownName, match="genies-al.*did you mean genies-all") as raised:
        get_benchmark("genies-al")
    assert all(name in str(raised.value) for name in BENCHMARKS)


@pytest.mark.parametrize("model", ["llama-30b", "llama-7b"])
@pytest.mark.parametrize("method", ["mms", "lora_fine_tuning", "zero_shot"])
@pytest.mark.parametrize(("benchmark", "file"), [("genies", "GENIES.csv"), ("genies-all", "all.csv")])
def test_every_published_figure_is_recomputed(
    genies_root: Path, tmp_path: Path, model: str, method: str, benchmark: str, file: str
) -> None:
    results = genies_root / "results"
    rows = rescore(results / "evaluations", benchmark, model, methods=[method])
    write_published(rows, tmp_path / file)
    with (results / "generalization_metrics" / model / method / file).open() as published_file:
        published = list(csv.DictReader(published_file))
    with (tmp_path / file).open() as our_file:
        ours = list(csv.DictReader(our_file))
    assert tuple(published[0]) == tuple(ours[0])
    assert len(ours) == len(published) == (15 if benchmark == "genies" else 69)
    for our_row, their_row in zip(ours, published, strict=True):
        for column, theirs in their_row.items():
            if column in TEXTS:
                assert our_row[column] == theirs, (column, their_row)
            else:
                assert float(our_row[column]) == pytest.approx(float(theirs), abs=1e-9, rel=0), (column, their_row)


def test_the_released_calibration_error_is_published_to_the_last_bit(genies_root: Path) -> None:
    results = genies_root / "results"
    with (results / "generalization_metrics" / "llama-30b" / "mms" / "all.csv").open() as file:
        published = [float(row["RMS_calibration_error"]) for row in csv.DictReader(file)]
    rows = rescore(results / "evaluations", "genies-all", "llama-30b", methods=["mms"])
    assert [row.row.genies_rms_calibration_error for row in rows] == published


def test_our_brier_score_is_the_one_in_every_published_file(genies_root: Path) -> None:
    for path in sorted((genies_root / "results" / "evaluations" / "mms").glob("llama-7b-*/*.json")):
        evaluation = read_evaluation(path)
        assert evaluation.probabilities is not None
        assert brier(evaluation.probabilities) == pytest.approx(json.loads(path.read_text())["eval_brier_score"])


def test_published_means_keep_repeats_and_the_headline_is_the_papers(genies_root: Path) -> None:
    evaluations = genies_root / "results" / "evaluations"
    headline = [row.row for row in rescore(evaluations, "genies", "llama-30b", methods=["mms", "lora"])]
    means = results_frame(headline).groupby("method")["accuracy"].mean()
    assert means.round(3).to_dict() == {"mms": 0.620, "lora": 0.561}
    every = [row.row for row in rescore(evaluations, "genies-all", "llama-30b", methods=["mms"])]
    accuracies = results_frame(every)["accuracy"]
    assert len(accuracies) == 69 and accuracies.mean() == pytest.approx(np.mean([row.accuracy for row in every]))
    assert accuracies.mean() != pytest.approx(np.mean([row.accuracy for row in set(every)]), abs=1e-4)


def test_our_names_and_the_published_ones_give_the_same_rows_under_our_names(genies_root: Path) -> None:
    evaluations = genies_root / "results" / "evaluations"
    ours = rescore(evaluations, "quality", "llama-7b", methods=["lora", "zero-shot"])
    theirs = rescore(evaluations, "quality", "llama-7b", methods=["lora_fine_tuning", "zero_shot"])
    assert ours == theirs
    assert [row.row.method for row in ours] == 3 * ["lora"] + 3 * ["zero-shot"]
    # The whole public results hold more methods, of which some lack a source.
    every = rescore(evaluations, "quality", "llama-7b")
    assert {row.row.method for row in every} >= {"lora", "mms", "zero-shot"}
    assert not any(row.missing for row in every if row.row.method in ("lora", "mms", "zero-shot"))


def test_published_files_support_no_interval_and_the_data_gives_them_one(genies_root: Path) -> None:
    evaluations = genies_root / "results" / "evaluations"
    shift = Benchmark("one", (Shift("alpaca_easy", "alpaca_hard"),))
    (alone,) = rescore(evaluations, shift, "llama-30b", methods=["mms"])
    assert alone.row.accuracy_low is alone.row.n_prompts is alone.row.auroc is None and alone.row.n_pairs == 750
    test = load_distributions(genies_root / "distributions", ["alpaca_hard"])["alpaca_hard"].test
    (grouped,) = rescore(evaluations, shift, "llama-30b", methods=["mms"], groups={"alpaca_hard": test})
    given = ("accuracy", "brier", "rms_calibration_error", "genies_rms_calibration_error", "elicitation", "n_pairs")
    assert all(getattr(grouped.row, name) == getattr(alone.row, name) for name in given)
    assert alone.row.p is None and alone.row.verdict == "" and grouped.row.verdict == "above chance"
    assert grouped.row.n_prompts == 250
    held = read_evaluation(evaluation_path(evaluations, "mms", "llama-30b", "alpaca_easy", "alpaca_hard"))
    by_hand = Evaluation(held.probabilities, group=np.repeat(np.arange(250), 3), reported_accuracy=held.accuracy)
    assert (grouped.row.accuracy_low, grouped.row.accuracy_high) == accuracy_interval(by_hand)


def test_data_that_holds_some_of_the_targets_gives_these_their_intervals(genies_root: Path, tmp_path: Path) -> None:
    evaluations = genies_root / "results" / "evaluations"
    (tmp_path / "alpaca_hard").symlink_to(genies_root / "distributions" / "alpaca_hard")
    shifts = Benchmark("two", (Shift("alpaca_easy", "alpaca_hard"), Shift("arc_easy", "arc_hard")))
    groups = target_groups(tmp_path, shifts)
    hard, absent = rescore(evaluations, shifts, "llama-30b", methods=["lora"], groups=groups)
    assert absent.row.accuracy is not None and absent.row.accuracy_low is None
    assert hard.row.accuracy_low < hard.row.accuracy < hard.row.accuracy_high
    assert rescore(evaluations, shifts, "llama-30b", methods=["lora"])[0].row.accuracy_low is None


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Our own files of one model, two methods and one shift, beside a capability."""
    for seed, method in enumerate(("mms", "zero-shot")):
        for target in ("a", "b"):
            generator = np.random.default_rng([seed, ord(target)])
            example = np.repeat(np.arange(40), 2)
            evaluation = Evaluation(generator.random(80), example, example)
            write_evaluation(
                evaluation_path(tmp_path / "out", method, "tiny", "a", target), evaluation, {"layers": "3"}
            )
    capability = tmp_path / "target_tuned_capability" / "tiny" / "b.json"
    capability.parent.mkdir(parents=True)
    capability.write_text('{"best_intervention": "mms", "best_intervention_accuracy": 0.8}')
    return tmp_path / "out"


ONE = Benchmark("one", (Shift("a", "b", label="extreme", category="x"),))


def test_our_own_files_are_rescored_with_intervals_and_layers(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    mms, zero_shot = rescore(small, ONE, "tiny")
    assert mms.missing == zero_shot.missing == () and not caplog.records
    assert mms.row.layers == "3" and mms.row.accuracy_low is not None and mms.row.n_prompts == 40
    assert mms.row.elicitation == pytest.approx(mms.row.accuracy / 0.8)
    assert mms.row.baseline_accuracy == zero_shot.row.accuracy
    assert (mms.baseline_intervention, mms.capability_intervention) == ("zero-shot", "mms")


def test_of_a_study_in_chat_form_the_baseline_is_zero_shot_in_chat_form(small: Path) -> None:
    for name in ("mms", "zero-shot"):
        (small / name).rename(small / f"{name}(stimulus='chat')")
    mms, zero_shot = rescore(small, ONE, "tiny")
    assert mms.row.baseline_accuracy == zero_shot.row.accuracy
    assert mms.baseline_intervention == "zero-shot(stimulus='chat')"


def test_a_missing_file_is_named_and_leaves_its_figures_blank(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = evaluation_path(small, "mms", "tiny", "a", "b")
    gone.unlink()
    mms, zero_shot = rescore(small, ONE, "tiny")
    assert mms.missing == (gone,) and zero_shot.missing == ()
    assert mms.row.accuracy is mms.row.brier is mms.row.elicitation is mms.row.n_pairs is None
    assert mms.row.source_id_accuracy is not None and mms.row.baseline_accuracy == zero_shot.row.accuracy
    assert mms.row.target_tuned_capability == 0.8
    assert [record.levelno for record in caplog.records] == [logging.WARNING] and str(gone) in caplog.text


def test_each_neighbour_that_is_missing_blanks_only_what_rests_on_it(small: Path) -> None:
    def after_removing(path: Path) -> Rescored:
        text = path.read_text()
        path.unlink()
        row = rescore(small, ONE, "tiny", methods=["mms"])[0]
        path.write_text(text)
        assert row.missing == (path,)
        return row

    blank = {
        "source_id": after_removing(evaluation_path(small, "mms", "tiny", "a", "a")),
        "baseline": after_removing(evaluation_path(small, "zero-shot", "tiny", "a", "b")),
        "capability": after_removing(small.parent / "target_tuned_capability" / "tiny" / "b.json"),
    }
    whole = rescore(small, ONE, "tiny", methods=["mms"])[0].row
    assert blank["source_id"].row == replace(whole, source_id_accuracy=None, source_id_figure="")
    assert blank["baseline"].row == replace(whole, baseline_accuracy=None, differential_elicitation=None)
    assert blank["baseline"].baseline_intervention == ""
    assert blank["capability"].row == replace(
        whole, target_tuned_capability=None, elicitation=None, elicitation_capped=None, differential_elicitation=None
    )


def test_a_whole_folder_that_is_missing_is_warned_of_once(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(small.parent / "target_tuned_capability")
    shutil.rmtree(small / "zero-shot")
    (row,) = rescore(small, ONE, "tiny")
    assert row.row.accuracy is not None and row.row.baseline_accuracy is None and len(row.missing) == 2
    assert len(caplog.messages) == 2
    assert "elicitation are blank" in caplog.messages[0] and "baseline accuracy is blank" in caplog.messages[1]


def test_groups_of_data_that_does_not_fit_are_not_taken(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    from repeng.distributions.schema import Example, Split

    path = evaluation_path(small, "mms", "tiny", "a", "b")
    path.write_text('{"eval_probabilities": [0.1, 0.7, 0.8]}')
    split = Split("b", "test", tuple(Example(f"prompt {n}", ("yes", "no"), 0) for n in range(4)))
    row = rescore(small, ONE, "tiny", methods=["mms"], groups={"b": split})[0].row
    assert row.accuracy_low is row.n_prompts is None and row.n_pairs == 3
    assert "3 pairs and the data's test split 4" in caplog.text
    fitting = rescore(small, ONE, "tiny", methods=["mms"], groups={"b": split.first(3)})[0].row
    assert fitting.n_prompts == 3 and fitting.accuracy_low is not None


def test_the_only_model_that_is_there_needs_no_name(small: Path) -> None:
    assert rescore(small, ONE) == rescore(small, ONE, "tiny")
    write_evaluation(evaluation_path(small, "mms", "vast", "a", "b"), Evaluation(reported_accuracy=0.5), {})
    with pytest.raises(BadInput, match="evaluations of 2 models: tiny, vast"):
        rescore(small, ONE)


def test_what_is_not_there_is_refused_with_what_is(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown model 'huge'; choose from tiny"):
        rescore(small, ONE, "huge")
    with pytest.raises(UnknownName, match="unknown method 'msm'; did you mean mms.* Choose from mms, zero-shot"):
        rescore(small, ONE, "tiny", methods=["msm"])
    with pytest.raises(UnknownName, match="unknown model of mms 'huge'"):
        rescore(small, ONE, "huge", methods=["mms"])
    with pytest.raises(BadInput, match="no such folder"):
        rescore(tmp_path / "nowhere", ONE, "tiny")
    with pytest.raises(BadInput, match="no evaluation of any source of one"):
        rescore(tmp_path, ONE, "tiny")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"best_intervention": "x", "best_intervention_accuracy": "high"}'])
def test_a_damaged_capability_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(BadData, match="b.json.*best_intervention_accuracy"):
        read_capability(path)
