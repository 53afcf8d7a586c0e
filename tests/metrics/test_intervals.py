"""Intervals of accuracies against slow twins, theory and what they promise."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import clustered, from_wins

from repeng.errors import BadInput
from repeng.metrics import (
    Evaluation,
    accuracy_interval,
    accuracy_intervals,
    chance_p,
    fits_disagree,
    mean_accuracy_interval,
    mean_accuracy_intervals,
)


def slow_variance(wins: list[list[float]], groups: list[int]) -> tuple[float, float, float]:
    """The mean over fits and pairs, and its variances over prompts and over fits, by the textbook's sums one by one."""
    n_fits, n_pairs, names = len(wins), len(groups), sorted(set(groups))
    n = len(names)
    fit_means = [sum(row) / n_pairs for row in wins]
    mean = sum(fit_means) / n_fits
    cell = {
        (k, name): sum(wins[k][j] - fit_means[k] for j in range(n_pairs) if groups[j] == name) / n_pairs
        for k in range(n_fits)
        for name in names
    }
    row = {name: sum(cell[k, name] for k in range(n_fits)) / n_fits for name in names}
    over_prompts = n / (n - 1) * sum(value**2 for value in row.values()) * (n_pairs - 1) / n_pairs
    average = [sum(wins[k][j] for k in range(n_fits)) / n_fits for j in range(n_pairs)]
    over_prompts = max(over_prompts, sum((value - mean) ** 2 for value in average) / n_pairs**2)
    single = sum(value**2 for value in cell.values()) / n_fits * n / (n - 1) * (n_pairs - 1) / n_pairs
    over_prompts = max(over_prompts, min(single, 1 / n**2))
    added = 0.0
    if n_fits > 1:
        over_fits = sum((one - mean) ** 2 for one in fit_means) / (n_fits - 1) / n_fits
        left = sum((cell[k, name] - row[name]) ** 2 for k in range(n_fits) for name in names)
        shared = n * left / ((n - 1) * (n_fits - 1) * n_fits)
        added = max(over_fits - shared, 0.0)
    return mean, over_prompts, added


def slow_interval(wins: list[list[float]], groups: list[int], alpha: float = 0.05) -> tuple[float, float]:
    from scipy.stats import beta, t

    mean, over_prompts, over_fits = slow_variance(wins, groups)
    if over_prompts + over_fits < 1e-15:
        reach = 1 - (alpha / 2) ** (1 / len(set(groups)))
        return max(mean - reach, 0.0), min(mean + reach, 1.0)
    reach = t.ppf(1 - alpha / 2, len(set(groups)) - 1) ** 2 * over_prompts
    if len(wins) > 1:
        reach += t.ppf(1 - alpha / 2, len(wins) - 1) ** 2 * over_fits
    size = mean * (1 - mean) / reach * t.ppf(1 - alpha / 2, len(groups) - 1) ** 2
    low = beta.ppf(alpha / 2, size * mean, size * (1 - mean) + 1) if mean > 0 else 0.0
    high = beta.ppf(1 - alpha / 2, size * mean + 1, size * (1 - mean)) if mean < 1 else 1.0
    return float(low), float(high)


def of_wins(wins: np.ndarray, group: np.ndarray) -> Evaluation:
    """An evaluation of several fits."""
    return Evaluation.of_fits(0.1 + 0.8 * wins, example=np.arange(len(group)), group=group)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda n_fits: st.lists(
            st.tuples(st.integers(30, 60), st.lists(st.sampled_from([0, 0.5, 1, 1]), min_size=n_fits, max_size=n_fits)),
            min_size=40,
            max_size=90,
        )
    )
)
def test_the_interval_equals_its_slow_twin(rows: list[tuple[int, list[float]]]) -> None:
    group = np.array([group for group, _ in rows])
    if len(set(group.tolist())) < 30:
        group = np.arange(len(rows))
    wins = np.array([wins for _, wins in rows], dtype=float).T
    found = accuracy_interval(of_wins(wins, group))
    assert found == pytest.approx(slow_interval(wins.tolist(), group.tolist()), abs=1e-9)


