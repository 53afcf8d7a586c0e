"""Whitened mass mean (Marks and Tegmark 2023, section 5.1): Fisher's linear discriminant."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadInput
from repeng.probes.base import Labels, LinearProbe
from repeng.probes.mms import mass_mean


class LDA(LinearProbe):
    """The mean difference times the inverse of the within-class covariance; the offset is the means' midpoint.

    There are often fewer responses than dimensions, where the paper takes a pseudo-inverse. A shrunk covariance, which
    always has an inverse, generalises better.

    Args:
        shrinkage: how far the covariance goes towards a multiple of the identity: a share from 0 to 1, or
            "ledoit-wolf" to estimate it.
    """

    name = "lda"

    def __init__(self, *, shrinkage: float | str = "ledoit-wolf") -> None:
        self.shrinkage = shrinkage

    def fit_direction(
        self,
        features: Float[Tensor, "*batch example d"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],  # noqa: ARG002  (the means need none)
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Solve covariance . direction = mean difference, one batch element after another, in float64."""
        from sklearn.covariance import empirical_covariance, ledoit_wolf, shrunk_covariance

        named = self.shrinkage == "ledoit-wolf"
        if not named and not (isinstance(self.shrinkage, int | float) and 0 <= self.shrinkage <= 1):
            raise BadInput(f"shrinkage {self.shrinkage!r}: choose ledoit-wolf, or a share from 0 to 1")
        difference, _ = mass_mean(features, labels)
        best, worse = features[..., labels == 1, :], features[..., labels == 0, :]
        middle = (best.mean(dim=-2) + worse.mean(dim=-2)) / 2
        within = torch.cat([best - best.mean(dim=-2, keepdim=True), worse - worse.mean(dim=-2, keepdim=True)], dim=-2)
        covariances = []
        for rows in within.reshape(-1, *within.shape[-2:]).double().cpu().numpy():
            if named:
                covariance, _ = ledoit_wolf(rows, assume_centered=True)
            else:
                covariance = shrunk_covariance(empirical_covariance(rows, assume_centered=True), self.shrinkage)
            covariances.append(torch.from_numpy(covariance))
        stacked = torch.stack(covariances).to(features.device).reshape(*within.shape[:-2], *covariance.shape)
        direction, info = torch.linalg.solve_ex(stacked, difference.double())
        if bool((info != 0).any()):
            raise BadInput(f"the covariance has no inverse with shrinkage {self.shrinkage}; choose a higher one")
        direction = direction.to(features.dtype)
        return direction, (direction * middle).sum(dim=-1)
