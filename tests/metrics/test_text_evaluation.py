"""Evaluations of labelled texts: AUROC with DeLong's and Obuchowski's variance, wherever an Evaluation goes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from text_samples import texts_of

from repeng.errors import BadInput
from repeng.metrics import (
    Evaluation,
    TextEvaluation,
    accuracy_interval,
    accuracy_intervals,
    auroc_values,
    chance_p,
    debiased_calibration_error,
    elicitation_interval,
    fits_disagree,
    mean_accuracy_interval,
    mean_paired_difference,
    mistake_kappa,
    null_p,
)
from repeng.metrics.intervals import variance_of


def win(score: float, other: float) -> float:
    return (score > other) + 0.5 * (score == other)


def delong(scores: np.ndarray, others: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """AUROC of the first and covariance of both, as DeLong et al. (1988) have it: one kernel after another."""
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    areas, of_positive, of_negative = [], [], []
    for one in (scores, others):
        kernel = np.array([[win(one[i], one[j]) for j in negative] for i in positive])
        areas.append(kernel.mean())
        of_positive.append(kernel.mean(axis=1) - kernel.mean())
        of_negative.append(kernel.mean(axis=0) - kernel.mean())
    m, n = len(positive), len(negative)
    covariance = (of_positive[0] @ of_positive[1]) / (m * (m - 1)) + (of_negative[0] @ of_negative[1]) / (n * (n - 1))
    return areas[0], covariance


def balanced(generator: np.random.Generator, apart: float = 0.5) -> TextEvaluation:
    """As many texts of either label, each a group of its own."""
    labels = np.arange(60) % 2 == 0
    scores = generator.normal(size=60).round(1) + apart * labels
    return TextEvaluation.of_scores(scores[None], labels, group=np.arange(60))


def test_the_variance_of_an_auroc_is_delongs() -> None:
    evaluation = balanced(np.random.default_rng(0))
    area, variance = delong(evaluation.text_scores[0], evaluation.text_scores[0], evaluation.labels)
    assert evaluation.accuracy == pytest.approx(area)
    assert variance_of(evaluation).variance[0] == pytest.approx(variance)


def test_the_variance_of_a_difference_of_aurocs_is_delongs_of_paired_ones() -> None:
    a, b = balanced(np.random.default_rng(0)), balanced(np.random.default_rng(1), 0.2)
    b = replace(b, text_scores=b.text_scores + a.text_scores)
    (one, of_one), (other, of_other) = (delong(*[e.text_scores[0]] * 2, a.labels) for e in (a, b))
    shared = delong(a.text_scores[0], b.text_scores[0], a.labels)[1]
    found = mean_paired_difference([a], [b], ["the target"])
    assert found.value == pytest.approx(one - other)
    reach = 2.0 * np.sqrt(of_one + of_other - 2 * shared)
    assert found.low < found.value - 0.95 * reach and found.high > found.value + 0.95 * reach
    assert found.high - found.low < 2.6 * reach


def of_one_label(evaluation: TextEvaluation) -> TextEvaluation:
    """The same scores, with one label a group, so that a group's texts err alike."""
    return replace(evaluation, labels=evaluation.group % 3 == 0)


def test_texts_of_a_group_vary_together_as_obuchowski_has_it() -> None:
    evaluation = of_one_label(texts_of(np.random.default_rng(2), n_groups=50, size=4))
    scores, labels, group = evaluation.text_scores[0], evaluation.labels, evaluation.group
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    area, total = evaluation.accuracy, 0.0
    for one in range(50):
        own = 0.0
        for i in positive[group[positive] == one]:
            own += (np.mean([win(scores[i], scores[j]) for j in negative]) - area) / len(positive)
        for j in negative[group[negative] == one]:
            own += (np.mean([win(scores[i], scores[j]) for i in positive]) - area) / len(negative)
        total += own**2
    n_rarer = min(len(np.unique(group[positive])), len(np.unique(group[negative])))
    found, independent = variance_of(evaluation), variance_of(replace(evaluation, group=np.arange(200), example=None))
    expected = total * n_rarer / (n_rarer - 1)
    assert found.prompts[0] == pytest.approx(
        max(expected, float(np.sum(off_texts(evaluation) ** 2)) * n_rarer / (n_rarer - 1))
    )
    assert found.prompts[0] != pytest.approx(independent.prompts[0])