@pytest.mark.parametrize("n_groups", [2, 40])
def test_with_one_pair_a_prompt_and_one_fit_it_is_clopper_and_pearsons(n_groups: int) -> None:
    from scipy.stats import binomtest

    for won in {0, 1, n_groups // 3, n_groups}:
        wins = np.arange(n_groups) < won
        exact = binomtest(won, n_groups).proportion_ci(0.95, "exact")
        assert accuracy_interval(from_wins(*wins, group=list(range(n_groups)))) == pytest.approx(tuple(exact))
        p = chance_p(from_wins(*wins, group=list(range(n_groups))))
        assert p == pytest.approx(binomtest(won, n_groups).pvalue, rel=1e-6)


@pytest.mark.parametrize("n_fits", [1, 5])
def test_all_right_or_all_wrong_is_the_exact_interval_of_as_many_prompts(n_fits: int) -> None:
    from scipy.stats import binomtest

    group = np.repeat(np.arange(40), 2)
    for won in (0, 40):
        exact = binomtest(won, 40).proportion_ci(0.95, "exact")
        wins = np.full((n_fits, 80), float(won == 40))
        assert accuracy_interval(of_wins(wins, group)) == pytest.approx(tuple(exact))
    low, high = accuracy_interval(of_wins(np.full((n_fits, 80), 0.5), group))
    assert 0.4 < low < 0.5 < high < 0.6


def test_fits_that_are_each_all_right_or_all_wrong_speak_as_so_many_draws() -> None:
    wins = np.repeat([[1.0], [1.0], [1.0], [1.0], [0.0]], 250, axis=1)
    low, high = accuracy_interval(of_wins(wins, np.arange(250)))
    assert low < 0.35 and high > 0.98
    assert fits_disagree(of_wins(wins, np.arange(250)))


def test_prompts_are_what_counts_where_several_examples_share_each() -> None:
    example = np.arange(200)
    right = np.repeat(np.random.default_rng(6).random(40) < 0.7, 5).astype(float)
    of_prompts = accuracy_interval(Evaluation(right, example, example // 5))
    of_examples = accuracy_interval(Evaluation(right, example, example))
    assert of_prompts[1] - of_prompts[0] > 2 * (of_examples[1] - of_examples[0])


def test_an_interval_is_never_surer_than_independent_pairs() -> None:
    group = np.repeat(np.arange(50), 2)
    opposite = np.tile([0.9, 0.1], 50)
    assert accuracy_interval(Evaluation(opposite, group, group)) == pytest.approx(
        accuracy_interval(Evaluation(opposite, np.arange(100), np.arange(100))), abs=0.01
    )


def test_fits_alike_add_nothing_and_fits_that_differ_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    group, wins = np.arange(200), (generator.random(200) < 0.8).astype(float)
    one = accuracy_interval(of_wins(wins[None], group))
    assert accuracy_interval(of_wins(np.tile(wins, (5, 1)), group)) == pytest.approx(one)
    rates = np.array([0.5, 0.7, 0.8, 0.9, 0.95])
    apart = (generator.random(200) < rates[:, None]).astype(float)
    low, high = accuracy_interval(of_wins(apart, group))
    assert high - low > 2 * (one[1] - one[0])
    assert fits_disagree(of_wins(apart, group)) and not fits_disagree(of_wins(wins[None], group))
    noise = (generator.random((5, 200)) < 0.8).astype(float)
    assert not fits_disagree(of_wins(noise, group)) and not fits_disagree(of_wins(np.tile(wins, (5, 1)), group))


def test_no_interval_without_groups_without_pairs_or_with_one_group() -> None:
    nowhere = [
        Evaluation(np.linspace(0, 1, 9), example=np.arange(9)),
        Evaluation(reported_accuracy=0.5),
        from_wins(1, 0, 1, group=[3, 3, 3]),
        Evaluation(np.array([0.9, 0.9, 0.1, 0.1]), np.arange(4), np.arange(4), reported_accuracy=0.9),
    ]
    for evaluation in nowhere:
        assert accuracy_interval(evaluation) is None and chance_p(evaluation) is None


def test_under_thirty_prompts_examples_are_taken_as_independent_and_it_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    probabilities, example = np.random.default_rng(2).random(100), np.arange(100)
    one_prompt = accuracy_interval(Evaluation(probabilities, example, np.zeros(100, dtype=int)))
    assert one_prompt == accuracy_interval(Evaluation(probabilities, example, example))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "only 1 prompt groups in 100 examples" in caplog.text


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 4), st.integers(0, 9))
def test_p_is_under_5_percent_exactly_where_the_interval_leaves_a_half_out(won: int, n_fits: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    group = np.sort(generator.integers(0, 35, 60))
    wins = np.array([generator.permutation(60) < won for _ in range(n_fits)], dtype=float)
    evaluation = of_wins(wins, group)
    low, high = accuracy_interval(evaluation)
    assert (chance_p(evaluation) < 0.05) == (low > 0.5 or high < 0.5)


def test_p_is_the_alpha_at_which_the_interval_ends_at_a_half() -> None:
    generator = np.random.default_rng(5)
    group = np.repeat(np.arange(40), 2)
    wins = (generator.random((3, 80)) < 0.66).astype(float)
    p = chance_p(of_wins(wins, group))
    assert 1e-6 < p < 0.2
    assert slow_interval(wins.tolist(), group.tolist(), alpha=p)[0] == pytest.approx(0.5, abs=1e-6)


def test_each_of_many_intervals_is_the_one_that_it_has_alone() -> None:
    generator = np.random.default_rng(3)
    group = generator.integers(0, 35, 90)
    wins = generator.choice([0.0, 0.5, 1.0], size=(5, 2, 90))
    wins[3], wins[4] = 1.0, 0.0
    found = accuracy_intervals(wins, Evaluation(wins[0, 0], np.arange(90), group))
    for one, row in zip(found, wins, strict=True):
        assert one == pytest.approx(accuracy_interval(of_wins(row, group)))
    assert accuracy_intervals(wins, Evaluation(wins[0, 0])) == [None] * 5


def test_a_mean_over_shifts_gains_certainty_by_new_targets_and_none_by_repeats() -> None:
    generator = np.random.default_rng(3)
    a, b = clustered(generator, n_groups=200), clustered(generator, n_groups=200)
    alone, repeated = mean_accuracy_interval([a], ["t"]), mean_accuracy_interval([a, a, a], ["t", "t", "t"])
    assert repeated.value == pytest.approx(alone.value)
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high), abs=1e-3)
    assert (alone.low, alone.high) == pytest.approx(accuracy_interval(a))
    assert alone.p == pytest.approx(chance_p(a))
    two = mean_accuracy_interval([a, b], ["t", "u"])
    assert two.value == pytest.approx((a.accuracy + b.accuracy) / 2)
    assert (two.high - two.low) / (alone.high - alone.low) == pytest.approx(2**-0.5, rel=0.12)


