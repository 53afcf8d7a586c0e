"""From the tokenized texts of some examples to what the model is asked, and from its answers to a shard's tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Chunk, Layout, Run, Span, TextRequest
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.store.files import LOGPROB, ActivationKey
from repeng.distributions.schema import Split
from repeng.errors import NonFinite
from repeng.models.load import LanguageModel
from repeng.models.sites import Hook, hook_name
from repeng.models.tokens import TokenizedText

Tokenized = Mapping[str, Sequence[TokenizedText | None]]
"""Of each stimulus the texts of some responses, None for one that was skipped."""
Slots = Int[np.ndarray, " response"]
"""Where each response's value stands among all values of its kind; -1 where it has none."""
KINDS = {"last": "positions", "prompt_last": "positions", "response_mean": "means", "": "logprobs"}
"""What a text is asked for by each token; log-probabilities have no token."""


@dataclass(frozen=True)
class Questions:
    """The distinct texts of some responses, and where the answers belong.

    Attributes:
        texts: distinct by their ids, in the order of stimuli and responses; they do not depend on what is wanted.
        owners: of each text, every (stimulus, response) that has it.
        slots: of each stimulus and token, the slot of each response's value.
    """

    texts: tuple[TextRequest, ...]
    owners: tuple[tuple[tuple[str, int], ...], ...]
    slots: dict[tuple[str, str], Slots]


def ask(tokenized: Tokenized, keys: Collection[ActivationKey]) -> Questions:
    """Put together what must be asked for some activations.

    Every text of `tokenized` is among the texts, wanted or not.
    """
    numbers: dict[tuple[int, ...], int] = {}
    owners: list[list[tuple[str, int]]] = []
    text_of: dict[str, list[int]] = {}
    for stimulus, texts in tokenized.items():
        text_of[stimulus] = [
            -1 if text is None else numbers.setdefault(tuple(text.ids), len(numbers)) for text in texts
        ]
        owners += [[] for _ in range(len(numbers) - len(owners))]
        for row, number in enumerate(text_of[stimulus]):
            if number >= 0:
                owners[number].append((stimulus, row))
    spans = {
        (stimulus, token): [None if text is None else wanted_span(text, token) for text in tokenized[stimulus]]
        for stimulus, token in {(key.stimulus, key.token) for key in keys}
    }
    # Of each kind, the distinct spans of each text in ascending order; a slot is a span's place among all of them.
    wanted: dict[str, list[list[Span]]] = {}
    slots: dict[tuple[str, str], Slots] = {}
    for kind in set(KINDS.values()):
        places = {
            (stimulus, token): [
                None if span is None else (number, span) for number, span in zip(text_of[stimulus], found, strict=True)
            ]
            for (stimulus, token), found in spans.items()
            if KINDS[token] == kind
        }
        slot: dict[tuple[int, Span] | None, int] = {None: -1}
        wanted[kind] = [[] for _ in numbers]
        for place in sorted({place for found in places.values() for place in found if place is not None}):
            slot[place] = len(slot) - 1
            wanted[kind][place[0]].append(place[1])
        slots |= {key: np.array([slot[place] for place in found], dtype=np.int64) for key, found in places.items()}
    return Questions(
        texts=tuple(
            TextRequest(
                ids,
                positions=tuple(start for start, _ in wanted["positions"][number]),
                means=tuple(wanted["means"][number]),
                logprobs=tuple(wanted["logprobs"][number]),
            )
            for ids, number in numbers.items()
        ),
        owners=tuple(map(tuple, owners)),
        slots=slots,
    )


def wanted_span(text: TokenizedText, token: str) -> Span | None:
    """The tokens of a text that are wanted; None where there are none: no prompt token, or the mean over no token."""
    if token == "last":
        return text.last, text.last + 1
    if token == "prompt_last":
        return (text.prompt_last, text.prompt_last + 1) if text.prompt_last >= 0 else None
    response = text.response_start, text.response_end
    if token == "response_mean":
        return response if text.response_start < text.response_end else None
    if token == "":
        return response
    raise ValueError(f"no rule says which tokens {token!r} wants")


