"""Probes that are trained by gradient steps: what they share, whatever they make of a text's tokens."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from repeng.probes.base import Labels, Probe, swap_signs
from repeng.probes.logistic import standardise
from repeng.probes.ragged import Ragged, places_of
from repeng.probes.training import COLUMNS, Schedule, Weights, text_logits, train
from repeng.threads import one_thread

BLOCK_PLACES = 1 << 23
"""The most products of tokens and columns, padding included, that are scored at once."""


class TrainedProbe(Probe):
    """A small model of tokens, trained on the log-loss of whole texts by AdamW and stopped on held-out groups.

    Inputs are standardised, each dimension by its mean and standard deviation over all tokens of the texts that it is
    fitted on. A fifth of the groups is held out of the gradient steps, and the pass of lowest held-out log-loss is
    kept, of every batch element by itself. Activations of one token an example come as a tensor, as to any probe.

    A class of its own writes `start`, `pool`, `folded` and `unfolded`; its constructor has the six parameters below.

    Args:
        epochs: the most passes over the texts.
        batch_size: texts a step; groups stay together.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on all but biases.
        patience: passes without a lower held-out loss before a batch element is done.
        seed: of the held-out groups, the order of the texts and the start.

    Attributes:
        epochs_: the pass that was kept, `[*batch]`.
    """

    in_groups = True

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    seed: int

    def start(self, d: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The first weights of one model, on standardised activations: `columns`, `[column, d]`, and whatever else."""
        raise NotImplementedError(f"{type(self).__name__} has no method start(d, generator)")

    def pool(
        self,
        products: Float[Tensor, "*models text place column"],
        there: Bool[Tensor, "text place"],
        weights: Weights,
    ) -> Float[Tensor, "*models text"]:
        """One logit a text, from each of its tokens' products with the columns."""
        raise NotImplementedError(f"{type(self).__name__} has no method pool(products, there, weights)")

    def folded(self, weights: Weights, shift: Float[Tensor, "*models column"]) -> dict[str, Tensor]:
        """The state that is kept, for activations in their own units.

        Args:
            weights: as trained, with `columns` for activations in their own units.
            shift: what is to be added to these activations' products with each column, since they are not centred.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method folded(weights, shift)")

    def unfolded(self) -> dict[str, Tensor]:
        """The weights that the kept state means."""
        raise NotImplementedError(f"{type(self).__name__} has no method unfolded()")

    def learn_in_groups(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],  # noqa: ARG002  (it learns from single texts)
        groups: Shaped[np.ndarray, " example"] | None,
    ) -> None:
        """Train on single texts, groups never parted; without groups each text is its own."""
        ids = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
        state, epochs = self.solve(activations, labels[None], ids)
        for name, value in state.items():
            setattr(self, name, value[0])
        self.epochs_ = epochs[0]

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """All labellings side by side, on the same held-out groups and from the same start."""
        pairs = np.repeat(np.arange(swaps.shape[1]), 2)
        return self.with_state(self.solve(activations, (swap_signs(swaps) + 1) / 2, pairs)[0])

    def fit_relabelled(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
        labels: Float[np.ndarray, "null example"],
        groups: Int[np.ndarray, " example"],
    ) -> Probe:
        """All labellings side by side, as in `fit_swapped`."""
        return self.with_state(self.solve(activations, torch.from_numpy(labels), groups)[0])

    def solve(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged,
        targets: Float[Tensor, "labelling example"],
        groups: Int[np.ndarray, " example"],
    ) -> tuple[dict[str, Tensor], Int[np.ndarray, "labelling ..."]]:
        """What each labelling's training gives, and the pass that it was taken from."""
        how = Schedule(**{name: getattr(self, name) for name in Schedule.__dataclass_fields__})
        texts = tokens_of(activations)
        batch, d = texts.shape[:-2], texts.shape[-1]
        dtype = torch.float64 if texts.values.dtype == torch.float64 else torch.float32
        values = texts.values.reshape(-1, *texts.values.shape[-2:]).to(dtype, copy=True)
        mean, scale = standardise(values)
        start = {
            name: value.to(values).expand(len(values), len(targets), *value.shape)
            for name, value in self.start(d, torch.Generator().manual_seed(self.seed)).items()
        }
        with one_thread() if values.device.type == "cpu" else nullcontext():
            found = train(Ragged(values, texts.offsets), targets.to(values), groups, start, self.pool, how)
        weights = found.weights
        columns = weights[COLUMNS] / scale[:, None]
        kept = self.folded({**weights, COLUMNS: columns}, -(columns * mean[:, None]).sum(dim=-1))
        # [unit, labelling, ...] to [labelling, *batch, ...]
        state = {
            name: value.transpose(0, 1).reshape(len(targets), *batch, *value.shape[2:]) for name, value in kept.items()
        }
        return state, found.epochs.T.reshape(len(targets), *batch).cpu().numpy()

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged
    ) -> Float[Tensor, "*batch example"]:
        """The logit of each text."""
        return self._logits(activations, lead=0)

    def scores_of_each(
        self, activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged
    ) -> Float[Tensor, "each *batch example"]:
        """One matrix product for all."""
        return self._logits(activations, lead=1)

    def _logits(
        self, activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged, *, lead: int
    ) -> Float[Tensor, "*each_batch example"]:
        """With `lead` axes of the state, 0 or 1, in front of the activations' batch axes."""
        texts = tokens_of(activations)
        *batch, n, d = texts.shape
        units = math.prod(batch)
        weights = self.unfolded()
        values = texts.values.reshape(units, -1, d).to(weights[COLUMNS].dtype)
        models = weights[COLUMNS].shape[:lead]
        # [*lead, *batch, ...] to [unit, labelling, ...]
        flat = {
            name: value.reshape(-1, units, *value.shape[lead + len(batch) :]).transpose(0, 1)
            for name, value in weights.items()
        }
        most = max(1, BLOCK_PLACES // flat[COLUMNS][..., 0].numel())
        logits = values.new_empty(units, flat[COLUMNS].shape[1], n)
        for block in texts.blocks(most):
            index, there = (part.to(values.device) for part in places_of(texts.lengths[block]))
            tokens = values[:, texts.offsets[block.start] : texts.offsets[block.stop]]
            logits[..., block] = text_logits(tokens, index, there, flat, self.pool)
        return logits.transpose(0, 1).reshape(*models, *batch, n)


def tokens_of(activations: Float[Tensor, "*batch stimulus example d_model"] | Ragged) -> Ragged:
    """The tokens of the first stimulus; of a tensor one an example."""
    if isinstance(activations, Ragged):
        return Ragged(activations.values[..., 0, :, :], activations.offsets)
    return Ragged.of_rows(activations[..., 0, :, :])
