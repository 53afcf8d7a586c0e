"""Intervals of many answers about the same pairs are those of each alone."""

from __future__ import annotations

import numpy as np
import pytest

from repeng.errors import BadInput
from repeng.metrics import Evaluation, accuracy_interval, accuracy_intervals


def test_each_interval_is_the_one_that_it_has_alone() -> None:
    generator = np.random.default_rng(3)
    group = generator.integers(0, 35, 90)
    wins = generator.choice([0.0, 0.5, 1.0], size=(5, 90))
    wins[3], wins[4] = 1.0, 0.0
    found = accuracy_intervals(wins, Evaluation(wins[0], group=group), seed=2, resamples=300)
    for one, row in zip(found, wins, strict=True):
        alone = accuracy_interval(Evaluation(row, group=group), seed=2, resamples=300)
        assert one == pytest.approx(alone)


def test_without_prompt_groups_there_is_no_interval() -> None:
    wins = np.ones((2, 4))
    assert accuracy_intervals(wins, Evaluation(wins[0])) == [None, None]
    with pytest.raises(BadInput, match="0 resamples"):
        accuracy_intervals(wins, Evaluation(wins[0]), resamples=0)
