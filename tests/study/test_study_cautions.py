"""What a study says of its data, its store and its figures, before it runs and at its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_world import SHIFTS, silent, with_split, world, write_world
from tiny_models import make_model

from repeng.benchmarks.loaded import load_benchmark
from repeng.distributions.cautions import Caution
from repeng.distributions.schema import Shift
from repeng.errors import BadInput, NonFinite
from repeng.methods.probes import FittedOnCache
from repeng.study.cautions import (
    Failure,
    benchmark_cautions,
    failure_cautions,
    read_cautions,
    version_cautions,
    write_cautions,
)
from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study

MakeStudy = Callable[..., Study]


def kinds(cautions: tuple[Caution, ...]) -> list[tuple[str, str]]:
    return [(caution.kind, caution.where) for caution in cautions]


def test_a_plan_names_what_its_shifts_share_before_anything_is_done(study_of: MakeStudy, tmp_path: Path) -> None:
    made = world(32)
    known = [example.prompt for example in made["easy"].train.examples]
    numbers = iter(range(32))
    made = with_split(made, "hard", "test", lambda e: replace(e, prompt=known[next(numbers) // 2]))
    folder = write_world(tmp_path / "leak", made, (*SHIFTS, Shift("terse", "terse")))
    study = study_of(folder, tmp_path, methods=("mms", "length"), strict=True)
    plan = plan_study(study)
    assert kinds(plan.cautions) == [("shared_prompts", "hard"), ("few_prompts", "hard"), ("own_source", "terse")]
    assert plan.cautions[0].text == "32 of 32 in easy's train split, 11 with a response"
    assert plan.as_dict()["cautions"][0] == {"kind": "shared_prompts", "where": "hard", "text": plan.cautions[0].text}
    with pytest.raises(BadInput, match="hard \\(32 of 32 in easy's train split, 11 with a response\\)"):
        run_study(plan, progress=silent, note=lambda _line: None)
    assert not Path(study.store).exists() and not Path(study.out).exists()
    # What is not fitted cannot remember a prompt.
    asked = plan_study(replace(study, methods=("zero-shot",)))
    assert ("shared_prompts", "hard") not in kinds(asked.cautions)


def test_a_capture_of_other_library_versions_is_named_with_both(finished: StudyOutcome, tmp_path: Path) -> None:
    capture = finished.plan.runner.capture
    record = capture.record
    assert version_cautions(Path(finished.plan.study.store), capture.id) == []
    assert version_cautions(tmp_path, capture.id) == []
    older = {**record.versions, "torch": "2.1.0", "python": "3.11.0"}
    record.model_copy(update={"versions": older}).write(tmp_path / record.id / "capture.json")
    (found,) = version_cautions(tmp_path, capture.id)
    assert (found.kind, found.where) == ("versions", record.id)
    assert found.text == f"torch 2.1.0, now {record.versions['torch']}"


def test_failures_of_one_cause_are_told_once_however_they_are_worded() -> None:
    names = ("easy", "hard", "a.b")
    text = "cap-x holds no resid_post of {0}/train (data 6787dcbc5f0{1}), row {1}"
    failures = [
        Failure(method, source, target, text.format(source, number))
        for method in ("mms", "lat", "ccs", "cra")
        for number, source in enumerate(names)
        for target in ("hard", "other")
    ]
    other = Failure("mms", "easy", "hard", "out of memory at easy, which is uneasy")
    first, last = failure_cautions([other, *failures])
    assert first.where == "mms, lat, ccs and 1 more on 24 evaluation(s), as easy -> hard"
    assert first.text == failures[0].reason
    assert (last.where, last.text) == ("mms on 1 evaluation(s), as easy -> hard", other.reason)
    assert other.cause == "out of memory at *, which is uneasy"


def test_a_model_that_overflows_fails_for_one_cause_a_kind_and_is_not_asked_in_vain(
    small_world: Path, study_of: MakeStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model("llama", tmp_path / "overflows", positions=256)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.2.mlp.down_proj.weight"] = torch.full_like(
        weights["model.layers.2.mlp.down_proj.weight"], 3e38
    )
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    # The probes read layer 1; the capture refuses layer 2 for them all.
    study = study_of(small_world, tmp_path, model=str(model), methods=("mms", "lat", "length"), layers="1", limit=6)
    result = run_study(plan_study(study), progress=silent, note=lambda _line: None)
    assert len(result.failures) == len(result.plan.tasks)
    probes, words = (caution for caution in result.found if caution.kind == "failed")
    assert probes.where.startswith("mms, lat on 12 evaluation(s), as easy -> ")
    assert probes.text.startswith("blocks.2.hook_resid_post is infinite or not a number at ")
    assert words.text.startswith("the log-probability is infinite or not a number at ")
    assert {record.name for record in caplog.records} == {"repeng.study.capture_plan"}
    assert read_cautions(result.out) == [*result.plan.cautions, *result.found]


def test_a_target_that_a_layer_not_chosen_cannot_read_is_a_caution_also_when_it_is_read_back(
    finished: StudyOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflows(*_: object) -> None:
        raise NonFinite("layer 2: the activation is not finite")

    monkeypatch.setattr(FittedOnCache, "layer_scores", overflows)
    study = replace(finished.plan.study, out=str(tmp_path / "out"), methods=("mms", "length"))
    for _ in range(2):
        result = run_study(plan_study(study), progress=silent, note=lambda _line: None)
        assert {caution.where for caution in result.found} == {"easy", "hard", "polite", "terse"}
        assert {caution.text for caution in result.found} == {"layer 2: the activation is not finite"}
        assert not result.failures
    assert result.evaluations_made == 0


def test_cautions_are_read_as_they_were_written_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_cautions(tmp_path) == []
    cautions = [Caution("few_prompts", "ünder", "3"), Caution("own_source", "a")]
    write_cautions(cautions, tmp_path)
    assert read_cautions(tmp_path) == cautions
    write_cautions([], tmp_path)
    assert json.loads((tmp_path / "cautions.json").read_text()) == []
    (tmp_path / "cautions.json").write_text('[{"kind": 3}]')
    with pytest.raises(BadInput, match=r"cautions\.json: not a list of cautions"):
        read_cautions(tmp_path)


def test_data_alone_is_set_against_itself_without_a_caution(small_world: Path) -> None:
    world = load_benchmark(None, str(small_world / "data"))
    assert any(shift.source == shift.target for shift in world.benchmark.shifts)
    assert "own_source" not in {caution.kind for caution in benchmark_cautions(world)}
