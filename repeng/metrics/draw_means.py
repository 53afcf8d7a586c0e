"""The mean of figures that are draws of something, such as one of each source."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from repeng.errors import BadInput
from repeng.metrics.resampling import LEVEL, Estimate


def mean_of_draws(values: Sequence[float]) -> Estimate:
    """The mean, its interval and the p-value of a mean of 0, by Student's t, taking the values as independent.

    Without an interval where there is one value, or all are equal.

    Raises:
        BadInput: there is none.
    """
    from scipy.special import stdtr, stdtrit

    if not len(values):
        raise BadInput("no value to take a mean of; give one or more")
    mean, count = float(np.mean(values)), len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    if error == 0:
        return Estimate(mean)
    reach = error * float(stdtrit(count - 1, (1 + LEVEL) / 2))
    return Estimate(mean, mean - reach, mean + reach, float(2 * stdtr(count - 1, -abs(mean) / error)))
