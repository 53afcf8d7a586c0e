"""A follow-up question as a method: the log-odds of its answers, each text alone through the model's own logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from activations_reference import alone

from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.files import split_key
from repeng.distributions.follow_ups import FOLLOW_UPS
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import STIMULI
from repeng.errors import BadInput, UnknownName
from repeng.methods.base import MethodSettings, Source, Target
from repeng.methods.follow_up import Ask
from repeng.methods.registry import make_method
from repeng.models.load import LanguageModel
from repeng.study.steps import capture

SETTINGS = MethodSettings("toy", 3, 256, "toy-0", Path("plugins"), Path("tuned"))


def test_its_scores_are_the_log_odds_of_the_answer_that_speaks_for_a_right_response(
    llama: LanguageModel, split: Split, tmp_path: Path
) -> None:
    asked = split.first(3)
    cached = capture(llama, [asked], store=tmp_path, stimuli=("is_false_yes", "is_false_no"), layers=(0,))
    opened = CachedSplit(cached, *split_key(asked))
    target = Target.of(asked, lambda: opened)
    question = STIMULI["is_false"].parts(asked.examples[0])[0].suffix
    expected = []
    for example in asked.examples:
        for response in example.responses:
            start = str(example.prompt) + response + question
            yes, no = (alone(llama, "llama", start, word).logprob for word in ("Yes", "No"))
            expected.append(no - yes)
    source = Source(asked, lambda: opened)
    for method, sign in (("ask:is_false", 1), ("ask:is_false(best=no)", 1), ("ask:is_false(best=yes)", -1)):
        made = make_method(method, SETTINGS)
        assert {need.stimulus.name for need in made.requires(asked)} == {"is_false_yes", "is_false_no"}
        answer = made.fit(source).answer(target)
        np.testing.assert_allclose(answer.scores, sign * np.array(expected), rtol=1e-3, atol=1e-4)


def test_the_answer_of_an_honest_response_speaks_for_it_unless_the_user_says_otherwise() -> None:
    for name, asked in FOLLOW_UPS.items():
        method = make_method(f"ask:{name}", SETTINGS)
        assert isinstance(method, Ask)
        assert method.best == ("no" if asked.honest == "No" else "yes")
        assert asked.text in method.title
    one, other = (make_method(f"ask:did_you_lie(best={best})", SETTINGS) for best in ("yes", "no"))
    assert one.name != other.name and one.identity()["parameters"] == {"best": "yes"}


def test_what_is_no_question_or_answer_is_refused() -> None:
    with pytest.raises(
        UnknownName, match="unknown follow-up question 'is_fals'; did you mean is_false.* Choose from are_you_sure"
    ):
        make_method("ask:is_fals", SETTINGS)
    with pytest.raises(BadInput, match="best is 'maybe'; give yes or no"):
        make_method("ask:is_false(best=maybe)", SETTINGS)
    with pytest.raises(BadInput, match="no parameter 'worst'; choose from best"):
        make_method("ask:is_false(worst=no)", SETTINGS)
