"""Which text of a split an evaluation speaks of, and how texts, conversations and several right answers are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import chromium, open_page, serious_faults  # noqa: F401
from made_up_texts import statements, text_evaluation, write_text_study

from repeng.distributions.schema import Distribution, Example, Message, Shift, Split
from repeng.metrics import Evaluation, TextEvaluation
from repeng.report.browse import export
from repeng.report.frames import shift_frame
from repeng.report.library import Library
from repeng.report.mistakes import wrong_pairs, wrong_texts
from repeng.report.predictions import Prediction, read_predictions, same_items
from repeng.results import read_evaluation, read_results, row_from, write_evaluation


def prediction(split: Split, evaluation: Evaluation) -> Prediction:
    return Prediction("tiny", "mms", "cities", split.distribution, evaluation, split.data_hash)


def test_a_text_that_was_left_out_shifts_no_other() -> None:
    split = statements("cities", of_group=20).test
    keep = [number for number in range(60) if number not in (3, 4, 30)]
    one = text_evaluation(split, keep=keep)
    assert prediction(split, one).texts_in(split) == keep


def test_without_rows_a_group_that_lost_a_text_is_not_told_and_the_others_are() -> None:
    split = statements("cities", of_group=20).test
    keep = [number for number in range(60) if number != 3]
    one = text_evaluation(split, keep=keep)
    object.__setattr__(one, "rows", None)
    assert prediction(split, one).texts_in(split) == [None] * 19 + list(range(20, 60))


def test_texts_of_other_data_or_with_other_labels_are_not_matched() -> None:
    split, other = statements("cities").test, statements("sums").test
    one = text_evaluation(split)
    assert prediction(split, one).texts_in(other) is None
    turned = Split("cities", "test", tuple(Example("", e.responses, () if e.best else (0,)) for e in split.examples))
    assert Prediction("tiny", "mms", "a", "cities", one).texts_in(turned) is None
    assert prediction(split, one).pairs_in(split) is None and prediction(split, one.pairs).texts_in(split) is None


def test_rows_outlive_a_file_and_a_subset_and_tell_apart_what_groups_do_not(tmp_path: Path) -> None:
    split = statements("cities", of_group=20).test
    one = text_evaluation(split, keep=[0, 1, 2, 3, 20, 21])
    write_evaluation(tmp_path / "e.json", one, {})
    read = read_evaluation(tmp_path / "e.json")
    assert isinstance(read, TextEvaluation) and read.rows.tolist() == [0, 1, 2, 3, 20, 21]
    assert read.subset(np.arange(6) > 1).rows.tolist() == [2, 3, 20, 21]
    assert np.array_equal(read.fits[1].rows, read.rows)
    other = text_evaluation(split, keep=[0, 1, 2, 5, 20, 21])
    assert np.array_equal(one.example, other.example) and np.array_equal(one.labels, other.labels)
    assert same_items(one, read) and not same_items(one, other)


def test_a_capability_of_pairs_measures_no_elicitation_on_texts() -> None:
    one = text_evaluation(statements("cities").test)
    names = {"model": "m", "method": "mms", "layers": "", "shift": Shift("a", "b", "c")}
    row = row_from(one, **names, capability=one.pairs)
    assert row.elicitation is None and row.elicitation_low is None and row.target_tuned_capability == one.pairs.accuracy
    assert row_from(one, **names, capability=one).elicitation == 1.0


def test_pairs_of_grouped_examples_are_matched_by_their_groups() -> None:
    split = statements("cities").test
    example = split.units[[pair.best for pair in split.pairs]]
    one = Evaluation(np.full(len(split.pairs), 0.9), example=example)
    assert prediction(split, one).pairs_in(split) == list(split.pairs)


def test_the_surest_wrong_texts_come_with_label_and_probability(tmp_path: Path) -> None:
    rows, distributions = write_text_study(tmp_path, {"mms": 1.0})
    frame, predictions = shift_frame(rows), read_predictions(tmp_path)
    found = wrong_texts(frame, predictions, distributions)
    assert len(found) == 4 and wrong_pairs(frame, predictions, distributions) == []
    worst = found[0]
    own = predictions["tiny", "mms", worst.source, worst.target].evaluation
    assert worst.probability == min(own.probabilities) or worst.probability <= min(one.probability for one in found)
    example = distributions[worst.target].test.examples[worst.example]
    (text,) = worst.texts
    label = int(example.labels[0])
    assert (text.text, text.title) == (example.responses[0], f"Text, label {label}")
    assert worst.said == f"p(label {label}) = {worst.probability:.3f}"
    assert wrong_texts(shift_frame(read_results(tmp_path / "results.csv")), predictions, {}) == []


def shown_of(*examples: Example) -> dict[str, Any]:
    split = Split("d", "test", examples)
    return Library({"d": Distribution("d", {"test": split})}).split_data(0)


def test_texts_are_listed_by_example_response_and_label() -> None:
    part = shown_of(Example("", ("a",), (0,)), Example("Which?", ("b", "c", "d"), (0, 2)), Example("", ("e",), ()))
    assert part["texts"] == [[0, 0, 1], [1, 0, 1], [1, 1, 0], [1, 2, 1], [2, 0, 0]] and "pairs" not in part


def test_a_wrong_answer_of_another_example_of_the_group_is_found_there() -> None:
    part = shown_of(Example("One?", ("a", "b"), 0, group="g"), Example("Two?", ("c", "d"), 1, group="g"))
    assert sorted(part["pairs"]) == [[0, 0, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 1, 0]]


def test_a_conversation_keeps_its_turns_and_says_what_its_label_is_of() -> None:
    chat = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Lie"))
    part = shown_of(Example(chat, ("No.",), (0,), region="all"), Example(chat, ("Yes.",), ()))
    assert part["examples"][0]["turns"] == [["user", "Hi"], ["assistant", "Hello"], ["user", "Lie"]]
    assert part["examples"][0]["region"] == "all" and "region" not in part["examples"][1]


def test_probabilities_stand_at_their_texts_and_a_text_left_out_has_none() -> None:
    held = statements("cities")
    one = text_evaluation(held.test, keep=[0, 1, 2, 5])
    part = Library({"cities": held}, [prediction(held.test, one)]).split_data(0)
    p = part["predictions"][0]["p"]
    assert [p[row] for row in (0, 1, 2, 5)] == [round(float(value), 4) for value in one.probabilities]
    assert p[3] is None and len(p) == 60


def test_a_method_without_probabilities_is_named(caplog: pytest.LogCaptureFixture) -> None:
    held = statements("cities")
    one = text_evaluation(held.test, calibrated=False)
    assert Library({"cities": held}, [prediction(held.test, one)]).split_data(0)["predictions"] == []
    assert "of mms on cities have no probabilities and are not shown" in caplog.text


@pytest.mark.browser
def test_a_reader_finds_the_texts_that_a_method_gets_wrong(tmp_path: Path, chromium: Any) -> None:  # noqa: F811
    rows, distributions = write_text_study(tmp_path / "study", {"mms": 1.0}, pairs=True)
    chat = (Message("system", "Be kind."), Message("user", "Hi"))
    several = (Example("Which?", ("right", "wrong", "right too"), (0, 2)), Example(chat, ("Bye.", "No."), 0))
    distributions["others"] = Distribution("others", {"test": Split("others", "test", several)})
    predictions = list(read_predictions(tmp_path / "study").values())
    page = open_page(chromium, export(tmp_path / "site", distributions, predictions).as_uri())
    page.get_by_label("Distribution").select_option("cities")
    page.wait_for_function("document.getElementById('status').textContent === '60 texts'")
    page.get_by_label("Method").select_option("0")
    page.get_by_label("Verdict").select_option("wrong")
    probabilities = next(one for one in predictions if one.target == "cities").evaluation.probabilities
    count = int((probabilities < 0.5).sum())
    assert count >= 1
    page.wait_for_function(f"document.getElementById('status').textContent === '{count} texts'")
    page.locator("#rows a").first.click()
    page.locator("#pair h3").get_by_text("Text, label").wait_for()
    assert page.locator("#pair h3").get_by_text("Prompt").count() == 0
    assert "p(label" in page.locator("#pair thead").inner_text()
    page.get_by_label("Verdict").select_option("")
    page.get_by_label("Method").select_option("")
    page.get_by_label("Distribution").select_option("others")
    page.wait_for_function("document.getElementById('status').textContent === '3 pairs'")
    page.locator("#rows a").first.click()
    page.locator("#pair h3").get_by_text("Another right response (3)").wait_for()
    page.locator("#rows a").last.click()
    page.locator("#pair h3").get_by_text("system").wait_for()
    page.get_by_label("Distribution").select_option("")
    page.wait_for_function("/^83 pairs, 120 texts$/.test(document.getElementById('status').textContent)")
    assert page.faults == []
    assert serious_faults(page) == []
    page.close()
