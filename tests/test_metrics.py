"""Figures against theory, slow twins and other libraries; intervals against what they promise."""

from __future__ import annotations

import logging
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repeng.errors import BadInput
from repeng.metrics import (
    Evaluation,
    accuracy,
    accuracy_interval,
    auroc,
    brier,
    correlation,
    differential_elicitation,
    elicitation,
    genies_rms_calibration_error,
    holm,
    mean_accuracy_interval,
    mean_over_shifts,
    mean_paired_difference,
    mistake_kappa,
    on_shared_examples,
    paired_difference,
    reliability_bins,
    rms_calibration_error,
)

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


# Evaluations


def test_a_tie_counts_half() -> None:
    evaluation = Evaluation(np.array([0.9, 0.5, 0.2, 0.500001]))
    assert evaluation.wins.tolist() == [1, 0.5, 0, 1]
    assert accuracy(evaluation) == evaluation.accuracy == 2.5 / 4


def test_a_reported_accuracy_stands_and_its_ties_are_credited_as_it_counts_them() -> None:
    probabilities = np.array([0.9, 0.5, 0.5, 0.1, 0.2])
    for reported, credit in ((0.2, [1, 0, 0, 0, 0]), (0.4, [1, 0.5, 0.5, 0, 0]), (0.6, [1, 1, 1, 0, 0])):
        evaluation = Evaluation(probabilities, reported_accuracy=reported)
        assert evaluation.accuracy == reported and evaluation.credit.tolist() == credit
    assert Evaluation(probabilities, reported_accuracy=0.8).credit is None
    assert Evaluation(reported_accuracy=0.8).credit is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "neither probabilities nor an accuracy"),
        ({"probabilities": np.array([])}, "no pair"),
        ({"probabilities": np.array([0.5, -0.1])}, "the probability of pair 1 is -0.1"),
        ({"probabilities": np.array([np.nan])}, "the probability of pair 0 is nan"),
        ({"probabilities": np.array([0.5]), "group": np.array([1, 2])}, "group has 2 rows, but there are 1 pairs"),
        ({"probabilities": np.array([0.5]), "scores": np.ones((1, 3))}, "two finite scores"),
        ({"probabilities": np.array([0.5]), "scores": np.array([[np.inf, 0]])}, "two finite scores"),
        ({"reported_accuracy": 0.5, "scores": np.ones((1, 2))}, "scores but no probabilities"),
        ({"reported_accuracy": 1.5}, "the reported accuracy is 1.5"),
    ],
)
def test_an_impossible_evaluation_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        Evaluation(**fields)


def test_a_bare_accuracy_has_no_pairs_to_ask() -> None:
    bare = Evaluation(reported_accuracy=0.5)
    assert bare.n_pairs is bare.n_prompts is bare.response_scores is None
    with pytest.raises(BadInput, match="bare accuracy"):
        _ = bare.wins


def test_each_response_is_scored_once_however_many_pairs_share_it() -> None:
    scores = np.array([[3.0, 1], [3, 2], [5, 4], [3, 0]])
    evaluation = Evaluation(np.full(4, 0.6), example=np.array([0, 0, 9, 4]), scores=scores)
    found, best = evaluation.response_scores
    assert sorted(found[best]) == [3, 3, 5] and sorted(found[~best]) == [0, 1, 2, 4]
    assert Evaluation(np.full(4, 0.6), scores=scores).response_scores is None


# Figures


def test_elicitation_and_differential_elicitation_follow_their_formulas() -> None:
    assert elicitation(0.6, 0.8) == pytest.approx(0.75)
    assert differential_elicitation(0.6, 0.4, 0.8) == pytest.approx(0.25)
    for attempt in (lambda: elicitation(0.6, 0.0), lambda: differential_elicitation(0.6, 0.4, 0.0)):
        with pytest.raises(BadInput, match=r"capability is 0\.0"):
            attempt()


def test_brier_of_perfect_undecided_and_worst() -> None:
    assert [brier(np.full(7, p)) for p in (1.0, 0.5, 0.0)] == [0, 0.25, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({best for _, best in rows}) == 2
    )
)
def test_auroc_equals_that_of_scikit_learn_with_ties(rows: list[tuple[int, bool]]) -> None:
    from sklearn.metrics import roc_auc_score

    scores, best = np.array([s for s, _ in rows], dtype=float), np.array([b for _, b in rows])
    assert auroc(scores, best) == pytest.approx(roc_auc_score(best, scores), abs=1e-12)


