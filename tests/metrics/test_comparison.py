"""Methods next to each other: shared mistakes, correlations, many comparisons."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import clustered, from_wins

from repeng.errors import BadInput
from repeng.metrics import (
    Evaluation,
    correlation,
    holm,
    mistake_kappa,
    mistake_kappas,
)


def test_kappa_of_mistakes_equals_that_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    generator = np.random.default_rng(12)
    for choices in ([0.1, 0.9], [0.1, 0.5, 0.9]):
        first = generator.choice(choices, size=150)
        second = np.where(generator.random(150) < 0.5, first, generator.choice(choices, size=150))
        a, b = Evaluation(first, group=np.arange(150)), Evaluation(second)
        found = mistake_kappa(a, b)
        assert found.value == pytest.approx(cohen_kappa_score(a.wins.astype(str), b.wins.astype(str)))
        assert found.low < found.value < found.high


def test_kappa_is_1_for_the_same_mistakes_and_undefined_without_any() -> None:
    a = from_wins(1, 0, 1, 0, 1)
    assert mistake_kappa(a, a).value == pytest.approx(1) and mistake_kappa(a, a).low is None
    assert mistake_kappa(from_wins(1, 1), from_wins(1, 1)) is None
    assert mistake_kappa(from_wins(1, 1), from_wins(0, 0)).value == pytest.approx(0)
    rare = from_wins(1, 1, 0, group=[0, 1, 2])  # some resample holds no mistake at all
    assert mistake_kappa(rare, rare).low is None
    with pytest.raises(BadInput, match="bare accuracy"):
        mistake_kappa(a, Evaluation(reported_accuracy=0.5))


def test_kappas_of_many_pairs_are_those_of_a_plain_loop() -> None:
    generator = np.random.default_rng(14)
    sizes = (40, 40, 25)
    groups = {size: np.repeat(np.arange(size), 2) for size in sizes}
    drawn = {size: [generator.choice([0.1, 0.5, 0.9], size=2 * size) for _ in range(7)] for size in sizes}
    known = {size: [Evaluation(p, group=groups[size]) for p in own] for size, own in drawn.items()}
    pairs = [pair for own in known.values() for pair in itertools.combinations(own, 2)]
    pairs += [(from_wins(1, 1), from_wins(1, 1)), (Evaluation(drawn[25][0]), known[25][1])]
    found = mistake_kappas(pairs, resamples=200)
    assert found[-2] is None and len(pairs) == 2 * math.comb(7, 2) + 2
    for (a, b), kappa in zip(pairs, found, strict=True):
        if kappa is None:
            continue
        counts, tables = np.zeros((3, 3)), np.zeros((len(np.unique(b.group)), 3, 3))
        for one, other, group in zip(2 * a.wins, 2 * b.wins, b.group, strict=True):
            counts[int(one), int(other)] += 1
            tables[group, int(one), int(other)] += 1
        seeded = np.random.default_rng(0)
        drawn_units = [seeded.integers(len(tables), size=len(tables)) for _ in range(200)]
        resampled = [plain_kappa(tables[units].sum(axis=0)) for units in drawn_units]
        assert kappa.value == pytest.approx(plain_kappa(counts), abs=1e-12)
        assert (kappa.low, kappa.high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])), abs=1e-12)
        assert kappa == mistake_kappa(a, b, resamples=200)


def plain_kappa(counts: np.ndarray) -> float:
    shares = counts / counts.sum()
    chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
    return (float(np.trace(shares)) - chance) / (1 - chance)


def test_kappa_intervals_cover_independence() -> None:
    generator = np.random.default_rng(13)
    found = [mistake_kappa(clustered(generator), clustered(generator), resamples=300) for _ in range(300)]
    assert 0.9 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize("n", [4, 5, 30])
def test_correlation_and_interval_equal_those_of_scipy(n: int) -> None:
    from scipy.stats import pearsonr, spearmanr

    generator = np.random.default_rng(n + 1)
    x = generator.normal(size=n)
    y = (x + generator.normal(size=n)).round(1)
    theirs = pearsonr(x, y)
    ours = correlation(x.tolist(), y.tolist())
    assert ours.value == pytest.approx(theirs.statistic)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    by_rank = correlation(x.tolist(), y.tolist(), method="spearman")
    assert by_rank.value == pytest.approx(spearmanr(x, y).statistic)
    half = (math.atanh(by_rank.high) - math.atanh(by_rank.low)) / 2
    assert half == pytest.approx(1.959963984540054 * math.sqrt((1 + by_rank.value**2 / 2) / (n - 3)))


def test_correlation_without_enough_points_or_spread_is_blank() -> None:
    assert correlation([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]).low is None
    assert correlation([1.0] * 4, [1.0, 2.0, 3.0, 4.0]) is None and correlation([1.0], [2.0]) is None
    perfect = correlation([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0])
    assert (perfect.value, perfect.low, perfect.high) == pytest.approx((1, 1, 1))
    with pytest.raises(BadInput, match="2 values on one side and 3"):
        correlation([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match="not finite"):
        correlation([1.0, math.nan], [1.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_step_down_rule_rejects(p_values: list[float], level: float) -> None:
    rejected: set[int] = set()
    for step, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[number] * (len(p_values) - step) > level:
            break
        rejected.add(number)
    assert {number for number, adjusted in enumerate(holm(p_values)) if adjusted <= level} == rejected


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    with pytest.raises(BadInput, match="between 0 and 1"):
        holm([0.5, math.nan])
