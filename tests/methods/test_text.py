from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from judged import judged_text
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from repeng.distributions.load import load_distributions
from repeng.distributions.schema import Example, Split
from repeng.errors import BadInput
from repeng.methods.text import SCORERS, TOKEN, fit_text, length_scorer, tfidf_scorer
from repeng.metrics import Evaluation
from repeng.probes.source import split_source

WORDS = np.array(["alder", "birch", "cedar", "elm", "fir", "hazel", "maple", "oak", "pine", "rowan", "spruce", "yew"])


def split_of(good: str, bad: str, *, n: int = 80, seed: int = 0, extra: int = 0) -> Split:
    """Random words; the best response says `good` and is `extra` words longer, the worse one says `bad`."""
    rng = np.random.default_rng(seed)

    def text(marker: str, length: int) -> str:
        return " ".join([*rng.choice(WORDS, size=length), marker])

    examples = []
    for number in range(n):
        length = int(rng.integers(5, 20))
        best, worse = text(good, length + extra), text(bad, length)
        side = int(rng.integers(2))
        examples.append(Example(f"prompt {number}", (best, worse) if side == 0 else (worse, best), side))
    return Split("planted", "train", tuple(examples))


def responses_of(split: Split) -> list[str]:
    return [response for example in split.examples for response in example.responses]


def right(evaluation: Evaluation) -> float:
    assert evaluation.probabilities is not None
    return float(np.mean((evaluation.probabilities > 0.5) + 0.5 * (evaluation.probabilities == 0.5)))


def test_length_takes_the_side_that_the_source_prefers() -> None:
    longer, shorter = split_of("", "", extra=6), split_of("", "", extra=-4)
    assert right(judged_text(fit_text(longer, length_scorer), split_of("", "", extra=6, seed=1))) > 0.95
    assert right(judged_text(fit_text(shorter, length_scorer), split_of("", "", extra=-4, seed=1))) > 0.95
    assert right(judged_text(fit_text(longer, length_scorer), split_of("", "", extra=-4, seed=1))) < 0.05


def test_length_scores_are_plus_or_minus_the_log_of_the_characters() -> None:
    target = split_of("", "", extra=-4, seed=1)
    evaluation = judged_text(fit_text(split_of("", "", extra=-4), length_scorer), target)
    texts = responses_of(target)
    expected = [[-np.log1p(len(texts[pair.best])), -np.log1p(len(texts[pair.worse]))] for pair in target.pairs]
    assert evaluation.scores is not None
    np.testing.assert_allclose(evaluation.scores, expected)


def test_tfidf_learns_the_words_that_tell_best_from_worse() -> None:
    fitted = fit_text(split_of("kind", "rude"), tfidf_scorer)
    assert fitted.held_out_accuracy == 1.0
    assert right(judged_text(fitted, split_of("kind", "rude", seed=1))) > 0.95
    assert right(judged_text(fitted, split_of("rude", "kind", seed=1))) < 0.05


def test_words_that_the_source_never_had_leave_chance() -> None:
    fitted = fit_text(split_of("kind", "rude"), tfidf_scorer)
    assert right(judged_text(fitted, split_of("warm", "cold", n=400, seed=2))) == pytest.approx(0.5, abs=0.1)


def test_tfidf_equals_a_plain_regression_on_differences() -> None:
    source, target = split_of("", "", extra=2), split_of("", "", extra=2, seed=1)
    texts = responses_of(source)
    examples = source.response_example
    train = split_source(source.labels, examples, source.groups[examples], seed=4).train
    vectorizer = TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 2), sublinear_tf=True)
    vectors = vectorizer.fit_transform([texts[row] for row in train.reshape(-1)]).toarray()
    difference = vectors[0::2] - vectors[1::2]
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(np.concatenate([difference, -difference]), [1] * len(train) + [0] * len(train))
    scores = vectorizer.transform(responses_of(target)).toarray() @ model.coef_[0]
    evaluation = judged_text(fit_text(source, tfidf_scorer, seed=4), target)
    assert evaluation.scores is not None
    np.testing.assert_allclose(
        evaluation.scores, [[scores[pair.best], scores[pair.worse]] for pair in target.pairs], atol=1e-9
    )


@pytest.mark.parametrize("name", SCORERS)
def test_every_pair_of_the_target_is_answered_for(name: str) -> None:
    example = Example("same prompt", ("one two", "three", "", "four five six"), 2)
    target = Split("odd", "test", (example, example, *split_of("kind", "rude", seed=3).examples[:3]))
    evaluation = judged_text(fit_text(split_of("kind", "rude", extra=1), SCORERS[name]), target)
    assert evaluation.n_pairs == 9
    assert evaluation.example is not None
    assert evaluation.group is not None
    assert evaluation.example.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 4]
    assert evaluation.group.tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("name", SCORERS)
def test_probabilities_are_the_sigmoid_of_the_score_difference(name: str) -> None:
    fitted = fit_text(split_of("kind", "kind", extra=1), SCORERS[name])
    evaluation = judged_text(fitted, split_of("kind", "kind", extra=1, seed=1))
    assert evaluation.scores is not None
    difference = evaluation.scores[:, 0] - evaluation.scores[:, 1]
    np.testing.assert_allclose(evaluation.probabilities, 1 / (1 + np.exp(-difference / fitted.temperature)))


@pytest.mark.parametrize("name", SCORERS)
def test_the_target_never_reaches_the_fit(name: str) -> None:
    source = split_of("kind", "rude", extra=1)
    fitted = fit_text(source, SCORERS[name])
    before = fitted.score(["alder oak kind"])
    judged_text(fitted, split_of("rude", "kind", extra=-3, seed=1))
    np.testing.assert_array_equal(fitted.score(["alder oak kind"]), before)


def test_one_letter_answers_have_words() -> None:
    examples = tuple(Example(f"q{n}", ("A", "B") if n % 2 else ("B", "A"), 1 - n % 2) for n in range(40))
    assert fit_text(Split("letters", "train", examples), tfidf_scorer).held_out_accuracy == 1.0


def test_responses_of_equal_length_tie() -> None:
    examples = tuple(Example(f"q{n}", ("yes", "not"), n % 2) for n in range(40))
    assert fit_text(Split("equal", "train", examples), length_scorer).held_out_accuracy == 0.5


def test_a_source_of_blank_responses_is_refused_by_tfidf() -> None:
    examples = tuple(Example(f"q{n}", ("", " "), 0) for n in range(40))
    with pytest.raises(BadInput, match="blank"):
        fit_text(Split("blank", "train", examples), tfidf_scorer)


def test_length_alone_wins_a_real_source_and_loses_its_shift(genies_root: Path) -> None:
    """GENIES' alpaca_short prefers the shorter response nearly always, and its target alpaca_long the longer."""
    data = load_distributions(genies_root / "distributions", ["alpaca_short", "alpaca_long"])
    short, long = data["alpaca_short"], data["alpaca_long"]
    assert right(judged_text(fit_text(short.train, length_scorer), short.test)) > 0.99
    assert right(judged_text(fit_text(short.train, length_scorer), long.test)) < 0.01
    assert right(judged_text(fit_text(short.train, tfidf_scorer), short.test)) > 0.8
