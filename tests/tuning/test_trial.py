from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from polite import polite_split

from repeng.tuning import trial
from repeng.tuning.run import plan_tuning
from repeng.tuning.settings import preset_settings
from repeng.tuning.trial import trial_seconds
from repeng.tuning.tuned_model import carry_out


def test_a_run_is_estimated_from_loading_steps_and_judgements_and_nothing_is_written(
    base: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = preset_settings("lora", steps=100, batch_size=4, evaluate_every=5)
    run = plan_tuning(base, polite_split(12), method="lora", root=root, settings=settings)
    ticks = count()
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    assert trial_seconds(run) == pytest.approx(1 + 100 * (1 + 1 / 5))
    assert not root.exists()


def test_a_planned_run_is_finished_once_it_is_carried_out(base: str, root: Path) -> None:
    settings = preset_settings("lora", steps=1, batch_size=2)
    run = plan_tuning(base, polite_split(12), method="lora", root=root, settings=settings)
    assert not run.finished and not root.exists()
    assert carry_out(run).path == str(run.folder)
    assert run.finished
