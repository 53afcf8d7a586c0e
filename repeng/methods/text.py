"""What the words alone give away: baselines that no probe on activations may lose to unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from repeng.distributions.chat import prompt_text
from repeng.distributions.schema import Prompt, ResponseLabels, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.maths import pair_accuracy
from repeng.methods.base import Kind, Method, Note, RequiredActivations, ResponseScores, Source, Target, no_note
from repeng.probes.calibration import TextCalibration

Scorer = Callable[[Sequence[str]], Float[np.ndarray, " response"]]
MakeScorer = Callable[[Sequence[str], Int[np.ndarray, "pair 2"]], Scorer]

# Words, single letters among them, and each punctuation mark: code and one-letter answers are texts too.
TOKEN = r"(?u)\w+|[^\w\s]"


@dataclass(frozen=True)
class TextMethod(Method):
    """`length` and `tfidf`."""

    name: str
    seed: int = 0
    fits: int = 1
    kind: Kind = "text"
    takes_texts: bool = True

    @property
    def title(self) -> str:  # type: ignore[override]
        """What it is, in words."""
        return TITLES[self.name]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The seed of the split into training and held-out prompts, and how often it is fitted."""
        return {"seed": self.seed, "fits": self.fits}

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Log-probabilities, which zero-shot reads too: they say which texts the model takes."""
        return (RequiredActivations(get_stimulus("plain")),)

    def fit(self, source: Source, note: Note = no_note) -> FittedTexts:  # noqa: ARG002
        """Learn on one random pair of each training example; calibrate on every held-out pair; with several splits."""
        from repeng.probes.repeats import fit_seeds

        seeds = fit_seeds(self.seed, self.fits)
        return FittedTexts(tuple(fit_text(source.split, SCORERS[self.name], seed) for seed in seeds))


@dataclass(frozen=True)
class FittedTexts:
    """A text baseline's fits on one source."""

    made: tuple[FittedText, ...]
    layers: str = ""

    @property
    def held_out_accuracy(self) -> float:
        """The mean over fits."""
        return float(np.mean([fitted.held_out_accuracy for fitted in self.made]))

    def answer(self, target: Target) -> ResponseScores:
        """Scores of the texts that the model takes too, so that every method is asked about the same pairs."""
        taken, _ = target.activations.logprobs("plain")
        texts = read_texts([(one.prompt, one.responses) for one in target.questions], whole=target.as_texts)
        scores = np.array([fitted.score(texts) for fitted in self.made])
        temperatures = np.array([fitted.temperature for fitted in self.made])
        chosen = tuple(fitted.texts for fitted in self.made)
        return ResponseScores(np.where(np.isfinite(taken), scores, np.nan), temperatures, texts=chosen)


@dataclass(frozen=True)
class FittedText:
    """One fit of a text baseline.

    Attributes:
        score: one score a response text; higher means better.
        temperature: of sigmoid(score difference / temperature), fitted on held-out source pairs.
        held_out_accuracy: pair accuracy on those.
        texts: what held-out source texts chose for single ones.
    """

    score: Scorer
    temperature: float
    held_out_accuracy: float
    texts: TextCalibration


def fit_text(source: Split, make_scorer: MakeScorer, seed: int = 0) -> FittedText:
    """Learn on one random pair of each training example; calibrate on every held-out pair. Split by prompt group.

    Of labelled texts each is read with its prompt, and positive and negative ones are set side by side as pairs.

    Raises:
        BadInput: the source is too small to split.
    """
    from repeng.probes.calibration import fit_temperature, fit_text_calibration
    from repeng.probes.source import split_source

    known = ResponseLabels.of(source)
    split = split_source(known.labels, known.rivals, known.groups, seed=seed, units=known.units)
    texts = read_texts([(example.prompt, example.responses) for example in source.examples], whole=source.as_texts)
    score = make_scorer(texts, split.train)
    scores = score(texts)
    held_out = scores[split.held_out[:, 0]] - scores[split.held_out[:, 1]]
    rows = np.unique(split.held_out)
    return FittedText(
        score,
        float(fit_temperature(held_out)),
        float(pair_accuracy(held_out)),
        fit_text_calibration(scores[rows], known.labels[rows]),
    )


def read_texts(asked: Sequence[tuple[Prompt, Sequence[str]]], *, whole: bool) -> list[str]:
    """What a text baseline reads of some prompts and responses: each response, or with `whole` its prompt before it.

    Between rivals the prompt says nothing; of a text that stands alone it may say all.
    """
    return [(prompt_text(prompt) if whole else "") + response for prompt, responses in asked for response in responses]


def length_scorer(texts: Sequence[str], pairs: Int[np.ndarray, "pair 2"]) -> Scorer:
    """Plus or minus log(1 + characters), by the sign that ranks more pairs rightly; plus where neither does."""
    lengths = log_lengths(texts)
    longer = np.sign(lengths[pairs[:, 0]] - lengths[pairs[:, 1]]).sum()
    sign = -1.0 if longer < 0 else 1.0
    return lambda texts: sign * log_lengths(texts)


def log_lengths(texts: Sequence[str]) -> Float[np.ndarray, " response"]:
    """log(1 + characters), since what counts as much longer depends on how long texts are."""
    return np.log1p([len(text) for text in texts])


def tfidf_scorer(texts: Sequence[str], pairs: Int[np.ndarray, "pair 2"]) -> Scorer:
    """Logistic regression, without intercept, on the difference of a pair's TF-IDF vectors of words and word pairs.

    The score is the inner product of a text's vector with the coefficients.
    """
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


SCORERS: Mapping[str, MakeScorer] = {"length": length_scorer, "tfidf": tfidf_scorer}
TITLES = {"length": "the longer or the shorter response", "tfidf": "logistic regression on words (TF-IDF)"}