def test_auroc_of_equal_scores_is_a_half_and_of_one_class_is_refused() -> None:
    assert auroc(np.zeros(9), np.arange(9) < 4) == 0.5
    with pytest.raises(BadInput, match="9 best and 0 worse"):
        auroc(np.zeros(9), np.ones(9, dtype=bool))


def slow_rms_calibration_error(probabilities: list[float], bins: int) -> float:
    """Sort by confidence, share wins among equal confidences, cut into runs, sum up: one step after another."""
    pairs = [(max(p, 1 - p), 1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0) for p in probabilities]
    shared = []
    for confidence, _ in pairs:
        alike = [right for other, right in pairs if other == confidence]
        shared.append((confidence, sum(alike) / len(alike)))
    shared.sort()
    bins = min(bins, len(shared))
    small, larger = divmod(len(shared), bins)
    total, start = 0.0, 0
    for number in range(bins):
        size = small + (number < larger)
        run = shared[start : start + size]
        start += size
        total += size * (sum(r for _, r in run) / size - sum(c for c, _ in run) / size) ** 2
    return math.sqrt(total / len(shared))


@settings(max_examples=60, deadline=None)
@given(PROBABILITIES, st.integers(1, 15))
def test_calibration_error_equals_its_slow_twin(probabilities: np.ndarray, bins: int) -> None:
    expected = slow_rms_calibration_error(probabilities.tolist(), bins)
    assert rms_calibration_error(probabilities, bins=bins) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(PROBABILITIES, st.randoms(use_true_random=False))
def test_calibration_error_does_not_hang_on_the_order_of_pairs(probabilities: np.ndarray, order: random.Random) -> None:
    shuffled = probabilities.tolist()
    order.shuffle(shuffled)
    assert rms_calibration_error(np.array(shuffled)) == pytest.approx(rms_calibration_error(probabilities), abs=1e-12)


def test_calibration_error_is_small_when_calibrated_and_the_gap_when_not() -> None:
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.5, 1, 50_000)
    calibrated = np.where(generator.random(50_000) < sure, sure, 1 - sure)
    assert rms_calibration_error(calibrated) < 0.01
    assert rms_calibration_error(np.array([0.9] * 60 + [0.1] * 40)) == pytest.approx(0.3)
    assert rms_calibration_error(np.full(50, 0.5)) == 0


def test_reliability_bins_hold_equal_mass_in_order_of_confidence() -> None:
    found = reliability_bins(np.random.default_rng(0).random(103), bins=10)
    assert sorted(one.n_pairs for one in found) == [10] * 7 + [11] * 3
    assert [one.confidence for one in found] == sorted(one.confidence for one in found)
    assert len(reliability_bins(np.array([0.2, 0.9]), bins=10)) == 2


def slow_genies_error(probabilities: list[float]) -> float:
    """The released rule as GENIES.md tells it, pair by pair."""
    coin = random.Random(42)
    labels = [coin.choice([0, 1]) for _ in probabilities]
    turned = [p if label == 1 else 1 - p for p, label in zip(probabilities, labels, strict=True)]
    edges = [float(edge) for edge in np.linspace(0, 1, 6)]
    squares = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = [q for q in turned if low <= q < high]
        if len(inside) >= 20:
            squares.append((sum(labels) / len(labels) - sum(inside) / len(inside)) ** 2)
    return math.sqrt(sum(squares) / len(squares)) if squares else math.nan


@settings(max_examples=60, deadline=None)
@given(PROBABILITIES)
def test_the_released_calibration_error_equals_its_slow_twin(probabilities: np.ndarray) -> None:
    expected = slow_genies_error(probabilities.tolist())
    assert genies_rms_calibration_error(probabilities) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_the_released_calibration_error_leaves_the_process_seed_alone_and_drops_certainty() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    genies_rms_calibration_error(np.linspace(0, 1, 200))
    assert random.random() == expected
    certain = np.ones(200)  # q is 1, which falls out, or 0: only the lowest bin is left
    coin = random.Random(42)
    assert genies_rms_calibration_error(certain) == np.mean([coin.choice([0, 1]) for _ in range(200)])
    assert math.isnan(genies_rms_calibration_error(np.full(19, 0.3)))


