"""Methods that fit nothing: the model's own preference, and its verdict when it is asked for one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from repeng.activations.store.cached_split import CachedSplit
from repeng.distributions.schema import ResponseLabels, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.methods.base import (
    Answer,
    Kind,
    Method,
    Note,
    PairProbabilities,
    RequiredActivations,
    ResponseScores,
    Source,
    Target,
    no_note,
)
from repeng.metrics import auroc_values
from repeng.probes.calibration import TextCalibration, fit_text_calibration
from repeng.probes.zero_shot import zero_shot_genies


@dataclass(frozen=True)
class ZeroShot(Method):
    """The model's own preference: the response of higher log-probability, with nothing fitted.

    `zero-shot` ranks by total log-probability, `zero-shot-mean` by the mean over tokens, `zero-shot-genies` follows
    the released rule (prompt and response tokenized apart, no BOS, EOS appended, total over padded length less one).
    """

    name: str
    kind: Kind = "prompted"
    title: str = "the model's own preference, by log-probability"
    uses_source: bool = False

    @property
    def takes_texts(self) -> bool:  # type: ignore[override]
        """The released rule divides by the longer of two responses."""
        return self.name != "zero-shot-genies"

    STIMULUS: ClassVar[dict[str, str]] = {
        "zero-shot": "plain",
        "zero-shot-mean": "plain",
        "zero-shot-genies": "zero_shot_genies",
    }

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Log-probabilities alone."""
        return (RequiredActivations(get_stimulus(self.STIMULUS[self.name])),)

    def reads_of(self, source: Split) -> bool:
        """Of labelled texts, whose log-probabilities choose a threshold."""
        return source.as_texts

    def fit(self, source: Source, note: Note = no_note) -> LogProbabilities:  # noqa: ARG002
        """Nothing is fitted; the texts of a source of labelled texts choose a threshold and calibrate."""
        made = LogProbabilities(self.STIMULUS[self.name], rule=self.name)
        if not source.split.as_texts:
            return made
        sign, texts = calibrated(made.scores(source.cached), source.labels)
        return replace(made, sign=sign, texts=texts)


@dataclass(frozen=True)
class LogProbabilities:
    """Preference by the cached log-probability of the response under one stimulus."""

    stimulus: str
    rule: str = "zero-shot"
    layers: str = ""
    held_out_accuracy: float | None = None
    sign: float = 1.0
    texts: TextCalibration | None = None

    def answer(self, target: Target) -> Answer:
        """A score of each response: two are compared by the softmax of theirs."""
        scores = self.scores(target.activations)
        if self.rule == "zero-shot-genies":
            lengths, pairs = target.activations.text_lengths(self.stimulus), target.pairs
            return PairProbabilities(zero_shot_genies(scores[pairs], lengths[pairs]), scores)
        return ResponseScores(self.sign * scores, texts=None if self.texts is None else (self.texts,))

    def scores(self, activations: CachedSplit) -> Float[np.ndarray, " response"]:
        """Of each response its total log-probability, or with `zero-shot-mean` the mean over its tokens."""
        scores, token_count = activations.logprobs(self.stimulus)
        return scores / np.maximum(token_count, 1) if self.rule == "zero-shot-mean" else scores


@dataclass(frozen=True)
class Truthfulness(Method):
    """The truthfulness suffix read as a verdict: how much likelier the model says Yes than No after its question."""

    name: str = "truthfulness"
    kind: Kind = "prompted"
    title: str = "the model's verdict, Yes against No"
    uses_source: bool = False
    takes_texts: bool = True

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """The log-probability of each verdict."""
        return tuple(RequiredActivations(get_stimulus(f"truthfulness_{word}")) for word in ("yes", "no"))

    def reads_of(self, source: Split) -> bool:
        """Of labelled texts, whose log-odds choose a threshold."""
        return source.as_texts

    def fit(self, source: Source, note: Note = no_note) -> Verdict:  # noqa: ARG002
        """Nothing is fitted; the texts of a source of labelled texts choose a threshold and calibrate."""
        return Verdict("truthfulness_yes", "truthfulness_no").on(source)


@dataclass(frozen=True)
class Verdict:
    """The cached log-odds of one answer against another, each under a stimulus that ends with it.

    Attributes:
        best: the stimulus of the answer that speaks for a right response.
        other: that of the other answer.
        sign: -1 where a source of labelled texts says that the other answer speaks for the label.
        texts: what the source chose for single texts.
    """

    best: str
    other: str
    sign: float = 1.0
    texts: TextCalibration | None = None
    layers: str = ""
    held_out_accuracy: float | None = None

    def on(self, source: Source) -> Verdict:
        """The same, with what a source of labelled texts chooses."""
        if not source.split.as_texts:
            return self
        sign, texts = calibrated(self.scores(source.cached), source.labels)
        return replace(self, sign=sign, texts=texts)

    def answer(self, target: Target) -> ResponseScores:
        """A score of each response: two are compared by the softmax of theirs."""
        scores = self.sign * self.scores(target.activations)
        return ResponseScores(scores, texts=None if self.texts is None else (self.texts,))

    def scores(self, activations: CachedSplit) -> Float[np.ndarray, " response"]:
        """The log-odds of each response."""
        best, other = (activations.logprobs(stimulus)[0] for stimulus in (self.best, self.other))
        return best - other


def calibrated(scores: Float[np.ndarray, " response"], labels: ResponseLabels) -> tuple[float, TextCalibration]:
    """What a source's texts choose for a method that learned nothing from them: which way round, and a threshold.

    Nothing else says whether a label is of what the model finds likely, as true, or of the contrary, as deceptive.

    Raises:
        BadInput: the texts that the model takes are all of one label.
    """
    there = np.isfinite(scores)
    if len(np.unique(labels.labels[there])) < 2:
        raise BadInput(f"{labels.name}: its texts are all of one label, so they choose no threshold")
    positive = labels.labels[there] == 1
    sign = -1.0 if auroc_values(scores[there], positive).mean() < 0.5 else 1.0
    return sign, fit_text_calibration(sign * scores[there], labels.labels[there])
