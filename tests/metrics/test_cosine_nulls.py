"""Cosines among those of a null, and means of draws: against simulation and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from repeng.errors import BadInput
from repeng.metrics import cosine_null_ends, cosine_p, mean_of_draws


def test_one_more_draw_of_a_null_is_beyond_its_ends_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(0)
    # Cosines of directions that share a part, so that the null lies about 0.5 and not about 0.
    shared = rng.normal(size=(2000, 21, 30))
    one, other = (shared + rng.normal(size=shared.shape) for _ in range(2))
    cosines = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    assert cosines.mean() == pytest.approx(0.5, abs=0.02)
    p = np.array([cosine_p(own[0], own[1:]) for own in cosines])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.035)
    ends = [cosine_null_ends(own[1:]) for own in cosines]
    beyond = [not low <= own[0] <= high for own, (low, high) in zip(cosines, ends, strict=True)]
    assert beyond == (p < 0.05).tolist()


def test_a_null_that_is_one_value_tells_that_value_from_any_other() -> None:
    assert cosine_p(0.4, np.full(20, 0.4)) == 1.0
    assert cosine_p(0.5, np.full(20, 0.4)) == 0.0
    assert cosine_p(1.0, np.full(20, 1.0)) == 1.0


def test_a_cosine_among_its_own_negatives_does_not_stand_out() -> None:
    assert cosine_p(0.9, np.array([0.9, -0.9] * 10)) > 0.2


@pytest.mark.parametrize("count", [0, 1])
def test_a_null_of_under_two_draws_has_no_spread_and_is_refused(count: int) -> None:
    for asked in (cosine_null_ends, lambda null: cosine_p(0.3, null)):
        with pytest.raises(BadInput, match=f"{count} draws of a null, whose spread needs two"):
            asked(np.full(count, 0.1))


def test_a_mean_of_draws_has_the_interval_of_a_one_sample_t_test() -> None:
    values = np.random.default_rng(1).normal(0.2, 0.3, 12).tolist()
    expected = stats.ttest_1samp(values, 0.0)
    found = mean_of_draws(values)
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)


def test_one_value_or_equal_values_have_no_interval() -> None:
    assert mean_of_draws([0.3]).low is None
    assert mean_of_draws([0.3, 0.3]).p is None
    with pytest.raises(BadInput, match="no value"):
        mean_of_draws([])
