"""Minibatch AdamW with early stopping: every layer and labelling of a small model over tokens, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear, softplus

from repeng.errors import BadArray
from repeng.probes.ragged import Ragged, places_of

HELD_OUT_SHARE = 0.2
"""Of the groups: what stops the training, and is not learned from."""
LEAST_GAIN = 1e-3
"""Of the held-out log-loss: less is no improvement."""
COLUMNS = "columns"
"""The weights that tokens are multiplied with, `[unit, labelling, column, d]`: a model's only ones of that width."""

Weights = Mapping[str, Tensor]
"""By name, each `[unit, labelling, ...]`: a unit has activations of its own, a labelling labels of its own."""
Pool = Callable[
    [Float[Tensor, "unit labelling text place column"], Bool[Tensor, "text place"], Weights],
    Float[Tensor, "unit labelling text"],
]
"""From each token's product with each column (and whether there is a token at a place) to one logit a text."""


@dataclass(frozen=True)
class Schedule:
    """How a model is trained.

    Attributes:
        epochs: the most passes over the texts.
        batch_size: texts a step, more where a group has more.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled from the loss; of no bias.
        patience: passes without a lower held-out loss after which a model is done.
        seed: of the held-out groups and the order of the texts.

    Raises:
        BadArray: one of the counts is below 1, or the learning rate not above 0.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise BadArray(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.learning_rate > 0:
            raise BadArray(f"learning_rate is {self.learning_rate}; it must be above 0")

    def generator(self, purpose: int) -> np.random.Generator:
        """Of one purpose's draws."""
        return np.random.default_rng([self.seed, purpose])


class Trained(NamedTuple):
    """A model at the pass of its lowest held-out loss.

    Attributes:
        weights: at that pass.
        epochs: how many passes led there.
    """

    weights: dict[str, Tensor]
    epochs: Int[Tensor, "unit labelling"]


class Batch(NamedTuple):
    """Some texts: their tokens, which of these stands at each place of a rectangle of texts, and the labels."""

    values: Float[Tensor, "unit token d"]
    tokens: Int[Tensor, "text place"]
    there: Bool[Tensor, "text place"]
    targets: Float[Tensor, "labelling text"]


def train(
    texts: Ragged,
    targets: Float[Tensor, "labelling text"],
    groups: np.ndarray,
    start: Weights,
    pool: Pool,
    how: Schedule,
) -> Trained:
    """Minimise the mean log-loss of every unit and labelling by AdamW, and keep the pass of lowest held-out loss.

    A fifth of the groups is held out, the same for all. Where they are too few for both classes to be in both parts,
    nothing is held out, and the loss on what is learned from decides. What one unit learns depends on no other.

    Args:
        texts: `[unit, text, d]`, standardised.
        targets: 1.0 or 0.0 for each text, by labelling.
        groups: of each text; never parted, neither by the held-out split nor by a batch.
        start: every labelling's and unit's first weights.
        pool: the model behind the tokens' products with `columns`.
        how: the schedule.
    """
    held_out = held_out_texts(targets, groups, how.generator(0))
    batches = batched(texts, targets, np.flatnonzero(~held_out), groups, how)
    judged = batched(texts, targets, np.flatnonzero(held_out), groups, how) if held_out.any() else []
    order = how.generator(1)
    with torch.inference_mode(False), torch.enable_grad():
        weights = {name: value.clone().requires_grad_() for name, value in start.items()}
        optimiser = adamw(weights, how)
        best = {name: value.detach().clone() for name, value in weights.items()}
        lowest = torch.full(start[COLUMNS].shape[:2], torch.inf).to(start[COLUMNS])
        kept, live = torch.zeros_like(lowest, dtype=torch.long), torch.ones_like(lowest, dtype=torch.bool)
        for epoch in range(1, how.epochs + 1):
            losses = [step(batches[place], weights, pool, optimiser) for place in order.permutation(len(batches))]
            loss = evaluate(judged, weights, pool) if judged else torch.stack(losses).mean(dim=0)
            better = live & (loss < lowest - LEAST_GAIN)
            lowest, kept = torch.where(better, loss, lowest), torch.where(better, epoch, kept)
            for name, value in weights.items():
                best[name][better] = value.detach()[better]
            live &= epoch - kept < how.patience
            if not bool(live.any()):
                break
    return Trained(best, kept)


