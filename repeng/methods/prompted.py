"""Methods that fit no probe: the model's own preference, prompted baselines, and text alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from repeng.activations.store.cached_split import ResponseRows, evaluation_of_scores, some_pairs
from repeng.distributions.chat import RenderChat
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.methods.base import Context, RequiredActivations
from repeng.methods.few_shot import few_shot_stimulus, verdict_scores
from repeng.methods.text_baselines import TEXT_BASELINES, FittedText
from repeng.metrics import Evaluation
from repeng.probes.zero_shot import zero_shot_genies


@dataclass(frozen=True)
class ZeroShot:
    """The model's own preference: the response of higher log-probability, with nothing fitted.

    `zero-shot` ranks by total log-probability, `zero-shot-mean` by the mean over tokens, `zero-shot-genies` follows
    the released rule (prompt and response tokenized apart, no BOS, EOS appended, total over padded length less one).
    """

    name: str
    tuned: bool = False
    learns: bool = False
    fits_on_cache: bool = False

    STIMULUS: ClassVar[dict[str, str]] = {
        "zero-shot": "plain",
        "zero-shot-mean": "plain",
        "zero-shot-genies": "zero_shot_genies",
    }

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Log-probabilities alone."""
        return (RequiredActivations(get_stimulus(self.STIMULUS[self.name])),)

    def settings(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """None."""
        return {}

    def fit(self, source: Split, context: Context) -> ReadLogProbability:  # noqa: ARG002
        """Nothing is fitted."""
        return ReadLogProbability(self.STIMULUS[self.name], context, rule=self.name)


@dataclass(frozen=True)
class ReadLogProbability:
    """Preference by the cached log-probability of the response under one stimulus."""

    stimulus: str
    context: Context
    rule: str = "zero-shot"
    layers: str = ""
    held_out_accuracy: float | None = None

    def evaluate(self, target: Split) -> Evaluation:
        """Softmax over the pair of the responses' log-probabilities."""
        scores, token_count = self.context.capture.logprobs(target, self.stimulus)
        if self.rule == "zero-shot-genies":
            rows = ResponseRows.of(target)
            pairs = some_pairs(rows.pairs(np.isfinite(scores)), f"{target.distribution}/{target.name}")
            lengths = self.context.capture.text_lengths(target, self.stimulus)
            return rows.evaluation(pairs, zero_shot_genies(scores[pairs], lengths[pairs]), scores)
        if self.rule == "zero-shot-mean":
            scores = scores / np.maximum(token_count, 1)
        return evaluation_of_scores(target, scores)


@dataclass(frozen=True)
class TextBaseline:
    """`length` and `tfidf`: what the words alone give away, which no probe on activations may lose to unnoticed."""

    name: str
    tuned: bool = False
    learns: bool = True
    fits_on_cache: bool = False

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Log-probabilities, which zero-shot reads too: they say which texts the model takes."""
        return (RequiredActivations(get_stimulus("plain")),)

    def settings(self, context: Context) -> dict[str, Any]:
        """The seed."""
        return {"seed": context.seed}

    def fit(self, source: Split, context: Context) -> ReadText:
        """Fit on the source's texts."""
        return ReadText(TEXT_BASELINES[self.name](source, seed=context.seed), context)


@dataclass(frozen=True)
class ReadText:
    """A text baseline that is asked about the pairs that the model can be asked about."""

    fitted: FittedText
    context: Context
    layers: str = ""

    @property
    def held_out_accuracy(self) -> float:
        """On held-out prompts of the source."""
        return self.fitted.held_out_accuracy

    def evaluate(self, target: Split) -> Evaluation:
        """Score the texts; pairs with one that is too long for the model are left out, as every method leaves them."""
        taken, _ = self.context.capture.logprobs(target, "plain")
        return self.fitted.evaluate(target, kept=np.isfinite(taken))


@dataclass(frozen=True)
class Verdict:
    """The truthfulness suffix read as a verdict: how much likelier the model says Yes than No after its question."""

    name: str
    tuned: bool = False
    learns: bool = False
    fits_on_cache: bool = False

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """The log-probability of each verdict."""
        return tuple(RequiredActivations(get_stimulus(f"truthfulness_{word}")) for word in ("yes", "no"))

    def settings(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """None."""
        return {}

    def fit(self, source: Split, context: Context) -> ReadVerdict:  # noqa: ARG002
        """Nothing is fitted."""
        return ReadVerdict(context)


@dataclass(frozen=True)
class ReadVerdict:
    """The cached log-odds of Yes against No."""

    context: Context
    layers: str = ""
    held_out_accuracy: float | None = None

    def evaluate(self, target: Split) -> Evaluation:
        """Softmax over the pair of the responses' log-odds."""
        yes, _ = self.context.capture.logprobs(target, "truthfulness_yes")
        no, _ = self.context.capture.logprobs(target, "truthfulness_no")
        return evaluation_of_scores(target, verdict_scores(yes, no))


@dataclass(frozen=True)
class Prompting:
    """What prompted baselines must know of the model.

    Attributes:
        count_tokens: tokens of a text.
        room: tokens that examples may fill before every prompt.
        seed: of the choice of examples.
        render_chat: turns a prompt that is a chat into text.
    """

    count_tokens: Callable[[str], int]
    room: int
    seed: int
    render_chat: RenderChat


@dataclass(frozen=True)
class FewShot:
    """Some source examples, each with its best response, before every prompt; then as zero-shot."""

    name: str
    prompting: Prompting
    tuned: bool = False
    learns: bool = True
    fits_on_cache: bool = False
    _stimuli: dict[Split, Stimulus] = field(default_factory=dict, repr=False, compare=False)

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Log-probabilities after this source's examples."""
        return (RequiredActivations(self.stimulus(source)),)

    def settings(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """None."""
        return {}

    def fit(self, source: Split, context: Context) -> ReadLogProbability:
        """Nothing is fitted."""
        return ReadLogProbability(self.stimulus(source).name, context)

    def stimulus(self, source: Split) -> Stimulus:
        """The plain text after this source's examples."""
        if source not in self._stimuli:
            known = self.prompting
            self._stimuli[source] = few_shot_stimulus(
                source,
                seed=known.seed,
                count_tokens=known.count_tokens,
                room=known.room,
                render_chat=known.render_chat,
            )
        return self._stimuli[source]
