"""Every problem is found, not only the first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repeng.distributions.check import Problem, SplitSummary, check_data, summarise
from repeng.distributions.load import load_distributions
from repeng.errors import BadInput

GOOD = {"prompt": "p", "responses": {"a": 1, "b": 0}}


def save(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_every_bad_example_of_every_file_is_a_problem_of_its_own(tmp_path: Path) -> None:
    train = save(tmp_path / "a" / "train.json", [GOOD, {"prompt": "p"}, GOOD, {"responses": {"a": 1, "b": 0}}])
    test = save(tmp_path / "a" / "test.json", [GOOD, {"prompt": "p", "responses": {"a": 1, "b": 1}}])
    save(tmp_path / "b" / "train.json", [GOOD])
    broken = save(tmp_path / "b" / "test.json", f"[{json.dumps(GOOD)}, oops]")
    lines = save(tmp_path / "c.jsonl", '{"prompt": "p", "chosen": "c", "rejected": "c"}\noops\n')
    empty = save(tmp_path / "d.json", [])
    same = save(tmp_path / "e.json", [GOOD, GOOD])
    found = check_data(tmp_path)
    assert [(problem.file, problem.example) for problem in found] == [
        (train, 1),
        (train, 3),
        (test, 1),
        (broken, 1),
        (lines, 0),
        (lines, 1),
        (empty, None),
        (same, None),
    ]
    for problem, word in zip(
        found,
        [
            "no responses",
            "no prompt",
            "no worse",
            "broken JSON",
            "listed twice",
            "broken JSON",
            "empty list",
            "same prompt",
        ],
        strict=True,
    ):
        assert word in problem.reason
    assert str(Problem("a.json", 3, "why")) == "a.json, example 3: why"
    assert str(Problem("a.json", None, "why")) == "a.json: why"


def test_good_data_has_no_problem_and_data_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "a" / "train.json", [GOOD, {**GOOD, "prompt": "q"}])
    save(tmp_path / "a" / "test.json", [GOOD, GOOD])
    assert check_data(tmp_path) == check_data(tmp_path / "a") == []
    with pytest.raises(BadInput, match="no file or folder"):
        check_data(tmp_path / "none")


def test_a_summary_counts_examples_responses_pairs_and_distinct_prompts(tmp_path: Path) -> None:
    many = {"prompt": "q", "responses": {"a": 0, "b": 0, "c": 1, "d": 0}}
    save(tmp_path / "a" / "train.json", [GOOD, GOOD, many])
    save(tmp_path / "a" / "test.json", [many])
    assert summarise(load_distributions(tmp_path)) == (
        SplitSummary("a", "train", examples=3, responses=8, positives=3, pairs=5, prompts=2),
        SplitSummary("a", "test", examples=1, responses=4, positives=1, pairs=3, prompts=1),
    )
