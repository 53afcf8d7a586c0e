"""Contrast-consistent search, every layer and restart in one batched optimisation."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.base import Labels, Probe, majority_sign
from repeng.probes.inputs import in_float

# On a CPU, units are optimised this many bytes of activations at a time: what stays in a core's cache for a thousand
# epochs is several times faster than what is streamed from memory at each.
CACHE_BYTES = 8 * 2**20
# AdamW's, as torch has them.
BETAS = (0.9, 0.999)
EPSILON = 1e-8


class CCS(Probe):
    """A direction on which a text's Yes and No versions get opposite, confident probabilities; found without labels.

    Burns et al. 2022 (arXiv:2212.03827), section 2.2.

    Each side is centred on its own mean. The labels set nothing but the sign: +1 where most source pairs are ranked
    rightly. A response's score is (p(yes text) - p(no text)) / 2 times that sign, which is the paper's average
    confidence less a half; a pair's is the difference of its two responses' scores.

    Args:
        restarts: random starts, of which the one of least loss is kept.
        epochs: full-batch steps of each.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled, on the bias too.
        statistics: whose means centre what is scored: the "source"'s, or the "target"'s own, which need no labels.
        seed: of the starts; they are the same for every layer.

    Attributes:
        direction_, bias_: the kept start, `[*batch, d_model]` and `[*batch]`.
        mean_: `[*batch, 2, d_model]`, of each side of the source.
        sign_: `[*batch]`, the only thing learned from labels.
        loss_: `[*batch]`, of the kept start.
    """

    name = "ccs"
    title = "contrast-consistent search"
    stimuli = ("contrast_yes", "contrast_no")

    direction_: Tensor
    bias_: Tensor
    mean_: Tensor
    sign_: Tensor
    loss_: Tensor

    def __init__(
        self,
        *,
        restarts: int = 10,
        epochs: int = 1000,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        statistics: str = "source",
        seed: int = 0,
    ) -> None:
        self.restarts = restarts
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.statistics = statistics
        self.seed = seed

    def learn(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        labels: Labels,  # noqa: ARG002  (the pairs carry them)
        pairs: Int[Tensor, "pair 2"],
    ) -> None:
        """The direction from the activations, and its sign from the labels."""
        if self.statistics not in ("source", "target"):
            raise BadArray(f"statistics {self.statistics!r}: choose source or target")
        if self.restarts < 1 or self.epochs < 1:
            raise BadArray(f"restarts {self.restarts} and epochs {self.epochs} must be 1 or more")
        drawn = self.draw(pairs)
        used = in_float(activations if drawn is None else activations[..., drawn, :])
        self.mean_ = used.mean(dim=-2)
        best = fit_contrast(
            used - self.mean_[..., None, :],
            restarts=self.restarts,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            seed=self.seed,
        )
        self.direction_, self.bias_, self.loss_ = best
        self.sign_ = torch.ones_like(self.bias_)
        scores = self.response_scores(activations)
        self.sign_ = majority_sign(scores[..., pairs[:, 0]] - scores[..., pairs[:, 1]]).to(self.bias_)

    def draw(self, pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, " drawn"] | None:  # noqa: ARG002
        """The rows that the direction is learned from; None for all of them."""
        return None

    def response_scores(
        self, activations: Float[Tensor, "*batch stimulus example d_model"]
    ) -> Float[Tensor, "*batch example"]:
        """The signed average confidence less a half, in float64, so that confident responses do not tie."""
        activations = activations.to(self.direction_.dtype)
        mean = activations.mean(dim=-2) if self.statistics == "target" else self.mean_
        centred = activations - mean[..., None, :]
        logits = (centred @ self.direction_[..., None, :, None])[..., 0] + self.bias_[..., None, None]
        yes, no = logits.double().sigmoid().unbind(dim=-2)
        return self.sign_[..., None] * (yes - no) / 2

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
        drawn = torch.randint(len(rows), (len(rows),), generator=torch.Generator().manual_seed(self.seed))
        return rows[drawn.to(rows.device)]


def fit_contrast(
    centred: Float[Tensor, "*batch 2 example d"],
    *,
    restarts: int,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The direction, bias and loss of each batch element's best start.

    As in the released code, a start's loss is that of its last epoch, before that epoch's step.
    """
    *batch, _, n, d = centred.shape
    rows = centred.reshape(-1, 2 * n, d)
    weight, bias = initial(restarts, d, seed)
    on_cpu = centred.device.type == "cpu"
    chunk = max(1, CACHE_BYTES // (rows[0].numel() * rows.element_size())) if on_cpu else len(rows)
    parts = [
        optimise(
            part,
            weight.to(rows).expand(len(part), -1, -1),
            bias.to(rows).expand(len(part), -1),
            epochs=epochs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
        for part in rows.split(chunk)
    ]
    weights, biases, losses = (torch.cat(column) for column in zip(*parts, strict=True))
    best = losses.argmin(dim=1)
    every = torch.arange(len(best), device=best.device)
    return (
        weights[every, best].reshape(*batch, d),
        biases[every, best].reshape(batch),
        losses[every, best].reshape(batch),
    )


def initial(restarts: int, d: int, seed: int) -> tuple[Float[Tensor, "restart d"], Float[Tensor, " restart"]]:
    """Random starts, distributed as those of `torch.nn.Linear(d, 1)`."""
    generator = torch.Generator().manual_seed(seed)
    uniform = 2 * torch.rand(restarts, d + 1, generator=generator) - 1
    return uniform[:, :d] / d**0.5, uniform[:, d] / d**0.5


def optimise(
    rows: Float[Tensor, "unit both d"],
    weight: Float[Tensor, "unit restart d"],
    bias: Float[Tensor, "unit restart"],
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
) -> tuple[Float[Tensor, "unit restart d"], Float[Tensor, "unit restart"], Float[Tensor, "unit restart"]]:
    """Minimise mean min(p0, p1)^2 + mean (p0 + p1 - 1)^2 for every unit and start at once.

    `rows` holds the Yes rows, then the No rows. The gradient and AdamW's step are written out: they are two matrix
    products and a few sums, which autograd and an optimizer would surround with several times their own cost. Returns
    weights, biases and the last epoch's losses.
    """
    n = rows.shape[1] // 2
    # The bias is the weight of a column of ones.
    rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], dim=2)
    both = torch.cat([weight, bias[..., None]], dim=2)
    # A copy in the other order makes both products read their larger factor as it lies in memory.
    columns = rows.transpose(1, 2).contiguous()
    first, second = torch.zeros_like(both), torch.zeros_like(both)
    gradient = rows.new_empty(*weight.shape[:2], 2 * n)
    for epoch in range(1, epochs + 1):
        p = torch.bmm(both, columns).sigmoid_()
        p0, p1 = p[..., :n], p[..., n:]
        inconsistent, smaller = p0 + p1 - 1, torch.minimum(p0, p1)
        if epoch == epochs:
            loss = smaller.square().mean(dim=-1) + inconsistent.square().mean(dim=-1)
        # The minimum's gradient goes to the smaller of the two; where they are equal, half to each, as autograd does.
        half = smaller / 2
        tilt = half * torch.sign(p1 - p0)
        middle = inconsistent + half
        torch.add(middle, tilt, out=gradient[..., :n])
        torch.sub(middle, tilt, out=gradient[..., n:])
        gradient.mul_(p - p.square()).mul_(2 / n)
        slope = torch.bmm(gradient, rows)
        first.lerp_(slope, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
        both.mul_(1 - learning_rate * weight_decay)
        spread = second.sqrt().div_((1 - BETAS[1] ** epoch) ** 0.5).add_(EPSILON)
        both.addcdiv_(first, spread, value=-learning_rate / (1 - BETAS[0] ** epoch))
    return both[..., :-1], both[..., -1], loss
