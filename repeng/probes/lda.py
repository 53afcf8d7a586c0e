"""Whitened mass mean: Fisher's linear discriminant."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.base import Labels, LinearProbe


class LDA(LinearProbe):
    """The mean difference times the inverse of the within-class covariance; the offset is the means' midpoint.

    Marks and Tegmark 2023 (arXiv:2310.06824), section 5.1. There are often fewer responses than dimensions, where
    the paper takes a pseudo-inverse. A shrunk covariance, which always has an inverse, generalises better.

    Args:
        shrinkage: how far the covariance goes towards a multiple of the identity: a share from 0 to 1, or
            "ledoit-wolf" to estimate it.
    """

    name = "lda"
    title = "linear discriminant with a shrunk covariance"

    def __init__(self, *, shrinkage: float | str = "ledoit-wolf") -> None:
        self.shrinkage = shrinkage

    def fit_direction(
        self,
        features: Float[Tensor, "*batch example d"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],  # noqa: ARG002  (the means need none)
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Solve covariance . direction = mean difference, in float64."""
        named = self.shrinkage == "ledoit-wolf"
        if not named and not (isinstance(self.shrinkage, int | float) and 0 <= self.shrinkage <= 1):
            raise BadArray(f"shrinkage {self.shrinkage!r}: choose ledoit-wolf, or a share from 0 to 1")
        best, worse = features[..., labels == 1, :].double(), features[..., labels == 0, :].double()
        best_mean, worse_mean = best.mean(dim=-2, keepdim=True), worse.mean(dim=-2, keepdim=True)
        within = torch.cat([best - best_mean, worse - worse_mean], dim=-2)
        shrinkage = ledoit_wolf(within) if named else torch.full_like(within[..., 0, 0], float(self.shrinkage))
        direction = solve_shrunk(within, shrinkage, (best_mean - worse_mean)[..., 0, :])
        if not bool(direction.isfinite().all()):
            raise BadArray(f"the covariance has no inverse with shrinkage {self.shrinkage}; choose a higher one")
        offset = (direction * (best_mean + worse_mean)[..., 0, :]).sum(dim=-1) / 2
        return direction.to(features.dtype), offset.to(features.dtype)


def ledoit_wolf(centred: Float[Tensor, "*batch row d"]) -> Float[Tensor, "*batch"]:
    """The shrinkage of least expected error (Ledoit and Wolf 2004), as scikit-learn's `ledoit_wolf` gives it.

    Everything that it needs of the covariance is in the smaller Gram matrix, which has the same squared norm.
    """
    n, d = centred.shape[-2:]
    norms = centred.square().sum(dim=-1)
    squared_norm = smaller_gram(centred).square().sum(dim=(-2, -1)) / n**2
    mean_variance = norms.sum(dim=-1) / n / d
    error = (norms.square().sum(dim=-1) / n - squared_norm) / n / d
    spread = squared_norm / d - mean_variance.square()
    return torch.where(spread > 0, torch.minimum(error, spread) / spread, 0.0)


def solve_shrunk(
    centred: Float[Tensor, "*batch row d"], shrinkage: Float[Tensor, "*batch"], target: Float[Tensor, "*batch d"]
) -> Float[Tensor, "*batch d"]:
    """The inverse of the shrunk covariance times `target`; not finite where there is no inverse.

    With fewer rows than dimensions by Woodbury's identity, in the space of the rows.
    """
    n, d = centred.shape[-2:]
    weight = ((1 - shrinkage) / n)[..., None, None]
    identity = (shrinkage * centred.square().sum(dim=(-2, -1)) / n / d)[..., None, None]
    matrix = weight * smaller_gram(centred) + identity * torch.eye(min(n, d)).to(centred)
    column = target[..., None]
    if n >= d:
        return solve(matrix, column)[..., 0]
    inner = solve(matrix, weight * (centred @ column))
    return ((column - centred.transpose(-1, -2) @ inner) / identity)[..., 0]


def solve(matrix: Float[Tensor, "*batch n n"], right: Float[Tensor, "*batch n 1"]) -> Float[Tensor, "*batch n 1"]:
    """Solve for a positive definite matrix; not a number where it is not one."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    solution = torch.cholesky_solve(right, factor)
    return torch.where((info == 0)[..., None, None], solution, torch.nan)


def smaller_gram(rows: Float[Tensor, "*batch row d"]) -> Float[Tensor, "*batch n n"]:
    """rows . rows^T or rows^T . rows, whichever is smaller."""
    transposed = rows.transpose(-1, -2)
    return transposed @ rows if rows.shape[-2] >= rows.shape[-1] else rows @ transposed
