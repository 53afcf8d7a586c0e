"""Contrast-consistent search, every layer and restart in one batched optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.base import clone
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.base import Labels, Probe, exchanged, majority_sign, projected
from repeng.probes.contrast import Optimiser, adamw, fit_contrast, lbfgs
from repeng.probes.cra import CRA
from repeng.probes.inputs import in_float
from repeng.probes.ragged import Ragged

CHOICES = {"optimizer": ("lbfgs", "adamw"), "normalize": ("mean", "mean-std"), "statistics": ("source", "target")}


class CCS(Probe):
    """A direction on which a text's Yes and No versions get opposite, confident probabilities; found without labels.

    Burns et al. 2022 (arXiv:2212.03827), section 2.2.

    Each side is centred on its own mean; `normalize="mean-std"` also divides each of its dimensions by its standard
    deviation, as the paper does and its code offers. The labels set nothing but the sign: +1 where most source pairs
    are ranked rightly. A response's score is (p(yes text) - p(no text)) / 2 times that sign, which is the paper's
    average confidence less a half; a pair's is the difference of its two responses' scores.

    Args:
        restarts: random starts, of which the one of least loss is kept.
        optimizer: "lbfgs" minimises the loss plus weight_decay / 2 times the squared length of direction and bias to
            convergence; "adamw" makes full-batch steps, as the released code does.
        epochs: of AdamW.
        learning_rate: of AdamW.
        weight_decay: on the bias too; AdamW's is decoupled from the loss.
        normalize: what is taken from each side: its "mean", or "mean-std".
        statistics: whose normalise what is scored: the "source"'s, or the "target"'s own, which need no labels.
        seed: of the starts, which are the same for every layer; or one for each element of the first batch axis.

    Attributes:
        direction_, bias_: the kept start, `[*batch, d_model]` and `[*batch]`.
        mean_, scale_: `[*batch, 2, d_model]`, of each side of the source; the scale is 1 with `normalize="mean"`.
        sign_: `[*batch]`, the only thing learned from labels.
        loss_: `[*batch]`, of the kept start, with L-BFGS's penalty.
    """

    name = "ccs"
    title = "contrast-consistent search"
    stimuli = ("contrast_yes", "contrast_no")

    direction_: Tensor
    bias_: Tensor
    mean_: Tensor
    scale_: Tensor
    sign_: Tensor
    loss_: Tensor

    def __init__(
        self,
        *,
        restarts: int = 10,
        optimizer: str = "lbfgs",
        epochs: int = 1000,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        normalize: str = "mean",
        statistics: str = "source",
        seed: int | tuple[int, ...] = 0,
    ) -> None:
        self.restarts = restarts
        self.optimizer = optimizer
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.normalize = normalize
        self.statistics = statistics
        self.seed = seed

    def learn(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        labels: Labels,  # noqa: ARG002  (the pairs carry them)
        pairs: Int[Tensor, "pair 2"],
    ) -> None:
        """The direction from the activations, and its sign from the labels."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise BadArray(f"{name} {getattr(self, name)!r}: choose {' or '.join(choices)}")
        if self.restarts < 1 or self.epochs < 1:
            raise BadArray(f"restarts {self.restarts} and epochs {self.epochs} must be 1 or more")
        drawn = self.draw(pairs)
        used = in_float(activations if drawn is None else activations[..., drawn, :])
        self.mean_, self.scale_ = self.moments(used)
        normalised = used - self.mean_[..., None, :]
        if self.normalize == "mean-std":
            normalised /= self.scale_[..., None, :]
        seeds = (self.seed,) if isinstance(self.seed, int) else self.seed
        best = fit_contrast(normalised, self.optimiser(), restarts=self.restarts, seeds=seeds)
        self.direction_, self.bias_, self.loss_ = best
        self.sign_ = torch.ones_like(self.bias_)
        scores = self.response_scores(activations)
        self.sign_ = majority_sign(scores[..., pairs[:, 0]] - scores[..., pairs[:, 1]]).to(self.bias_)

    def optimiser(self) -> Optimiser:
        """What minimises the loss, with its settings."""
        if self.optimizer == "lbfgs":
            return partial(lbfgs, weight_decay=self.weight_decay)
        return partial(adamw, epochs=self.epochs, learning_rate=self.learning_rate, weight_decay=self.weight_decay)

    def moments(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> tuple[Float[Tensor, "*batch stimulus d_model"], Float[Tensor, "*batch stimulus d_model"]]:
        """What is subtracted from each side, and what it is then divided by."""
        mean = activations.mean(dim=-2)
        if self.normalize == "mean":
            return mean, torch.ones_like(mean)
        scale = activations.std(dim=-2, correction=0)
        return mean, torch.where(scale > 0, scale, 1.0)

    @classmethod
    def fit_each(
        cls,
        probes: Sequence[Probe],
        activations: Float[Tensor, "fit *batch stimulus example d_model"] | list[Ragged],
        labels: np.ndarray,
        groups: np.ndarray,
    ) -> list[Probe]:
        """All fits in one minimisation, each from its own starts."""
        if cls.draw is not CCS.draw or isinstance(activations, list):
            return super().fit_each(probes, activations, labels, groups)
        seeds = tuple(probe.get_params()["seed"] for probe in probes)
        together = clone(probes[0]).set_params(seed=seeds).fit(activations, labels, groups)
        return [probe.with_state(own.state()) for probe, own in zip(probes, together.apart(), strict=True)]

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """Labels decide nothing but the sign, so that the direction stays."""
        gaps = self.sign_[..., None] * self.pair_score(activations[..., 0::2, :], activations[..., 1::2, :])
        signs = majority_sign(exchanged(gaps, swaps)).to(self.sign_)
        state = {name: value.expand(len(swaps), *value.shape) for name, value in self.state().items()}
        return self.with_state({**state, "sign_": signs})

    def draw(self, pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, " drawn"] | None:  # noqa: ARG002
        """The rows that the direction is learned from; None for all of them."""
        return None

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """The signed average confidence less a half, in float64, so that confident responses do not tie."""
        return self._confidence(activations)

    def _confidence(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*each_batch example"]:
        activations = activations.to(self.direction_.dtype)
        mean, scale = self.mean_, self.scale_
        if self.statistics == "target":
            mean, scale = self.moments(activations)
            activations, mean = activations - mean[..., None, :], torch.zeros_like(mean)
        weight = self.direction_[..., None, :] / scale
        offset = self.bias_[..., None] - (mean * weight).sum(dim=-1)
        logits = projected(activations, weight) + offset[..., None]
        yes, no = logits.double().sigmoid().unbind(dim=-2)
        return self.sign_[..., None] * (yes - no) / 2

    def scores_of_each(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "each *batch example"]:
        """One matrix product for all."""
        return self._confidence(activations)

    def with_directions(self, directions: Float[Tensor, "*batch d_model"]) -> Probe:
        """What a direction on which the two sides differ gives: the difference of their projections."""
        return CRA().with_directions(directions)

    def probabilities(self, scores: Float[Tensor, "*batch example"]) -> Float[Tensor, "*batch example"]:
        """The paper's average confidence, (p(yes text) + 1 - p(no text)) / 2, turned by the sign."""
        return scores + 0.5

    def pair_score(
        self,
        best: Float[Tensor, "*batch stimulus pair d_model"],
        worse: Float[Tensor, "*batch stimulus pair d_model"],
    ) -> Float[Tensor, "*batch pair"]:
        """The difference of the two responses' scores, both centred on the same mean."""
        scores = self.decision_function(torch.cat([best, worse], dim=-2))
        return scores[..., : best.shape[-2]] - scores[..., best.shape[-2] :]


class CCSGenies(CCS):
    """CCS as GENIES released it, but for its sign, which GENIES picks on the test labels and we fix on the source.

    It reads the last layer after the final norm, of texts that end in EOS; learns from as many responses as the pairs
    of the first `n_examples` hold, drawn from those with replacement; and centres the target on the target's own means.
    GENIES refits for each target, which changes nothing but the random start; and it tells right from wrong one
    response at a time (above or below zero), where a pair is ranked here by the difference of its responses' scores.

    Args:
        n_examples: 100, as for all models of GENIES but its 30B one (300).
    """

    name = "ccs-genies"
    title = "contrast-consistent search as GENIES released it"
    stimuli = ("contrast_yes_eos", "contrast_no_genies")
    site = "ln_final"

    def __init__(
        self,
        *,
        n_examples: int = 100,
        restarts: int = 10,
        epochs: int = 1000,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        statistics: str = "target",
        seed: int = 0,
    ) -> None:
        super().__init__(
            restarts=restarts,
            optimizer="adamw",
            epochs=epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            statistics=statistics,
            seed=seed,
        )
        self.n_examples = n_examples

    def draw(self, pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, " drawn"] | None:
        """Rows of the first examples' pairs, drawn with replacement, as many as there are."""
        # An example has one best row.
        best = pairs[:, 0]
        first: list[int] = list(dict.fromkeys(best.tolist()))[: self.n_examples]
        rows = pairs[torch.isin(best, torch.tensor(first, device=best.device))].reshape(-1)
        seed = self.get_params()["seed"]
        drawn = torch.randint(len(rows), (len(rows),), generator=torch.Generator().manual_seed(seed))
        return rows[drawn.to(rows.device)]
