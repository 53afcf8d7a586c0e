"""From the tokenized texts of some examples to what the model is asked, and from its answers to a shard's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.activations.layouts.batch import Chunk, Hook, Span, TextRequest
from repeng.activations.store.files import LOGPROB, ActivationKey
from repeng.distributions.schema import Split
from repeng.errors import NonFinite
from repeng.models.sites import hook_name
from repeng.models.tokens import TokenizedText

Tokenized = Mapping[str, Sequence[TokenizedText | None]]
"""Of each stimulus the texts of some responses, None for one that was skipped."""
Slots = Int[np.ndarray, " response"]
"""Where each response's value stands among all values of its kind; -1 where it has none."""


@dataclass(frozen=True)
class Questions:
    """The distinct texts of some responses, and where the answers belong.

    Attributes:
        texts: distinct by their ids, in the order of stimuli and responses; they do not depend on what is wanted.
        owners: of each text, every (stimulus, response) that has it.
        positions: of each stimulus and token, the slot of each response's vector.
        means: of each stimulus, the slot of each response's mean.
        logprobs: of each stimulus, the slot of each response's log-probability.
    """

    texts: tuple[TextRequest, ...]
    owners: tuple[tuple[tuple[str, int], ...], ...]
    positions: dict[tuple[str, str], Slots]
    means: dict[str, Slots]
    logprobs: dict[str, Slots]

    def slots(self, part: ActivationKey) -> Slots:
        """The slots of a part's rows."""
        if part.site == LOGPROB:
            return self.logprobs[part.stimulus]
        if part.token == "response_mean":
            return self.means[part.stimulus]
        return self.positions[part.stimulus, part.token]


def ask(tokenized: Tokenized, parts: Sequence[ActivationKey]) -> Questions:
    """Put together what must be asked for some parts. Every text of `tokenized` is among the texts, wanted or not."""
    numbers: dict[tuple[int, ...], int] = {}
    owners: list[list[tuple[str, int]]] = []
    for stimulus, texts in tokenized.items():
        for row, text in enumerate(texts):
            if text is not None:
                number = numbers.setdefault(tuple(text.ids), len(numbers))
                if number == len(owners):
                    owners.append([])
                owners[number].append((stimulus, row))
    places: dict[tuple[str, str], list[tuple[int, Span] | None]] = {}
    for part in parts:
        key = (part.stimulus, _kind(part))
        places[key] = [
            None if text is None or (span := _span(text, key[1])) is None else (numbers[tuple(text.ids)], span)
            for text in tokenized[part.stimulus]
        ]
    positions = _Slots.of([(key, found) for key, found in places.items() if key[1] in ("last", "prompt_last")], numbers)
    means = _Slots.of([(key, found) for key, found in places.items() if key[1] == "response_mean"], numbers)
    logprobs = _Slots.of([(key, found) for key, found in places.items() if key[1] == LOGPROB], numbers)
    return Questions(
        texts=tuple(
            TextRequest(
                ids,
                positions=tuple(start for start, _ in positions.spans[number]),
                means=tuple(means.spans[number]),
                logprobs=tuple(logprobs.spans[number]),
            )
            for ids, number in numbers.items()
        ),
        owners=tuple(map(tuple, owners)),
        positions=positions.slots,
        means={stimulus: slots for (stimulus, _), slots in means.slots.items()},
        logprobs={stimulus: slots for (stimulus, _), slots in logprobs.slots.items()},
    )


def is_blank(text: TokenizedText | None, part: ActivationKey) -> bool:
    """Whether a part has nothing to take of a text: no prompt token, or the mean over no token."""
    return text is not None and _span(text, _kind(part)) is None


def _kind(part: ActivationKey) -> str:
    return part.token or LOGPROB


def _span(text: TokenizedText, kind: str) -> Span | None:
    """The tokens of a text that are wanted."""
    if kind == "last":
        return text.last, text.last + 1
    if kind == "prompt_last":
        return (text.prompt_last, text.prompt_last + 1) if text.prompt_last >= 0 else None
    if kind == "response_mean" and text.response_start == text.response_end:
        return None
    return text.response_start, text.response_end