def off_texts(evaluation: TextEvaluation) -> np.ndarray:
    return (evaluation.fit_wins[0] - evaluation.accuracy) / evaluation.n_texts


def test_the_rarer_label_limits_the_interval() -> None:
    labels = np.arange(100) < 4
    apart = TextEvaluation.of_scores((labels * 1.0)[None], labels, group=np.arange(100))
    low, high = accuracy_interval(apart)
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 4))
    one_group = replace(apart, group=np.maximum(np.arange(100), 3))
    assert accuracy_interval(one_group) is None and mean_accuracy_interval([one_group], ["t"]).low is None
    assert accuracy_intervals(one_group.fit_wins[None], one_group) == [None]


def test_several_fits_are_averaged_and_their_differences_counted() -> None:
    evaluation = texts_of(np.random.default_rng(3), fits=3)
    assert evaluation.n_fits == 3 and len(evaluation.fits) == 3
    assert evaluation.accuracy == pytest.approx(np.mean([one.accuracy for one in evaluation.fits]))
    assert evaluation.fit_wins.mean(axis=1) == pytest.approx([one.accuracy for one in evaluation.fits])
    assert not fits_disagree(evaluation)
    turned = replace(evaluation, text_scores=evaluation.text_scores * np.array([[1.0], [1.0], [-1.0]]))
    assert fits_disagree(turned)
    width, wide = (np.ptp(accuracy_interval(one)) for one in (evaluation, turned))
    assert wide > 3 * width


def test_layers_have_the_intervals_that_they_have_alone() -> None:
    evaluation = texts_of(np.random.default_rng(4), fits=2)
    scores = np.random.default_rng(5).normal(size=(3, 2, 120)) + evaluation.labels
    found = accuracy_intervals(auroc_values(scores, evaluation.labels), evaluation)
    assert found == [pytest.approx(accuracy_interval(replace(evaluation, text_scores=one))) for one in scores]


def test_texts_go_where_an_evaluation_goes() -> None:
    generator = np.random.default_rng(6)
    a = texts_of(generator, shuffled=np.array([0.4, 0.55, 0.6]))
    b = replace(a, text_scores=a.text_scores + generator.normal(size=(1, 120)))
    assert a.figure == "auroc" and Evaluation(np.array([0.4])).figure == "pair accuracy"
    assert chance_p(a) < 1e-6 and 0 < null_p(a) < 0.1
    low, high = elicitation_interval(b, a, same_target=True)
    assert low < b.accuracy / a.accuracy < high
    assert high - low < np.subtract(*elicitation_interval(b, a, same_target=False)[::-1])
    both = mean_accuracy_interval([a, b], ["one", "other"])
    assert both.value == pytest.approx((a.accuracy + b.accuracy) / 2) and both.low < both.value < both.high
    assert debiased_calibration_error(a).low is not None
    assert mistake_kappa(a, a).value == 1


def test_one_ranking_differs_from_itself_by_no_more_than_a_group_might() -> None:
    evaluation = texts_of(np.random.default_rng(7))
    found = mean_paired_difference([evaluation], [evaluation], ["the target"])
    assert found.value == 0 and found.p == 1
    assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / variance_of(evaluation).n_units))


def test_kappa_is_of_what_is_right_at_the_threshold() -> None:
    from sklearn.metrics import cohen_kappa_score

    generator = np.random.default_rng(8)
    a = texts_of(generator, digits=6)
    b = TextEvaluation.of_scores(a.text_scores, a.labels, generator.random((1, 120)), group=a.group, example=a.example)
    expected = cohen_kappa_score(a.probabilities > 0.5, b.probabilities > 0.5)
    assert mistake_kappa(a, b).value == pytest.approx(expected)
    with pytest.raises(BadInput, match="no probabilities"):
        mistake_kappa(a, replace(b, probabilities=None))


