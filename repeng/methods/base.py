"""The seam: what a method is, what it is fitted on, what it is asked, and what it answers.

A method is fitted on a `Source`: one train split with its labels, and nothing of any target. What was fitted is asked
about a `Target`: prompts and responses without labels. Labels and answers meet in `answers.evaluate`, which only the
runner calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from repeng.activations.store.cached_split import Activations
from repeng.distributions.schema import Question, ResponseLabels, Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput
from repeng.methods.code_hash import code_hash
from repeng.metrics import Evaluation
from repeng.places import Place
from repeng.probes.calibration import TextCalibration

Kind = Literal["probe", "prompted", "tuned", "text", "plugin", "published", "chance"]
"""What a method works with: `chance` knows nothing, `published` is a file that somebody else's run left."""
Note = Callable[[str], None]
"""Told what a long fit is at."""


def no_note(_line: str) -> None:
    """A note that nobody reads."""


@dataclass(frozen=True)
class RequiredActivations:
    """What a method reads from the store of one stimulus. `site` and `token` are empty for log-probabilities.

    `layers` are the blocks that are read; None for all.
    """

    stimulus: Stimulus
    site: str = ""
    token: str = ""
    layers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """What a method is fitted on: a train split with its labels.

    Attributes:
        split: the examples.
        opened: gives their cached activations; called only by a method that reads them.
    """

    split: Split
    opened: Callable[[], Activations]

    @cached_property
    def activations(self) -> Activations:
        """The cached activations of the split's responses."""
        return self.opened()

    @cached_property
    def labels(self) -> ResponseLabels:
        """Labels, examples and prompt groups of the split's responses."""
        return ResponseLabels.of(self.split)


@dataclass(frozen=True)
class Target:
    """What a fitted method is asked about: prompts and responses without labels.

    Attributes:
        distribution: its name.
        key: the data's hash: names what was asked about, and seeds an order in which to show it.
        units: what is never parted, of each response in file order (`Split.units`).
        rivals: which responses compete with each other (`Split.rivals`).
        as_texts: whether it is asked about each text by itself, as of statements, rather than about pairs.
        questions: in file order; empty where the texts are not at hand, as of a split that is only known from a store.
        opened: gives the responses' cached activations; called only by a method that reads them.
    """

    distribution: str
    key: str
    units: Int[np.ndarray, " response"]
    rivals: Int[np.ndarray, " response"]
    as_texts: bool
    questions: tuple[Question, ...]
    opened: Callable[[], Activations]

    @classmethod
    def of(cls, split: Split, opened: Callable[[], Activations]) -> Target:
        """A split without its labels."""
        questions = tuple(Question(example.prompt, example.responses) for example in split.examples)
        structure = (split.units, split.rivals, split.as_texts)
        return cls(split.distribution, split.data_hash, *structure, questions, opened)

    @cached_property
    def activations(self) -> Activations:
        """The cached activations of the responses."""
        return self.opened()

    @property
    def responses(self) -> list[str]:
        """Every response, in file order."""
        return [response for question in self.questions for response in question.responses]

    @cached_property
    def pairs(self) -> Int[np.ndarray, "pair 2"]:
        """Rows of every two rivals, the earlier first, in file order; none where it is asked about texts."""
        order = np.argsort(self.rivals, kind="stable")
        _, starts, counts = np.unique(self.rivals[order], return_index=True, return_counts=True)
        found = [np.empty((0, 2), dtype=np.int64)]
        for start, count in zip(starts, counts, strict=True) if not self.as_texts else ():
            found.append(order[start + np.stack(np.triu_indices(count, k=1), axis=1)])
        pairs = np.concatenate(found)
        return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]

    @property
    def n_responses(self) -> int:
        """How many responses it is asked about."""
        return len(self.units)


@dataclass(frozen=True)
class NullScores:
    """What a method's null says of each of `Target.pairs`: above 0 where it prefers the first, NaN where nothing.

    Of a target of texts, its score of each response.

    Attributes:
        shuffled: of each fit on shuffled labels.
        random: of each random direction; None where the method reads along none.
    """

    shuffled: Float[np.ndarray, "null asked"]
    random: Float[np.ndarray, "_null asked"] | None = None


@dataclass(frozen=True)
class ResponseScores:
    """An answer by scores: of two responses the first is preferred with sigmoid(difference / temperature).

    Attributes:
        scores: one a response, in file order; higher is better, NaN where there is none. A method that was fitted
            several times has a row a fit.
        temperature: above 0; one a fit.
        null: what its null says; None where it has none.
        texts: what the source chose for single texts, one a fit; None where it chose nothing.
    """

    scores: Float[np.ndarray, "*fit response"]
    temperature: float | Float[np.ndarray, " _fit"] = 1.0
    null: NullScores | None = None
    texts: tuple[TextCalibration, ...] | None = None


@dataclass(frozen=True)
class PairProbabilities:
    """An answer by pairs, where a pair's score is no difference of two responses' scores.

    Attributes:
        probabilities: that the first of each of `Target.pairs` is preferred; NaN where there is none. A method that was
            fitted several times has a row a fit.
        scores: one a response, in file order; None where the method has none.
        null: what its null says; None where it has none.
    """

    probabilities: Float[np.ndarray, "*fit pair"]
    scores: Float[np.ndarray, " response"] | None = None
    null: NullScores | None = None


Answer = ResponseScores | PairProbabilities


