"""Which test examples stand in a train split that a method is fitted on: to the letter, nearly, or inside a text.

Texts alone are read, never which response is best. Of a labelled text, which has no prompt, the text is compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool

from repeng.distributions.near_texts import Inside, Words, contents, near_contents, words_of
from repeng.distributions.schema import Example, Message, Prompt, Split

Kind = Literal["exact", "near", "inside", "group"]


@dataclass(frozen=True)
class Match:
    """A test example that stands in a train split. Of several kinds that hold of one the first counts.

    Attributes:
        kind: `exact`, the prompt is one of the train split's to the letter; `near`, it is one but for its template,
            case and punctuation, or nearly; `inside`, it stands in a longer prompt, or in one with its response;
            `group`, it is of a named group that the train split of the same distribution has too.
        test: number of the example in the test split.
        train: number of the most alike example in the train split.
        similarity: of the two prompts, as `near_texts` has it; of `inside` the share of the prompt that stands there;
            0 of `group`.
        response: whether a response of the one is among the other's too.
    """

    kind: Kind
    test: int
    train: int
    similarity: float
    response: bool


@dataclass(frozen=True)
class Overlap:
    """What of a test split stands in a train split, one match an example, in their order."""

    train: Split
    test: Split
    matches: tuple[Match, ...]

    @property
    def by_prompt(self) -> bool:
        """Whether prompts are compared, and not the responses to the one prompt that all examples have."""
        return not (self.train.has_one_prompt and self.test.has_one_prompt)

    def of_kind(self, kind: Kind) -> tuple[Match, ...]:
        """The matches of one kind."""
        return tuple(match for match in self.matches if match.kind == kind)

    @cached_property
    def examples(self) -> Bool[np.ndarray, " example"]:
        """Whether each test example stands in the train split."""
        found = np.zeros(len(self.test.examples), dtype=bool)
        found[[match.test for match in self.matches]] = True
        return found


def compared(example: Example, *, prompt: bool = True) -> Prompt:
    """What of an example is compared: its prompt; of a labelled text, which has none, the text; of a conversation that
    is labelled as a whole all of it.

    Args:
        example: of a split.
        prompt: False where its prompt is that of every example: then the responses are.
    """
    if not prompt:
        return "\n".join(sorted(example.responses))
    if isinstance(example.prompt, tuple) and example.region == "all":
        return example.prompt + tuple(Message("assistant", text) for text in example.responses if text)
    return example.prompt or "\n".join(example.responses)


class _Prompts:
    """The distinct prompts of a split: their words, what they say besides the template, and their examples.

    Where the two splits that are compared have one prompt for all examples, their responses stand for it.
    """

    def __init__(self, split: Split, by_prompt: bool = True) -> None:
        self.split, self.by_prompt = split, by_prompt
        self.examples: dict[Prompt, list[int]] = defaultdict(list)
        for number in range(len(split.examples)):
            self.examples[self.compared(number)].append(number)
        self.words: dict[Prompt, Words] = {prompt: words_of(text_of(prompt)) for prompt in self.examples}
        distinct = list(dict.fromkeys(self.words.values()))
        self.content: dict[Words, Words] = dict(zip(distinct, contents(distinct), strict=True))
        self.by_words: dict[Words, list[Prompt]] = defaultdict(list)
        self.by_content: dict[Words, list[Prompt]] = defaultdict(list)
        for prompt, words in self.words.items():
            self.by_words[words].append(prompt)
            self.by_content[self.content[words]].append(prompt)

    def compared(self, number: int) -> Prompt:
        """What of an example is compared."""
        return compared(self.split.examples[number], prompt=self.by_prompt)

    def answered(self, number: int) -> tuple[str, ...]:
        """Its responses, where they are something besides what is compared."""
        example = self.split.examples[number]
        whole = isinstance(example.prompt, tuple) and example.region == "all"
        return example.responses if example.prompt and not whole and self.by_prompt else ()


def text_of(prompt: Prompt) -> str:
    """A prompt's text; of a chat its messages."""
    return prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)


def said(split: Split, number: int, *, by_prompt: bool = True) -> str:
    """What an example's prompt says besides the template of its split, in the words that are compared."""
    known = _Prompts(split, by_prompt)
    words = known.words[known.compared(number)]
    return " ".join(known.content[words] or words)


