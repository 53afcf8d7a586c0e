"""Pseudo-values of AUROC and average precision, and thresholds, against scikit-learn, loops and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repeng.errors import BadInput
from repeng.metrics import threshold_at
from repeng.metrics.ranking import (
    auroc_values,
    average_precision,
    average_precision_values,
    class_mean_values,
    placements,
)

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def parted(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in rows], dtype=float), np.array([label for _, label in rows])


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_the_mean_pseudo_value_of_the_auroc_is_that_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    from sklearn.metrics import roc_auc_score

    scores, labels = parted(rows)
    assert auroc_values(scores, labels).mean() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_a_placement_is_the_share_of_the_other_label_that_a_text_is_ranked_rightly_against(
    rows: list[tuple[int, bool]],
) -> None:
    scores, labels = parted(rows)
    for place, (score, label) in enumerate(rows):
        others = [other if label else -other for other, its in rows if its != label]
        own = score if label else -score
        expected = sum((own > other) + 0.5 * (own == other) for other in others) / len(others)
        assert placements(scores, labels)[place] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_average_precision_is_that_of_scikit_learn_with_ties(rows: list[tuple[int, bool]]) -> None:
    from sklearn.metrics import average_precision_score

    scores, labels = parted(rows)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "figure"), [(auroc_values, "roc_auc_score"), (average_precision_values, "average_precision_score")]
)
def test_a_pseudo_value_is_what_more_weight_on_a_text_does(values: object, figure: str) -> None:
    import sklearn.metrics

    generator = np.random.default_rng(0)
    labels = generator.random(30) < 0.3
    scores = generator.normal(size=30).round(1) + labels
    found, step = values(scores, labels), 1e-6
    score_of = getattr(sklearn.metrics, figure)
    plain = score_of(labels, scores)
    for place in range(30):
        weights = np.ones(30)
        weights[place] += step
        slope = (score_of(labels, scores, sample_weight=weights) - plain) / step
        assert found[place] == pytest.approx(plain + 30 * slope, abs=1e-3)


def test_fits_and_layers_ride_along() -> None:
    generator = np.random.default_rng(1)
    scores, labels = generator.normal(size=(2, 3, 25)), np.arange(25) < 9
    for values in (auroc_values, average_precision_values, class_mean_values):
        found = values(scores, labels)
        assert found.shape == scores.shape
        assert found[1, 2] == pytest.approx(values(scores[1, 2], labels), abs=1e-12)


def test_pseudo_values_of_balanced_accuracy_average_to_the_mean_over_labels() -> None:
    right, labels = np.array([1.0, 0.0, 1.0, 1.0, 0.5]), np.array([True, True, False, False, False])
    assert class_mean_values(right, labels).mean() == pytest.approx((1 / 2 + 2.5 / 3) / 2)


@pytest.mark.parametrize("values", [auroc_values, average_precision_values, class_mean_values, placements])
def test_texts_of_one_label_are_refused(values: object) -> None:
    with pytest.raises(BadInput, match="4 of 4 texts have the label"):
        values(np.zeros(4), np.ones(4, dtype=bool))


@pytest.mark.parametrize(
    ("scores", "rate", "expected"),
    [
        (range(1, 101), 0.01, 99),  # one of a hundred, 100, is above
        (range(1, 101), 0.05, 95),
        (range(1, 301), 0.01, 297),  # three of three hundred
        (range(1, 100), 0.01, 99),  # under a hundred: none is above
        ([1, 2, 3, 3, 3], 0.4, 3),  # to be above 2 would flag three of five
        ([1, 2, 3, 3], 0.5, 2),
        ([7], 0.05, 7),
        ([1, 2, 3], 0.0, 3),
    ],
)
def test_a_threshold_counted_by_hand(scores: object, rate: float, expected: float) -> None:
    assert threshold_at(np.array(list(scores), dtype=float), rate) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_a_threshold_is_the_lowest_score_that_keeps_to_the_rate(scores: list[int], rate: float) -> None:
    kept = [one for one in scores if sum(other > one for other in scores) <= rate * len(scores) + 1e-9]
    assert threshold_at(np.array(scores, dtype=float), rate) == min(kept)


def test_a_threshold_of_nothing_or_at_no_rate_is_refused() -> None:
    with pytest.raises(BadInput, match="0 negatives"):
        threshold_at(np.array([]), 0.01)
    with pytest.raises(BadInput, match="one finite score"):
        threshold_at(np.array([1.0, np.nan]), 0.01)
    with pytest.raises(BadInput, match=r"the rate of false positives is 1\.0"):
        threshold_at(np.zeros(3), 1.0)
