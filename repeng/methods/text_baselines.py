"""What the words alone give away: baselines that no probe on activations may lose to unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from repeng.activations.store.cached_split import evaluation_of_scores
from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.metrics import Evaluation

Scorer = Callable[[Sequence[str]], Float[np.ndarray, " response"]]

# Words, single letters among them, and each punctuation mark: code and one-letter answers are texts too.
TOKEN = r"(?u)\w+|[^\w\s]"


@dataclass(frozen=True)
class FittedText:
    """A text baseline fitted on one source.

    Attributes:
        score: one score a response text; higher means better.
        temperature: of sigmoid(score difference / temperature), fitted on held-out source pairs.
        held_out_accuracy: pair accuracy on those.
    """

    score: Scorer
    temperature: float
    held_out_accuracy: float

    def evaluate(self, target: Split, *, kept: Bool[np.ndarray, " response"] | None = None) -> Evaluation:
        """p(best) for every pair of a target split, or for those alone whose two responses are kept."""
        scores = self.score(responses_of(target))
        if kept is not None:
            scores = np.where(kept, scores, np.nan)
        return evaluation_of_scores(target, scores, temperature=self.temperature)


def fit_length(source: Split, *, seed: int = 0) -> FittedText:
    """Longer or shorter, whichever is right for more training pairs. The score is plus or minus log(1 + characters)."""
    return fit_text(source, length_scorer, seed)


def fit_tfidf(source: Split, *, seed: int = 0) -> FittedText:
    """Logistic regression, without intercept, on the difference of a pair's TF-IDF vectors of words and word pairs."""
    return fit_text(source, tfidf_scorer, seed)


TEXT_BASELINES: dict[str, Callable[..., FittedText]] = {"length": fit_length, "tfidf": fit_tfidf}


def length_evaluation(source: Split, target: Split, seed: int = 0) -> Evaluation:
    """`fit_length` on the source, scored on the target's pairs."""
    return fit_length(source, seed=seed).evaluate(target)


def tfidf_evaluation(source: Split, target: Split, seed: int = 0) -> Evaluation:
    """`fit_tfidf` on the source, scored on the target's pairs."""
    return fit_tfidf(source, seed=seed).evaluate(target)


def fit_text(
    source: Split, scorer: Callable[[Sequence[str], Int[np.ndarray, "pair 2"]], Scorer], seed: int
) -> FittedText:
    """Learn on one random pair of each training example; calibrate on every held-out pair. Split by prompt group.

    Raises:
        BadInput: the source is too small to split.
    """
    from repeng.probes.calibration import fit_temperature, pair_accuracy
    from repeng.probes.source import split_source

    examples = source.response_example
    split = split_source(source.labels, examples, source.groups[examples], seed=seed)
    texts = responses_of(source)
    score = scorer(texts, split.train)
    scores = score(texts)
    held_out = scores[split.held_out[:, 0]] - scores[split.held_out[:, 1]]
    return FittedText(score, float(fit_temperature(held_out)), float(pair_accuracy(held_out)))


def length_scorer(texts: Sequence[str], pairs: Int[np.ndarray, "pair 2"]) -> Scorer:
    """Plus or minus the length, by the sign that ranks more pairs rightly; plus where neither does."""
    lengths = log_lengths(texts)
    longer = np.sign(lengths[pairs[:, 0]] - lengths[pairs[:, 1]]).sum()
    sign = -1.0 if longer < 0 else 1.0
    return lambda texts: sign * log_lengths(texts)


def log_lengths(texts: Sequence[str]) -> Float[np.ndarray, " response"]:
    """log(1 + characters), since what counts as much longer depends on how long texts are."""
    return np.log1p([len(text) for text in texts])


def tfidf_scorer(texts: Sequence[str], pairs: Int[np.ndarray, "pair 2"]) -> Scorer:
    """The inner product of a text's TF-IDF vector with the coefficients learned on the pairs."""
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    seen = [texts[row] for row in pairs.reshape(-1)]
    if not any(text.strip() for text in seen):
        raise BadInput("every response of the source is blank; tfidf has no word to learn from")
    vectorizer = TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 2), sublinear_tf=True)
    vectors = vectorizer.fit_transform(seen)
    difference = vectors[0::2] - vectors[1::2]
    # Each pair both ways round: as many of one class as of the other, and no side to prefer.
    both, label = vstack([difference, -difference]), np.repeat([1, 0], len(pairs))
    model = LogisticRegression(fit_intercept=False, max_iter=1000).fit(both, label)
    weights = model.coef_[0]
    return lambda texts: np.asarray(vectorizer.transform(texts) @ weights)


def responses_of(split: Split) -> list[str]:
    """Every response, in file order."""
    return [response for example in split.examples for response in example.responses]
