"""What is asked of a model: examples, pairs, splits, distributions, shifts and benchmarks. All frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from repeng.errors import BadData, UnknownName
from repeng.limits import RESPONSES
from repeng.maths import all_pairs


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""A prompt is a text that ends where the response begins, or a chat that the tokenizer's template turns into one."""


def prompt_value(prompt: Prompt) -> str | list[list[str]]:
    """The prompt as plain values to be hashed: a text, or the (role, content) of each message."""
    return prompt if isinstance(prompt, str) else [[message.role, message.content] for message in prompt]


@dataclass(frozen=True)
class Pair:
    """The best response and one worse, by their row among all responses of the split (examples in order, each
    one's responses in order)."""

    example: int
    group: int
    best: int
    worse: int


@dataclass(frozen=True)
class Example:
    """A prompt and its responses, exactly one of which is best.

    Raises:
        BadData: fewer than two responses or over a thousand, a response listed twice, or not exactly one best.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    best: int
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.responses) < 2:
            raise BadData(f"{len(self.responses)} response(s); an example needs 2 or more")
        if len(self.responses) > RESPONSES:
            raise BadData(f"{len(self.responses):,} responses; an example has at most {RESPONSES:,}")
        if len(set(self.responses)) < len(self.responses):
            twice = next(text for text in self.responses if self.responses.count(text) > 1)
            raise BadData(f"the response {twice[:60]!r} is listed twice; keep one of them")
        if not 0 <= self.best < len(self.responses):
            raise BadData(f"best response number {self.best} is not one of {len(self.responses)} responses")


@dataclass(frozen=True)
class Question:
    """A prompt and its responses. Which one is best is not said."""

    prompt: Prompt
    responses: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where a split was read, and what was read with it.

    Attributes:
        place: a file or folder by its absolute path, a hub dataset, or the name of an embedded benchmark.
        siblings: the data hash of every split of the distribution that was read there, this one's among them.
    """

    place: str
    siblings: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True)
class Split:
    """The examples of one split of one distribution, in file order.

    Attributes:
        origin: where it was read; None for one that was made in memory.
    """

    distribution: str
    name: str
    examples: tuple[Example, ...]
    origin: Origin | None = field(default=None, compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((self.distribution, self.name, self.data_hash))

    @property
    def n_responses(self) -> int:
        """Number of responses over all examples: the rows of every stored tensor."""
        return sum(len(example.responses) for example in self.examples)

    @cached_property
    def offsets(self) -> Int[np.ndarray, " example"]:
        """The row of each example's first response."""
        counts = [len(example.responses) for example in self.examples]
        return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)

    @cached_property
    def response_example(self) -> Int[np.ndarray, " response"]:
        """The example that each response belongs to."""
        return np.repeat(np.arange(len(self.examples)), [len(example.responses) for example in self.examples])

    @cached_property
    def labels(self) -> Float[np.ndarray, " response"]:
        """1.0 for each example's best response, 0.0 for the others."""
        labels = np.zeros(self.n_responses)
        labels[self.offsets + np.array([example.best for example in self.examples])] = 1.0
        return labels

    @cached_property
    def groups(self) -> Int[np.ndarray, " example"]:
        """Prompt group of each example: prompts of equal text share one, numbered by first appearance."""
        seen: dict[Prompt, int] = {}
        return np.array([seen.setdefault(example.prompt, len(seen)) for example in self.examples], dtype=np.int64)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every (best, one worse), examples in order, each one's worse responses in order."""
        return tuple(
            Pair(number, int(group), int(offset) + example.best, int(offset) + other)
            for number, (example, offset, group) in enumerate(
                zip(self.examples, self.offsets, self.groups, strict=True)
            )
            for other in range(len(example.responses))
            if other != example.best
        )

    @cached_property
    def data_hash(self) -> str:
        """Twelve hex digits over texts and labels: the DATAHASH in a store's paths (docs/store.md)."""
        digest = hashlib.sha256()
        for example in self.examples:
            row = [prompt_value(example.prompt), example.responses, example.best]
            digest.update(json.dumps(row, ensure_ascii=True).encode())
            digest.update(b"\n")
        return digest.hexdigest()[:12]

    @cached_property
    def prompt_hashes(self) -> tuple[str, ...]:
        """Sixteen hex digits over each prompt group's prompt, by the group's number."""
        prompts = dict.fromkeys(example.prompt for example in self.examples)
        texts = (json.dumps(prompt_value(prompt), ensure_ascii=True) for prompt in prompts)
        return tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)

    def first(self, limit: int | None) -> Split:
        """The first `limit` examples; all of them for None. What is cut no longer knows where it was read."""
        if limit is None or limit >= len(self.examples):
            return self
        return replace(self, examples=self.examples[:limit], origin=None)


@dataclass(frozen=True, eq=False)
class ResponseLabels:
    """What is known of a split's responses besides their texts, in file order.

    Attributes:
        name: the distribution and split, for messages.
        labels: 1.0 for an example's best response, 0.0 for the others.
        examples: the example of each response.
        groups: the prompt group of each response.
    """

    name: str
    labels: Float[np.ndarray, " response"]
    examples: Int[np.ndarray, " response"]
    groups: Int[np.ndarray, " response"]

    @classmethod
    def of(cls, split: Split) -> ResponseLabels:
        """Those of a loaded split."""
        examples = split.response_example
        return cls(f"{split.distribution}/{split.name}", split.labels, examples, split.groups[examples])

    @cached_property
    def pairs(self) -> Int[np.ndarray, "pair 2"]:
        """Rows (best, worse) of every pair, in file order."""
        return all_pairs(self.labels, self.examples)


@dataclass(frozen=True)
class Distribution:
    """A named distribution of instructions and its splits, usually `train` and `test`."""

    name: str
    splits: Mapping[str, Split] = field(hash=False)

    @classmethod
    def read_from(cls, place: str, name: str, splits: Mapping[str, Split]) -> Distribution:
        """A distribution each of whose splits knows where it was read, and the others' data hashes."""
        origin = Origin(place, {name: split.data_hash for name, split in splits.items()})
        return cls(name, {name: replace(split, origin=origin) for name, split in splits.items()})

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            UnknownName: the distribution has no such split.
        """
        if name not in self.splits:
            raise UnknownName(f"split of {self.name}", name, self.splits)
        return self.splits[name]

    @property
    def train(self) -> Split:
        """What is fitted on."""
        return self.split("train")

    @property
    def test(self) -> Split:
        """What is scored on."""
        return self.split("test")


@dataclass(frozen=True)
class Shift:
    """Fitted on `source`, tested on `target`. `target_reference` is the target with its spurious cue removed."""

    source: str
    target: str
    target_reference: str = ""
    label: str = ""
    category: str = ""

    def __post_init__(self) -> None:
        if not self.target_reference:
            object.__setattr__(self, "target_reference", self.target)


@dataclass(frozen=True)
class Benchmark:
    """A named list of shifts. Rows may repeat; means keep the repeats, as published ones do."""

    name: str
    shifts: tuple[Shift, ...]

    @property
    def distributions(self) -> tuple[str, ...]:
        """Every distribution that a shift names, sorted."""
        return tuple(sorted({n for s in self.shifts for n in (s.source, s.target, s.target_reference)}))

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source, sorted."""
        return tuple(sorted({shift.source for shift in self.shifts}))
