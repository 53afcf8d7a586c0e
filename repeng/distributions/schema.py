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
        BadData: fewer than two responses, a response listed twice, or not exactly one best.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    best: int
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.responses) < 2:
            raise BadData(f"{len(self.responses)} response(s); an example needs 2 or more")
        if len(set(self.responses)) < len(self.responses):
            twice = next(text for text in self.responses if self.responses.count(text) > 1)
            raise BadData(f"the response {twice[:60]!r} is listed twice; keep one of them")
        if not 0 <= self.best < len(self.responses):
            raise BadData(f"best response number {self.best} is not one of {len(self.responses)} responses")


@dataclass(frozen=True)
class Split:
    """The examples of one split of one distribution, in file order."""

    distribution: str
    name: str
    examples: tuple[Example, ...]

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

    def first(self, limit: int | None) -> Split:
        """The first `limit` examples; all of them for None."""
        return self if limit is None else replace(self, examples=self.examples[:limit])


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


@dataclass(frozen=True)
class Distribution:
    """A named distribution of instructions and its splits, usually `train` and `test`."""

    name: str
    splits: Mapping[str, Split] = field(hash=False)

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
