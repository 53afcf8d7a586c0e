"""Logistic regression on single responses, every layer (and every labelling) in one batched minimisation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.base import Labels, LinearProbe, Probe, swap_signs
from repeng.probes.minimise import Minimum, Objective, minimise, units_at_a_time
from repeng.probes.ragged import Ragged

TOLERANCE = 1e-4
"""Of the gradient of the mean loss, as scikit-learn has it."""
WIDE = 2
"""With more dimensions than this times the rows, the Hessian costs more than the steps that it saves."""
ROWS_TURNED = 8
"""With more dimensions than rows: turning so many rows into as many dimensions costs what it saves one labelling."""
PATIENCE = 8
"""Evaluations before the Hessian is taken anew at the point that was reached, and as many more in wide rows as keep its
cost below theirs: one for each `WIDTH` dimensions."""
WIDTH = 24

Solved = tuple[
    Float[Tensor, "labelling *batch d"], Float[Tensor, "labelling *batch"], Float[Tensor, "labelling *batch"]
]
"""Directions, offsets and steps."""


class Logistic(LinearProbe):
    """Logistic regression on standardised activations, with the objective of scikit-learn's `LogisticRegression`.

    As a probe: Alain and Bengio 2016 (arXiv:1610.01644).

    Args:
        C: inverse strength of the L2 penalty, which spares the intercept.
        max_iter: the most evaluations of the objective.
        standardize: divide by each dimension's standard deviation on the source first.

    Attributes:
        n_iter_: steps of the solver, `[*batch]`.
    """

    name = "logistic"
    title = "logistic regression"

    def __init__(self, *, C: float = 1.0, max_iter: int = 1000, standardize: bool = True) -> None:  # noqa: N803
        self.C = C
        self.max_iter = max_iter
        self.standardize = standardize

    def fit_direction(
        self,
        features: Float[Tensor, "*batch example d"],
        labels: Labels,
        pairs: Int[Tensor, "pair 2"],  # noqa: ARG002  (it learns from single responses)
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """The coefficients in the activations' own units, and minus the intercept."""
        if not self.C > 0:
            raise BadArray(f"C is {self.C!r}; it must be above 0")
        directions, offsets, steps = self.solve(features, labels[None].to(features))
        self.n_iter_ = steps[0].cpu().numpy().astype(int)
        return directions[0], offsets[0]

    @classmethod
    def fit_each(
        cls,
        probes: Sequence[Probe],
        activations: Float[Tensor, "fit *batch stimulus example d_model"] | list[Ragged],
        labels: np.ndarray,
        groups: np.ndarray,
    ) -> list[Probe]:
        """All fits in one minimisation, for they are batch elements like any other."""
        if isinstance(activations, list):
            return super().fit_each(probes, activations, labels, groups)
        return probes[0].fit(activations, labels, groups).apart()

    def fit_swapped(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        swaps: Bool[Tensor, "null pair"],
    ) -> Probe:
        """All labellings of a layer side by side: they share its rows and what is computed of them."""
        features = self.features(activations)
        directions, offsets, _ = self.solve(features, (swap_signs(swaps).to(features) + 1) / 2)
        return self.with_state({"direction_": directions, "offset_": offsets})

    def fit_relabelled(
        self,
        activations: Float[Tensor, "*batch stimulus example d_model"],
        labels: Float[np.ndarray, "null example"],
        groups: Int[np.ndarray, " example"],  # noqa: ARG002  (nothing is held out)
    ) -> Probe:
        """All labellings of a layer side by side, as in `fit_swapped`."""
        features = self.features(activations)
        directions, offsets, _ = self.solve(features, torch.from_numpy(labels).to(features))
        return self.with_state({"direction_": directions, "offset_": offsets})

    def solve(self, features: Float[Tensor, "*batch example d"], targets: Float[Tensor, "labelling example"]) -> Solved:
        """The direction and offset of each labelling, and how many steps they took."""
        shape = features.shape[:-2]
        rows = features.reshape(-1, *features.shape[-2:])
        solved = [self.solve_units(part, targets) for part in rows.split(units_at_a_time(rows))]
        # [unit, labelling, ...] to [labelling, *batch, ...]
        directions, offsets, steps = (torch.cat(column).transpose(0, 1) for column in zip(*solved, strict=True))
        leading = (len(targets), *shape)
        return directions.reshape(*leading, -1), offsets.reshape(leading), steps.reshape(leading)

    def solve_units(
        self, rows: Float[Tensor, "unit example d"], targets: Float[Tensor, "labelling example"]
    ) -> tuple[Float[Tensor, "unit labelling d"], Float[Tensor, "unit labelling"], Float[Tensor, "unit labelling"]]:
        """The same for as many units as are minimised together."""
        # The intercept is the weight of a column of ones.
        inputs = rows.new_ones(*rows.shape[:2], rows.shape[2] + 1)
        inputs[..., :-1] = rows
        mean, scale = standardise(inputs[..., :-1]) if self.standardize else (rows.new_zeros(1), rows.new_ones(1))
        spanned = None
        if rows.shape[1] < min(rows.shape[2], ROWS_TURNED * len(targets)):
            # What the rows do not span is of no use to the loss, and the penalty keeps it at zero.
            spanned, turned = torch.linalg.qr(inputs[..., :-1].transpose(1, 2))
            inputs = torch.nn.functional.pad(turned.transpose(1, 2), (0, 1), value=1.0)
        found = minimum(inputs, targets, inverse_penalty=self.C, evaluations=self.max_iter)
        if bool(found.live.any()):
            warnings.warn(
                f"probe {self.name!r} did not converge in max_iter={self.max_iter} evaluations; give more",
                ConvergenceWarning,
                stacklevel=2,
            )
        weights = found.point[..., :-1]
        direction = (weights if spanned is None else torch.bmm(weights, spanned.transpose(1, 2))) / scale
        return direction, (direction * mean).sum(dim=-1) - found.point[..., -1], found.steps


