"""Correlation over pairs that share prompts: values against scipy, intervals against a slow twin and by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from repeng.errors import BadInput
from repeng.metrics import Evaluation, grouped_correlation, grouped_rank_correlation


def pairs_of(groups: int, each: int = 3) -> Evaluation:
    group = np.repeat(np.arange(groups), each)
    return Evaluation(np.full(len(group), 0.6), group=group, example=group)


def clustered(generator: np.random.Generator, groups: int, shared: float) -> np.ndarray:
    """Standard normal values of three pairs a prompt, correlated within it."""
    of_group = np.repeat(generator.normal(size=groups), 3)
    return np.sqrt(shared) * of_group + np.sqrt(1 - shared) * generator.normal(size=3 * groups)


def test_the_values_are_those_of_scipy_with_ties_and_over_fits() -> None:
    generator = np.random.default_rng(0)
    of = pairs_of(40)
    x, y = generator.integers(0, 4, (2, 120)).astype(float), generator.integers(0, 3, 120).astype(float)
    pooled = grouped_correlation(x, y, of)
    assert pooled is not None and pooled.value == pytest.approx(stats.pearsonr(x.ravel(), np.tile(y, 2)).statistic)
    ranked = grouped_rank_correlation(x[0], y, of)
    assert ranked is not None and ranked.value == pytest.approx(stats.spearmanr(x[0], y).statistic)


def test_of_right_and_wrong_it_is_phi() -> None:
    x, y = np.array([1, 1, 1, 0, 0, 0, 0, 1.0]), np.array([1, 1, 0, 0, 0, 0, 1, 1.0])
    found = grouped_correlation(x[None], y, pairs_of(8, each=1))
    assert found is not None
    assert found.value == pytest.approx((3 * 3 - 1 * 1) / np.sqrt(4 * 4 * 4 * 4))


@pytest.mark.parametrize("ranked", [False, True])
def test_the_interval_is_the_jackknife_over_prompts(ranked: bool) -> None:
    generator = np.random.default_rng(1)
    of = pairs_of(35)
    x = np.round(clustered(generator, 35, 0.4), 1)
    y = np.round(0.5 * x + clustered(generator, 35, 0.4), 1)
    found = grouped_rank_correlation(x, y, of) if ranked else grouped_correlation(x[None], y, of)
    scipy = stats.spearmanr if ranked else stats.pearsonr
    left = [np.arctanh(scipy(x[of.group != unit], y[of.group != unit]).statistic) for unit in range(35)]
    reach = stats.t.ppf(0.975, 34) * np.sqrt(34 / 35 * np.sum((left - np.mean(left)) ** 2))
    centre = np.arctanh(scipy(x, y).statistic)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((np.tanh(centre - reach), np.tanh(centre + reach)))


@pytest.mark.parametrize(("groups", "truth"), [(40, 0.0), (60, 0.8)])
def test_the_intervals_hold_the_truth(groups: int, truth: float) -> None:
    generator = np.random.default_rng(2)
    held = np.zeros((200, 3))
    of = pairs_of(groups)
    for row in held:
        x = clustered(generator, groups, 0.5)
        y = truth * x + np.sqrt(1 - truth**2) * clustered(generator, groups, 0.5)
        right = ((x > 0)[None].astype(float), (y > 0).astype(float))
        pearson, ranked = grouped_correlation(x[None], y, of), grouped_rank_correlation(x, y, of)
        phi = grouped_correlation(*right, of)
        truths = (truth, 6 / np.pi * np.arcsin(truth / 2), 2 / np.pi * np.arcsin(truth))
        row[:] = [found.low <= true <= found.high for found, true in zip((pearson, ranked, phi), truths, strict=True)]
    assert held.mean(axis=0).min() >= 0.91
    assert held.mean(axis=0).max() < 1


def test_it_is_unknown_where_a_side_is_constant_and_has_no_interval_without_prompts() -> None:
    of = pairs_of(10)
    y = np.arange(30.0)
    assert grouped_correlation(np.ones((1, 30)), y, of) is None
    assert grouped_rank_correlation(y, np.zeros(30), of) is None
    unknown = Evaluation(np.full(30, 0.6))
    for found in (grouped_correlation(y[None], y, unknown), grouped_rank_correlation(y, y, unknown)):
        assert found is not None and (found.value, found.low) == (pytest.approx(1.0), None)
    alike = grouped_rank_correlation(y, np.exp(y), of)
    assert alike is not None and alike.low == alike.high == pytest.approx(1.0)
    with pytest.raises(BadInput, match="30 and 30 values of 27 pairs"):
        grouped_correlation(y[None], y, pairs_of(9))


def test_the_blocks_in_which_ranks_are_made_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(2, 90))
    whole = grouped_rank_correlation(x, y, pairs_of(30))
    monkeypatch.setattr("repeng.metrics.pair_correlation.BLOCK", 200)
    assert grouped_rank_correlation(x, y, pairs_of(30)) == whole
