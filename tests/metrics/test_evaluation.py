"""An evaluation holds what it says, and refuses what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from repeng.errors import BadInput
from repeng.metrics import Evaluation


def test_a_tie_counts_half() -> None:
    evaluation = Evaluation(np.array([0.9, 0.5, 0.2, 0.500001]))
    assert evaluation.wins.tolist() == [1, 0.5, 0, 1]
    assert evaluation.accuracy == 2.5 / 4


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
        (
            {"probabilities": np.array([0.5, 0.5]), "fit_probabilities": np.array([[0.5, 0.5], [0.5, 1.5]])},
            "the probability of pair 1 is 1.5",
        ),
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


def test_an_evaluation_of_several_fits_is_their_mean() -> None:
    fits = np.array([[0.9, 0.4, 0.5], [0.2, 0.3, 0.5], [0.8, 0.7, 0.6]])
    evaluation = Evaluation.of_fits(fits, group=np.array([0, 0, 1]))
    assert evaluation.n_fits == 3 and np.allclose(evaluation.probabilities, fits.mean(axis=0))
    assert np.allclose(evaluation.wins, [2 / 3, 1 / 3, 2 / 3])
    assert evaluation.accuracy == pytest.approx(np.mean([one.accuracy for one in evaluation.fits]))
    assert [one.accuracy for one in evaluation.fits] == [0.5, 1 / 6, 1.0]
    assert Evaluation.of_fits(fits[:1]).fit_probabilities is None


def test_some_of_the_pairs_keep_their_fits_and_lose_their_nulls() -> None:
    fits = np.array([[0.9, 0.4, 0.5], [0.2, 0.3, 0.5]])
    whole = Evaluation.of_fits(fits, fits[..., None] + [0, 1], example=np.arange(3), shuffled=np.array([0.5]))
    part = whole.subset(np.array([True, False, True]))
    assert part.example.tolist() == [0, 2] and part.fit_wins.tolist() == [[1, 0.5], [0, 0.5]]
    assert part.fit_scores.shape == (2, 2, 2) and part.shuffled is None
    with pytest.raises(BadInput, match="no pair is left"):
        whole.subset(np.zeros(3, dtype=bool))


def test_fits_that_cannot_be_are_refused() -> None:
    two = np.array([[0.9, 0.4], [0.2, 0.3]])
    with pytest.raises(BadInput, match="of shape"):
        Evaluation(np.array([0.5]), fit_probabilities=two)
    with pytest.raises(BadInput, match="hold one fit"):
        Evaluation(np.array([0.5, 0.5]), fit_probabilities=two[:1])
    with pytest.raises(BadInput, match="shuffled are accuracies"):
        Evaluation(np.array([0.5]), shuffled=np.array([1.5]))