@pytest.mark.parametrize("shifts", ["fixed", "sampled"])
def test_means_of_many_methods_are_to_the_bit_those_of_each_alone(shifts: str) -> None:
    generator = np.random.default_rng(7)
    group = np.repeat(np.arange(30), 2)
    asked = []
    for fits, targets in ((5, "tuv"), (5, "tuv"), (1, "tuv"), (5, "ttu"), (3, "t")):
        wins = [(generator.random((fits, 60)) < 0.4 + 0.1 * fits).astype(float) for _ in targets]
        asked.append(([of_wins(one, group) for one in wins], list(targets)))
    asked.append((asked[0][0][:2] + [of_wins(wins[0], group[::-1])], list("tuv")))  # of other prompts
    asked.append((asked[0][0][:2] + [Evaluation(reported_accuracy=0.7)], list("tuv")))
    asked.append(([replace(one, group=None) for one in asked[1][0]], list("tuv")))
    found = mean_accuracy_intervals(asked, shifts=shifts)
    assert found == [mean_accuracy_interval(*one, shifts=shifts) for one in asked]
    assert [one.p is None for one in found] == [False] * 4 + [shifts == "sampled", False, True, True]


@pytest.mark.parametrize("each", [1, 2, 3])
@pytest.mark.parametrize("listed", ["by prompt", "at random"])
def test_pairs_are_summed_by_prompt_in_whatever_order_they_are_listed(each: int, listed: str) -> None:
    from repeng.metrics.intervals import accuracy_variance

    generator = np.random.default_rng(each)
    group = np.repeat(np.arange(40), each)
    group = group if listed == "by prompt" else generator.permutation(group)
    wins = (generator.random((3, len(group))) < 0.3 + 0.01 * group).astype(float)
    found = accuracy_variance([of_wins(wins, group)], ["t"])
    _, of_prompts, of_fits = slow_variance(wins.tolist(), group.tolist())
    assert (found.prompts[0], found.fits[0]) == pytest.approx((of_prompts, of_fits))


