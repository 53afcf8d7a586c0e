"""The names and files of a store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from repeng.distributions.chat import prompt_text
from repeng.distributions.schema import Example, Split
from repeng.locks import locked as locked
from repeng.places import Place

INDEX = "index.json"
PLAN = "plan.json"
WRITTEN = "written.jsonl"
CAPTURE = "capture.json"
SPLIT = "split.json"
LOGPROB = "logprob"
OFFSETS = "offsets"
"""In a shard of every token: where each response's tokens begin, and one past the last."""
SHARD_RESPONSES = 512
"""Responses in a shard, in whole examples."""
SHARD_CHARACTERS = 1 << 16
"""Characters in the texts of a shard, prompts counted for each response, in whole examples. A shard is made in memory,
with all its layers and every token where they are wanted; and a cluster hands out the texts of one at a time."""


class SplitKey(NamedTuple):
    """What a store keeps a split under."""

    distribution: str
    split: str
    data_hash: str


@dataclass(frozen=True)
class ActivationKey:
    """What a store keeps activations of a split under: one stimulus, site and token.

    Log-probabilities have the site `logprob` and no token. Of several roles a token names each once, in order.
    """

    stimulus: str
    site: str
    token: str = ""

    def __post_init__(self) -> None:
        place, _, roles = self.token.partition(":")
        if "+" in roles:
            object.__setattr__(self, "token", f"{place}:{'+'.join(sorted(set(roles.split('+'))))}")

    def __str__(self) -> str:
        """As in messages: `plain.resid_post.last`, `plain.resid_post.mean:user`, `plain.logprob`."""
        return ".".join(piece for piece in (self.stimulus, self.site, self.token) if piece)

    @property
    def folder(self) -> str:
        """The folder's name, in which a colon is written `%3A`: `plain.resid_post.mean%3Auser`."""
        return ".".join(piece for piece in (self.stimulus, self.site, file_name(self.token)) if piece)


@dataclass(frozen=True)
class MissingActivations:
    """Activations that are not in the store, or lack layers.

    Attributes:
        split: distribution, split, data hash.
        key: stimulus, site, token.
        layers: those that are missing.
    """

    split: SplitKey
    key: ActivationKey
    layers: tuple[int, ...]


def split_key(split: Split | SplitKey) -> SplitKey:
    """The key of a loaded split; a key is returned as it is."""
    return SplitKey(split.distribution, split.name, split.data_hash) if isinstance(split, Split) else split


def split_folder(capture: Place, split: Split | SplitKey) -> Place:
    """Where a split's activations are, under a capture's folder."""
    key = split_key(split)
    return capture / file_name(key.distribution) / f"{file_name(key.split)}.{key.data_hash}"


def file_name(name: str) -> str:
    """A name as a file's: what a file system may not take is written as %XX, so that no two names meet.

    `urllib.parse.unquote` is its inverse.
    """
    safe = quote(name, safe=" +-=@,()[]{}!~'&$")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def shard_file(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05d}.safetensors"


def blocks(split: Split, characters: int | None = None) -> list[range]:
    """The examples of each shard: whole ones, up to `SHARD_RESPONSES` responses, at least one example.

    Args:
        split: whose examples.
        characters: also up to so many in the texts of a shard, prompts counted for each response.
    """
    found: list[range] = []
    start = rows = size = 0
    for number, example in enumerate(split.examples):
        own = 0 if characters is None else _characters(example)
        full = rows + len(example.responses) > SHARD_RESPONSES or (characters is not None and size + own > characters)
        if number > start and full:
            found.append(range(start, number))
            start, rows, size = number, 0, 0
        rows, size = rows + len(example.responses), size + own
    if start < len(split.examples):
        found.append(range(start, len(split.examples)))
    return found


def n_characters(split: Split, examples: range) -> int:
    """Characters in the texts of some examples, prompts counted for each response."""
    return sum(_characters(split.examples[number]) for number in examples)


def _characters(example: Example) -> int:
    """Of all texts of an example."""
    return len(prompt_text(example.prompt)) * len(example.responses) + sum(map(len, example.responses))


def checksum(content: bytes) -> str:
    """The sha256 of a file's content."""
    return hashlib.sha256(content).hexdigest()
