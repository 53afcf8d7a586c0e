"""What is asked of a model: examples, pairs, splits, distributions, shifts and benchmarks. All frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

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


Region = Literal["response", "all"]
"""What a label is of: the response, or the whole conversation, whose last turn is the response."""
PAIRED_GROUP = 32
"""Of an explicit group the most responses that are each other's rivals: a larger one is an author or a scenario."""


@dataclass(frozen=True)
class Example:
    """A prompt and its responses, each of which is right (label 1) or not (label 0).

    Where exactly one of several responses is right, `best` is its number. Otherwise it is the numbers of the right
    ones: several, or none. A labelled text such as a statement has an empty prompt and one response: `best` is `(0,)`
    where its label is 1 and `()` where it is 0.

    Attributes:
        prompt: a text or a chat; empty for a text that is labelled as a whole.
        responses: the texts that are labelled.
        best: the number of the right response, or of each right one, ascending.
        group: what is never parted and is resampled as one, such as a scenario or an author; by default the prompt.
        region: what the labels are of.
        metadata: what else the data says of it.

    Raises:
        BadData: no response or over a thousand, a response listed twice, or a right one that is not among them.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    best: int | tuple[int, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    group: str | None = None
    region: Region = "response"

    def __post_init__(self) -> None:
        if len(self.responses) > RESPONSES:
            raise BadData(f"{len(self.responses):,} responses; an example has at most {RESPONSES:,}")
        if len(set(self.responses)) < len(self.responses):
            twice = next(text for text in self.responses if self.responses.count(text) > 1)
            raise BadData(f"the response {twice[:60]!r} is listed twice; keep one of them")
        if isinstance(self.best, tuple):
            object.__setattr__(self, "best", tuple(sorted(self.best)))
            if len(self.responses) > 1 and len(self.best) == 1:
                object.__setattr__(self, "best", self.best[0])
            if not self.responses:
                raise BadData("no response; an example needs one or more")
        elif len(self.responses) < 2:
            raise BadData(f"{len(self.responses)} response(s); an example needs 2 or more")
        for number in self.right:
            if not 0 <= number < len(self.responses):
                raise BadData(f"best response number {number} is not one of {len(self.responses)} responses")

    @property
    def right(self) -> tuple[int, ...]:
        """The numbers of the right responses, ascending."""
        return self.best if isinstance(self.best, tuple) else (self.best,)

    @property
    def labels(self) -> tuple[float, ...]:
        """1.0 for each right response, 0.0 for the others."""
        return tuple(float(number in self.right) for number in range(len(self.responses)))

    @property
    def has_both(self) -> bool:
        """Whether right and wrong responses are among its own."""
        return 0 < len(self.right) < len(self.responses)

    @property
    def own_group(self) -> tuple[str, Prompt | tuple[str, ...]]:
        """What examples that belong together share: their group; else their prompt; else their texts."""
        if self.group is not None:
            return "group", self.group
        if self.prompt and self.region == "response":
            return "prompt", self.prompt
        return "texts", (json.dumps(prompt_value(self.prompt)), *self.responses)

    @property
    def fingerprint(self) -> list[Any]:
        """What its data hash is made of."""
        row: list[Any] = [prompt_value(self.prompt), self.responses, self.best]
        if self.group is not None or self.region != "response":
            row += [self.group, self.region]
        return row


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
        options: how it is named on the command line, by option: `data`, and where they were given `limit`, `columns`,
            `positive`, `turn` and `chat`; None where no option leads there.
    """

    place: str
    siblings: Mapping[str, str] = field(hash=False)
    options: Mapping[str, str] | None = field(default=None, hash=False)


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
        """1.0 for each right response, 0.0 for the others."""
        return np.array([label for example in self.examples for label in example.labels])

    @property
    def owners(self) -> tuple[str, ...]:
        """The distribution of each example, whose own a named group is."""
        return (self.distribution,) * len(self.examples)

    @cached_property
    def _shared(self) -> list[tuple[Any, ...]]:
        """What each example shares with those of its group."""
        return [
            (owner if example.group is not None else "", *example.own_group)
            for owner, example in zip(self.owners, self.examples, strict=True)
        ]

    @cached_property
    def groups(self) -> Int[np.ndarray, " example"]:
        """Group of each example, numbered by first appearance: `Example.own_group`, such as prompts of equal text."""
        seen: dict[Any, int] = {}
        return np.array([seen.setdefault(shared, len(seen)) for shared in self._shared], dtype=np.int64)

    @cached_property
    def has_one_prompt(self) -> bool:
        """Whether its examples, of which there are several, all have the same prompt, which then tells none apart."""
        prompts = {example.prompt if example.region == "response" else "" for example in self.examples}
        return len(self.examples) > 1 and len(prompts) == 1 and prompts != {""}

    @cached_property
    def units(self) -> Int[np.ndarray, " response"]:
        """What is never parted, of each response: its explicit group, known by the number of the group's first
        example; its example where it has none."""
        first: dict[tuple[str, str], int] = {}
        found = [
            number if example.group is None else first.setdefault((owner, example.group), number)
            for number, (owner, example) in enumerate(zip(self.owners, self.examples, strict=True))
        ]
        return np.array(found, dtype=np.int64)[self.response_example]

    @cached_property
    def rivals(self) -> Int[np.ndarray, " response"]:
        """Which responses compete with each other (`rivals_of`)."""
        return rivals_of(self.units, self.response_example)

    @cached_property
    def as_texts(self) -> bool:
        """Whether its examples are labelled texts: some example alone does not hold both labels."""
        return not all(example.has_both for example in self.examples)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every (right, one wrong) among rivals, in the order of `maths.all_pairs`."""
        rows = all_pairs(self.labels, self.rivals)
        examples = self.response_example[rows[:, 0]]
        groups = self.groups[examples]
        columns = (examples.tolist(), groups.tolist(), rows[:, 0].tolist(), rows[:, 1].tolist())
        return tuple(Pair(*values) for values in zip(*columns, strict=True))

    @cached_property
    def data_hash(self) -> str:
        """Twelve hex digits over texts and labels: the DATAHASH in a store's paths (docs/store.md)."""
        digest = hashlib.sha256()
        for example in self.examples:
            digest.update(json.dumps(example.fingerprint, ensure_ascii=True).encode())
            digest.update(b"\n")
        return digest.hexdigest()[:12]

    @cached_property
    def prompt_hashes(self) -> tuple[str, ...]:
        """Sixteen hex digits over what each group shares, by its number; an explicit group is its distribution's."""
        texts = (
            json.dumps(prompt_value(shared) if kind == "prompt" else [kind, owner, shared], ensure_ascii=True)
            for owner, kind, shared in dict.fromkeys(self._shared)
        )
        return tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)

    def read_at(self, origin: Origin) -> Split:
        """The split with where it was read; what its examples gave already, such as their hash, stays known."""
        found = copy(self)
        object.__setattr__(found, "origin", origin)
        return found

    def first(self, limit: int | None) -> Split:
        """The first `limit` examples; all of them for None. What is cut no longer knows where it was read."""
        if limit is None or limit >= len(self.examples):
            return self
        return replace(self, examples=self.examples[:limit], origin=None)


