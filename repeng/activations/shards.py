"""From the tokenized texts of some examples to what the model is asked, and from its answers to a shard's tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.activations.forward import run
from repeng.activations.layouts.batch import Chunk, Layout, Run, TextRequest
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.store.files import LOGPROB, OFFSETS, ActivationKey
from repeng.activations.token_rules import TokenRule, token_rule
from repeng.distributions.schema import Split
from repeng.errors import NonFinite
from repeng.maths import offsets_of
from repeng.models.load import LanguageModel
from repeng.models.sites import Hook, hook_name
from repeng.models.tokens import TokenizedText

Tokenized = Mapping[str, Sequence[TokenizedText | None]]
"""Of each stimulus the texts of some responses, None for one that was skipped."""
Slots = Int[np.ndarray, " slot"]
"""Where the values of each response, one after the other, stand among all values of their kind; -1 for a response of
one value that has none."""
KINDS = ("positions", "means", "logprobs")
"""What a text is asked for, by the name in `TextRequest`; each of several tokens is a position."""


@dataclass(frozen=True)
class Questions:
    """The distinct texts of some responses, and where the answers belong.

    Attributes:
        texts: distinct by their ids, in the order of stimuli and responses; they do not depend on what is wanted.
        owners: of each text, every (stimulus, response) that has it.
        slots: of each stimulus and token, the slot of each response's value, or of each of its values.
        counts: how many values each response has, of each stimulus and token that has any number of them.
    """

    texts: tuple[TextRequest, ...]
    owners: tuple[tuple[tuple[str, int], ...], ...]
    slots: dict[tuple[str, str], Slots]
    counts: dict[tuple[str, str], Int[np.ndarray, " response"]]


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
    places = {
        (stimulus, token): [
            [] if text is None else [(number, piece) for piece in _pieces(text, token_rule(token))]
            for number, text in zip(text_of[stimulus], tokenized[stimulus], strict=True)
        ]
        for stimulus, token in {(key.stimulus, key.token) for key in keys}
    }
    # Of each kind, the distinct pieces of each text in ascending order; a slot is a piece's place among all of them.
    wanted: dict[str, list[list[Any]]] = {}
    slots: dict[tuple[str, str], Slots] = {}
    for kind in KINDS:
        of_kind = {key: found for key, found in places.items() if _request_kind(token_rule(key[1])) == kind}
        distinct = sorted({place for found in of_kind.values() for pieces in found for place in pieces})
        slot = {place: number for number, place in enumerate(distinct)}
        wanted[kind] = [[] for _ in numbers]
        for number, piece in distinct:
            wanted[kind][number].append(piece)
        for key, found in of_kind.items():
            none = [] if token_rule(key[1]).is_ragged else [-1]
            each = [number for pieces in found for number in ([slot[place] for place in pieces] or none)]
            slots[key] = np.array(each, dtype=np.int64)
    return Questions(
        texts=tuple(
            TextRequest(
                ids,
                positions=tuple(wanted["positions"][number]),
                means=tuple(wanted["means"][number]),
                logprobs=tuple(wanted["logprobs"][number]),
            )
            for ids, number in numbers.items()
        ),
        owners=tuple(map(tuple, owners)),
        slots=slots,
        counts={
            key: np.array([len(pieces) for pieces in found], dtype=np.int64)
            for key, found in places.items()
            if token_rule(key[1]).is_ragged
        },
    )


def n_tokens(text: TokenizedText | None, token: str) -> int:
    """How many tokens of a text a name means; of a mean, over how many it is. 0 where there is nothing to take."""
    return 0 if text is None else sum(end - start for start, end in token_rule(token).spans(text))


def _request_kind(rule: TokenRule) -> str:
    return "positions" if rule.kind == "tokens" else rule.kind


def _pieces(text: TokenizedText, rule: TokenRule) -> list[Any]:
    """What a text is asked for by a rule: positions, the spans of one mean, or the one span of a log-probability."""
    spans = rule.spans(text)
    if rule.kind in ("positions", "tokens"):
        return [position for start, end in spans for position in range(start, end)]
    if rule.kind == "means":
        return [spans] if spans else []
    return list(spans)


class ShardTensors:
    """Collects what batches give, in any order, until all texts are answered."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._slots: dict[str, list[Int[np.ndarray, " _"]]] = {}
        for kind in KINDS:
            edges = offsets_of([len(getattr(text, kind)) for text in questions.texts])
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
        """A shard: of each layer [response, ...] under its hook name; or the tensors of log-probabilities.

        Where each response has any number of tokens, of each layer [token, ...], and the `offsets` [response + 1] of
        the responses' tokens.
        """
        slots = torch.from_numpy(self._questions.slots[key.stimulus, key.token])
        if key.site == LOGPROB:
            counts = [0 if text is None else _scored(text) for text in tokenized[key.stimulus]]
            lengths = [0 if text is None else text.length for text in tokenized[key.stimulus]]
            return {
                "logprob": _rows(self._values.get(("logprobs", None), torch.zeros(0).double()), slots),
                "token_count": torch.tensor(counts, dtype=torch.int64),
                "text_length": torch.tensor(lengths, dtype=torch.int64),
            }
        tensors = {}
        for layer in layers:
            hook = (key.site, layer)
            # Where every response is empty there are vectors, but no mean; where all texts were skipped, a shape alone.
            places = [(_request_kind(token_rule(key.token)), hook), ("positions", hook), ("shape", hook)]
            values = next(self._values[place] for place in places if place in self._values)
            tensors[hook_name(*hook)] = _rows(values, slots)
        if (key.stimulus, key.token) in self._questions.counts:
            tensors[OFFSETS] = torch.from_numpy(offsets_of(self._questions.counts[key.stimulus, key.token]))
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


def _rows(values: Float[Tensor, "slot ..."], slots: Int[Tensor, " row"]) -> Float[Tensor, "row ..."]:
    """The value of each slot, zeros where there is none."""
    rows = torch.zeros(len(slots), *values.shape[1:], dtype=values.dtype)
    there = slots >= 0
    rows[there] = values[slots[there]]
    return rows
