"""The target-tuned capability is chosen on train splits alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from repeng.metrics import Evaluation
from repeng.study.capability import target_tuned_capability, write_capability
from repeng.study.evaluations import MethodEvaluation, StudyEvaluations


def answer(accuracy: float, held_out: float | None) -> MethodEvaluation:
    probabilities = np.where(np.arange(10) < round(10 * accuracy), 0.9, 0.1)
    return MethodEvaluation(Evaluation(probabilities=probabilities), "2", held_out)


def test_the_winner_is_the_best_on_held_out_train_prompts_not_on_the_test_split() -> None:
    answers = StudyEvaluations({("a", "t", "t"): answer(0.9, 0.6), ("b", "t", "t"): answer(0.4, 0.8)})
    found = target_tuned_capability(answers, ["a", "b"], ["t"])
    assert (found["t"].method, found["t"].answer.evaluation.accuracy) == ("b", 0.4)


def test_ties_go_to_the_first_and_what_held_nothing_out_does_not_compete() -> None:
    answers = StudyEvaluations(
        {("a", "t", "t"): answer(1.0, None), ("b", "t", "t"): answer(0.2, 0.7), ("c", "t", "t"): answer(0.9, 0.7)}
    )
    assert target_tuned_capability(answers, ["a", "b", "c"], ["t"])["t"].method == "b"
    assert target_tuned_capability(answers, ["c", "b"], ["t"])["t"].method == "c"


def test_only_answers_on_the_reference_itself_count() -> None:
    answers = StudyEvaluations({("a", "s", "t"): answer(1.0, 1.0), ("a", "t", "s"): answer(1.0, 1.0)})
    assert target_tuned_capability(answers, ["a"], ["t", "s"]) == {}


def test_a_capability_is_written_as_genies_has_it(tmp_path: Path) -> None:
    found = target_tuned_capability(StudyEvaluations({("a", "t", "t"): answer(0.7, 0.6)}), ["a"], ["t"])
    write_capability(found["t"], tmp_path)
    held = json.loads((tmp_path / "t.json").read_text())
    assert held == {
        "best_intervention": "a",
        "best_intervention_accuracy": 0.7,
        "target": "t",
        "target_reference": "t",
    }