def find_overlaps(fitted: Iterable[tuple[Split, Split]]) -> list[Overlap]:
    """Of (train, test): every two that overlap, those with the largest share of the test split first."""
    by_prompt = {(train, test): Overlap(train, test, ()).by_prompt for train, test in fitted}
    trains = {key: _Prompts(*key) for key in dict.fromkeys((pair[0], kind) for pair, kind in by_prompt.items())}
    tests = {key: _Prompts(*key) for key in dict.fromkeys((pair[1], kind) for pair, kind in by_prompt.items())}
    asked = dict.fromkeys(content for test in tests.values() for content in test.by_content)
    near = near_contents(asked, [content for train in trains.values() for content in train.by_content])
    inside = Inside(asked)
    standing = {
        key: inside.standing_in(
            [
                (known.words[known.compared(number)], known.answered(number) or ("",))
                for number in range(len(known.split.examples))
            ]
        )
        for key, known in trains.items()
    }
    found = []
    for (train, test), kind in by_prompt.items():
        own = _matches(trains[train, kind], tests[test, kind], near, standing[train, kind])
        matches = tuple(sorted([*own, *_of_shared_groups(train, test, own)], key=lambda match: match.test))
        if matches:
            found.append(Overlap(train, test, matches))
    return sorted(found, key=lambda one: -len(one.matches) / len(one.test.examples))


def shared_groups(train: Split, test: Split) -> dict[tuple[str, str], int]:
    """The named groups that are in both splits, each with the number of its first train example.

    A group is its distribution's own, and known by that and its name.
    """
    first: dict[tuple[str, str], int] = {}
    for number, group in enumerate(named_groups(train)):
        if group is not None:
            first.setdefault(group, number)
    asked = {*named_groups(test)}
    return {group: number for group, number in first.items() if group in asked}


def named_groups(split: Split) -> list[tuple[str, str] | None]:
    """The named group of each example, with its distribution; None where it has none."""
    return [
        None if example.group is None else (owner, example.group)
        for owner, example in zip(split.owners, split.examples, strict=True)
    ]


def _of_shared_groups(train: Split, test: Split, known: Sequence[Match]) -> list[Match]:
    """The test examples of shared groups, besides those that stand there by their texts."""
    shared, taken = shared_groups(train, test), {match.test for match in known}
    return [
        Match("group", number, shared[group], 0.0, False)
        for number, group in enumerate(named_groups(test))
        if group is not None and group in shared and number not in taken
    ]


def _matches(
    train: _Prompts,
    test: _Prompts,
    near: Mapping[Words, Sequence[tuple[float, Words]]],
    standing: Mapping[Words, tuple[float, int]],
) -> list[Match]:
    found = []
    for prompt, numbers in test.examples.items():
        kind, alike, examples = _most_alike(prompt, train, test, near, standing)
        offered = {number: _responses(train, number) for number in examples} if examples else {}
        for number in numbers if examples else ():
            own = _responses(test, number)
            shared = next((known for known, theirs in offered.items() if own & theirs), None)
            of_train = examples[0] if shared is None else shared
            found.append(Match(kind, number, of_train, alike, shared is not None))
    return sorted(found, key=lambda match: match.test)


def _most_alike(
    prompt: Prompt,
    train: _Prompts,
    test: _Prompts,
    near: Mapping[Words, Sequence[tuple[float, Words]]],
    standing: Mapping[Words, tuple[float, int]],
) -> tuple[Kind, float, list[int]]:
    """How a prompt stands in a train split, how similar it is, and the train examples of the prompt most like it."""
    if prompt in train.examples:
        return "exact", 1.0, train.examples[prompt]
    words = test.words[prompt]
    if words and words in train.by_words:
        return "near", 1.0, [number for same in train.by_words[words] for number in train.examples[same]]
    content = test.content[words]
    alike = max(((share, known) for share, known in near.get(content, ()) if known in train.by_content), default=None)
    if alike is not None:
        return "near", alike[0], [number for one in train.by_content[alike[1]] for number in train.examples[one]]
    if content in standing:
        share, number = standing[content]
        return "inside", share, [number]
    return "inside", 0.0, []


def _responses(known: _Prompts, number: int) -> set[Words]:
    """The words of each response; none of what is compared itself, such as a labelled text."""
    return {words for response in known.answered(number) if (words := words_of(response))}
