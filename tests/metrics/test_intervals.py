"""Intervals against what they promise."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
from metric_samples import clustered, from_wins, paired_difference

from repeng.errors import BadInput
from repeng.metrics import Evaluation, accuracy_interval, mean_accuracy_interval
from repeng.metrics.resampling import weighted_means


def slow_interval(evaluation: Evaluation, *, seed: int, resamples: int) -> tuple[float, float]:
    """Draw whole prompts with replacement, one after another."""
    chance = random.Random(seed)
    prompts = sorted(set(evaluation.group.tolist()))
    wins = {prompt: evaluation.wins[evaluation.group == prompt].tolist() for prompt in prompts}
    means = []
    for _ in range(resamples):
        drawn = [win for prompt in chance.choices(prompts, k=len(prompts)) for win in wins[prompt]]
        means.append(sum(drawn) / len(drawn))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def test_the_interval_equals_that_of_a_plain_loop_up_to_chance() -> None:
    generator = np.random.default_rng(5)
    group = np.sort(generator.integers(0, 50, 160))
    evaluation = Evaluation(generator.choice([0.1, 0.5, 0.8], size=160), group, group)
    fast = accuracy_interval(evaluation, resamples=20_000)
    assert fast == pytest.approx(slow_interval(evaluation, seed=1, resamples=5_000), abs=0.006)


def repeated_prompts(n_prompts: int = 40, examples: int = 5) -> Evaluation:
    """Several examples share each prompt and its verdict, so that drawing examples would halve the interval."""
    example = np.arange(n_prompts * examples)
    right = np.random.default_rng(6).random(n_prompts) < 0.7
    return Evaluation(np.where(np.repeat(right, examples), 0.9, 0.1), example, example // examples)


def test_prompts_are_drawn_where_several_examples_share_each() -> None:
    evaluation = repeated_prompts()
    slow = slow_interval(evaluation, seed=1, resamples=5_000)
    by_example = Evaluation(evaluation.probabilities, evaluation.example, evaluation.example)
    of_examples = slow_interval(by_example, seed=1, resamples=5_000)
    assert slow[1] - slow[0] > 2 * (of_examples[1] - of_examples[0])
    assert accuracy_interval(evaluation, resamples=20_000) == pytest.approx(slow, abs=0.02)
    mean = mean_accuracy_interval([evaluation], ["t"], resamples=20_000)
    assert (mean.low, mean.high) == pytest.approx(slow, abs=0.02)
    lost = Evaluation(np.zeros(len(evaluation.wins)), evaluation.example, evaluation.group)
    difference = paired_difference(evaluation, lost, resamples=20_000, permutations=10)
    assert (difference.low, difference.high) == pytest.approx(slow, abs=0.02)


def test_a_resample_of_one_pair_is_that_pair_and_one_of_no_pair_is_the_mean() -> None:
    draws = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    means = weighted_means(np.array([1.0, 1.0, 0.4]), np.array([0, 0, 1]), draws)
    assert means == pytest.approx([4.4 / 5, 0.4, 0.8])


def coverage(evaluations: list[Evaluation], truth: float) -> float:
    intervals = [accuracy_interval(one, resamples=400) for one in evaluations]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def test_intervals_over_prompts_cover_the_truth_and_those_over_pairs_do_not() -> None:
    generator = np.random.default_rng(0)
    by_prompt = [clustered(generator) for _ in range(500)]
    by_pair = [Evaluation(one.probabilities, None, np.arange(180)) for one in by_prompt]
    assert 0.92 <= coverage(by_prompt, 0.7) <= 0.98
    assert coverage(by_pair, 0.7) < 0.85


def test_an_interval_is_the_same_for_the_same_seed() -> None:
    evaluation = clustered(np.random.default_rng(1))
    first = accuracy_interval(evaluation)
    assert first == accuracy_interval(evaluation) != accuracy_interval(evaluation, seed=1)
    assert first[0] < evaluation.accuracy < first[1]


@pytest.mark.parametrize("n_groups", [2, 40])
def test_an_interval_of_all_right_or_all_wrong_is_the_exact_binomial_one(n_groups: int) -> None:
    from scipy.stats import binomtest

    group = np.repeat(np.arange(n_groups), 2)
    for probability, wins in ((0.9, n_groups), (0.1, 0)):
        exact = binomtest(wins, n_groups).proportion_ci(0.95, "exact")
        interval = accuracy_interval(Evaluation(np.full(2 * n_groups, probability), group, group))
        assert interval == pytest.approx((exact.low, exact.high))
    assert accuracy_interval(Evaluation(np.full(2 * n_groups, 0.5), group, group)) == (0.5, 0.5)


def test_no_interval_without_groups_without_pairs_or_with_one_group() -> None:
    assert accuracy_interval(Evaluation(np.linspace(0, 1, 9), example=np.arange(9))) is None
    assert accuracy_interval(Evaluation(reported_accuracy=0.5)) is None
    assert accuracy_interval(from_wins(1, 0, 1, group=[3, 3, 3])) is None
    groups = np.arange(4)
    assert accuracy_interval(Evaluation(np.array([0.9, 0.9, 0.1, 0.1]), groups, groups, reported_accuracy=0.9)) is None


def test_under_thirty_prompts_examples_are_resampled_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    generator = np.random.default_rng(2)
    probabilities, example = generator.random(100), np.arange(100)
    one_prompt = accuracy_interval(Evaluation(probabilities, example, np.zeros(100, dtype=int)))
    assert one_prompt == accuracy_interval(Evaluation(probabilities, example, example))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "only 1 prompt groups in 100 examples" in caplog.text


def test_an_interval_needs_a_resample() -> None:
    evaluation = clustered(np.random.default_rng(0))
    with pytest.raises(BadInput, match="0 resamples"):
        accuracy_interval(evaluation, resamples=0)


def test_a_mean_over_shifts_gains_certainty_by_new_targets_and_none_by_repeats() -> None:
    generator = np.random.default_rng(3)
    a, b = clustered(generator, n_groups=200), clustered(generator, n_groups=200)
    alone, repeated = mean_accuracy_interval([a], ["t"]), mean_accuracy_interval([a, a, a], ["t", "t", "t"])
    assert repeated.value == pytest.approx(alone.value)
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))
    assert (alone.low, alone.high) == accuracy_interval(a)
    two = mean_accuracy_interval([a, b], ["t", "u"], resamples=8000)
    assert two.value == pytest.approx((a.accuracy + b.accuracy) / 2)
    assert (two.high - two.low) / (alone.high - alone.low) == pytest.approx(2**-0.5, rel=0.12)


def test_a_mean_over_shifts_takes_evaluations_that_skipped_different_prompts() -> None:
    whole = clustered(np.random.default_rng(4))
    part = Evaluation(whole.probabilities[30:], whole.example[30:], whole.group[30:])
    found = mean_accuracy_interval([whole, part], ["t", "t"])
    assert found.low < found.value < found.high
    assert mean_accuracy_interval([whole, Evaluation(np.full(4, 0.9))], ["t", "u"]).low is None
    with pytest.raises(BadInput, match="2 and 1 shifts"):
        mean_accuracy_interval([whole, whole], ["t"])
