"""P-values by inverting an interval, against plain halvings of the same stretch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repeng.metrics.proportions import HALVINGS, LARGEST_P, SMALLEST_P, halved, inverted_p_values, proportion_ends
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


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.02, 0.98), st.integers(5, 400), st.floats(0.3, 4.0), st.sampled_from([0.0, 0.1, 2.0])),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 4),
)
def test_p_values_are_those_of_plain_halvings(made: list[tuple[float, int, float, float]], fit_df: int) -> None:
    mean, n, design, of_fits = np.array(made).T
    variance = design * mean * (1 - mean) / n
    found = MeanVariance(mean, variance, n - 1.0, of_fits * variance, fit_df, 100, 100)
    p = inverted_p_values(lambda alpha: proportion_ends(found, alpha), 0.5, len(mean))
    for number, own in enumerate(p):

        def ends(alpha: float, at: int = number) -> tuple[float, float]:
            low, high = proportion_ends(found.of(slice(at, at + 1)), alpha)
            return float(low[0]), float(high[0])

        # The last halving parts what is so near as this; there rounding may tell the side.
        assert own == pytest.approx(slow_p(ends, 0.5), rel=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=8), st.sampled_from([0.0, 0.5, 1.0]))
def test_p_values_of_straight_intervals(made: list[tuple[float, float]], null: float) -> None:
    centre, width = np.array(made).T

    def ends(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return centre - width * (1 - alpha), centre + width * (1 - alpha)

    p = inverted_p_values(ends, null, len(made))
    for number, own in enumerate(p):
        alone = slow_p(lambda alpha, at=number: tuple(float(end[at]) for end in ends(np.array(alpha))), null)
        assert own == pytest.approx(alone, rel=1e-10)


def test_halvings_end_where_each_of_them_leads() -> None:
    rising: list[Callable[[float], float]] = [
        lambda x: x + 2,
        lambda x: (x + 2) ** 3,
        lambda x: -1.0 if x < -2 else 1.0,
        lambda x: max(x + 2, -1e-6) + 1e-9,
        lambda x: math.expm1(40 * (x + 2)),
    ]
    calls = []

    def together(places: np.ndarray) -> np.ndarray:
        calls.append(places)
        return np.array([of(place) for of, place in zip(rising, places.tolist(), strict=True)])

    first, last = np.full(len(rising), -30.0), np.full(len(rising), -1.0)
    found = halved(together, (first, together(first)), (last, together(last)))
    assert len(calls) <= 2 + 2 * HALVINGS
    for of, own in zip(rising, found.tolist(), strict=True):
        inside, outside = -30.0, -1.0
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if of(middle) > 0 else (middle, outside)
        assert own == outside


def test_p_values_take_a_half_of_the_intervals_that_halvings_take() -> None:
    calls = []
    means = np.linspace(0.55, 0.7, 40)
    found = MeanVariance(means, np.full(40, 0.002), np.full(40, 90.0), np.zeros(40), 1, 91, 91)

    def ends(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(alpha)
        return proportion_ends(found, alpha)

    p = inverted_p_values(ends, 0.5, 40)
    assert p.min() < 1e-4 and p.max() > 0.2
    assert len(calls) <= HALVINGS / 2
