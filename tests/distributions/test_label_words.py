"""What labels say: words in pairs, numbers, and which one counts as 1; and names of prompts beside a response."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from repeng.distributions.check import check_data
from repeng.distributions.examples import example_from, examples_or_problems
from repeng.distributions.load import load_distributions
from repeng.distributions.reading import LABEL_PAIRS, Reading
from repeng.distributions.schema import Example
from repeng.errors import BadData, BadInput


def texts(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def outcome(rows: list[dict[str, Any]], reading: Reading | None = None) -> list[float] | str:
    """The label of each row, or the one problem."""
    found = list(examples_or_problems(rows, "file", reading))
    problems = [each.reason for each in found if isinstance(each, BadData)]
    assert len(problems) < 2
    return problems[0] if problems else [each.labels[0] for each in found if isinstance(each, Example)]


def written(folder: Path, **rows: list[dict[str, Any]]) -> Path:
    for name, own in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    return folder


@pytest.mark.parametrize("pair", LABEL_PAIRS)
def test_the_words_of_one_pair_need_no_explanation(pair: tuple[str, str]) -> None:
    assert outcome(texts(pair[0], pair[1].upper(), f" {pair[0]} ")) == [1.0, 0.0, 1.0]


def test_one_and_true_and_yes_are_the_same_in_any_form() -> None:
    labels = (1, 1.0, True, "1", "1.0", "True", "yes", 0, 0.0, False, "0", "0.0", "false", "No")
    assert outcome(texts(*labels)) == [1.0] * 7 + [0.0] * 7
    for one in ("1", "true", "yes", "1.0"):
        assert outcome(texts(*labels), Reading(positive=one)) == [1.0] * 7 + [0.0] * 7
    assert outcome(texts(*labels), Reading(positive="false")) == [0.0] * 7 + [1.0] * 7


@pytest.mark.parametrize("labels", [("safe", "harmful", "toxic", "unsafe"), ("true", "honest", "deceptive", "false")])
def test_words_of_several_pairs_are_refused_once_with_every_class_and_read_with_a_positive_one(labels: Any) -> None:
    reason = outcome(texts(*labels, *labels))
    assert isinstance(reason, str) and all(f"{label!r} (2)" in reason for label in labels)
    assert "--positive" in reason and "deceptive/honest" in reason
    assert outcome(texts(*labels), Reading(positive=labels[1])) == [0.0, 1.0, 0.0, 0.0]
    listed = [{"prompt": "p", "responses": list("abcd"), "labels": list(labels)}]
    assert outcome(listed) == reason.replace("'label'", "'labels'").replace("(2)", "(1)")


def test_a_label_that_is_not_a_number_is_refused_and_a_blank_text() -> None:
    assert str(outcome(texts(float("nan")))).startswith("label is not a number (NaN); a label is")
    assert outcome([{"text": " \n", "label": 1}]) == "text is blank; a labelled text says something"
    said = [{"messages": [{"role": "assistant", "content": " "}], "label": 1}]
    assert outcome(said) == "the labelled message says nothing, and nothing goes before it"


def test_groups_that_are_one_number_are_one_group() -> None:
    groups = [example_from({"text": "t", "label": 1, "group": group}).group for group in (0, 0.0, "0", "0.0", 0.5)]
    assert groups == ["0", "0", "0", "0", "0.5"]
    assert example_from({"text": "t", "label": 1, "group": float("nan")}).group is None


def test_a_positive_label_that_one_distribution_lacks_is_refused_where_its_own_labels_say_1(tmp_path: Path) -> None:
    animals = texts("cat", "dog") * 5
    reading = Reading(positive="cat")
    kept = load_distributions(written(tmp_path, animals=animals, dogs=texts(*["dog"] * 9)), reading=reading)
    assert not kept["dogs"].train.labels.any()
    written(tmp_path, benign=texts(*[0] * 9))
    assert not load_distributions(tmp_path, reading=reading)["benign"].train.labels.any()
    written(tmp_path, facts=texts("true", "no") * 5)
    with pytest.raises(BadInput, match=r"no label of facts is 'cat' .*; its labels are no, true: give it apart"):
        load_distributions(tmp_path, reading=reading)
    (tmp_path / "facts.jsonl").unlink()
    rows = [{"prompt": f"p {n}", "responses": ["a", "b"], "labels": [1, 0]} for n in range(9)]
    with pytest.raises(BadInput, match="no label of lists is 'cat'"):
        load_distributions(written(tmp_path, lists=rows), reading=reading)


def test_a_distribution_of_the_other_word_alone_is_all_0(tmp_path: Path) -> None:
    place = written(tmp_path, both=texts("honest", "deceptive") * 5, lies=texts(*["deceptive"] * 9))
    assert not load_distributions(place, reading=Reading(positive="honest"))["lies"].test.labels.any()


@pytest.mark.parametrize("name", ["question", "query", "instruction", "input"])
def test_a_question_beside_a_labelled_answer_is_its_prompt(name: str) -> None:
    row = {name: "Sky?", "answer": "Blue.", "label": 1}
    assert example_from(row) == Example("Sky?", ("Blue.",), (0,))
    assert example_from({**row, "prompt": "p"}).prompt == "p"
    assert example_from(row, Reading(group=name)) == Example("Sky?", ("Blue.",), (0,), group="Sky?")
    assert example_from({name: "Sky?", "text": "Blue.", "label": 1}).prompt == ""
    with pytest.raises(BadData, match="no prompt"):
        example_from({name: "Sky?", "answer": "b", "chosen": "Blue.", "rejected": "Green."})


def test_of_two_names_of_a_prompt_the_user_says_which() -> None:
    row = {"instruction": "Say", "input": "hi", "response": "hi", "label": 1}
    assert example_from({**row, "input": ""}).prompt == "Say"
    with pytest.raises(BadData, match="instruction and input may each be the prompt; .*--columns prompt=instruction"):
        example_from(row)


def test_that_all_prompts_are_one_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"prompt": "p", "response": f"r {number}", "label": number % 2} for number in range(9)]
    place = written(tmp_path, one=rows)
    with caplog.at_level(logging.WARNING):
        assert check_data(place) == []
        load_distributions(place)
    assert sum("have the same prompt" in record.message for record in caplog.records) == 1
