"""Results tables and evaluation files: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import numpy as np
import pandas
import pytest

from repeng.atomic import write_atomically
from repeng.distributions.schema import Shift
from repeng.errors import BadData, BadInput
from repeng.metrics import Evaluation, accuracy_interval
from repeng.results import (
    COLUMNS,
    ResultRow,
    evaluation_path,
    read_evaluation,
    read_evaluation_file,
    read_results,
    results_frame,
    row_from,
    write_evaluation,
    write_results,
)
from repeng.results.evaluations import without_scores

SHIFT = Shift("easy", "hard", "hard_clean", "extreme", "difficulty")


def an_evaluation(n_prompts: int = 40, seed: int = 0) -> Evaluation:
    """Two pairs a prompt, a score a response; a pair is won where the best response's score is higher."""
    generator = np.random.default_rng(seed)
    example = np.repeat(np.arange(n_prompts), 2)
    best = np.repeat(generator.normal(0.5, 1, n_prompts), 2)
    scores = np.stack([best, generator.normal(0, 1, 2 * n_prompts)], axis=1)
    probabilities = 1 / (1 + np.exp(scores[:, 1] - scores[:, 0]))
    return Evaluation(probabilities, example, example + 7, scores)


@pytest.mark.parametrize("fits", [1, 3])
def test_without_the_scores_of_its_pairs_a_file_says_the_same(tmp_path: Path, fits: int) -> None:
    one = an_evaluation()
    both = np.stack([np.roll(one.probabilities, number) for number in range(fits)])
    scores = np.stack([np.roll(one.scores, number, axis=0) for number in range(fits)])
    written = Evaluation.of_fits(both, scores, example=one.example, group=one.group, random=np.array([0.4, 0.6]))
    names = {"method": "mms", "source": "easy", "target": "hard", "target_data_hash": "0123", "repeng_version": "1"}
    write_evaluation(tmp_path / "file.json", written, {**names, "seed": 3})
    whole, provenance = read_evaluation_file(tmp_path / "file.json")
    short, named = read_evaluation_file(tmp_path / "file.json", scored=False)
    assert provenance == {**names, "seed": 3} and named == names
    assert short.scores is None and short.fit_scores is None
    for name in ("probabilities", "fit_probabilities", "example", "group", "random"):
        np.testing.assert_array_equal(getattr(short, name), getattr(whole, name))
    np.testing.assert_array_equal(whole.scores if fits == 1 else whole.fit_scores, scores[0] if fits == 1 else scores)
    assert short.accuracy == whole.accuracy and short.reported_accuracy is None


@pytest.mark.parametrize(
    "text",
    [
        '{"eval_scores":[[1.5,-2e-3],[0,1]],"eval_random":[0.5],"method":"mms"}',
        '{"eval_fit_scores":[[[1,2]],[[3,4]]],"method":"mms","target":"]]]"}',
        '{"eval_fit_scores":[[[1,2]],[["]]]",{"a":[[[4]]]}]]],"eval_scores":[[1,2]]}',
        '{"method":"a \\"eval_scores\\":[[1]] b","eval_scores":[[1,2]],"more":[[3]]}',
        '{"a\\"eval_scores":[[1,2]],"more":[{"eval_fit_scores":[[[1]]]},[[[2]]]]}',
        '{"eval_pairs":{"eval_scores":[[1,2]],"eval_random":[1]},"eval_text_scores":[[3,4]]}',
        '{"eval_scores": [[1, 2]], "eval_fit_scores":[[]]}',
        '{"eval_scores":[[]],"eval_fit_scores":[[[]]]}',
    ],
)
def test_no_more_than_scores_is_left_out_of_a_file(text: str) -> None:
    def others(value: object) -> object:
        """All but the scores, by a plain walk."""
        if isinstance(value, dict):
            return {key: others(one) for key, one in value.items() if not key.endswith(("eval_scores", "fit_scores"))}
        return [others(one) for one in value] if isinstance(value, list) else value

    left = without_scores(text.encode())
    assert others(json.loads(left)) == others(json.loads(text)) and len(left) <= len(text)


def test_of_the_scores_that_repeng_writes_none_is_left() -> None:
    assert without_scores(b'{"eval_scores":[[1,2],[3,4]],"a":1}') == b'{"eval_scores":[[]],"a":1}'
    assert without_scores(b'{"eval_fit_scores":[[[1,2]],[[3,4]]]}') == b'{"eval_fit_scores":[[[]]]}'


def a_row(**changes: object) -> ResultRow:
    row = row_from(an_evaluation(), model="tiny", method="mms", layers="2 3", shift=SHIFT)
    return dataclasses.replace(row, **changes)


