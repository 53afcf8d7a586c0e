"""Tuning on a cluster: the figures of one process, each source tuned on a worker, and failures told once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_world import silent

from repeng.study.settings import Study
from repeng.study.study import StudyOutcome, plan_study, run_study

pytest.importorskip("ray", reason="the extra ray is not installed")
METHODS = ("lora(steps=3)", "mms", "length")


def run(study: Study, said: list[str]) -> StudyOutcome:
    return run_study(plan_study(study), progress=silent, note=said.append)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_on_two_workers_has_the_figures_of_one_process(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(study_of(small_world, tmp_path / "alone", methods=METHODS, limit=10, dtype="float32"), [])
    # Relative folders mean the same to every worker.
    monkeypatch.chdir(tmp_path)
    study = study_of(small_world, Path("ray"), methods=METHODS, limit=10, dtype="float32", cluster="local:2")
    said: list[str] = []
    outcome = run(study, said)
    assert (Path(study.out) / "results.csv").read_bytes() == (tmp_path / "alone/out/results.csv").read_bytes()
    assert outcome.failures == () and outcome.evaluations_made == alone.evaluations_made
    assert sum(line.startswith("lora(steps=3) on ") for line in said) == 3
    assert "cluster" not in (Path(study.out) / "study.toml").read_text()
    again = run(study, [])
    assert (again.evaluations_made, again.captured) == (0, None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_fails_on_a_worker_fails_once_and_costs_its_own_rows(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    methods = ("lora(steps=2, learning_rate=1e30)", "mms")
    study = study_of(small_world, tmp_path, methods=methods, limit=6, dtype="float32", cluster="local:1")
    outcome = run(study, [])
    assert outcome.failures and {failure.method.partition("(")[0] for failure in outcome.failures} == {"lora"}
    causes = {failure.cause for failure in outcome.failures}
    assert [record.name for record in caplog.records if " failed: " in record.message] == [
        "repeng.study.evaluations"
    ] * len(causes)
    assert all(row.accuracy is not None for row in outcome.rows if row.method == "mms")
