"""A small network with one hidden layer, on one token."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.trained import TrainedProbe
from repeng.probes.training import COLUMNS, Weights


class MLP(TrainedProbe):
    """One hidden layer of rectified units on one token's standardised activations, stopped early on held-out groups.

    As a probe: Azaria and Mitchell 2023 (arXiv:2304.13734), whose network has three hidden layers and a fixed number of
    passes. The output weights start at zero, the hidden ones at random as in He et al. 2015 (arXiv:1502.01852).

    Args:
        hidden: units of the hidden layer.
        epochs: the most passes over the responses.
        batch_size: responses a step; groups stay together.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on all but the output's bias.
        patience: passes without a lower held-out loss before a batch element is done.
        seed: of the held-out groups, the order of the responses and the start.

    Attributes:
        hidden_: `[*batch, hidden, d_model]`.
        threshold_: `[*batch, hidden]`: a unit gives `max(x . hidden_ - threshold_, 0)`.
        output_: `[*batch, hidden]`.
        offset_: `[*batch]`, taken from the units' weighted sum.
    """

    name = "mlp"
    title = "network with one hidden layer"

    hidden_: Tensor
    threshold_: Tensor
    output_: Tensor
    offset_: Tensor

    def __init__(
        self,
        *,
        hidden: int = 32,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        patience: int = 10,
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.seed = seed

    def start(self, d: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Random hidden weights, the rest zero."""
        if self.hidden < 1:
            raise BadArray(f"hidden is {self.hidden}; it must be 1 or more")
        return {
            COLUMNS: torch.randn(self.hidden, d, generator=generator) * (2 / d) ** 0.5,
            "threshold": torch.zeros(self.hidden),
            "output": torch.zeros(self.hidden),
            "bias": torch.zeros(()),
        }

    def pool(
        self,
        products: Float[Tensor, "*models text place column"],
        there: Bool[Tensor, "text place"],  # noqa: ARG002  (a text is one token)
        weights: Weights,
    ) -> Float[Tensor, "*models text"]:
        """The hidden units' weighted sum."""
        units = (products[..., 0, :] - weights["threshold"][..., None, :]).relu()
        return torch.einsum("...th,...h->...t", units, weights["output"]) + weights["bias"][..., None]

    def folded(self, weights: Weights, shift: Float[Tensor, "*models column"]) -> dict[str, Tensor]:
        """The centring goes into the thresholds."""
        return {
            "hidden_": weights[COLUMNS],
            "threshold_": weights["threshold"] - shift,
            "output_": weights["output"],
            "offset_": -weights["bias"],
        }

    def unfolded(self) -> dict[str, Tensor]:
        """The same under the names of the training."""
        return {
            COLUMNS: self.hidden_,
            "threshold": self.threshold_,
            "output": self.output_,
            "bias": -self.offset_,
        }
