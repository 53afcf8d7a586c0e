"""A world of four small distributions, written as GENIES folders, and what running a study on it needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from repeng.distributions.load import write_genies
from repeng.distributions.schema import Distribution, Example, Shift, Split

GOOD = ("Mars", "Jupiter", "Madrid", "the waves", "a poem", "Venus", "a sum")
BAD = ("no idea", "nothing", "nobody knows", "never mind", "who cares")
NAMES = ("easy", "hard", "polite", "terse")
SHIFTS = (
    Shift("easy", "hard", label="extreme", category="difficulty"),
    Shift("easy", "polite", label="probing", category="style"),
    Shift("polite", "terse", "hard", label="probing", category="style"),
)


def example(name: str, split: str, number: int) -> Example:
    """A prompt of its own with 2, 3 or 4 responses, the best one anywhere among them."""
    good = f"The answer is {GOOD[number % 7]}, of course."
    worse = [f"I say {BAD[(number + place) % 5]} {place}." for place in range(1 + number % 3)]
    best = number % (len(worse) + 1)
    prompt = f"### Instruction:\nWhich {name} planet has number {number} of {split}?\n\n### Response:\n"
    return Example(prompt, (*worse[:best], good, *worse[best:]), best)


def split_of(name: str, split: str, count: int = 24) -> Split:
    return Split(name, split, tuple(example(name, split, number) for number in range(count)))


def world(count: int = 24) -> dict[str, Distribution]:
    """Every distribution by name."""
    return {name: Distribution(name, {s: split_of(name, s, count) for s in ("train", "test")}) for name in NAMES}


def write_world(folder: Path, distributions: Mapping[str, Distribution], shifts: tuple[Shift, ...] = SHIFTS) -> Path:
    """FOLDER/data with the distributions, and FOLDER/shifts.json."""
    for distribution in distributions.values():
        write_genies(distribution, folder / "data")
    (folder / "shifts.json").write_text(json.dumps([asdict(shift) for shift in shifts]))
    return folder


def with_split(
    distributions: Mapping[str, Distribution], name: str, split: str, change: Callable[[Example], Example]
) -> dict[str, Distribution]:
    """The distributions with every example of one split changed."""
    old = distributions[name]
    new = replace(old.splits[split], examples=tuple(map(change, old.splits[split].examples)))
    return {**distributions, name: Distribution(name, {**old.splits, split: new})}


def flip(shown: Example) -> Example:
    """The other response of an example of two as its best; one of more as it is."""
    return replace(shown, best=1 - shown.best) if len(shown.responses) == 2 else shown


@contextmanager
def silent(_title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that shows nothing."""
    yield lambda _done, _total: None