def test_texts_and_pairs_or_other_texts_are_not_compared() -> None:
    evaluation = texts_of(np.random.default_rng(9))
    pairs = Evaluation(evaluation.probabilities, evaluation.example, evaluation.group)
    with pytest.raises(BadInput, match="auroc on one side and pair accuracy on the other"):
        mean_paired_difference([evaluation], [pairs], ["t"])
    with pytest.raises(BadInput, match="labels numbers differ"):
        mean_paired_difference([evaluation], [replace(evaluation, labels=~evaluation.labels)], ["t"])
    fewer = evaluation.subset(np.arange(120) < 90)
    with pytest.raises(BadInput, match="120 texts on one side and 90 on the other"):
        mean_paired_difference([evaluation], [fewer], ["t"])


def test_a_subset_keeps_the_pairs_of_its_examples() -> None:
    pairs = Evaluation(np.linspace(0.1, 0.9, 60), example=np.arange(60) * 2, group=np.arange(60))
    evaluation = texts_of(np.random.default_rng(10), fits=2, pairs=pairs, benign="alpaca")
    assert evaluation.n_pairs == 60 and evaluation.n_texts == 120
    keep = np.arange(120) < 50
    part = evaluation.subset(keep)
    assert (part.n_texts, part.n_pairs, part.benign, part.n_fits) == (50, 25, "alpaca", 2)
    assert np.array_equal(part.text_scores, evaluation.text_scores[:, keep])
    assert np.array_equal(part.fit_probabilities, evaluation.fit_probabilities[:, keep])
    assert part.subset(np.ones(50, dtype=bool)).pairs is part.pairs
    with pytest.raises(BadInput, match="0 of "):
        evaluation.subset(~evaluation.labels)


def good(**changes: object) -> TextEvaluation:
    given = {"labels": np.array([True, False, True]), "text_scores": np.zeros((1, 3)), **changes}
    return TextEvaluation(**given)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": np.ones(3, dtype=bool)}, "3 of 3 texts have the label"),
        ({"text_scores": np.zeros((0, 3))}, "of no fit"),
        ({"text_scores": np.full((1, 3), np.inf)}, "not all finite"),
        ({"text_scores": np.zeros((1, 2))}, "text_scores has 2 rows, but there are 3 texts"),
        ({"group": np.arange(4)}, "group has 4 rows, but there are 3 texts"),
        ({"probabilities": np.array([0.1, 0.2, 1.5])}, "the probability of text 2 is 1.5"),
        ({"text_scores": np.zeros((2, 3)), "probabilities": np.zeros(3)}, "give fit_probabilities of as many"),
        ({"probabilities": np.zeros(3), "fit_probabilities": np.zeros((2, 3))}, "none for one fit"),
        ({"thresholds": np.zeros((2, 2))}, "two finite scores for each fit"),
        ({"thresholds": np.full((1, 2), np.nan)}, "two finite scores for each fit"),
        ({"reported_accuracy": 0.7}, "leave out scores, fit_scores and reported_accuracy"),
        ({"shuffled": np.array([1.4])}, "shuffled are accuracies"),
    ],
)
def test_what_is_no_evaluation_of_texts_is_refused(changes: dict, reason: str) -> None:
    assert good().accuracy == 0.5
    with pytest.raises(BadInput, match=reason):
        good(**changes)


def test_the_auroc_is_the_accuracy_over_every_pair_of_both_labels() -> None:
    evaluation = texts_of(np.random.default_rng(11), n_groups=8)
    scores, labels = evaluation.text_scores[0], evaluation.labels
    pairs = [win(one, other) for one, other in itertools.product(scores[labels], scores[~labels])]
    assert evaluation.accuracy == pytest.approx(np.mean(pairs))
