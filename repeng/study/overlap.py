"""What of a study's targets stands in its sources: figures without it, and the file that a report reads it from."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from repeng.atomic import write_atomically
from repeng.distributions.cautions import Caution
from repeng.distributions.overlap import Match, Overlap
from repeng.errors import BadInput
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.metrics import Evaluation
from repeng.places import Place
from repeng.results import ResultRow

if TYPE_CHECKING:
    # They bring torch, which a report needs not.
    from repeng.study.evaluations import MethodEvaluation, StudyEvaluations

FILE = "overlap.json"


@dataclass(frozen=True)
class StoredOverlap:
    """What of a target's test split stands in the train split of a source.

    Attributes:
        units: the target's named groups that hold such examples, each by the number of its first example; empty where
            no group is named.
    """

    source: str
    target: str
    target_data_hash: str
    matches: tuple[Match, ...]
    units: tuple[int, ...] = ()

    @property
    def numbers(self) -> frozenset[int]:
        """What is not scored: the units, or the test examples."""
        return frozenset(self.units or (match.test for match in self.matches))


@dataclass(frozen=True)
class StoredOverlaps:
    """OUT/overlap.json.

    Attributes:
        dropped: whether the study leaves it out of what it scores.
        overlaps: one a source and target that overlap.
    """

    dropped: bool = False
    overlaps: tuple[StoredOverlap, ...] = field(default=())

    def left_out(self) -> dict[tuple[str, str], frozenset[int]]:
        """For each source and target the test examples that the study does not score; none where it scores all."""
        listed = self.overlaps if self.dropped else ()
        return {(one.source, one.target): one.numbers for one in listed}


def with_overlap(
    answers: StudyEvaluations, overlaps: Sequence[Overlap], *, drop: bool
) -> tuple[StudyEvaluations, list[Caution]]:
    """The evaluations with what overlap does to each; and a caution for each of which nothing is left to score.

    Args:
        answers: over all pairs.
        overlaps: of the study's sources and targets.
        drop: leave out the examples that overlap; an evaluation of which none is left, or whose pairs are not known,
            is left out as a whole.
    """
    examples = {(one.train.distribution, one.test.distribution): _stored(one).numbers for one in overlaps}
    found = dict(answers.found)
    nothing_left: dict[tuple[str, str], list[str]] = {}
    for (method, source, target), answer in answers.found.items():
        numbers = examples.get((source, target))
        if numbers is None:
            continue
        count = n_overlap(answer.evaluation, numbers)
        if count == 0:
            continue
        rest = without(answer.evaluation, numbers)
        if drop and rest is None:
            del found[method, source, target]
            nothing_left.setdefault((source, target), []).append(method)
            continue
        scored = rest if drop and rest is not None else answer.evaluation
        found[method, source, target] = replace(
            answer, evaluation=scored, n_overlap=count, accuracy_without_overlap=None if rest is None else rest.accuracy
        )
    cautions = [
        Caution("nothing_left", f"{source} -> {target}", ", ".join(methods))
        for (source, target), methods in nothing_left.items()
    ]
    return replace(answers, found=found), cautions


def with_overlap_figures(row: ResultRow, answer: MethodEvaluation | None) -> ResultRow:
    """The row with how many of its pairs overlap, and what the others give."""
    if answer is None:
        return row
    return replace(row, n_overlap=answer.n_overlap, accuracy_without_overlap=answer.accuracy_without_overlap)


def n_overlap(evaluation: Evaluation, examples: Collection[int]) -> int | None:
    """How many pairs of an evaluation are of some examples; None where that is unknown."""
    return None if evaluation.example is None else int(np.isin(evaluation.example, list(examples)).sum())


def without(evaluation: Evaluation, examples: Collection[int]) -> Evaluation | None:
    """The evaluation of the other examples; None where there is none, or where its pairs are unknown."""
    if evaluation.example is None:
        return None
    keep = ~np.isin(evaluation.example, list(examples))
    if keep.all():
        return evaluation
    # Of labelled texts those of one label alone may be left, of which nothing can be said.
    with suppress(BadInput):
        return evaluation.subset(keep)
    return None


def write_overlaps(overlaps: Sequence[Overlap], folder: Place, *, dropped: bool) -> None:
    """Write FOLDER/overlap.json, from which a report knows what a study left out."""
    rows = ",\n".join("  " + json.dumps(asdict(_stored(one)), ensure_ascii=False) for one in overlaps)
    listed = f"[\n{rows}\n ]" if rows else "[]"
    write_atomically(folder / FILE, f'{{\n "dropped": {json.dumps(dropped)},\n "overlaps": {listed}\n}}\n')


def read_overlaps(folder: Place) -> StoredOverlaps:
    """Those of FOLDER/overlap.json; none where a folder, as of an earlier version, has no such file.

    Raises:
        BadInput: the file is not what it should be.
    """
    path = folder / FILE
    if not path.is_file():
        return StoredOverlaps()
    try:
        return TypeAdapter(StoredOverlaps).validate_json(read_bounded(path, RECORD_BYTES))
    except (ValidationError, OSError) as error:
        raise BadInput(f"{path}: not a study's overlaps ({type(error).__name__}); run the study again") from error


def _names(overlap: Overlap) -> tuple[str, str]:
    return overlap.train.distribution, overlap.test.distribution


def _stored(overlap: Overlap) -> StoredOverlap:
    test = overlap.test
    units: tuple[int, ...] = ()
    if any(example.group is not None for example in test.examples):
        # A named group is never parted, so one text of it takes the others with it.
        of_example = test.units[test.offsets]
        units = tuple(sorted({int(of_example[match.test]) for match in overlap.matches}))
    return StoredOverlap(*_names(overlap), test.data_hash, overlap.matches, units)
