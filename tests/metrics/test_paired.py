"""Differences between two methods on the same pairs, against what they promise."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import clustered, from_wins, paired_difference
from text_samples import texts_of

from repeng.errors import BadInput
from repeng.metrics import Evaluation, accuracy_interval, mean_paired_difference, mean_paired_differences


def of_fits(wins: np.ndarray) -> Evaluation:
    number = np.arange(wins.shape[1])
    return Evaluation.of_fits(0.1 + 0.8 * wins, example=number, group=number)


def test_differences_of_many_methods_are_to_the_bit_those_of_each_two_alone() -> None:
    generator = np.random.default_rng(5)
    targets = ["one", "other", "one"]
    fits = (5, 5, 5, 1, 1, 3)
    methods = [[of_fits(generator.random((count, 60)) < 0.7) for _ in targets] for count in fits]
    methods.append([clustered(generator, n_groups=20) for _ in targets])  # as many pairs, of other prompts
    methods[-1] = [replace(one, example=None) for one in methods[-1]]
    methods.append([from_wins(*(generator.random(60) < 0.6)) for _ in targets])  # of unknown prompts
    methods.append([Evaluation(reported_accuracy=0.7), *methods[0][1:]])
    alike = [own for own in methods if own is not methods[6]]
    pairs = [*itertools.combinations(alike, 2), *itertools.combinations([methods[6], methods[7]], 2)]
    labelled = [texts_of(np.random.default_rng(1), fits=count) for count in (1, 5, 5)]
    same = [replace(one, labels=labelled[0].labels, rows=None) for one in labelled]
    compared = [(a, b, targets) for a, b in pairs]
    compared += [([a] * 2, [b] * 2, targets[:2]) for a, b in itertools.combinations(same, 2)]
    # More than are computed at once.
    compared += [(own, methods[0], targets) for own in methods[1:3]] * 12
    found = mean_paired_differences(compared)
    assert found == [mean_paired_difference(*one) for one in compared]
    assert sum(one.p is None for one in found) == len(alike) - 1


def test_a_difference_on_the_same_pairs_is_surer_than_two_intervals() -> None:
    generator = np.random.default_rng(6)
    a = clustered(generator, n_groups=150)
    flipped = generator.random(450) < 0.05
    b = Evaluation(np.where(flipped, 1 - a.probabilities, a.probabilities), a.example, a.group)
    found, turned = paired_difference(a, b), paired_difference(b, a)
    assert found.value == pytest.approx(a.accuracy - b.accuracy)
    low, high = accuracy_interval(a)
    assert found.high - found.low < (high - low) / 2
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert turned.p == pytest.approx(found.p)


def slow_difference(a: list[float], b: list[float]) -> tuple[float, float]:
    """One pair a prompt: two exact intervals of gains and losses, and MOVER, written out."""
    from scipy.stats import beta, t

    n = len(a)
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    gain, loss = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)

    def exact(won: int) -> tuple[float, float]:
        low = beta.ppf(0.025, won, n - won + 1) if won else 0.0
        return float(low), float(beta.ppf(0.975, won + 1, n - won)) if won < n else 1.0

    p, q = gain / n, loss / n
    (low_p, high_p), (low_q, high_q) = exact(gain), exact(loss)
    both = p * q
    r = -both / (p * (1 - p) * q * (1 - q)) ** 0.5 if both else 0.0
    variance = (p + q - (p - q) ** 2) / n
    least = t.ppf(0.975, n - 1) * variance**0.5
    below = ((p - low_p) ** 2 + (high_q - q) ** 2 - 2 * r * (p - low_p) * (high_q - q)) ** 0.5
    above = ((high_p - p) ** 2 + (q - low_q) ** 2 - 2 * r * (high_p - p) * (q - low_q)) ** 0.5
    return p - q - max(below, least), p - q + max(above, least)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=60))
def test_the_interval_equals_its_slow_twin_with_one_pair_a_prompt(rows: list[tuple[bool, bool]]) -> None:
    a, b = ([float(row[number]) for row in rows] for number in (0, 1))
    found = paired_difference(from_wins(*a, group=list(range(len(a)))), from_wins(*b, group=list(range(len(a)))))
    assert (found.low, found.high) == pytest.approx(slow_difference(a, b), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([0.5, 0.6, 0.75]))
def test_p_is_under_5_percent_exactly_where_the_interval_leaves_0_out(seed: int, fits: int, rate: float) -> None:
    generator = np.random.default_rng(seed)
    a, b = (of_fits((generator.random((fits, 40)) < own).astype(float)) for own in (rate, 0.5))
    found = paired_difference(a, b)
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_few_prompts_that_differ_are_no_proof_though_all_differ_one_way() -> None:
    from scipy.stats import binomtest

    for differing in range(9):
        a = from_wins(*[1.0] * 100, group=list(range(100)))
        b = from_wins(*[0.0] * differing, *[1.0] * (100 - differing), group=list(range(100)))
        exact = binomtest(0, differing).pvalue if differing else 1.0
        assert (paired_difference(a, b).p < 0.05) == (exact < 0.07)


def test_the_p_value_keeps_its_level_and_the_interval_covers_where_methods_are_alike() -> None:
    generator = np.random.default_rng(9)
    found = [
        paired_difference(clustered(generator, n_groups=40), clustered(generator, n_groups=40)) for _ in range(400)
    ]
    assert 0.01 <= np.mean([one.p < 0.05 for one in found]) <= 0.065
    apart = [paired_difference(clustered(generator, rate=0.8), clustered(generator, rate=0.7)) for _ in range(400)]
    assert 0.93 <= np.mean([one.low <= 0.1 <= one.high for one in apart]) <= 0.99


def test_a_method_may_differ_from_its_like_on_other_prompts_and_a_clear_one_does() -> None:
    evaluation = clustered(np.random.default_rng(0))
    itself = paired_difference(evaluation, evaluation)
    reach = 1 - 0.025 ** (1 / 60)
    assert (itself.value, itself.low, itself.high, itself.p) == pytest.approx((0, -reach, reach, 1))
    worst = Evaluation(np.full(180, 0.1), evaluation.example, evaluation.group)
    assert paired_difference(evaluation, worst).p < 1e-6


def test_a_mean_difference_over_repeats_is_no_surer_than_one() -> None:
    generator = np.random.default_rng(11)
    a, b = clustered(generator), clustered(generator, rate=0.6)
    once = mean_paired_difference([a], [b], ["t"])
    again = mean_paired_difference([a, a], [b, b], ["t", "t"])
    assert (again.value, again.low, again.high) == pytest.approx((once.value, once.low, once.high), abs=2e-3)
    two = mean_paired_difference([a, a], [b, b], ["t", "u"])
    assert two.high - two.low < once.high - once.low and two.p < once.p


def test_fits_of_one_seed_are_compared_with_each_other() -> None:
    generator = np.random.default_rng(4)
    number = generator.random((1, 300))
    rates = np.array([0.5, 0.6, 0.7, 0.8, 0.9])[:, None]
    a, b = of_fits((number < rates + 0.05).astype(float)), of_fits((number < rates).astype(float))
    turned = of_fits(np.roll(b.fit_wins, 2, axis=0))
    paired, unpaired = paired_difference(a, b), paired_difference(a, turned)
    assert paired.value == pytest.approx(unpaired.value)
    assert unpaired.high - unpaired.low > 5 * (paired.high - paired.low)
    assert paired.p < 0.05 < unpaired.p


def test_a_method_of_one_fit_is_compared_with_every_fit_and_else_the_fits_that_both_have() -> None:
    generator = np.random.default_rng(4)
    five = of_fits((generator.random((5, 100)) < np.linspace(0.5, 0.95, 5)[:, None]).astype(float))
    once, three = of_fits((generator.random((1, 100)) < 0.7).astype(float)), of_fits(five.fit_wins[:3])
    found = paired_difference(five, once)
    assert found.value == pytest.approx(five.accuracy - once.accuracy)
    assert found.high - found.low > 0.3
    assert paired_difference(five, three).value == 0


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
