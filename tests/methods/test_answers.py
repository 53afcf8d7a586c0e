from __future__ import annotations

import numpy as np
import pytest
from judged import judged, judged_text
from small_world import world

from repeng.distributions.schema import Example, Split
from repeng.errors import RepengError
from repeng.methods.base import ResponseScores
from repeng.methods.text import fit_text, length_scorer

THREE = Split("d", "test", (Example("one", ("a", "b", "c"), 1), Example("two", ("d", "e"), 0)))


def test_a_pair_s_probability_is_the_softmax_of_its_scores() -> None:
    found = judged(ResponseScores(np.log([0.2, 0.6, 0.3, 1e-300, 1.0])), THREE)
    assert found.probabilities == pytest.approx([3 / 4, 2 / 3, 0.0])
    assert found.example is not None and found.example.tolist() == [0, 0, 1]
    assert found.scores == pytest.approx(np.log([[0.6, 0.2], [0.6, 0.3], [1e-300, 1.0]]))


def test_a_temperature_softens_a_probability_and_keeps_who_wins() -> None:
    assert judged(ResponseScores(np.log([1.0, 9.0, 4.0, 1.0, 1.0]), 2.0), THREE).probabilities == (
        pytest.approx([3 / 4, 3 / 5, 1 / 2])
    )


def test_a_response_without_a_score_takes_its_pairs_with_it() -> None:
    found = judged(ResponseScores(np.array([np.nan, 1.0, 1.0, 2.0, 0.0])), THREE)
    assert found.example is not None and found.example.tolist() == [0, 1]
    with pytest.raises(RepengError, match="d/test: no pair is left"):
        judged(ResponseScores(np.full(5, np.nan)), THREE)


def test_a_text_baseline_is_asked_about_the_pairs_that_the_model_takes() -> None:
    fitted, target = fit_text(world()["easy"].train, length_scorer), world()["hard"].test
    kept = np.arange(target.n_responses) % 5 != 0
    whole, part = judged_text(fitted, target), judged_text(fitted, target, kept)
    expected = [kept[pair.best] and kept[pair.worse] for pair in target.pairs]
    assert whole.probabilities is not None
    np.testing.assert_array_equal(part.probabilities, whole.probabilities[expected])
