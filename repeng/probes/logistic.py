"""Logistic regression on single responses, by scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes.base import Labels, LinearProbe
from repeng.probes.threads import one_thread


class Logistic(LinearProbe):
    """scikit-learn's `LogisticRegression` on standardised activations, one batch element after another.

    As a probe: Alain and Bengio 2016 (arXiv:1610.01644).

    Args:
        C: inverse strength of the L2 penalty.
        max_iter: of its solver.
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
        target = labels.cpu().numpy()
        with one_thread():
            solved = [self.solve(rows, target) for rows in features.reshape(-1, *features.shape[-2:]).cpu().numpy()]
        shape = features.shape[:-2]
        *columns, steps = (np.array(column) for column in zip(*solved, strict=True))
        self.n_iter_ = steps.reshape(shape)
        directions, offsets = (torch.from_numpy(column).to(features) for column in columns)
        return directions.reshape(*shape, features.shape[-1]), offsets.reshape(shape)

    def solve(
        self, rows: Float[np.ndarray, "example d"], labels: Float[np.ndarray, " example"]
    ) -> tuple[Float[np.ndarray, " d"], float, int]:
        """One batch element's direction and offset, and how many steps they took."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        model = LogisticRegression(C=self.C, max_iter=self.max_iter)
        if not self.standardize:
            model.fit(rows, labels)
            return model.coef_[0], -float(model.intercept_[0]), int(model.n_iter_[0])
        scaler = StandardScaler().fit(rows)
        direction = model.fit(scaler.transform(rows), labels).coef_[0] / scaler.scale_
        return direction, float(direction @ scaler.mean_ - model.intercept_[0]), int(model.n_iter_[0])