def test_columns_are_those_of_the_design_in_their_order() -> None:
    assert ",".join(COLUMNS) == (
        "model,method,layers,source,target,target_reference,label,category,n_pairs,n_prompts,accuracy,accuracy_low,"
        "accuracy_high,p,fit_sd,fit_lowest,fit_highest,unlabelled_sd,null_sd,selectivity,random_mean,random_sd,source_id_accuracy,"
        "baseline_accuracy,target_tuned_capability,elicitation,elicitation_low,elicitation_high,elicitation_capped,"
        "differential_elicitation,differential_elicitation_low,differential_elicitation_high,rms_calibration_error,"
        "rms_calibration_error_debiased,rms_calibration_error_debiased_low,rms_calibration_error_debiased_high,"
        "genies_rms_calibration_error,brier,auroc,n_overlap,accuracy_without_overlap,kind,n_fits,fits_disagree,"
        "tied_layers,tied_lowest,tied_highest,p_corrected,verdict,figure,n_texts,n_positive,benign,source_id_figure,pair_accuracy,"
        "pair_accuracy_low,pair_accuracy_high,accuracy_at_threshold,accuracy_at_threshold_low,"
        "accuracy_at_threshold_high,balanced_accuracy,balanced_accuracy_low,balanced_accuracy_high,recall_at_1,"
        "recall_at_1_low,recall_at_1_high,recall_at_5,recall_at_5_low,recall_at_5_high,false_positives_at_1,"
        "false_positives_at_5,average_precision,average_precision_low,average_precision_high,brier_low,brier_high"
    )


def test_every_column_is_described_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text().split("## layers.csv")[0]
    described = set(", ".join(re.findall(r"^\| ([a-z_0-9, ]+) \|", text, flags=re.MULTILINE)).split(", "))
    assert set(COLUMNS) <= described


def test_a_table_reads_back_as_it_was_written_to_the_last_bit(tmp_path: Path) -> None:
    rows = [a_row(accuracy=0.1 + 0.2, source='a "quoted", name'), a_row(auroc=None, n_prompts=None, layers="")]
    write_results(rows, tmp_path / "results.csv")
    assert read_results(tmp_path / "results.csv") == rows


def test_a_blank_is_nothing_between_commas(tmp_path: Path) -> None:
    write_results([a_row(auroc=None)], tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text().splitlines()[1].endswith(",,,,probe,1,,,,,,,pair accuracy" + 26 * ",")


def test_columns_in_another_order_are_read_and_foreign_ones_kept(tmp_path: Path) -> None:
    rows = [a_row(), a_row(n_pairs=None)]
    write_results(rows, tmp_path / "ours.csv")
    table = pandas.read_csv(tmp_path / "ours.csv", float_precision="round_trip")
    table = table.assign(note="x, y", cost=[1.50, 2.0])
    table[["note", *reversed(COLUMNS), "cost"]].to_csv(tmp_path / "theirs.csv", index=False)
    found = read_results(tmp_path / "theirs.csv")
    assert [dataclasses.replace(row, others={}) for row in found] == rows
    frame = results_frame(found)
    assert list(frame.columns) == [*COLUMNS, "note", "cost"]
    assert frame["note"].tolist() == ["x, y", "x, y"] and frame["cost"].tolist() == [1.5, 2.0]
    write_results(found, tmp_path / "again.csv")
    assert read_results(tmp_path / "again.csv") == found


def test_a_table_of_before_a_column_was_there_is_read_with_a_blank(tmp_path: Path) -> None:
    row = a_row(method="zero-shot-mean")
    write_results([row], tmp_path / "new.csv")
    table = pandas.read_csv(tmp_path / "new.csv", dtype=str)
    table.drop(columns=["auroc", "kind", "category"]).to_csv(tmp_path / "old.csv", index=False)
    (found,) = read_results(tmp_path / "old.csv")
    assert found == dataclasses.replace(row, auroc=None, category="", kind="prompted")


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("lat-stimulus-2-genies", "probe"),
        ("mms+10%", "probe"),
        ("zero-shot-genies", "prompted"),
        ("target-tuned:lora", "tuned"),
        ("tfidf", "text"),
        ("random", "chance"),
        ("someone_elses", "published"),
    ],
)
def test_a_name_tells_the_kind_only_where_none_is_given(method: str, kind: str) -> None:
    assert a_row(method=method, kind="").kind == kind
    assert a_row(method=method, kind="plugin").kind == "plugin"


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("accuracy", "high", "row 2, column accuracy is 'high': Input should be a valid number"),
        ("brier", "nan", "row 2, column brier is 'nan': Input should be a finite number"),
        ("n_pairs", "7.5", "row 2, column n_pairs is '7.5': Input should be a valid integer"),
    ],
)
def test_a_wrong_cell_is_named_by_file_row_and_column(tmp_path: Path, column: str, cell: str, reason: str) -> None:
    path = tmp_path / "results.csv"
    write_results([a_row(), a_row()], path)
    first, second, third = path.read_text().splitlines()
    cells = third.split(",")
    cells[COLUMNS.index(column)] = cell
    path.write_text("\n".join([first, second, ",".join(cells)]))
    with pytest.raises(BadInput) as raised:
        read_results(path)
    assert str(path) in str(raised.value) and reason in str(raised.value)


