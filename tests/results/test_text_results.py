"""Rows of results and evaluation files of labelled texts."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repeng.distributions.schema import Shift
from repeng.errors import BadData
from repeng.metrics import Evaluation, TextEvaluation, accuracy_interval, recall_at_1
from repeng.results import read_evaluation, read_results, results_frame, row_from, write_evaluation, write_results

SHIFT = Shift("easy", "hard", "hard", "extreme", "difficulty")


def an_evaluation(fits: int = 2) -> TextEvaluation:
    """Forty examples of a true and a false statement each, which are pairs too."""
    generator = np.random.default_rng(fits)
    labels = np.arange(80) % 2 == 0
    scores = generator.normal(size=(fits, 80)) + labels
    example = np.repeat(np.arange(40), 2)
    gaps = scores[:, ::2] - scores[:, 1::2]
    return TextEvaluation.of_scores(
        scores,
        labels,
        1 / (1 + np.exp(0.5 - scores)),
        example=example,
        group=example,
        thresholds=np.tile([2.0, 1.5], (fits, 1)),
        benign="alpaca",
        shuffled=np.array([0.45, 0.6]),
        pairs=Evaluation.of_fits(1 / (1 + np.exp(-gaps)), example=example[::2], group=example[::2]),
    )


@pytest.mark.parametrize("fits", [1, 2])
@pytest.mark.parametrize("bare", [False, True])
def test_an_evaluation_of_texts_reads_back_as_it_was_written(tmp_path: Path, fits: int, bare: bool) -> None:
    evaluation = an_evaluation(fits)
    if bare:
        blank = ("probabilities", "fit_probabilities", "thresholds", "pairs", "group", "example", "shuffled")
        evaluation = replace(evaluation, benign="", **dict.fromkeys(blank))
    write_evaluation(tmp_path / "x.json", evaluation, {"model": "tiny"})
    back = read_evaluation(tmp_path / "x.json")
    assert isinstance(back, TextEvaluation)
    arrays = ("labels", "text_scores", "thresholds", "probabilities", "fit_probabilities", "group", "example")
    for name in (*arrays, "shuffled"):
        one, other = getattr(back, name), getattr(evaluation, name)
        assert (one is None and other is None) or np.array_equal(one, other), name
    assert (back.benign, back.accuracy) == (evaluation.benign, evaluation.accuracy)
    if bare:
        assert back.pairs is None
    else:
        assert type(back.pairs) is Evaluation and back.pairs.reported_accuracy is None
        assert np.array_equal(back.pairs.fit_wins, evaluation.pairs.fit_wins)
        assert np.array_equal(back.pairs.group, evaluation.pairs.group)
    held = json.loads((tmp_path / "x.json").read_text())
    assert held["eval_accuracy"] == evaluation.accuracy and "eval_rms_calibration_error" not in held


def test_the_scores_of_texts_are_believed_over_an_accuracy_that_was_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, evaluation = tmp_path / "x.json", an_evaluation()
    write_evaluation(path, evaluation, {})
    with caplog.at_level(logging.WARNING):
        read_evaluation(path)
        assert not caplog.records
        path.write_text(json.dumps({**json.loads(path.read_text()), "eval_accuracy": 0.99}))
        assert read_evaluation(path).accuracy == evaluation.accuracy
    assert "eval_accuracy is 0.99, its scores give" in caplog.messages[0]


def test_labels_and_scores_are_all_that_a_file_of_texts_needs(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"eval_labels": [true, false, false], "eval_text_scores": [[0.3, 0.1, 0.4]]}')
    assert read_evaluation(tmp_path / "x.json").accuracy == 0.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"eval_labels": [true, false]}', "eval_labels without eval_text_scores"),
        ('{"eval_labels": [true, 0], "eval_text_scores": [[1, 2]]}', "eval_labels.1 is 0: Input should be a valid"),
        ('{"eval_labels": [true, true], "eval_text_scores": [[1, 2]]}', "2 of 2 texts have the label"),
        ('{"eval_labels": [true, false], "eval_text_scores": [[1, 2, 3]]}', "text_scores has 3 rows"),
        ('{"eval_labels": [true, false], "eval_text_scores": [[1, 2], [1]]}', "the fits hold [1, 2]"),
        (
            '{"eval_labels": [true, false], "eval_text_scores": [[1, 2]], "eval_thresholds": [[1]]}',
            "eval_thresholds.0 is [1]",
        ),
        (
            '{"eval_labels": [true, false], "eval_text_scores": [[1, 2]], "eval_pairs": {"eval_probabilities": []}}',
            "no pair",
        ),
    ],
)
def test_a_file_that_is_no_evaluation_of_texts_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadData) as raised:
        read_evaluation(tmp_path / "x.json")
    assert reason in str(raised.value)


def test_a_row_of_texts_says_which_figure_it_shows_and_reads_back(tmp_path: Path) -> None:
    evaluation = an_evaluation()
    row = row_from(
        evaluation, model="m", method="mms", layers="3", shift=SHIFT, baseline=an_evaluation(1), capability=evaluation
    )
    assert (row.figure, row.n_texts, row.n_positive, row.benign) == ("auroc", 80, 40, "alpaca")
    assert (row.n_pairs, row.n_prompts, row.n_fits) == (40, 40, 2)
    assert row.accuracy == row.auroc == evaluation.accuracy and row.pair_accuracy == evaluation.pairs.accuracy
    assert (row.accuracy_low, row.accuracy_high) == accuracy_interval(evaluation)
    assert (row.recall_at_1, row.recall_at_1_high) == (recall_at_1(evaluation).value, recall_at_1(evaluation).high)
    assert row.elicitation == 1 and row.differential_elicitation_low < row.differential_elicitation
    assert row.fit_sd > 0 and row.selectivity == pytest.approx(evaluation.accuracy - 0.525)
    pairs = row_from(evaluation.pairs, model="m", method="mms", layers="3", shift=SHIFT)
    assert (pairs.figure, pairs.n_texts, pairs.recall_at_1) == ("pair accuracy", None, None)
    write_results([row, pairs], tmp_path / "results.csv")
    assert read_results(tmp_path / "results.csv") == [row, pairs]
    frame = results_frame([row, pairs])
    assert frame["n_texts"].dtype == float and frame["figure"].tolist() == ["auroc", "pair accuracy"]