def held_out_texts(
    targets: Float[Tensor, "labelling text"], groups: np.ndarray, rng: np.random.Generator
) -> Bool[np.ndarray, " text"]:
    """A fifth of the groups; none where a labelling then has one class alone in either part."""
    names, of_text = np.unique(groups, return_inverse=True)
    count = max(1, round(HELD_OUT_SHARE * len(names)))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[rng.permutation(len(names))[:count]] = True
    held_out = chosen[of_text]
    # Of several labellings the first decides, so that a labelling's fit does not hang on the others'.
    first = targets[0].cpu().numpy()
    whole = all(len(np.unique(first[part])) == 2 for part in (held_out, ~held_out))
    return held_out if whole else np.zeros_like(held_out)


def batched(
    texts: Ragged,
    targets: Float[Tensor, "labelling text"],
    rows: Int[np.ndarray, " row"],
    groups: np.ndarray,
    how: Schedule,
) -> list[Batch]:
    """Some texts in batches of whole groups, in an order drawn by the seed."""
    names, of_row, sizes = np.unique(groups[rows], return_inverse=True, return_counts=True)
    drawn = how.generator(2).permutation(len(names))
    before = np.empty(len(names), dtype=np.int64)
    before[drawn] = np.cumsum(sizes[drawn]) - sizes[drawn]
    order = np.argsort(before[of_row], kind="stable")
    number = before[of_row][order] // how.batch_size
    found = []
    for each in np.split(rows[order], np.flatnonzero(np.diff(number)) + 1):
        taken = texts.take(each)
        index, there = (part.to(texts.device) for part in places_of(taken.lengths))
        found.append(Batch(taken.values, index, there, targets[:, torch.from_numpy(each).to(targets.device)]))
    return found


def adamw(weights: Weights, how: Schedule) -> torch.optim.AdamW:
    """The optimiser: biases, which have no axis behind unit and labelling, do not decay."""
    decayed = [value for value in weights.values() if value.ndim > 2]
    free: dict[str, Any] = {"params": [value for value in weights.values() if value.ndim <= 2], "weight_decay": 0.0}
    return torch.optim.AdamW([{"params": decayed}, free], lr=how.learning_rate, weight_decay=how.weight_decay)


def step(
    batch: Batch, weights: Weights, pool: Pool, optimiser: torch.optim.Optimizer
) -> Float[Tensor, "unit labelling"]:
    """One step; the loss before it."""
    optimiser.zero_grad(set_to_none=True)
    loss = log_loss(batch, weights, pool).mean(dim=-1)
    loss.sum().backward()
    optimiser.step()
    return loss.detach()


@torch.no_grad()
def evaluate(batches: Sequence[Batch], weights: Weights, pool: Pool) -> Float[Tensor, "unit labelling"]:
    """The mean log-loss over the texts of some batches."""
    return torch.cat([log_loss(batch, weights, pool) for batch in batches], dim=-1).mean(dim=-1)


def log_loss(batch: Batch, weights: Weights, pool: Pool) -> Float[Tensor, "unit labelling text"]:
    """Of each text."""
    logits = text_logits(batch.values, batch.tokens, batch.there, weights, pool)
    return softplus(logits) - batch.targets * logits


def text_logits(
    values: Float[Tensor, "unit token d"],
    index: Int[Tensor, "text place"],
    there: Bool[Tensor, "text place"],
    weights: Weights,
    pool: Pool,
) -> Float[Tensor, "unit labelling text"]:
    """The logit of each text; activations themselves are never padded, only their products."""
    columns = weights[COLUMNS]
    units, labellings, count, d = columns.shape
    flat = columns.reshape(units, labellings * count, d)
    # A few columns of one unit after the other: a batched product is several times slower, mostly in its gradient.
    products = torch.stack([linear(own, weight) for own, weight in zip(values, flat.unbind(), strict=True)])
    padded = products if index.shape[1] == 1 else products.index_select(1, index.reshape(-1))
    padded = padded.reshape(units, *index.shape, labellings, count).permute(0, 3, 1, 2, 4)
    return pool(padded, there, weights)