@pytest.mark.parametrize("figure", [brier, rms_calibration_error, genies_rms_calibration_error, reliability_bins])
def test_a_figure_of_no_pair_is_refused(figure: object) -> None:
    with pytest.raises(BadInput, match="no pair"):
        figure(np.array([]))


# Intervals


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


def coverage(evaluations: list[Evaluation], truth: float) -> float:
    intervals = [accuracy_interval(one, resamples=400) for one in evaluations]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def test_intervals_over_prompts_cover_the_truth_and_those_over_pairs_do_not() -> None:
    generator = np.random.default_rng(0)
    by_prompt = [clustered(generator) for _ in range(500)]
    by_pair = [Evaluation(one.probabilities, None, np.arange(180)) for one in by_prompt]
    assert 0.92 <= coverage(by_prompt, 0.7) <= 0.98
    assert coverage(by_pair, 0.7) < 0.85


def test_an_interval_is_the_same_for_the_same_seed_and_moves_with_level() -> None:
    evaluation = clustered(np.random.default_rng(1))
    first, narrow = accuracy_interval(evaluation), accuracy_interval(evaluation, level=0.5)
    assert first == accuracy_interval(evaluation) != accuracy_interval(evaluation, seed=1)
    assert first[0] < narrow[0] < evaluation.accuracy < narrow[1] < first[1]


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


def test_an_interval_needs_a_resample_and_a_level_between_0_and_1() -> None:
    evaluation = clustered(np.random.default_rng(0))
    with pytest.raises(BadInput, match="0 resamples"):
        accuracy_interval(evaluation, resamples=0)
    with pytest.raises(BadInput, match="level is 95.0"):
        accuracy_interval(evaluation, level=95.0)


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


# Comparison of two methods


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


def test_two_methods_are_cut_to_the_examples_that_both_hold_whole() -> None:
    a = Evaluation(np.array([0.9, 0.9, 0.1, 0.8]), np.array([0, 0, 1, 2]), np.array([5, 5, 6, 7]))
    b = Evaluation(np.array([0.2, 0.3, 0.7]), np.array([0, 1, 2]), np.array([5, 6, 7]), np.ones((3, 2)))
    one, other, dropped = on_shared_examples(a, b)
    assert one.probabilities.tolist() == [0.1, 0.8] and other.probabilities.tolist() == [0.3, 0.7]
    assert one.group.tolist() == other.group.tolist() == [6, 7] and other.scores.shape == (2, 2)
    assert dropped == 1 and paired_difference(one, other).value == 0
    same = on_shared_examples(a, a)
    assert same == (a, a, 0)


def test_cutting_keeps_how_a_foreign_file_counts_ties_and_refuses_what_it_cannot_tell() -> None:
    example = np.arange(3)
    right = Evaluation(np.array([0.5, 0.5, 0.1]), example, reported_accuracy=2 / 3)
    other = Evaluation(np.array([0.1, 0.2]), np.array([1, 2]))
    assert on_shared_examples(right, other)[0].accuracy == 0.5
    with pytest.raises(BadInput, match="stated accuracy does not follow"):
        on_shared_examples(Evaluation(right.probabilities, example, reported_accuracy=0.9), other)
    with pytest.raises(BadInput, match="which example"):
        on_shared_examples(Evaluation(right.probabilities), other)
    with pytest.raises(BadInput, match="share no example"):
        on_shared_examples(Evaluation(np.array([0.5]), np.array([8])), other)


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


def test_means_over_shifts_keep_repeats_count_blanks_and_follow_the_order_of_rows() -> None:
    def row(label: str, value: float | None) -> SimpleNamespace:
        return SimpleNamespace(model="m", method="mms", label=label, category="c", accuracy=value)

    rows = [row("probing", 0.2), row("extreme", 0.9), row("probing", 0.2), row("probing", 0.8), row("extreme", None)]
    means = mean_over_shifts(rows)
    assert list(means) == [("m", "mms", "probing"), ("m", "mms", "extreme")]
    probing, extreme = means.values()
    assert (probing.value, probing.n_shifts, probing.n_blank) == (pytest.approx(0.4), 3, 0)
    assert (extreme.value, extreme.n_shifts, extreme.n_blank) == (0.9, 1, 1)
    assert mean_over_shifts([row("x", None)], by=())[()].value is None
    assert set(mean_over_shifts(rows, by=("category",))) == {("c",)}
    with pytest.raises(BadInput, match="no column 'acuracy'"):
        mean_over_shifts(rows, "acuracy")
