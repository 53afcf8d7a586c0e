"""Methods that fit nothing: the model's own preference, and its verdict when it is asked for one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from repeng.activations.store.cached_split import Activations
from repeng.distributions.schema import ResponseLabels, Split
from repeng.distributions.stimuli import Form, get_stimulus, in_form
from repeng.errors import BadInput
from repeng.methods.base import (
    Answer,
    Kind,
    Method,
    MethodSettings,
    Note,
    PairProbabilities,
    RequiredActivations,
    ResponseScores,
    Source,
    Target,
    no_note,
)
from repeng.methods.names import with_parameters
from repeng.metrics import auroc_values
from repeng.probes.calibration import TextCalibration, fit_text_calibration
from repeng.probes.zero_shot import zero_shot_genies


@dataclass(frozen=True)
class NamedMethod:
    """A method that prompts the model, as a user named it.

    Attributes:
        name: without parameters.
        form: how the texts are written that the model is given.
        parameters: the others.
        settings: what the methods of a study share.
    """

    name: str
    form: Form
    parameters: Mapping[str, Any]
    settings: MethodSettings

    @property
    def full(self) -> str:
        """The name with parameters; the plain form, being the default, is none of them."""
        form = {} if self.form == "plain" else {"stimulus": self.form}
        return with_parameters(self.name, {**self.parameters, **form})


class InForms(Method):
    """A method that prompts the model with texts in either form, as the parameter `stimulus` of its name says.

    Attributes:
        form: how the texts are written that the model is given.
        PARAMETERS: what else its name may say in parentheses.
    """

    kind: Kind = "prompted"
    form: Form = "plain"
    PARAMETERS: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def named(cls, asked: NamedMethod) -> InForms:
        """The method of a name.

        Raises:
            BadInput: a parameter has a value that it cannot have, or the method of this name has no such form.
        """

    @classmethod
    def has_chat_form(cls, name: str) -> bool:  # noqa: ARG003
        """Whether the method of a name without parameters has a chat form."""
        return True


@dataclass(frozen=True)
class Prompted(InForms):
    """A method that fits nothing; a source of labelled texts chooses which way round it is, and a threshold."""

    name: str
    kind: Kind = "prompted"
    uses_source: bool = False
    takes_texts: bool = True
    form: Form = "plain"

    def reads_of(self, source: Split) -> bool:
        """Of labelled texts, which choose a threshold."""
        return source.as_texts

    def fit(self, source: Source, note: Note = no_note) -> Preference:  # noqa: ARG002
        """Nothing is fitted; the texts of a source of labelled texts choose a threshold and calibrate."""
        return self.preference().on(source)

    @abstractmethod
    def preference(self) -> Preference:
        """What scores responses."""


@dataclass(frozen=True, kw_only=True)
class Preference(ABC):
    """A score of each response from what the store holds, learned from nothing.

    Attributes:
        sign: -1 where a source of labelled texts says that its label is of what scores low.
        texts: what that source chose for single texts.
    """

    sign: float = 1.0
    texts: TextCalibration | None = None
    layers: str = ""
    held_out_accuracy: float | None = None

    @abstractmethod
    def scores(self, activations: Activations) -> Float[np.ndarray, " response"]:
        """One score a response; NaN where its text was skipped."""

    def on(self, source: Source) -> Preference:
        """The same, with what a source of labelled texts chooses."""
        if not source.split.as_texts:
            return self
        sign, texts = calibrated(self.scores(source.activations), source.labels)
        return replace(self, sign=sign, texts=texts)

    def answer(self, target: Target) -> Answer:
        """A score of each response: two are compared by the softmax of theirs."""
        scores = self.sign * self.scores(target.activations)
        return ResponseScores(scores, texts=None if self.texts is None else (self.texts,))


@dataclass(frozen=True)
class ZeroShot(Prompted):
    """The model's own preference: the response of higher log-probability, with nothing fitted.

    `zero-shot` ranks by total log-probability, `zero-shot-mean` by the mean over tokens, `zero-shot-genies` follows
    the released rule (prompt and response tokenized apart, no BOS, EOS appended, total over padded length less one).

    Attributes:
        rule: which of these; the name by default, which may also say the form.

    Raises:
        BadInput: the released rule in chat form, of which the released code knows nothing.
    """

    title: str = "the model's own preference, by log-probability"
    rule: str = ""

    STIMULUS: ClassVar[dict[str, str]] = {
        "zero-shot": "plain",
        "zero-shot-mean": "plain",
        "zero-shot-genies": "zero_shot_genies",
    }

    @classmethod
    def named(cls, asked: NamedMethod) -> ZeroShot:
        """The name without the form is the rule."""
        return cls(asked.full, rule=asked.name, form=asked.form)

    @classmethod
    def has_chat_form(cls, name: str) -> bool:
        """Of every rule but the released one."""
        return cls.STIMULUS[name] == "plain"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", self.rule or self.name)
        if self.form == "chat" and not self.has_chat_form(self.rule):
            raise BadInput(f"method {self.name!r}: zero-shot-genies reads what GENIES' code reads; take zero-shot")
        # The released rule divides by the longer of two responses.
        object.__setattr__(self, "takes_texts", self.rule != "zero-shot-genies")

    @property
    def stimulus(self) -> str:
        """The stimulus whose log-probabilities it reads."""
        return in_form(self.STIMULUS[self.rule], self.form)

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Log-probabilities alone."""
        return (RequiredActivations(get_stimulus(self.stimulus)),)

    def preference(self) -> LogProbabilities:
        """By log-probability."""
        return LogProbabilities(self.stimulus, rule=self.rule)


@dataclass(frozen=True)
class LogProbabilities(Preference):
    """Preference by the cached log-probability of the response under one stimulus."""

    stimulus: str
    rule: str = "zero-shot"

    def answer(self, target: Target) -> Answer:
        """As of any preference; by the released rule a probability of each pair."""
        if self.rule != "zero-shot-genies":
            return super().answer(target)
        scores, lengths = self.scores(target.activations), target.activations.text_lengths(self.stimulus)
        return PairProbabilities(zero_shot_genies(scores[target.pairs], lengths[target.pairs]), scores)

    def scores(self, activations: Activations) -> Float[np.ndarray, " response"]:
        """Of each response its total log-probability, or with `zero-shot-mean` the mean over its tokens."""
        scores, token_count = activations.logprobs(self.stimulus)
        return scores / np.maximum(token_count, 1) if self.rule == "zero-shot-mean" else scores


@dataclass(frozen=True)
class Truthfulness(Prompted):
    """The truthfulness suffix read as a verdict: how much likelier the model says Yes than No after its question."""

    name: str = "truthfulness"
    title: str = "the model's verdict, Yes against No"

    @classmethod
    def named(cls, asked: NamedMethod) -> Truthfulness:
        """There is one, in two forms."""
        return cls(asked.full, form=asked.form)

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """The log-probability of each verdict."""
        verdict = self.preference()
        return tuple(RequiredActivations(get_stimulus(name)) for name in (verdict.best, verdict.other))

    def preference(self) -> Verdict:
        """By the verdict."""
        return Verdict(*(in_form(f"truthfulness_{word}", self.form) for word in ("yes", "no")))


@dataclass(frozen=True)
class Verdict(Preference):
    """The cached log-odds of one answer against another, each under a stimulus that ends with it.

    Attributes:
        best: the stimulus of the answer that speaks for a right response.
        other: that of the other answer.
    """

    best: str
    other: str

    def scores(self, activations: Activations) -> Float[np.ndarray, " response"]:
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