def standardise(
    rows: Float[Tensor, "unit example d"],
) -> tuple[Float[Tensor, "unit 1 d"], Float[Tensor, "unit 1 d"]]:
    """Centre and scale in place; each dimension's mean and standard deviation, 1 where it varies by rounding alone."""
    mean = rows.mean(dim=1, keepdim=True)
    rows -= mean
    # torch's own standard deviation takes four times as long over this axis.
    deviation = torch.linalg.vector_norm(rows, dim=1, keepdim=True) / rows.shape[1] ** 0.5
    scale = torch.where(deviation > 10 * torch.finfo(rows.dtype).eps * mean.abs(), deviation, 1.0)
    rows /= scale
    return mean, scale


def minimum(
    rows: Float[Tensor, "unit example d"],
    targets: Float[Tensor, "labelling example"],
    *,
    inverse_penalty: float,
    evaluations: int,
) -> Minimum:
    """Minimise mean log-loss + |w|^2 / (2 C n) for every labelling; the last weight, the intercept, is not penalised.

    Minimised in coordinates in which the Hessian at zero, which all labellings share, is the identity: a tenth of the
    steps, and no matter how the dimensions are scaled. Labels that the rows nearly separate lead far from zero, where
    the rows curve otherwise: what has not come to its end is minimised on with the Hessian of where it is. Very wide
    rows are minimised as they are.
    """
    n, d = rows.shape[1:]
    penalty = rows.new_full((d,), 1 / (inverse_penalty * n))
    penalty[-1] = 0
    start = rows.new_zeros(len(rows), len(targets), d)
    if d > WIDE * n:
        objective = log_loss(rows, targets, penalty, None)
        return minimise(objective, start, evaluations=evaluations, gradient=TOLERANCE)
    done = Minimum(start, start[..., 0].clone(), start[..., 0].clone(), start.new_ones(start.shape[:2]).bool())
    units = torch.arange(len(rows), device=rows.device)
    patience = max(PATIENCE, d // WIDTH)
    for first in range(0, evaluations, patience):
        weights, own = done.point[units], rows[units]
        p = torch.bmm(weights, own.transpose(1, 2)).sigmoid_()
        back = whitening(own, (p - p.square()).mean(dim=1), penalty)
        found = minimise(
            log_loss(own, targets, penalty, back),
            torch.linalg.solve_triangular(back, weights, upper=False, left=False),
            evaluations=min(patience, evaluations - first),
            gradient=TOLERANCE,
            whitened=True,
        )
        done.point[units] = torch.bmm(found.point, back)
        # What makes no step with the Hessian of where it is, is as near as rounding lets it come.
        live = found.live & (found.steps > 0)
        done.value[units], done.live[units] = found.value, live
        done.steps[units] += found.steps
        units = units[live.any(dim=1)]
        if len(units) == 0:
            break
    return done


def whitening(
    rows: Float[Tensor, "unit example d"], curvature: Float[Tensor, "unit example"], penalty: Float[Tensor, " d"]
) -> Float[Tensor, "unit d d"]:
    """The inverse of the Hessian's Cholesky factor, where the rows' logits have the given curvature."""
    hessian = torch.bmm((rows * curvature[..., None]).transpose(1, 2), rows) / rows.shape[1] + torch.diag(penalty)
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    # As much as rounding may take from a matrix that is barely positive; a dimension of zeros has any curvature.
    unit = torch.finfo(rows.dtype).eps * rows.shape[2]
    diagonal.copy_(torch.where(diagonal > 0, diagonal * (1 + unit), 1.0))
    factor, info = torch.linalg.cholesky_ex(hessian)
    identity = torch.eye(rows.shape[2]).to(rows).expand_as(factor)
    factor = torch.where((info == 0)[:, None, None], factor, identity)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def log_loss(
    rows: Float[Tensor, "unit example d"],
    targets: Float[Tensor, "labelling example"],
    penalty: Float[Tensor, " d"],
    back: Float[Tensor, "unit d d"] | None,
) -> Callable[[Int[Tensor, " unit"]], Objective]:
    """The objective of some units, for `minimise`, in the coordinates that `back` leads back from."""

    def objective_of(units: Int[Tensor, " unit"]) -> Objective:
        every = len(units) == len(rows)
        own_rows = rows if every else rows[units]
        own_back = back if back is None or every else back[units]

        def objective(
            points: Float[Tensor, "unit labelling d"],
        ) -> tuple[Float[Tensor, "unit labelling"], Float[Tensor, "unit labelling d"]]:
            weights = points if own_back is None else torch.bmm(points, own_back)
            logits = torch.bmm(weights, own_rows.transpose(1, 2))
            loss = torch.nn.functional.softplus(logits).sub_(targets * logits).mean(dim=-1)
            penalised = weights * penalty
            residuals = logits.sigmoid_().sub_(targets).div_(targets.shape[-1])
            gradient = torch.baddbmm(penalised, residuals, own_rows)
            value = loss + (penalised * weights).sum(dim=-1) / 2
            return value, gradient if own_back is None else torch.bmm(gradient, own_back.transpose(1, 2))

        return objective

    return objective_of
