"""What a tuning run says of itself: its steps, and how the pairs that it holds out judge them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from repeng.maths import pair_accuracy
from repeng.tuning.data import EncodedSplit, Rows
from repeng.tuning.reward_model import RewardModel

CLEARLY = 0.01
"""At equal accuracy the held-out loss, in nats, must fall by so much to count as an improvement: where every held-out
pair is right it creeps towards zero for hundreds of steps in which nothing more is learned."""


@dataclass(frozen=True)
class TuneProgress:
    """One step of a run, as it is told while it goes on.

    Attributes:
        step: steps done.
        steps: steps at most.
        loss: mean pair loss of this step's batch.
        held_out_accuracy: pair accuracy on the held-out prompts of the source, on the steps that measure it.
        resumed_from: the step whose checkpoint this run went on from; None for one that began at the start.
    """

    step: int
    steps: int
    loss: float
    held_out_accuracy: float | None
    resumed_from: int | None


def judge(reward: RewardModel, encoded: EncodedSplit, rows: Rows) -> dict[str, float]:
    """`held_out_accuracy` over all pairs of those examples, a tie counting half, and `held_out_loss`, -log p(best)."""
    wanted = [row for best, worse in rows for row in (best, *worse)]
    scores = dict(zip(wanted, reward.scores(encoded.texts(wanted)), strict=True))
    gaps = torch.stack([scores[best] - scores[other] for best, worse in rows for other in worse])
    loss = -nn.functional.logsigmoid(gaps).mean()
    return {"held_out_accuracy": float(pair_accuracy(gaps.numpy())), "held_out_loss": float(loss)}


def verdict(log: Iterable[Mapping[str, Any]]) -> tuple[int | None, int]:
    """Which step was judged best, and how many judgements ago one clearly improved.

    Args:
        log: entries of a run's log, oldest first; those of `judge` have their step.

    Returns:
        The first step with the highest accuracy, and the lowest loss among equals (None before the first judgement);
        and the judgements since the last that beat the accuracy of those before it, or their loss by `CLEARLY`.
    """
    judgements = [
        (one["step"], one["held_out_accuracy"], one["held_out_loss"]) for one in log if "held_out_loss" in one
    ]
    mark_accuracy, mark_loss, stale = -math.inf, math.inf, 0
    for _, accuracy, loss in judgements:
        stale += 1
        if accuracy > mark_accuracy or (accuracy == mark_accuracy and loss < mark_loss - CLEARLY):
            mark_accuracy, mark_loss, stale = accuracy, loss, 0
    best = max(judgements, key=lambda one: (one[1], -one[2]), default=(None,))
    return best[0], stale


def history(log: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A record a step: `step`, `loss`, and on the steps that measure them `held_out_accuracy` and `held_out_loss`.

    Args:
        log: entries of Trainer's log, several a step.
    """
    records: dict[int, dict[str, Any]] = {}
    for entry in log:
        wanted = {name: entry[name] for name in ("step", "loss", "held_out_accuracy", "held_out_loss") if name in entry}
        records.setdefault(entry["step"], {}).update(wanted)
    return list(records.values())
