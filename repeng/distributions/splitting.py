"""Dividing examples into train and test by prompt, the same way every time."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence

from repeng.distributions.schema import Example, Prompt, prompt_value
from repeng.errors import BadData

logger = logging.getLogger(__name__)

TEST_SHARE = 0.2


def split_by_prompt(
    examples: Sequence[Example], *, warn: bool = True
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Train and test, about 80 to 20, in file order; examples of one group stay together: of one prompt text, unless
    the data names groups.

    Where a group goes depends only on what it shares, so rows that are added, removed or moved leave the others where
    they were. If one side would be empty, the group nearest to it is moved there. Where all examples have one prompt,
    they are divided by their responses, and a warning says so.

    Args:
        examples: of one file.
        warn: whether it does, which who only checks the data leaves to who loads it.

    Raises:
        BadData: there is one example, or all are of one named group.
    """
    groups = [example.own_group for example in examples]
    if len(set(groups)) < 2 and groups and groups[0][0] == "prompt":
        groups = [("texts", example.responses) for example in examples]
        if warn:
            logger.warning(
                "all %d examples have the same prompt, so they are divided into train and test one by one; where some "
                "belong together, name a column of what does with --group",
                len(examples),
            )
    places = {group: _place(group) for group in groups}
    if len(places) < 2:
        same = "are of the same group" if groups and groups[0][0] == "group" else "have the same prompt and responses"
        raise BadData(f"all examples {same}, so they cannot be divided; give a train and a test file")
    ranked = sorted(places, key=lambda group: places[group])
    test = {group for group in ranked if places[group] < TEST_SHARE} or {ranked[0]}
    if len(test) == len(ranked):
        test.remove(ranked[-1])
    belongs = [group in test for group in groups]
    return (
        tuple(example for example, is_test in zip(examples, belongs, strict=True) if not is_test),
        tuple(example for example, is_test in zip(examples, belongs, strict=True) if is_test),
    )


def prompt_place(prompt: Prompt) -> float:
    """Where a prompt's hash falls between 0 and 1; below `TEST_SHARE` it is tested on."""
    return _between_0_and_1(prompt_value(prompt))


def _place(group: tuple[str, Prompt | tuple[str, ...]]) -> float:
    kind, shared = group
    return prompt_place(shared) if kind == "prompt" else _between_0_and_1([kind, shared])  # type: ignore[arg-type]


def _between_0_and_1(value: object) -> float:
    digest = hashlib.sha256(json.dumps(value).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
