"""Dividing examples into train and test by prompt, the same way every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from repeng.distributions.schema import Example, Prompt, prompt_value
from repeng.errors import BadData

TEST_SHARE = 0.2


def split_by_prompt(examples: Sequence[Example]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Train and test, about 80 to 20, in file order; examples of one prompt text stay together.

    Where a prompt goes depends only on its text, so rows that are added, removed or moved leave the others where
    they were. If one side would be empty, the prompt nearest to it is moved there.

    Raises:
        BadData: all examples have one prompt.
    """
    places = {example.prompt: prompt_place(example.prompt) for example in examples}
    if len(places) < 2:
        raise BadData("all examples have the same prompt, so they cannot be divided; give a train and a test file")
    ranked = sorted(places, key=lambda prompt: places[prompt])
    test = {prompt for prompt in ranked if places[prompt] < TEST_SHARE} or {ranked[0]}
    if len(test) == len(ranked):
        test.remove(ranked[-1])
    return (
        tuple(example for example in examples if example.prompt not in test),
        tuple(example for example in examples if example.prompt in test),
    )


def prompt_place(prompt: Prompt) -> float:
    """Where a prompt's hash falls between 0 and 1; below `TEST_SHARE` it is tested on."""
    digest = hashlib.sha256(json.dumps(prompt_value(prompt)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
