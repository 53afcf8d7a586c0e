"""Differences between two methods on the same pairs, against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from metric_samples import clustered, from_wins, paired_difference

from repeng.errors import BadInput
from repeng.metrics import Evaluation, accuracy_interval, mean_paired_difference


def test_a_difference_on_the_same_pairs_is_surer_than_two_intervals() -> None:
    generator = np.random.default_rng(6)
    a = clustered(generator, n_groups=150)
    flipped = generator.random(450) < 0.05
    b = Evaluation(np.where(flipped, 1 - a.probabilities, a.probabilities), a.example, a.group)
    found = paired_difference(a, b)
    assert found.value == pytest.approx(a.accuracy - b.accuracy)
    low, high = accuracy_interval(a)
    assert found.high - found.low < (high - low) / 2
    assert paired_difference(b, a).value == -found.value and paired_difference(b, a).p == found.p


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_p_value_is_that_of_every_sign_pattern(seed: int) -> None:
    group = np.repeat(np.arange(9), 2)
    generator = np.random.default_rng(seed)
    a, b = (Evaluation(generator.choice([0.1, 0.5, 0.9], size=18), group, group) for _ in range(2))
    sums = [float(np.sum((a.wins - b.wins)[group == number])) for number in range(9)]
    patterns = [[1 if pattern >> bit & 1 else -1 for bit in range(9)] for pattern in range(512)]
    totals = [abs(sum(s * v for s, v in zip(signs, sums, strict=True))) for signs in patterns]
    exact = np.mean([total >= abs(sum(sums)) - 1e-9 for total in totals])
    assert paired_difference(a, b, permutations=40_000).p == pytest.approx(exact, abs=0.01)


def test_the_p_value_keeps_its_level_where_methods_are_alike() -> None:
    generator = np.random.default_rng(9)
    found = [
        paired_difference(clustered(generator, n_groups=40), clustered(generator, n_groups=40), permutations=300).p
        for _ in range(400)
    ]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.08
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_difference_intervals_cover_the_truth() -> None:
    generator = np.random.default_rng(10)
    found = [
        paired_difference(clustered(generator, rate=0.8), clustered(generator, rate=0.7), resamples=400, permutations=1)
        for _ in range(400)
    ]
    assert 0.91 <= np.mean([one.low <= 0.1 <= one.high for one in found]) <= 0.98


def test_a_method_does_not_differ_from_itself_and_a_clear_one_does() -> None:
    evaluation = clustered(np.random.default_rng(0))
    itself = paired_difference(evaluation, evaluation)
    assert (itself.value, itself.low, itself.high, itself.p) == (0, 0, 0, 1)
    worst = Evaluation(np.full(180, 0.1), evaluation.example, evaluation.group)
    assert paired_difference(evaluation, worst).p == 1 / 10_001


def test_a_mean_difference_over_repeats_is_no_surer_than_one() -> None:
    generator = np.random.default_rng(11)
    a, b = clustered(generator), clustered(generator, rate=0.6)
    once = mean_paired_difference([a], [b], ["t"])
    assert mean_paired_difference([a, a], [b, b], ["t", "t"]) == once == paired_difference(a, b)
    two = mean_paired_difference([a, a], [b, b], ["t", "u"])
    assert two.high - two.low < once.high - once.low and two.p < once.p


def test_groups_that_one_side_knows_serve_both_and_none_leaves_the_interval_blank() -> None:
    a = clustered(np.random.default_rng(0))
    bare = Evaluation(np.full(180, 0.8))
    assert paired_difference(a, bare).low is not None and paired_difference(bare, a).p is not None
    blank = paired_difference(bare, Evaluation(np.full(180, 0.1)))
    assert (blank.value, blank.low, blank.high, blank.p) == (1, None, None, None)
    assert paired_difference(a, Evaluation(reported_accuracy=0.5)).low is None


def test_evaluations_of_different_pairs_are_not_compared() -> None:
    a, b = from_wins(1, 0, group=[0, 1]), from_wins(1, 0, group=[0, 2])
    with pytest.raises(BadInput, match="group numbers differ|example numbers differ"):
        paired_difference(a, b)
    with pytest.raises(BadInput, match="2 pairs on one side and 3 on the other"):
        paired_difference(a, from_wins(1, 0, 0))
    with pytest.raises(BadInput, match="1 and 2 shifts"):
        mean_paired_difference([a], [a, a], ["t"])
