"""P-values by inverting an interval, against plain halvings of the same stretch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repeng.metrics.proportions import HALVINGS, LARGEST_P, SMALLEST_P, halved, inverted_p, proportion_ends
from repeng.metrics.resampling import LEVEL
from repeng.metrics.variance import MeanVariance


def slow_p(ends: Callable[[float], tuple[float, float]], null: float) -> float:
    """The largest alpha at which the interval holds the null, by forty halvings of its logarithm."""

    def left_out(alpha: float) -> bool:
        low, high = ends(alpha)
        return bool(low > null or high < null)

    level = 1 - LEVEL
    inside, outside = (SMALLEST_P, level) if left_out(level) else (level, LARGEST_P)
    if left_out(inside) or not left_out(outside):
        return SMALLEST_P if left_out(inside) else 1.0
    low, high = math.log(inside), math.log(outside)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if left_out(math.exp(middle)) else (middle, high)
    return math.exp(high)


@settings(max_examples=150, deadline=None)
@given(
    st.floats(0.02, 0.98), st.integers(5, 400), st.floats(0.3, 4.0), st.sampled_from([0.0, 0.1, 2.0]), st.integers(1, 4)
)
def test_the_p_value_is_that_of_plain_halvings(mean: float, n: int, design: float, of_fits: float, fit_df: int) -> None:
    variance = np.array([design * mean * (1 - mean) / n])
    found = MeanVariance(np.array([mean]), variance, np.array([n - 1.0]), of_fits * variance, fit_df, n, n)

    def ends(alpha: float) -> tuple[float, float]:
        low, high = proportion_ends(found, alpha)
        return float(low[0]), float(high[0])

    # The last halving parts what is so near as this; there rounding may tell the side.
    assert inverted_p(ends, 0.5) == pytest.approx(slow_p(ends, 0.5), rel=1e-10)


@pytest.mark.parametrize(
    "rising",
    [
        lambda x: x + 2,
        lambda x: (x + 2) ** 3,
        lambda x: -1.0 if x < -2 else 1.0,
        lambda x: max(x + 2, -1e-6) + 1e-9,
        lambda x: math.expm1(40 * (x + 2)),
    ],
)
def test_halvings_end_where_each_of_them_leads(rising: Callable[[float], float]) -> None:
    inside, outside, calls = -30.0, -1.0, []

    def counted(x: float) -> float:
        calls.append(x)
        return rising(x)

    found = halved(counted, (inside, rising(inside)), (outside, rising(outside)))
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if rising(middle) > 0 else (middle, outside)
    assert found == outside
    assert len(calls) <= 2 * HALVINGS


def test_a_p_value_takes_a_third_of_the_intervals_that_halvings_take() -> None:
    calls = []

    def ends(alpha: float) -> tuple[float, float]:
        calls.append(alpha)
        low, high = proportion_ends(MeanVariance(*(np.array([of]) for of in (0.7, 0.002, 90.0, 0.0)), 1, 91, 91), alpha)
        return float(low[0]), float(high[0])

    assert 1e-6 < inverted_p(ends, 0.5) < 0.05
    assert len(calls) < HALVINGS / 2
