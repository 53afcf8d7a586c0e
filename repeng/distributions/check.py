"""Checking data: every problem in it, and the counts of each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repeng.distributions.examples import examples_or_problems
from repeng.distributions.schema import Distribution, Example
from repeng.distributions.sources import Source, choose_splits, find_sources
from repeng.distributions.splitting import split_by_prompt
from repeng.errors import BadData, BadInput


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data. `example` is None where the whole file is at fault."""

    file: str
    example: int | None
    reason: str

    def __str__(self) -> str:
        place = self.file if self.example is None else f"{self.file}, example {self.example}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split. `prompts` counts distinct prompt texts."""

    distribution: str
    split: str
    examples: int
    responses: int
    pairs: int
    prompts: int


def summarise(distributions: Mapping[str, Distribution]) -> tuple[SplitSummary, ...]:
    """One summary per split, in the order of the distributions, train before test."""
    return tuple(
        SplitSummary(
            distribution=distribution.name,
            split=split.name,
            examples=len(split.examples),
            responses=split.n_responses,
            pairs=split.n_responses - len(split.examples),
            prompts=len({example.prompt for example in split.examples}),
        )
        for distribution in distributions.values()
        for split in distribution.splits.values()
    )


def check_data(data: str | Path) -> list[Problem]:
    """Every problem of the data, not only the first: one per bad example, one per file that cannot be read at all.

    Raises:
        BadInput: there is no such data.
    """
    return [problem for source in find_sources(data).values() for problem in _problems(source)]


def _problems(source: Source) -> list[Problem]:
    try:
        chosen = choose_splits(source.splits(), source.place)
    except BadInput as error:
        return [Problem(source.place, None, str(error))]
    return [problem for name, given in chosen.items() for problem in _split_problems(source, given, divided=not name)]


def _split_problems(source: Source, split: str, *, divided: bool) -> list[Problem]:
    place = source.split_place(split)
    try:
        found = list(examples_or_problems(source.rows(split), place))
        problems = [each for each in found if isinstance(each, BadData)]
        if divided and not problems:
            split_by_prompt([each for each in found if isinstance(each, Example)])
    except BadData as error:
        problems = [error]
    except BadInput as error:
        return [Problem(place, None, str(error))]
    return [Problem(place, problem.example, problem.reason) for problem in problems]
