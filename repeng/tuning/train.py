"""The training loop: pairs in, weights changed in place, resumable to the same end from any checkpoint."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from repeng.errors import NonFinite
from repeng.tuning.checkpoint import RunState, load_checkpoint, put_weights, save_checkpoint
from repeng.tuning.data import EncodedSplit, PairStream
from repeng.tuning.reward_model import RewardModel, forked_rng, pair_loss
from repeng.tuning.settings import TuneSettings
from repeng.tuning.sharing import shares_prefixes

log = logging.getLogger(__name__)

CLEARLY = 0.01
"""At equal accuracy the held-out loss, in nats, must fall by so much to count as an improvement: where every held-out
pair is right it creeps towards zero for hundreds of steps in which nothing more is learned."""

Rows = tuple[tuple[int, tuple[int, ...]], ...]
"""For each example its best row and its worse rows."""


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


def train(
    reward: RewardModel,
    encoded: EncodedSplit,
    rows: Rows,
    held_out: Rows,
    settings: TuneSettings,
    *,
    seed: int,
    checkpoints: Path,
    progress: Callable[[TuneProgress], None] | None = None,
) -> tuple[RunState, int | None]:
    """Train what requires gradients, from the newest checkpoint if there is one.

    Args:
        reward: changed in place; it ends with the best weights where something is held out and `patience` is set,
            else with the last.
        encoded: the source's texts.
        rows: examples to train on.
        held_out: examples to judge by; none of them may be in `rows`.
        settings: of the run.
        seed: of order, choice of pairs and dropout.
        checkpoints: folder of this run's checkpoints.
        progress: told of every step.

    Returns:
        Where the run ended, and the step it was resumed from.

    Raises:
        NonFinite: the loss is infinite or not a number.
    """
    weights = reward.trainable()
    optimizer = torch.optim.AdamW(
        weights.values(), lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay
    )
    stream = PairStream(rows, settings.batch_size, seed, settings.redraw_pairs)
    # Before any weight is loaded, so that a resumed run computes in the same way from its first step.
    shares_prefixes(reward, _texts(encoded, stream.pairs(0)))
    state, best = load_checkpoint(checkpoints, weights, optimizer)
    resumed_from = state.step or None
    if resumed_from:
        log.info("tuning resumes from step %d of %d", resumed_from, settings.steps)
    reward.model.train()
    while state.step < settings.steps and not state.stopped:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(state.step)
        loss = _step(reward, encoded, stream.pairs(state.step), settings, optimizer, weights, (seed, state.step))
        state.step += 1
        record: dict[str, float | int] = {"step": state.step, "loss": loss}
        if held_out and (state.step % settings.evaluate_every == 0 or state.step == settings.steps):
            accuracy, held_out_loss = judge(reward, encoded, held_out)
            record |= {"held_out_accuracy": accuracy, "held_out_loss": held_out_loss}
            if note_judgement(state, accuracy, held_out_loss) and settings.patience:
                best = {name: value.detach().cpu().clone() for name, value in weights.items()}
            state.stopped = bool(settings.patience) and state.stale >= settings.patience
        state.history.append(record)
        ended = state.stopped or state.step == settings.steps
        if ended or state.step % settings.checkpoint_every == 0:
            save_checkpoint(checkpoints, state, weights, optimizer, best)
        if progress is not None:
            accuracy_now = record.get("held_out_accuracy")
            progress(TuneProgress(state.step, settings.steps, loss, accuracy_now, resumed_from))
    if best is not None:
        put_weights(weights, best)
    reward.model.eval()
    return state, resumed_from


def _step(
    reward: RewardModel,
    encoded: EncodedSplit,
    pairs: list[tuple[int, int]],
    settings: TuneSettings,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, nn.Parameter],
    place: tuple[int, int],
) -> float:
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    # Dropout reads torch's global generator: it is seeded by the step, so that a resumed run drops the same units.
    with forked_rng(int.from_bytes(hashlib.sha256(f"{place}".encode()).digest()[:7]), reward.device):
        for start in range(0, len(pairs), settings.micro_batch_size):
            part = pairs[start : start + settings.micro_batch_size]
            logits = reward.shared_logits(_texts(encoded, part))
            loss = pair_loss(logits[: len(part)], logits[len(part) :]) * (len(part) / len(pairs))
            loss.backward()
            total += loss.item()
    if not np.isfinite(total):
        raise NonFinite(
            f"the loss is {total} at step {place[1] + 1}; use a lower learning rate than {settings.learning_rate}"
        )
    if settings.max_grad_norm:
        nn.utils.clip_grad_norm_(weights.values(), settings.max_grad_norm)
    optimizer.step()
    return total


def _texts(encoded: EncodedSplit, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The best texts, then the worse ones."""
    return [encoded.ids[pair[side]] or [] for side in (0, 1) for pair in pairs]


def judge(reward: RewardModel, encoded: EncodedSplit, rows: Rows) -> tuple[float, float]:
    """Accuracy over all pairs of those examples, a tie counting half, and the mean of -log p(best)."""
    wanted = [row for best, worse in rows for row in (best, *worse)]
    found = reward.scores([encoded.ids[row] or [] for row in wanted])
    scores = dict(zip(wanted, found.tolist(), strict=True))
    gaps = torch.tensor([scores[best] - scores[other] for best, worse in rows for other in worse])
    return pair_accuracy(gaps), float(-nn.functional.logsigmoid(gaps).mean())


def pair_accuracy(gaps: Float[Tensor, " pair"]) -> float:
    """Share of pairs whose best response scores higher, a tie counting half.

    Args:
        gaps: score of the best response less that of the worse, pair by pair.
    """
    return float(((gaps > 0).double() + 0.5 * (gaps == 0).double()).mean())


def note_judgement(state: RunState, accuracy: float, loss: float) -> bool:
    """Take note of a judgement: whether it is the best, and how long ago one clearly improved."""
    lower = accuracy == state.mark_accuracy and loss < state.mark_loss - CLEARLY
    if accuracy > state.mark_accuracy or lower:
        state.mark_accuracy, state.mark_loss, state.stale = accuracy, loss, 0
    else:
        state.stale += 1
    if state.best_step is not None and (accuracy, -loss) <= (state.best_accuracy or 0.0, -(state.best_loss or 0.0)):
        return False
    state.best_step, state.best_accuracy, state.best_loss = state.step, accuracy, loss
    return True