def test_a_missing_column_a_short_row_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(",".join(COLUMNS[2:]) + "\n")
    with pytest.raises(BadInput, match="no column model, method"):
        read_results(path)
    path.write_text(",".join(COLUMNS) + "\ntiny,mms\n")
    with pytest.raises(BadInput, match="row 1: more or fewer cells"):
        read_results(path)
    path.write_text(",".join(COLUMNS) + "\n" + "x," * len(COLUMNS) + "x\n")
    with pytest.raises(BadInput, match="row 1: more or fewer cells"):
        read_results(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not a CSV file in UTF-8"):
        read_results(path)
    with pytest.raises(BadInput, match="cannot read the results"):
        read_results(tmp_path / "absent.csv")


def test_a_row_refuses_a_figure_that_is_not_finite() -> None:
    with pytest.raises(BadInput, match="brier is nan"):
        a_row(brier=float("nan"))


def test_a_row_holds_the_formulas_of_the_design() -> None:
    evaluation, source_id, baseline = an_evaluation(seed=1), an_evaluation(seed=2), an_evaluation(seed=3)
    row = row_from(
        evaluation,
        model="tiny",
        method="mms",
        layers="3",
        shift=SHIFT,
        source_id=source_id,
        baseline=baseline,
        capability=0.9,
    )
    assert (row.source, row.target, row.target_reference) == ("easy", "hard", "hard_clean")
    assert (row.label, row.category, row.n_pairs, row.n_prompts) == ("extreme", "difficulty", 80, 40)
    assert row.accuracy == np.mean(evaluation.wins) and row.source_id_accuracy == source_id.accuracy
    assert row.elicitation == pytest.approx(row.accuracy / 0.9)
    assert row.differential_elicitation == pytest.approx((row.accuracy - baseline.accuracy) / 0.9)
    assert (row.accuracy_low, row.accuracy_high) == accuracy_interval(evaluation)


def test_what_an_evaluation_cannot_support_stays_blank() -> None:
    def row(evaluation: Evaluation | None, capability: float | None = None) -> ResultRow:
        return row_from(evaluation, model="m", method="x", layers="", shift=SHIFT, capability=capability)

    bare = row(Evaluation(reported_accuracy=0.7))
    assert {name for name in COLUMNS[8:] if getattr(bare, name) not in (None, "")} == {"accuracy", "kind", "figure"}
    without_groups = row(Evaluation(np.linspace(0, 1, 100)))
    assert without_groups.accuracy_low is without_groups.auroc is without_groups.n_prompts is None
    assert without_groups.brier is not None and without_groups.n_pairs == 100
    assert row(Evaluation(np.full(15, 0.4))).genies_rms_calibration_error is None
    assert row(Evaluation(reported_accuracy=0.7), capability=0.0).elicitation is None
    assert {name for name in COLUMNS[8:] if getattr(row(None), name) not in (None, "")} == {"kind"}


def test_an_evaluation_reads_back_as_it_was_written(tmp_path: Path) -> None:
    evaluation = an_evaluation()
    path = evaluation_path(tmp_path, "mms", "tiny", "easy", "hard")
    assert path == tmp_path / "mms" / "tiny-easy" / "hard.json"
    write_evaluation(path, evaluation, {"model": "tiny", "layers": "3", "eval_responses": [[0, 1, 2]]})
    back = read_evaluation(path)
    for name in ("probabilities", "example", "group", "scores"):
        assert np.array_equal(getattr(back, name), getattr(evaluation, name))
    assert back.reported_accuracy is None and back.accuracy == evaluation.accuracy
    held = json.loads(path.read_text())
    assert held["model"] == "tiny" and held["eval_responses"] == [[0, 1, 2]]
    assert held["eval_brier_score"] == np.mean((1 - evaluation.probabilities) ** 2)


def test_an_evaluation_of_several_fits_reads_back_with_its_nulls(tmp_path: Path) -> None:
    fits = np.random.default_rng(0).random((3, 7))
    nulls = {"shuffled": np.array([0.4, 0.6]), "random": np.array([0.5])}
    evaluation = Evaluation.of_fits(fits, fits[..., None] - [0, 1], group=np.arange(7), **nulls)
    write_evaluation(tmp_path / "x.json", evaluation, {})
    back = read_evaluation(tmp_path / "x.json")
    for name in ("probabilities", "group", "fit_probabilities", "fit_scores", "shuffled", "random"):
        assert np.array_equal(getattr(back, name), getattr(evaluation, name))
    held = json.loads((tmp_path / "x.json").read_text())
    assert held["eval_accuracy"] == evaluation.accuracy and "eval_scores" not in held
    assert held["eval_brier_score"] == pytest.approx(np.mean((1 - fits) ** 2))


def test_provenance_cannot_overwrite_what_was_measured(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'eval_accuracy'"):
        write_evaluation(tmp_path / "x.json", an_evaluation(), {"eval_accuracy": 1.0})
    assert not list(tmp_path.iterdir())


def test_the_only_key_that_a_foreign_evaluation_needs_is_its_accuracy(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"eval_accuracy": 0.75, "note": "by hand"}')
    evaluation = read_evaluation(tmp_path / "x.json")
    assert evaluation.accuracy == 0.75 and evaluation.probabilities is None


def test_a_foreign_accuracy_stands_and_a_disagreement_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.json"
    with caplog.at_level(logging.WARNING):
        path.write_text('{"eval_accuracy": 0.75, "eval_probabilities": [0.9, 0.8, 0.5, 0.1]}')
        ties_right = read_evaluation(path)
        path.write_text('{"eval_accuracy": 0.25, "eval_probabilities": [0.9, 0.8, 0.5, 0.1]}')
        astray = read_evaluation(path)
    assert (ties_right.accuracy, astray.accuracy) == (0.75, 0.25)
    assert ties_right.credit.tolist() == [1, 1, 1, 0] and astray.credit is None
    assert len(caplog.records) == 2
    assert "eval_accuracy is 0.75, its probabilities give 0.625 with 1 ties" in caplog.messages[0]
    assert "has no interval" in caplog.messages[1] and "has no interval" not in caplog.messages[0]


def test_an_accuracy_that_its_probabilities_bear_out_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.json").write_text('{"eval_accuracy": 0.625, "eval_probabilities": [0.9, 0.8, 0.5, 0.1]}')
    assert read_evaluation(tmp_path / "x.json").reported_accuracy is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "the file is b'{': Invalid JSON"),
        ("[1]", "the file is [1]: Input should be an object"),
        ('{"accuracy": 1}', "neither probabilities nor an accuracy"),
        ('{"eval_accuracy": "high"}', "eval_accuracy is 'high': Input should be a valid number"),
        ('{"eval_accuracy": 75}', "the reported accuracy is 75.0"),
        ('{"eval_accuracy": NaN}', "the reported accuracy is nan"),
        ('{"eval_probabilities": []}', "no pair"),
        ('{"eval_probabilities": 0.5}', "eval_probabilities is 0.5: Input should be a valid array"),
        ('{"eval_probabilities": [0.5, null]}', "eval_probabilities.1 is None"),
        ('{"eval_probabilities": [0.5, 1.5]}', "the probability of pair 1 is 1.5"),
        ('{"eval_probabilities": [0.5, NaN]}', "the probability of pair 1 is nan"),
        (
            '{"eval_probabilities": [0.5], "eval_group": [0.5]}',
            "eval_group.0 is 0.5: Input should be a valid integer",
        ),
        ('{"eval_probabilities": [0.5], "eval_example": [0, 1]}', "example has 2 rows, but there are 1 pairs"),
        ('{"eval_probabilities": [0.5], "eval_scores": [[1]]}', "eval_scores.0 is [1]: List should have at least 2"),
        ('{"eval_probabilities": [0.5], "eval_group": [1' + 30 * "0" + "]}", "eval_group.0 is 1000"),
        ('{"eval_accuracy": 1, "eval_group": [0]}', "group but no probabilities"),
        ('{"eval_fit_probabilities": [[0.5], [0.5, 0.1]]}', "the fits hold [1, 2] pairs"),
        ('{"eval_fit_probabilities": []}', "the fits hold [] pairs"),
        ('{"eval_fit_probabilities": [[0.5], [1.5]]}', "the probability of pair 0 is 1.5"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused_by_name_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BadData) as raised:
        read_evaluation(path)
    assert str(raised.value).startswith(f"{path}: ") and reason in str(raised.value)
    assert raised.value.path == path and str(path) not in raised.value.reason


def test_a_missing_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot read the evaluation"):
        read_evaluation(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b"])
def test_a_name_that_would_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a file"):
        evaluation_path(tmp_path, "mms", "tiny", "easy", name)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.csv"
    write_atomically(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_scores_of_no_pair_are_refused_beside_pairs(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text('{"eval_accuracy": 0.5, "eval_probabilities": [0.1, 0.9], "eval_scores": []}')
    with pytest.raises(BadData, match="score"):
        read_evaluation(path)
