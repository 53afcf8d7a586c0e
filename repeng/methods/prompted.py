"""Methods that fit nothing: the model's own preference, and its verdict when it is asked for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
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

    def fit(self, source: Source, note: Note = no_note) -> LogProbabilities:  # noqa: ARG002
        """Nothing is fitted."""
        return LogProbabilities(self.STIMULUS[self.name], rule=self.name)


@dataclass(frozen=True)
class LogProbabilities:
    """Preference by the cached log-probability of the response under one stimulus."""

    stimulus: str
    rule: str = "zero-shot"
    layers: str = ""
    held_out_accuracy: float | None = None

    def answer(self, target: Target) -> Answer:
        """Softmax over each pair of the responses' log-probabilities."""
        scores, token_count = target.activations.logprobs(self.stimulus)
        if self.rule == "zero-shot-genies":
            lengths, pairs = target.activations.text_lengths(self.stimulus), target.pairs
            return PairProbabilities(zero_shot_genies(scores[pairs], lengths[pairs]), scores)
        if self.rule == "zero-shot-mean":
            scores = scores / np.maximum(token_count, 1)
        return ResponseScores(scores)


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

    def fit(self, source: Source, note: Note = no_note) -> Verdict:  # noqa: ARG002
        """Nothing is fitted."""
        return Verdict()


@dataclass(frozen=True)
class Verdict:
    """The cached log-odds of Yes against No: log p(Yes) - log p(No) after the question."""

    layers: str = ""
    held_out_accuracy: float | None = None

    def answer(self, target: Target) -> ResponseScores:
        """Softmax over each pair of the responses' log-odds."""
        yes, no = (target.activations.logprobs(f"truthfulness_{word}")[0] for word in ("yes", "no"))
        odds: Float[np.ndarray, " response"] = yes - no
        return ResponseScores(odds)
