"""Figures of labelled texts against scikit-learn, counts by hand, and the intervals of pairs that say the same."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from text_samples import texts_of

from repeng.metrics import (
    Evaluation,
    TextEvaluation,
    TextFigures,
    accuracy_at_threshold,
    accuracy_interval,
    average_precision_of,
    balanced_accuracy,
    brier_of,
    false_positives_at_1,
    false_positives_at_5,
    figure_inputs,
    figures_of,
    recall_at_1,
    recall_at_5,
    threshold_at,
)
from repeng.metrics.text_figures import TEXT_ESTIMATES


@pytest.fixture
def one_fit() -> TextEvaluation:
    return texts_of(np.random.default_rng(0), n_groups=60, digits=6)


@pytest.fixture
def three_fits() -> TextEvaluation:
    return texts_of(np.random.default_rng(1), n_groups=60, fits=3)


def said(evaluation: TextEvaluation, fit: int = 0) -> np.ndarray:
    """The probability that each text has the label."""
    own = evaluation.fits[fit].probabilities
    return np.where(evaluation.labels, own, 1 - own)


def ends(estimate: object) -> tuple[float, float]:
    return estimate.low, estimate.high


def test_figures_of_one_fit_are_those_of_scikit_learn(one_fit: TextEvaluation) -> None:
    from sklearn import metrics

    labels, positive, scores = one_fit.labels, said(one_fit), one_fit.text_scores[0]
    flagged = positive > 0.5
    assert accuracy_at_threshold(one_fit).value == pytest.approx(metrics.accuracy_score(labels, flagged))
    assert balanced_accuracy(one_fit).value == pytest.approx(metrics.balanced_accuracy_score(labels, flagged))
    assert average_precision_of(one_fit).value == pytest.approx(metrics.average_precision_score(labels, scores))
    assert brier_of(one_fit).value == pytest.approx(metrics.brier_score_loss(labels, positive))
    above = scores > one_fit.thresholds[0, 0]
    assert recall_at_1(one_fit).value == pytest.approx(metrics.recall_score(labels, above))
    assert false_positives_at_1(one_fit) == pytest.approx(1 - metrics.recall_score(~labels, ~above))
    found = figures_of(figure_inputs(one_fit))
    assert found["auroc"] == found["accuracy"] == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(labels, positive))


def test_the_calibration_error_is_that_of_the_answer_that_the_method_gives(one_fit: TextEvaluation) -> None:
    positive = said(one_fit)
    given = sorted(
        (max(p, 1 - p), float((p > 0.5) == label)) for p, label in zip(positive, one_fit.labels, strict=True)
    )
    square = 0.0
    for start in range(0, len(given), 18):
        sure, right = np.array(given[start : start + 18]).T
        square += 18 / len(given) * (right.mean() - sure.mean()) ** 2
    assert len(given) == 180
    found = figures_of(figure_inputs(one_fit))
    assert found["rms_calibration_error"] == pytest.approx(math.sqrt(square))
    assert found["rms_calibration_error_debiased"] is not None


def test_recall_at_one_percent_counted_by_hand() -> None:
    benign = np.arange(1.0, 201.0)  # of two hundred, two may be above: 199 and 200
    threshold = threshold_at(benign, 0.01)
    assert threshold == 198
    labels = np.array([True] * 5 + [False] * 4)
    scores = np.array([[197, 198, 199, 300, 5, 198, 199, 0, 1]], dtype=float)
    evaluation = TextEvaluation.of_scores(
        scores, labels, group=np.arange(9), thresholds=np.array([[threshold, threshold_at(benign, 0.05)]])
    )
    assert recall_at_1(evaluation).value == pytest.approx(2 / 5)  # 199 and 300; 198 is not above 198
    assert false_positives_at_1(evaluation) == pytest.approx(1 / 4)
    assert recall_at_5(evaluation).value == pytest.approx(4 / 5) and false_positives_at_5(evaluation) == 0.5
    from scipy.stats import binomtest

    exact = binomtest(2, 5).proportion_ci(method="exact")
    assert ends(recall_at_1(evaluation)) == pytest.approx((exact.low, exact.high))


def test_each_fit_has_a_threshold_of_its_own() -> None:
    labels = np.array([True, True, False, False])
    scores = np.array([[3.0, 1, 2, 0], [30, 10, 20, 0]])
    evaluation = TextEvaluation.of_scores(scores, labels, thresholds=np.array([[2.0, 0.5], [5, 0]]))
    assert recall_at_1(evaluation).value == (0.5 + 1) / 2 and false_positives_at_1(evaluation) == (0 + 0.5) / 2
    assert recall_at_1(evaluation).low is None, "groups are unknown"


@pytest.mark.parametrize("fits", [1, 3])
def test_shares_have_the_intervals_that_pairs_with_the_same_verdicts_have(fits: int) -> None:
    evaluation = texts_of(np.random.default_rng(2), n_groups=60, fits=fits)
    own = np.array([one.probabilities for one in evaluation.fits])
    pairs = Evaluation.of_fits(own, example=evaluation.example, group=evaluation.group)
    found = accuracy_at_threshold(evaluation)
    assert found.value == pytest.approx(pairs.accuracy) and ends(found) == pytest.approx(accuracy_interval(pairs))
    flagged = (evaluation.text_scores > evaluation.thresholds[:, :1])[:, evaluation.labels] * 1.0
    group = evaluation.group[evaluation.labels]
    positives = Evaluation.of_fits(flagged, example=np.arange(len(group)), group=group)
    assert len(np.unique(group)) > 30
    assert ends(recall_at_1(evaluation)) == pytest.approx(accuracy_interval(positives))


def test_balanced_accuracy_of_independent_labels_adds_their_variances() -> None:
    labels = np.arange(400) % 2 == 0
    right = np.random.default_rng(3).random(400) < np.where(labels, 0.7, 0.9)
    own = np.where(right, 0.8, 0.2)
    evaluation = TextEvaluation(own, labels=labels, text_scores=own[None], group=np.arange(400))
    found = balanced_accuracy(evaluation)
    shares = [right[labels].mean(), right[~labels].mean()]
    error = math.sqrt(sum(share * (1 - share) / 200 for share in shares)) / 2
    assert found.value == pytest.approx(np.mean(shares))
    assert found.high - found.low == pytest.approx(2 * 1.97 * error, rel=0.08)


def test_balanced_accuracy_that_is_perfect_is_as_sure_as_both_labels_allow() -> None:
    labels = np.arange(100) < 10
    own = np.full(100, 0.9)
    evaluation = TextEvaluation(own, labels=labels, text_scores=(labels * 1.0)[None], group=np.arange(100))
    reach = [1 - 0.025 ** (1 / count) for count in (10, 90)]
    assert ends(balanced_accuracy(evaluation)) == pytest.approx((1 - math.hypot(*reach) / 2, 1.0))


def test_the_interval_of_average_precision_is_as_wide_as_its_jackknife() -> None:
    from sklearn.metrics import average_precision_score

    evaluation = texts_of(np.random.default_rng(4), n_groups=200, size=2, apart=0.7, digits=6)
    labels, scores, group = evaluation.labels, evaluation.text_scores[0], evaluation.group
    left = [average_precision_score(labels[group != one], scores[group != one]) for one in range(200)]
    error = math.sqrt(199 / 200 * np.sum((left - np.mean(left)) ** 2))
    found = average_precision_of(evaluation)
    assert found.high - found.low == pytest.approx(2 * 1.97 * error, rel=0.08)


def test_figures_of_several_fits_are_means_over_fits(three_fits: TextEvaluation) -> None:
    for figure in (*TEXT_ESTIMATES.values(), false_positives_at_1, false_positives_at_5):
        found, alone = figure(three_fits), [figure(one) for one in three_fits.fits]
        if found is not None and not isinstance(found, float):
            assert found.low < found.value < found.high
            found, alone = found.value, [one.value for one in alone]
        if found is not None:
            assert found == pytest.approx(np.mean(alone))


def test_texts_without_groups_thresholds_or_probabilities_have_blanks() -> None:
    evaluation = replace(texts_of(np.random.default_rng(5)), thresholds=None, probabilities=None, group=None)
    found = figures_of(figure_inputs(evaluation))
    known = {name for name, value in found.items() if value is not None}
    assert known == {"accuracy", "auroc", "average_precision"}


def test_the_columns_of_texts_are_blank_of_pairs_and_filled_of_texts(one_fit: TextEvaluation) -> None:
    names = [figure.name for figure in fields(TextFigures)]
    pairs = Evaluation(one_fit.probabilities, one_fit.example, one_fit.group)
    assert {figures_of(figure_inputs(pairs))[name] for name in names} == {None}
    found = figures_of(figure_inputs(replace(one_fit, pairs=pairs)))
    assert None not in [found[name] for name in names]
    assert (found["pair_accuracy"], found["pair_accuracy_low"]) == (pairs.accuracy, accuracy_interval(pairs)[0])
    assert found["genies_rms_calibration_error"] is None, "it is of pairs that are turned round"
    for name, estimate in TEXT_ESTIMATES.items():
        made = estimate(replace(one_fit, pairs=pairs))
        assert found[name] == pytest.approx(made.value)
        assert (found[f"{name}_low"], found[f"{name}_high"]) == ends(made)


def test_few_groups_are_warned_of_once_and_not_for_every_figure(caplog: pytest.LogCaptureFixture) -> None:
    texts = texts_of(np.random.default_rng(3), n_groups=10, size=8)
    figures_with_intervals = [estimate(texts) for estimate in TEXT_ESTIMATES.values()]
    assert sum(found is not None and found.low is not None for found in figures_with_intervals) > 3
    assert caplog.text.count("only 10 prompt groups in 80 examples") == 1
    assert texts.units is texts.units
