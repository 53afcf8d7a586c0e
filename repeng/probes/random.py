"""The baseline that knows nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.probes.base import Labels, LinearProbe


class Random(LinearProbe):
    """Every response scores zero, so that every pair gets 0.5 each: a tie, which counts half (Clymer et al. 2023)."""

    name = "random"
    title = "random choice"
    learns = False

    def fit_direction(
        self,
        features: Float[Tensor, "*batch example d"],
        labels: Labels,  # noqa: ARG002
        pairs: Int[Tensor, "pair 2"],  # noqa: ARG002
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """A direction of zeros."""
        return torch.zeros_like(features[..., 0, :]), torch.zeros_like(features[..., 0, 0])