def rivals_of(
    units: Int[np.ndarray, " response"], examples: Int[np.ndarray, " response"]
) -> Int[np.ndarray, " response"]:
    """Which responses compete: those of an example, or of an explicit group of at most `PAIRED_GROUP` responses.

    Args:
        units: `Split.units`.
        examples: the example of each response.
    """
    if not len(units):
        return examples
    return np.where(np.bincount(units)[units] <= PAIRED_GROUP, units, examples)


@dataclass(frozen=True, eq=False)
class ResponseLabels:
    """What is known of a split's responses besides their texts, in file order.

    Attributes:
        name: the distribution and split, for messages.
        labels: 1.0 for a right response, 0.0 for the others.
        units: what is never parted: `Split.units`, the examples where no group is given.
        rivals: which responses compete with each other: `Split.rivals`, the examples where no group is given.
        groups: the prompt group of each response.
        as_texts: whether they are labelled texts, some of which have no rival in their example.
    """

    name: str
    labels: Float[np.ndarray, " response"]
    units: Int[np.ndarray, " response"]
    rivals: Int[np.ndarray, " response"]
    groups: Int[np.ndarray, " response"]
    as_texts: bool = False

    @classmethod
    def of(cls, split: Split) -> ResponseLabels:
        """Those of a loaded split."""
        groups = split.groups[split.response_example]
        name = f"{split.distribution}/{split.name}"
        return cls(name, split.labels, split.units, split.rivals, groups, split.as_texts)

    @classmethod
    def of_rows(
        cls,
        name: str,
        labels: Float[np.ndarray, " response"],
        *,
        examples: Int[np.ndarray, " response"],
        units: Int[np.ndarray, " response"],
        groups: Int[np.ndarray, " response"],
    ) -> ResponseLabels:
        """Those of a split that is only known from a store; examples are numbered from 0, none left out."""
        right, of_all = np.bincount(examples, labels), np.bincount(examples)
        as_texts = bool(((right == 0) | (right == of_all)).any())
        return cls(name, labels, units, rivals_of(units, examples), groups, as_texts)

    @cached_property
    def pairs(self) -> Int[np.ndarray, "pair 2"]:
        """Rows (best, worse) of every pair, in file order."""
        return all_pairs(self.labels, self.rivals)


@dataclass(frozen=True)
class Distribution:
    """A named distribution of instructions and its splits, usually `train` and `test`."""

    name: str
    splits: Mapping[str, Split] = field(hash=False)

    @classmethod
    def read_from(
        cls, place: str, name: str, splits: Mapping[str, Split], options: Mapping[str, str] | None = None
    ) -> Distribution:
        """A distribution each of whose splits knows where it was read, and the others' data hashes."""
        origin = Origin(place, {name: split.data_hash for name, split in splits.items()}, options)
        return cls(name, {name: split.read_at(origin) for name, split in splits.items()})

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
