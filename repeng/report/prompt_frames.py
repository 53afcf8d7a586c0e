"""What (nearly) all prompts of a distribution begin and end with, found from the prompts themselves."""

from __future__ import annotations

import os.path
from collections.abc import Iterable

NEARLY_ALL = 0.9
SOME = 0.1
FEWEST = 3
"""Distinct texts, under which nothing is a frame rather than a coincidence."""
LONG = 40
"""Characters of a line; a shorter part of a line is no frame, and a sentence stays whole."""


def prompt_frames(texts: Iterable[str]) -> dict[str, list[str]]:
    """The `beginnings` and `endings` that texts share, longest first: a text without them is what sets it apart.

    What a tenth or more share counts as far as it is whole lines, since a distribution may have several templates. What
    nearly all share may also be a long part of a line. Equal texts count once.
    """
    distinct = sorted(set(texts))
    turned = (text[::-1] for text in distinct)
    endings = [ending[::-1] for ending in _beginnings(sorted(turned))]
    return {"beginnings": _beginnings(distinct), "endings": endings}


def _beginnings(ordered: list[str]) -> list[str]:
    count = len(ordered)
    if count < FEWEST:
        return []
    of_some = map(_whole_lines, _shared(ordered, max(FEWEST, round(SOME * count))))
    of_all = max(_shared(ordered, round(NEARLY_ALL * count)), key=len)
    part = of_all[len(_whole_lines(of_all)) :]
    of_all = of_all[: of_all.rfind(" ") + 1] if len(part) > LONG and " " in part else _whole_lines(of_all)
    return sorted({of_all, *of_some} - {""}, key=lambda text: (-len(text), text))


def _shared(ordered: list[str], number: int) -> Iterable[str]:
    """The longest beginning of every so many texts that stand next to each other."""
    for first in range(len(ordered) - number + 1):
        yield os.path.commonprefix([ordered[first], ordered[first + number - 1]])


def _whole_lines(text: str) -> str:
    return text[: text.rfind("\n") + 1]
