"""Formulas that several rooms share. Pure numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def sigmoid(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logistic function, without overflow; NaN stays NaN, and nothing warns of it."""
    # logaddexp calls a NaN that it passes on an invalid value.
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -x))