class ShardTensors:
    """Collects what batches give, in any order, until all texts are answered."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._slots: dict[str, list[Int[np.ndarray, " _"]]] = {}
        for kind in KINDS.values():
            edges = np.cumsum([0, *(len(getattr(text, kind)) for text in questions.texts)])
            self._slots[kind] = [np.arange(start, stop) for start, stop in pairwise(edges)]
        self._values: dict[tuple[str, Hook | None], Tensor] = {}

    def add(self, chunk: Chunk) -> None:
        """Take in what a batch gave.

        Raises:
            NonFinite: a value is infinite or not a number. The message names the lowest such layer.
        """
        for kind, values in (("positions", chunk.vectors), ("means", chunk.means)):
            for hook in sorted(values, key=lambda hook: (hook[1], hook[0])):
                self._keep(kind, hook, values[hook], chunk.texts)
        self._keep("logprobs", None, torch.from_numpy(chunk.logprobs), chunk.texts)

    def learn_shapes(self, chunk: Chunk) -> None:
        """Take from a batch of any text the shape of each hook's vectors, for a shard whose texts were all skipped."""
        self._values |= {("shape", hook): values[:0] for hook, values in chunk.vectors.items()}

    def tensors(self, key: ActivationKey, layers: Sequence[int], tokenized: Tokenized) -> dict[str, Tensor]:
        """A shard: of each layer [response, ...] under its hook name; or the tensors of log-probabilities."""
        slots = torch.from_numpy(self._questions.slots[key.stimulus, key.token])
        if key.site == LOGPROB:
            counts = [0 if text is None else _scored(text) for text in tokenized[key.stimulus]]
            lengths = [0 if text is None else len(text.ids) for text in tokenized[key.stimulus]]
            return {
                "logprob": _rows(self._values.get(("logprobs", None), torch.zeros(0).double()), slots),
                "token_count": torch.tensor(counts, dtype=torch.int64),
                "text_length": torch.tensor(lengths, dtype=torch.int64),
            }
        tensors = {}
        for layer in layers:
            hook = (key.site, layer)
            # Where every response is empty there are vectors, but no mean; where all texts were skipped, a shape alone.
            places = [(KINDS[key.token], hook), ("positions", hook), ("shape", hook)]
            values = next(self._values[place] for place in places if place in self._values)
            tensors[hook_name(*hook)] = _rows(values, slots)
        return tensors

    def _keep(self, kind: str, hook: Hook | None, values: Tensor, texts: Sequence[int]) -> None:
        """Put what some texts gave in its slots."""
        slots = self._slots[kind]
        finite = torch.isfinite(values).flatten(1).all(1) if values.ndim > 1 else torch.isfinite(values)
        if not finite.all():
            owner = np.repeat(texts, [len(slots[text]) for text in texts])[int(finite.int().argmin())]
            what = "the log-probability" if hook is None else hook_name(*hook)
            raise NonFiniteRow(what, *self._questions.owners[owner][0])
        if (kind, hook) not in self._values:
            self._values[kind, hook] = torch.zeros(sum(map(len, slots)), *values.shape[1:], dtype=values.dtype)
        self._values[kind, hook][torch.from_numpy(np.concatenate([slots[text] for text in texts]))] = values


def answer(
    lm: LanguageModel, questions: Questions, job: Run, layout: Layout, progress: Callable[[Chunk], None]
) -> ShardTensors:
    """Take the texts of some questions through the model.

    Args:
        lm: the model.
        questions: whose texts are those of `job`.
        job: what is computed.
        layout: of the texts.
        progress: told of every batch.

    Raises:
        NonFiniteRow: a value is infinite or not a number.
    """
    answers = ShardTensors(questions)
    for chunk in run(lm, job, layout):
        try:
            answers.add(chunk)
        except NonFiniteRow:
            # In a packed row a text that is not finite spoils the others: the first that is not finite alone is named.
            for number in sorted(chunk.texts):
                for alone in run(lm, replace(job, texts=(questions.texts[number],)), padded_batches):
                    answers.add(replace(alone, texts=(number,)))
            raise
        progress(chunk)
    if not questions.texts and job.hooks:
        sample = TextRequest((lm.pad_id,), positions=(0,))
        answers.learn_shapes(next(run(lm, replace(job, texts=(sample,)), padded_batches)))
    return answers


class NonFiniteRow(NonFinite):
    """A value that is not finite, by stimulus and row of the shard; the capture says which example that is."""

    def __init__(self, what: str, stimulus: str, row: int) -> None:
        super().__init__(f"{what} is not finite under stimulus {stimulus!r}, row {row}")
        self.what, self.stimulus, self.row = what, stimulus, row

    def explained(self, split: Split, first: int) -> NonFinite:
        """The error with the example that it is about, in a shard that begins at response `first` of a split."""
        row = first + self.row
        example = int(split.response_example[row])
        return NonFinite(
            f"{self.what} is infinite or not a number at {split.distribution}/{split.name}, example {example}, "
            f"response {row - int(split.offsets[example])}, under stimulus {self.stimulus!r}; the weights may be "
            "damaged, or the dtype too narrow: try --dtype float32, and keep away from float16"
        )


def _scored(text: TokenizedText) -> int:
    """Tokens of a response that have a log-probability: all but one at position 0."""
    return text.response_end - max(text.response_start, min(1, text.response_end))


def _rows(values: Float[Tensor, "slot ..."], slots: Int[Tensor, " response"]) -> Float[Tensor, "response ..."]:
    """Each response's value, zeros where it has none."""
    rows = torch.zeros(len(slots), *values.shape[1:], dtype=values.dtype)
    there = slots >= 0
    rows[there] = values[slots[there]]
    return rows
