"""Logistic regression on single responses, by scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.probes.base import Labels, LinearProbe


class Logistic(LinearProbe):
    """scikit-learn's `LogisticRegression` on standardised activations, one batch element after another.

    Args:
        C: inverse strength of the L2 penalty.
        max_iter: of its solver.
        standardize: divide by each dimension's standard deviation on the source first.
    """

    name = "logistic"

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
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        target = labels.cpu().numpy()
        directions, offsets = [], []
        for rows in features.reshape(-1, *features.shape[-2:]).cpu().numpy():
            scaler = StandardScaler(with_mean=self.standardize, with_std=self.standardize).fit(rows)
            model = LogisticRegression(C=self.C, max_iter=self.max_iter).fit(scaler.transform(rows), target)
            scale = scaler.scale_ if self.standardize else np.ones(rows.shape[1])
            mean = scaler.mean_ if self.standardize else np.zeros(rows.shape[1])
            direction = model.coef_[0] / scale
            directions.append(direction)
            offsets.append(direction @ mean - model.intercept_[0])
        shape = features.shape[:-2]
        return (
            torch.from_numpy(np.array(directions)).to(features).reshape(*shape, features.shape[-1]),
            torch.from_numpy(np.array(offsets)).to(features).reshape(shape),
        )