@dataclass(frozen=True)
class LayerScores:
    """How each layer that was fitted scores a target, alone.

    Attributes:
        units: (layer, head), head None where the site has none, or fits differ in a layer's best one.
        scores: by each fit, of each of `Target.pairs`, positive where the first is preferred, of a target of texts of
            each response; NaN where there is none.
        held_out_accuracy: of each fit and unit, on held-out prompts of the source.
        chosen: which units each fit chose.
    """

    units: tuple[tuple[int, int | None], ...]
    scores: Float[np.ndarray, "fit unit asked"]
    held_out_accuracy: Float[np.ndarray, "fit unit"]
    chosen: Bool[np.ndarray, "fit unit"]

    @property
    def tied(self) -> Bool[np.ndarray, "fit unit"]:
        """Units whose held-out accuracy is the highest of their fit: only a tie-break chooses among them."""
        return self.held_out_accuracy == self.held_out_accuracy.max(axis=1, keepdims=True)


@runtime_checkable
class FittedMethod(Protocol):
    """A method fitted on a source.

    Attributes:
        layers: the layers it reads, as text for the results; empty where it reads none.
        held_out_accuracy: pair accuracy on held-out prompts of the source; None where nothing was held out.
    """

    @property
    def layers(self) -> str: ...  # noqa: D102

    @property
    def held_out_accuracy(self) -> float | None: ...  # noqa: D102

    def answer(self, target: Target) -> Answer:
        """Which responses it prefers."""
        ...


@runtime_checkable
class AnswersTogether(Protocol):
    """A fitted method that answers many targets in one go."""

    def answer_all(self, targets: Sequence[Target]) -> Iterator[Answer | Exception]:
        """An answer, or what went wrong, for each target in turn."""
        ...


@runtime_checkable
class KnowsLayers(Protocol):
    """A fitted method that was fitted at several layers."""

    def layer_scores(self, target: Target) -> LayerScores | None:
        """How each fitted layer scores a target; None where there was one only."""
        ...


@runtime_checkable
class ScoresItself(Protocol):
    """A fitted plug-in of GENIES' protocol, which hands labelled files to a script and reads its own figures back."""

    def evaluate_all(self, targets: Sequence[Split]) -> Iterator[Evaluation | Exception]:
        """An evaluation, or what went wrong, for each target in turn."""
        ...


class Method(ABC):
    """Anything that can be fitted on a source.

    Attributes:
        name: what users type; parameters that differ from the defaults stand behind it in parentheses.
        kind: what it works with.
        title: what it is, in words.
        reads_source: True where `fit` reads what `requires` names of the source too, and not of targets alone
            (`reads_of`).
        uses_source: False where it is the same whatever it is fitted on, but for the sign and the threshold that
            labelled texts choose (`reads_of`).
        counts_towards_capability: True where fitting on a target says what the model is capable of there.
        takes_texts: True where it can be fitted on labelled texts and asked about them one by one.
    """

    name: str
    kind: Kind
    title: str
    reads_source: ClassVar[bool] = False
    uses_source: bool = True
    counts_towards_capability: bool = False
    takes_texts: bool = False

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What its answers follow from besides the data and the model, as plain values."""
        return {}

    def reads_of(self, source: Split) -> bool:  # noqa: ARG002
        """Whether `fit` reads what `requires` names of this source."""
        return self.reads_source

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """What it reads from the store for this source and its targets; empty for nothing."""
        return ()

    @abstractmethod
    def fit(self, source: Source, note: Note = no_note) -> FittedMethod | ScoresItself:
        """Fit on a source."""

    def check_splits(self, source: Split, target: Split) -> None:
        """Refuse labelled texts where the method knows pairs alone.

        Raises:
            BadInput: it cannot be fitted on the source, or asked about the target.
        """
        if not self.takes_texts:
            refuse_texts((source,) * self.uses_source + (target,), self.name)

    def trial(self) -> None:  # noqa: B027  (a method of ours has nothing to try)
        """What a dry run finds out of the user's own code, which may be wrong: nothing of a method of ours.

        Raises:
            RepengError: it cannot be run.
        """

    def code(self) -> str:
        """A hash of the code that it runs."""
        return code_hash(type(self))

    def identity(self) -> dict[str, Any]:
        """What it is, as plain values: an answer on disk is taken for its own only where this is the same."""
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": self.name,
            "kind": self.kind,
            "parameters": dict(self.parameters),
            "code": self.code(),
        }


def refuse_texts(splits: Iterable[Split], name: str) -> None:
    """Refuse splits of labelled texts for a method that goes by pairs.

    Raises:
        BadInput: a split is one.
    """
    for split in splits:
        if split.as_texts:
            raise BadInput(
                f"{name} goes by pairs of responses, and {split.distribution}/{split.name} holds labelled texts: take "
                "a probe such as mms or logistic, tfidf, length or zero-shot there"
            )


@dataclass(frozen=True)
class MethodSettings:
    """What the methods of one study share: the model under study and how they are to be fitted.

    Attributes:
        model: hub id, folder, GGUF file, `mini` or `smollm2`.
        n_layers: blocks of the model.
        max_length: the longest text in tokens that it takes; None where it names no limit.
        capture_id: where its activations are in a store.
        seed: of every random choice.
        layers: `auto`, `all`, `top-k:N`, `one-se`, `average` or layers, as the user gave it.
        fits: how often a method whose fit costs little is fitted, with other splits, draws and starts.
        nulls: how many fits on shuffled labels, and how many random directions, a probe is held against.
        device: where tuned models compute.
        dtype: that they compute in.
        tune_preset: `default` or `genies`.
        plugins: folder where plug-ins keep their work.
        tuned: folder where tuned models lie, for every study to find again.
    """

    model: str
    n_layers: int
    max_length: int | None
    capture_id: str
    plugins: Place
    tuned: Place
    seed: int = 0
    layers: str = "auto"
    fits: int = 5
    nulls: int = 20
    device: str = "auto"
    dtype: str = "auto"
    tune_preset: str = "default"
