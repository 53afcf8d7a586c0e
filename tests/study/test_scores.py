from __future__ import annotations

import numpy as np
import pytest
from small_world import world

from repeng.activations.store.cached_split import evaluation_of_scores
from repeng.distributions.schema import Example, Split
from repeng.errors import RepengError
from repeng.methods.text_baselines import fit_length

THREE = Split("d", "test", (Example("one", ("a", "b", "c"), 1), Example("two", ("d", "e"), 0)))


def test_a_pair_s_probability_is_the_softmax_of_its_scores() -> None:
    found = evaluation_of_scores(THREE, np.log([0.2, 0.6, 0.3, 1e-300, 1.0]))
    assert found.probabilities == pytest.approx([3 / 4, 2 / 3, 0.0])
    assert found.example is not None and found.example.tolist() == [0, 0, 1]
    assert found.scores == pytest.approx(np.log([[0.6, 0.2], [0.6, 0.3], [1e-300, 1.0]]))


def test_a_temperature_softens_a_probability_and_keeps_who_wins() -> None:
    assert evaluation_of_scores(THREE, np.log([1.0, 9.0, 4.0, 1.0, 1.0]), temperature=2.0).probabilities == (
        pytest.approx([3 / 4, 3 / 5, 1 / 2])
    )


def test_a_response_without_a_score_takes_its_pairs_with_it() -> None:
    found = evaluation_of_scores(THREE, np.array([np.nan, 1.0, 1.0, 2.0, 0.0]))
    assert found.example is not None and found.example.tolist() == [0, 1]
    with pytest.raises(RepengError, match="d/test: no pair is left"):
        evaluation_of_scores(THREE, np.full(5, np.nan))


def test_a_text_baseline_is_asked_about_the_pairs_that_the_model_takes() -> None:
    fitted, target = fit_length(world()["easy"].train), world()["hard"].test
    kept = np.arange(target.n_responses) % 5 != 0
    whole, part = fitted.evaluate(target), fitted.evaluate(target, kept=kept)
    expected = [kept[pair.best] and kept[pair.worse] for pair in target.pairs]
    assert whole.probabilities is not None
    np.testing.assert_array_equal(part.probabilities, whole.probabilities[expected])
