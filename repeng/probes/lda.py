"""Whitened mass mean: Fisher's linear discriminant."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.base import Labels, LinearProbe, Probe, swap_signs

CORRECTIONS = 1000
ROUNDING = 1e-11


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
        self.check()
        rows = features.double()
        best_mean, worse_mean = rows[..., labels == 1, :].mean(dim=-2), rows[..., labels == 0, :].mean(dim=-2)
        within = rows - torch.where((labels == 1)[:, None], best_mean[..., None, :], worse_mean[..., None, :])
        gram = smaller_gram(within)
        shrinkage = self.share(within.square().sum(dim=-1), gram.square().sum(dim=(-2, -1)), within.shape[-1])
        direction = self.finite(solve_shrunk(within, gram, shrinkage, best_mean - worse_mean))
        offset = (direction * (best_mean + worse_mean)).sum(dim=-1) / 2
        return direction.to(features.dtype), offset.to(features.dtype)

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """From one factorisation of the total scatter.

        Classes are of equal size, so that the scatter within them is the total one less pairs / 2 times the product of
        the mean difference with itself, and all that depends on labels is in each row's projection on that difference.
        """
        rows = self.features(activations).double()
        n, d = rows.shape[-2:]
        middle = rows.mean(dim=-2)
        centred = rows - middle[..., None, :]
        signs = swap_signs(swaps).to(rows)
        # [*batch, null, ...]
        difference = signs @ centred * (2 / n)
        along = difference @ centred.transpose(-1, -2)
        length = difference.square().sum(dim=-1)
        norms = centred.square().sum(dim=-1)[..., None, :] - signs * along + length[..., None] / 4
        gram = smaller_gram(centred)
        total = gram.square().sum(dim=(-2, -1))[..., None]
        squared = total - n / 2 * along.square().sum(dim=-1) + (n / 4 * length).square()
        share = self.share(norms, squared, d)
        weight, identity = (1 - share) / n, share * norms.sum(dim=-1) / n / d
        # In the space of the rows, or of the dimensions, whichever is smaller.
        known = difference if n >= d else (signs * (2 / n)).expand(*along.shape)
        solved = solve_alike(gram, weight, identity, known)
        solved = solved if n >= d else solved @ centred
        # Sherman and Morrison: the total scatter less a multiple of the difference's product with itself.
        product = (solved * difference).sum(dim=-1)
        direction = self.finite(solved / (1 - weight * n / 4 * product)[..., None])
        offset = (direction * middle[..., None, :]).sum(dim=-1)
        learned = {"direction_": direction.movedim(-2, 0), "offset_": offset.movedim(-1, 0)}
        return self.with_state({name: value.to(self.direction_) for name, value in learned.items()})

    def check(self) -> None:
        """Refuse a shrinkage that is none."""
        share = self.shrinkage
        if share != "ledoit-wolf" and not (isinstance(share, int | float) and 0 <= share <= 1):
            raise BadArray(f"shrinkage {share!r}: choose ledoit-wolf, or a share from 0 to 1")

    def share(
        self, norms: Float[Tensor, "*batch row"], squared: Float[Tensor, "*batch"], d: int
    ) -> Float[Tensor, "*batch"]:
        """The given shrinkage, or the estimated one."""
        if self.shrinkage == "ledoit-wolf":
            return ledoit_wolf(norms, squared, d)
        return torch.full_like(squared, float(self.shrinkage))

    def finite(self, direction: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """The same, or an error where there was no inverse."""
        if not bool(direction.isfinite().all()):
            raise BadArray(f"the covariance has no inverse with shrinkage {self.shrinkage}; choose a higher one")
        return direction


def ledoit_wolf(
    norms: Float[Tensor, "*batch row"], squared: Float[Tensor, "*batch"], d: int
) -> Float[Tensor, "*batch"]:
    """The shrinkage of least expected error (Ledoit and Wolf 2004), as scikit-learn's `ledoit_wolf` gives it.

    Args:
        norms: the squared length of each row, centred.
        squared: the sum of the squares of their scatter matrix, which their other Gram matrix has too.
        d: how long a row is.
    """
    n = norms.shape[-1]
    squared_norm = squared / n**2
    mean_variance = norms.sum(dim=-1) / n / d
    error = (norms.square().sum(dim=-1) / n - squared_norm) / n / d
    spread = squared_norm / d - mean_variance.square()
    return torch.where(spread > 0, torch.minimum(error, spread) / spread, 0.0)


def solve_shrunk(
    centred: Float[Tensor, "*batch row d"],
    gram: Float[Tensor, "*batch n n"],
    shrinkage: Float[Tensor, "*batch"],
    target: Float[Tensor, "*batch d"],
) -> Float[Tensor, "*batch d"]:
    """The inverse of the shrunk covariance times `target`; not finite where there is no inverse.

    With fewer rows than dimensions by Woodbury's identity, in the space of the rows.
    """
    n, d = centred.shape[-2:]
    weight = (1 - shrinkage) / n
    identity = shrinkage * centred.square().sum(dim=(-2, -1)) / n / d
    matrix = shrunk(gram, weight, identity)
    column = target[..., None]
    if n >= d:
        return solve(matrix, column)[..., 0]
    inner = solve(matrix, weight[..., None, None] * (centred @ column))
    return ((column - centred.transpose(-1, -2) @ inner) / identity[..., None, None])[..., 0]


def shrunk(
    gram: Float[Tensor, "*batch n n"], weight: Float[Tensor, "*batch"], identity: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch n n"]:
    """weight * gram + identity * I."""
    return weight[..., None, None] * gram + identity[..., None, None] * torch.eye(gram.shape[-1]).to(gram)


def solve_alike(
    gram: Float[Tensor, "*batch n n"],
    weight: Float[Tensor, "*batch null"],
    identity: Float[Tensor, "*batch null"],
    targets: Float[Tensor, "*batch null n"],
) -> Float[Tensor, "*batch null n"]:
    """The inverse of weight * gram + identity * I times each target, for weights and identities that differ little.

    One factorisation, of the largest weight and identity, and iterations that correct what it has too much: each leaves
    no more of the error than the share by which a weight or an identity falls short of the largest.
    """
    factor, info = torch.linalg.cholesky_ex(shrunk(gram, weight.amax(dim=-1), identity.amax(dim=-1)))
    surplus = [(largest.amax(dim=-1, keepdim=True) - largest)[..., None] for largest in (weight, identity)]
    solution = torch.zeros_like(targets)
    for _ in range(CORRECTIONS):
        right = targets + surplus[0] * (solution @ gram) + surplus[1] * solution
        last, solution = solution, torch.cholesky_solve(right.transpose(-1, -2), factor).transpose(-1, -2)
        if not bool(((solution - last).abs().amax(dim=-1) > ROUNDING * solution.abs().amax(dim=-1)).any()):
            break
    return torch.where((info == 0)[..., None, None], solution, torch.nan)


def solve(matrix: Float[Tensor, "*batch n n"], right: Float[Tensor, "*batch n 1"]) -> Float[Tensor, "*batch n 1"]:
    """Solve for a positive definite matrix; not a number where it is not one."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    solution = torch.cholesky_solve(right, factor)
    return torch.where((info == 0)[..., None, None], solution, torch.nan)


def smaller_gram(rows: Float[Tensor, "*batch row d"]) -> Float[Tensor, "*batch n n"]:
    """rows . rows^T or rows^T . rows, whichever is smaller."""
    transposed = rows.transpose(-1, -2)
    return transposed @ rows if rows.shape[-2] >= rows.shape[-1] else rows @ transposed
