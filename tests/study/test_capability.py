"""The target-tuned capability is chosen on train splits alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from small_world import SHIFTS, silent

from repeng.metrics import Evaluation
from repeng.study.capability import target_tuned_capability, write_capability
from repeng.study.evaluations import MethodEvaluation, StudyEvaluations
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study


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


def test_without_capability_accuracies_are_the_same_and_targets_are_not_learned_from(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path
) -> None:
    def run(place: Path, **settings: Any) -> StudyOutcome:
        study = study_of(small_world, place, methods=("mms", "zero-shot"), **settings)
        return run_study(plan_study(study), progress=silent, note=lambda _line: None)

    whole, without = run(tmp_path / "whole"), run(tmp_path / "without", capability=False)
    sources = {shift.source for shift in SHIFTS}
    assert {task.source.distribution for task in without.plan.tasks} == sources
    assert {task.source.distribution for task in whole.plan.tasks} > sources
    captured = {place.parent.name for place in (tmp_path / "without" / "store").glob("*/*/train.*")}
    assert captured == sources
    figures = ("accuracy", "accuracy_low", "accuracy_high", "source_id_accuracy", "baseline_accuracy")
    shifts = [[row for row in one.rows if not row.method.startswith("target-tuned")] for one in (whole, without)]
    assert len(shifts[0]) == len(shifts[1]) == 2 * len(SHIFTS)
    for row, bare in zip(*shifts, strict=True):
        assert [getattr(row, name) for name in figures] == [getattr(bare, name) for name in figures]
        assert row.elicitation is not None
        assert bare.elicitation is None and bare.target_tuned_capability is None
    assert not (tmp_path / "without" / "out" / "target_tuned_capability").exists()
