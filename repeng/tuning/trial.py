"""How long a tuning run would take, from a few of its steps."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from repeng.models.pretrained import quiet_transformers
from repeng.tuning.loading import forked_rng
from repeng.tuning.run import TuningRun

STEPS = 4


def trial_seconds(run: TuningRun) -> float:
    """About how long the run takes if nothing stops it early: its steps at most, timed on a few. Writes nothing."""
    from repeng.tuning.trainer import PairTrainer

    few = replace(run, settings=replace(run.settings, steps=STEPS, patience=0))
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder, forked_rng(run.seed), quiet_transformers():
        began = time.perf_counter()
        trainer = PairTrainer(few, Path(folder), lambda _told: ends.append(time.perf_counter()))
        loading = time.perf_counter() - began
        trainer.args.eval_strategy = "no"
        trainer.train()
        judging = 0.0
        if trainer.held_out:
            began = time.perf_counter()
            trainer.judge()
            judging = (time.perf_counter() - began) / run.settings.evaluate_every
    # The first step also finds out how the model may be run.
    return loading + run.settings.steps * ((ends[-1] - ends[0]) / (STEPS - 1) + judging)
