"""Figures against theory, slow twins and other libraries."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_samples import PROBABILITIES, clustered

from repeng.errors import BadInput
from repeng.metrics import (
    Evaluation,
    accuracy_interval,
    auroc,
    brier,
    figure_inputs,
    figures_of,
    genies_rms_calibration_error,
    reliability_bins,
    rms_calibration_error,
)
from repeng.metrics.calibration import _gaps_of_bins, mean_rms_calibration_error


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


@settings(max_examples=60, deadline=None)
@given(PROBABILITIES, st.integers(1, 15))
def test_reliability_bins_are_to_the_bit_the_means_of_runs_cut_one_by_one(probabilities: np.ndarray, bins: int) -> None:
    confidence = np.maximum(probabilities, 1 - probabilities)
    right = (probabilities > 0.5) + 0.5 * (probabilities == 0.5)
    order = np.argsort(confidence, kind="stable")
    shared = np.array([right[confidence == sure].mean() for sure in confidence[order]])
    runs = [np.array_split(values, min(bins, len(order))) for values in (confidence[order], shared)]
    expected = [(sure.mean(), true.mean(), len(sure)) for sure, true in zip(*runs, strict=True)]
    assert [
        (one.confidence, one.accuracy, one.n_pairs) for one in reliability_bins(probabilities, bins=bins)
    ] == expected


@pytest.mark.parametrize("values", [2, 40, 10**9])
@pytest.mark.parametrize("n_pairs", [1, 7, 250])
def test_calibration_errors_of_several_fits_are_those_of_each_one_alone(n_pairs: int, values: int) -> None:
    by_fit = np.random.default_rng(n_pairs).integers(0, values + 1, (5, n_pairs)) / values
    assert mean_rms_calibration_error(by_fit) == np.mean([rms_calibration_error(one) for one in by_fit])
    number = np.arange(n_pairs)
    alone = [_gaps_of_bins(one[None], number // 2, n_pairs, 10) for one in by_fit]
    for found, apart in zip(_gaps_of_bins(by_fit, number // 2, n_pairs, 10), zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(apart, axis=-1))


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


@pytest.mark.parametrize("n_pairs", [150, 500])
def test_the_released_calibration_error_equals_its_slow_twin_where_bins_count(n_pairs: int) -> None:
    # Hypothesis draws few lists so long that a bin holds the 20 pairs that it needs.
    probabilities = np.random.default_rng(n_pairs).beta(4, 1.5, n_pairs)
    found = genies_rms_calibration_error(probabilities)
    assert found > 0
    assert found == pytest.approx(slow_genies_error(probabilities.tolist()), abs=1e-9)


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


def test_a_figure_is_blank_where_a_need_is_unknown_or_it_gives_nan_and_not_where_it_is_zero() -> None:
    found = figures_of(figure_inputs(Evaluation(np.full(15, 0.6)), capability=0.0))
    known = {name: value for name, value in found.items() if value is not None}
    assert known == pytest.approx(
        {"accuracy": 1, "target_tuned_capability": 0, "rms_calibration_error": 0.4, "brier": 0.16}
    )


def test_the_figures_of_a_row_hold_both_ends_of_its_interval() -> None:
    evaluation = clustered(np.random.default_rng(0))
    found = figures_of(figure_inputs(evaluation))
    assert (found["accuracy_low"], found["accuracy_high"]) == accuracy_interval(evaluation)


def test_the_figures_of_several_fits_are_means_over_fits() -> None:
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(3, 150, 2))
    probabilities = 1 / (1 + np.exp(scores[:, :, 1] - scores[:, :, 0]))
    evaluation = Evaluation.of_fits(probabilities, scores, example=np.arange(150), group=np.arange(150))
    found = figures_of(figure_inputs(evaluation))
    for name, figure in (
        ("brier", brier),
        ("rms_calibration_error", rms_calibration_error),
        ("genies_rms_calibration_error", genies_rms_calibration_error),
    ):
        assert found[name] == pytest.approx(np.mean([figure(one) for one in probabilities]))
    best = np.arange(300) < 150
    by_fit = [auroc(np.concatenate([one[:, 0], one[:, 1]]), best) for one in scores]
    assert found["auroc"] == pytest.approx(np.mean(by_fit))
