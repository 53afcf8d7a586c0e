"""Checking data: every problem in it, and the counts of each split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from repeng.distributions.examples import examples_or_problems
from repeng.distributions.known import Source, find_data
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Distribution, Example
from repeng.distributions.sources import choose_splits
from repeng.distributions.splitting import split_by_prompt
from repeng.errors import BadData, BadInput

MOST_NAMED = 3


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data. `example` is None where the whole file is at fault."""

    file: str
    example: int | None
    reason: str

    def __str__(self) -> str:
        place = self.file if self.example is None else f"{self.file}, example {self.example}"
        return f"{place}: {self.reason}"


def grouped(problems: Iterable[Problem]) -> list[str]:
    """One line for each reason in a file: the first examples that have it, and how many more. In order of the first."""
    by_reason: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        by_reason.setdefault((problem.file, problem.reason), []).append(problem)
    lines = []
    for (file, reason), own in by_reason.items():
        numbers = [str(problem.example) for problem in own if problem.example is not None]
        if len(own) == 1 or not numbers:
            lines += list(map(str, own))
            continue
        more = f" and {len(numbers) - MOST_NAMED:,} more" if len(numbers) > MOST_NAMED else ""
        lines.append(f"{file}, {len(own):,} examples ({', '.join(numbers[:MOST_NAMED])}{more}): {reason}")
    return lines


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split.

    Attributes:
        positives: responses of label 1: in pairs the best ones.
        pairs: of a positive and a negative response that compete; none of texts that stand alone.
        prompts: distinct prompt texts; of labelled texts distinct texts; of data with groups the groups.
    """

    distribution: str
    split: str
    examples: int
    responses: int
    positives: int
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
            positives=int(split.labels.sum()),
            pairs=len(split.pairs),
            prompts=len(split.prompt_hashes),
        )
        for distribution in distributions.values()
        for split in distribution.splits.values()
    )


def check_data(data: str | Path, reading: Reading | None = None) -> list[Problem]:
    """Every problem of the data, not only the first: one per bad example, one per file that cannot be read at all.

    Args:
        data: as of `load_distributions`.
        reading: what columns and labels mean, where their names do not say it.

    Raises:
        BadInput: there is no such data.
    """
    sources, merged = find_data(data, reading)
    return [problem for source in sources.values() for problem in _problems(source, merged)]


def _problems(source: Source, reading: Reading) -> list[Problem]:
    try:
        chosen = choose_splits(source.splits(), source.place)
    except BadInput as error:
        return [Problem(source.place, None, str(error))]
    return [
        problem
        for name, given in chosen.items()
        for problem in _split_problems(source, given, reading, divided=not name)
    ]


def _split_problems(source: Source, split: str, reading: Reading, *, divided: bool) -> list[Problem]:
    place = source.split_place(split)
    try:
        found = list(examples_or_problems(source.rows(split), place, reading))
        problems = [each for each in found if isinstance(each, BadData)]
        if divided and not problems:
            split_by_prompt([each for each in found if isinstance(each, Example)], warn=False)
    except BadData as error:
        problems = [error]
    except BadInput as error:
        return [Problem(place, None, str(error))]
    return [Problem(place, problem.example, problem.reason) for problem in problems]
