"""A learned query picks the tokens that a learned value reads."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.trained import TrainedProbe
from repeng.probes.training import COLUMNS, Weights

START = 0.1
"""Standard deviation of queries at the start, and so, on standardised activations, of the logits of the attention."""


class Attention(TrainedProbe):
    """Attention over a text's tokens: each head's softmax by a query, of what its value reads; the heads' mean.

    McKenzie et al. 2025 (arXiv:2506.10805), with one head there: logit = softmax(X q / sqrt(d)) . (X v). Several heads
    as in Kramár et al. 2026 (arXiv:2601.11516), without the network that all heads share there; and their mean in place
    of the sum, so that a step is as long for any number of them. Values start at zero, queries at random, so that heads
    differ from the first step on. AdamW and its settings are those of the first paper's code, but for a constant
    learning rate, batches of 32 without accumulation, and half the passes.

    Args:
        heads: how many.
        epochs: the most passes over the texts.
        batch_size: texts a step; groups stay together.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on queries and values.
        patience: passes without a lower held-out loss before a batch element is done.
        seed: of the held-out groups, the order of the texts and the queries' start.

    Attributes:
        query_: `[*batch, head, d_model]`; a token's weight is the softmax over tokens of `x . query_ / sqrt(d_model)`.
        value_: `[*batch, head, d_model]`.
        offset_: `[*batch]`, taken from the heads' mean.
    """

    name = "attention"
    title = "attention over tokens"
    token = "all"
    ragged = True

    query_: Tensor
    value_: Tensor
    offset_: Tensor

    def __init__(
        self,
        *,
        heads: int = 4,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-3,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        self.heads = heads
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.seed = seed

    def start(self, d: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Random queries, of which no head attends much to any token yet, and values of zero."""
        if self.heads < 1:
            raise BadArray(f"heads is {self.heads}; it must be 1 or more")
        queries = START * torch.randn(self.heads, d, generator=generator)
        return {COLUMNS: torch.cat([queries, torch.zeros(self.heads, d)]), "bias": torch.zeros(())}

    def pool(
        self,
        products: Float[Tensor, "*models text place column"],
        there: Bool[Tensor, "text place"],
        weights: Weights,
    ) -> Float[Tensor, "*models text"]:
        """The mean over heads of the values, weighted by the softmax over tokens."""
        queried, values = products.chunk(2, dim=-1)
        scaled = queried / weights[COLUMNS].shape[-1] ** 0.5
        attended = scaled.masked_fill(~there[..., None], -torch.inf).softmax(dim=-2)
        return (attended * values).sum(dim=-2).mean(dim=-1) + weights["bias"][..., None]

    def folded(self, weights: Weights, shift: Float[Tensor, "*models column"]) -> dict[str, Tensor]:
        """A softmax sees no offset of the queries; the values' is one number, for attention adds up to one."""
        query, value = weights[COLUMNS].chunk(2, dim=-2)
        return {
            "query_": query,
            "value_": value,
            "offset_": -(weights["bias"] + shift.chunk(2, dim=-1)[1].mean(dim=-1)),
        }

    def unfolded(self) -> dict[str, Tensor]:
        """Queries and values as columns."""
        return {COLUMNS: torch.cat([self.query_, self.value_], dim=-2), "bias": -self.offset_}
