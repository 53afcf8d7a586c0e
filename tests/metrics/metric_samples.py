"""Made-up evaluations for the tests of figures."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from repeng.metrics import Estimate, Evaluation, mean_paired_difference

PROBABILITIES = st.lists(
    st.one_of(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]), st.floats(0, 1)), min_size=1, max_size=300
).map(np.array)


def clustered(
    generator: np.random.Generator, *, n_groups: int = 60, rate: float = 0.7, alike: float = 0.8
) -> Evaluation:
    """Three pairs a prompt; with chance `alike` all of them share one verdict. The true accuracy is `rate`."""
    group = np.repeat(np.arange(n_groups), 3)
    common = np.repeat(generator.random(n_groups) < rate, 3)
    own = generator.random(3 * n_groups) < rate
    right = np.where(np.repeat(generator.random(n_groups) < alike, 3), common, own)
    return Evaluation(np.where(right, 0.9, 0.1), group, group)


def from_wins(*wins: float, group: list[int] | None = None) -> Evaluation:
    groups = None if group is None else np.array(group)
    return Evaluation(np.array(wins, dtype=float), groups, groups)


def paired_difference(a: Evaluation, b: Evaluation) -> Estimate:
    return mean_paired_difference([a], [b], ["the target"])