def test_the_variance_of_a_mean_over_targets_is_that_of_a_plain_sum() -> None:
    from repeng.metrics.intervals import accuracy_variance

    generator = np.random.default_rng(8)
    group = np.arange(60)
    wins = [(generator.random((1, 60)) < rate).astype(float) for rate in (0.6, 0.8, 0.7)]
    found = accuracy_variance([of_wins(one, group) for one in wins], ["t", "u", "v"])
    expected = sum(slow_variance(one.tolist(), group.tolist())[1] for one in wins) / 9
    assert found.variance[0] == pytest.approx(expected)
    sampled = accuracy_variance([of_wins(one, group) for one in wins], ["t", "u", "v"], shifts="sampled")
    assert sampled.variance[0] == pytest.approx(max(expected, np.var([one.mean() for one in wins], ddof=1) / 3))


def test_sampled_shifts_are_less_sure_than_fixed_ones_and_need_two_targets() -> None:
    generator = np.random.default_rng(4)
    apart = [clustered(generator, rate=rate) for rate in (0.3, 0.95, 0.9, 0.5)]
    fixed = mean_accuracy_interval(apart, list("tuvw"))
    sampled = mean_accuracy_interval(apart, list("tuvw"), shifts="sampled")
    assert fixed.value == sampled.value
    assert sampled.high - sampled.low > 2 * (fixed.high - fixed.low)
    assert fixed.p < 0.05 < sampled.p and sampled.low < 0.5 < fixed.low
    assert mean_accuracy_interval(apart[:1], ["t"], shifts="sampled").low is None


def test_fits_of_one_seed_are_taken_together_over_shifts() -> None:
    generator = np.random.default_rng(9)
    good = np.array([0.5, 0.6, 0.9, 0.95, 0.7])
    together = [of_wins((generator.random((5, 100)) < good[:, None]).astype(float), np.arange(100)) for _ in range(3)]
    turned = [
        Evaluation.of_fits(np.roll(one.fit_probabilities, turn, axis=0), group=one.group)
        for turn, one in enumerate(together)
    ]
    one_mean, other = mean_accuracy_interval(together, list("tuv")), mean_accuracy_interval(turned, list("tuv"))
    assert one_mean.value == pytest.approx(other.value)
    assert one_mean.high - one_mean.low > 1.4 * (other.high - other.low)
    mixed = mean_accuracy_interval([together[0], clustered(generator)], ["t", "u"])
    assert mixed.low < mixed.value < mixed.high


def test_a_mean_of_targets_all_right_is_the_exact_interval_of_their_prompts() -> None:
    right, wrong = (Evaluation(np.full(50, p), np.arange(50), np.arange(50)) for p in (0.9, 0.1))
    both = mean_accuracy_interval([right, right], ["t", "u"])
    assert both.low == pytest.approx(0.025 ** (1 / 100)) and both.high == 1
    apart = mean_accuracy_interval([right, wrong], ["t", "u"])
    assert apart.low == pytest.approx(0.5 - (1 - 0.025 ** (1 / 100)))
    some = mean_accuracy_interval([right, clustered(np.random.default_rng(0))], ["t", "u"])
    assert some.high - some.low > 0.05


def test_a_mean_over_shifts_takes_evaluations_that_skipped_different_prompts() -> None:
    whole = clustered(np.random.default_rng(4))
    part = Evaluation(whole.probabilities[30:], whole.example[30:], whole.group[30:])
    found = mean_accuracy_interval([whole, part], ["t", "t"])
    assert found.low < found.value < found.high
    assert mean_accuracy_interval([whole, Evaluation(np.full(4, 0.9))], ["t", "u"]).low is None
    with pytest.raises(BadInput, match="2 and 1 shifts"):
        mean_accuracy_interval([whole, whole], ["t"])


def test_intervals_over_prompts_cover_the_truth_and_those_over_pairs_do_not() -> None:
    generator = np.random.default_rng(0)
    by_prompt = [clustered(generator) for _ in range(500)]
    by_pair = [Evaluation(one.probabilities, None, np.arange(180)) for one in by_prompt]

    def coverage(evaluations: list[Evaluation]) -> float:
        return float(np.mean([low <= 0.7 <= high for low, high in map(accuracy_interval, evaluations)]))

    assert 0.93 <= coverage(by_prompt) <= 0.98
    assert coverage(by_pair) < 0.85


def test_a_p_value_of_certainty_is_small_and_finite() -> None:
    p = chance_p(Evaluation(np.full(5000, 0.9), np.arange(5000), np.arange(5000)))
    assert 0 < p <= 1e-14 and math.isfinite(p)
