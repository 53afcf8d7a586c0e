from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_world import SHIFTS

from repeng.cli.show import plan_lines
from repeng.methods.weight_tuning import Tuning
from repeng.study import tuning_plan as tuned
from repeng.study.settings import Study
from repeng.study.study import plan_study
from repeng.study.tuning_plan import TuningPlan

SOURCES = len({shift.source for shift in SHIFTS} | {shift.target_reference for shift in SHIFTS})


@pytest.fixture
def study(small_world: Path, study_of: Callable[..., Study], tmp_path: Path) -> Study:
    return study_of(small_world, tmp_path, methods=("lora", "length"), limit=6)


def test_a_plan_says_what_must_be_tuned_and_what_is_there(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_study(study)
    assert plan.tunings == (TuningPlan("lora", SOURCES, 0),)
    there = Tuning("lora", "lora", plan.runner.settings).run(plan.world.distributions["easy"].train)
    there.folder.mkdir(parents=True)
    (there.folder / "tuned.json").write_text("{}")
    monkeypatch.setattr(tuned, "trial_seconds", lambda run: 90.0 if not run.finished else pytest.fail("it is there"))
    monkeypatch.setattr("repeng.study.capture_plan.CachePlan.estimated", lambda cache, _sizes, *, trial: cache)
    plan = plan_study(study, trial=True)
    assert plan.tunings == (TuningPlan("lora", SOURCES, 1, 90.0 * (SOURCES - 1)),)
    assert plan.as_dict()["tuned_models_done"] == {"lora": 1}
    assert plan.as_dict()["tuning_seconds_estimate"] == {"lora": 90.0 * (SOURCES - 1)}
    assert any(f"lora on {SOURCES} sources, 1 of them tuned already; about " in line for line in plan_lines(plan))


def test_a_method_that_cannot_be_tuned_does_not_stop_the_plan(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path
) -> None:
    plan = plan_study(study_of(small_world, tmp_path, methods=("lora", "mms"), limit=6, dtype="float16"))
    assert plan.tunings == (TuningPlan("lora", SOURCES, 0),)
