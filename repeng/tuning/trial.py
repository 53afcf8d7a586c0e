"""How long a tuning run would take, from a few of its steps."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from repeng.tuning.progress import judge
from repeng.tuning.tuned_model import TuningRun, begin

STEPS = 4


def trial_seconds(run: TuningRun) -> float:
    """About how long the run takes if nothing stops it early: its steps at most, timed on a few. Writes nothing."""
    from repeng.tuning.trainer import train

    began = time.perf_counter()
    reward, encoded, rows, held_rows = begin(run)
    loading = time.perf_counter() - began
    few = replace(run.settings, steps=STEPS, held_out=0.0, patience=0)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            *(reward, encoded, rows, (), few),
            seed=run.seed,
            checkpoints=Path(folder),
            progress=lambda _told: ends.append(time.perf_counter()),
        )
    judging = 0.0
    if held_rows:
        began = time.perf_counter()
        judge(reward, encoded, held_rows)
        judging = (time.perf_counter() - began) / run.settings.evaluate_every
    # The first step also finds out how the model may be run.
    return loading + run.settings.steps * ((ends[-1] - ends[0]) / (STEPS - 1) + judging)