@dataclass(frozen=True)
class _Slots:
    """Each text's distinct spans in ascending order, and where each response's is among all of them."""

    spans: list[list[Span]]
    slots: dict[tuple[str, str], Slots]

    @classmethod
    def of(
        cls,
        places: Sequence[tuple[tuple[str, str], list[tuple[int, Span] | None]]],
        numbers: Mapping[tuple[int, ...], int],
    ) -> _Slots:
        wanted: list[set[Span]] = [set() for _ in numbers]
        for _, found in places:
            for place in found:
                if place is not None:
                    wanted[place[0]].add(place[1])
        spans = [sorted(some) for some in wanted]
        first = np.cumsum([0, *map(len, spans)])
        slot = {
            (number, span): int(first[number]) + index
            for number, some in enumerate(spans)
            for index, span in enumerate(some)
        }
        return cls(
            spans,
            {
                key: np.array([-1 if place is None else slot[place] for place in found], dtype=np.int64)
                for key, found in places
            },
        )


class ShardTensors:
    """Collects what batches give, in any order, until all texts are answered."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        texts = questions.texts
        self._position_slots = _ranges([len(text.positions) for text in texts])
        self._mean_slots = _ranges([len(text.means) for text in texts])
        self._logprob_slots = _ranges([len(text.logprobs) for text in texts])
        self._vectors: dict[Hook, Tensor] = {}
        self._means: dict[Hook, Tensor] = {}
        self._shapes: dict[Hook, Tensor] = {}
        self._logprobs = np.zeros(sum(len(text.logprobs) for text in texts))

    def add(self, chunk: Chunk) -> None:
        """Take in what a batch gave.

        Raises:
            NonFinite: a value is infinite or not a number. The message names the lowest such layer.
        """
        for kept, new, slots in (
            (self._vectors, chunk.vectors, self._position_slots),
            (self._means, chunk.means, self._mean_slots),
        ):
            here = np.concatenate([np.zeros(0, dtype=np.int64), *(slots[text] for text in chunk.texts)])
            total = sum(map(len, slots))
            for hook in sorted(new, key=lambda hook: (hook[1], hook[0])):
                values = new[hook]
                finite = torch.isfinite(values).flatten(1).all(1)
                if not finite.all():
                    owner = np.repeat(chunk.texts, [len(slots[text]) for text in chunk.texts])
                    self._refuse(hook_name(*hook), int(owner[int(finite.int().argmin())]))
                if hook not in kept:
                    kept[hook] = torch.zeros(total, *values.shape[1:], dtype=values.dtype)
                kept[hook][torch.from_numpy(here)] = values
        if len(chunk.logprobs):
            here = np.concatenate([self._logprob_slots[text] for text in chunk.texts])
            if not np.isfinite(chunk.logprobs).all():
                owner = np.repeat(chunk.texts, [len(self._logprob_slots[text]) for text in chunk.texts])
                self._refuse("the log-probability", int(owner[int(np.isfinite(chunk.logprobs).argmin())]))
            self._logprobs[here] = chunk.logprobs

    def learn_shapes(self, chunk: Chunk) -> None:
        """Take from a batch of any text the shape of each hook's vectors, for a shard whose texts were all skipped."""
        self._shapes = {hook: values[:0] for hook, values in chunk.vectors.items()}

    def tensors(self, part: ActivationKey, layers: Sequence[int], tokenized: Tokenized) -> dict[str, Tensor]:
        """A part's shard: of each layer [response, ...] under its hook name; or the tensors of log-probabilities."""
        slots = torch.from_numpy(self._questions.slots(part))
        if part.site == LOGPROB:
            counts = [0 if text is None else _scored(text) for text in tokenized[part.stimulus]]
            totals = torch.from_numpy(self._logprobs)
            lengths = [0 if text is None else len(text.ids) for text in tokenized[part.stimulus]]
            return {
                "logprob": _rows(totals, slots),
                "token_count": torch.tensor(counts, dtype=torch.int64),
                "text_length": torch.tensor(lengths, dtype=torch.int64),
            }
        source = self._means if part.token == "response_mean" else self._vectors
        # Where every response is empty there are vectors, but no mean.
        like = {**self._shapes, **self._vectors, **source}
        return {hook_name(part.site, layer): _rows(like[part.site, layer], slots) for layer in layers}

    def _refuse(self, what: str, text: int) -> None:
        stimulus, row = self._questions.owners[text][0]
        raise NonFiniteRow(what, stimulus, row)


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


def _ranges(lengths: Sequence[int]) -> list[Int[np.ndarray, " _"]]:
    edges = np.cumsum([0, *lengths])
    return [np.arange(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]


def _rows(values: Float[Tensor, "slot ..."], slots: Int[Tensor, " response"]) -> Float[Tensor, "response ..."]:
    """Each response's value, zeros where it has none."""
    rows = torch.zeros(len(slots), *values.shape[1:], dtype=values.dtype)
    there = slots >= 0
    rows[there] = values[slots[there]]
    return rows
