"""What is independent of what: prompt groups, or examples; drawing them; and checks of what is compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from repeng.errors import BadInput
from repeng.maths import independent_groups
from repeng.metrics.evaluation import ITEM_ARRAYS, PAIR_ACCURACY, Evaluation

log = logging.getLogger(__name__)

LEVEL = 0.95
"""Of every interval."""

Draws = Float[np.ndarray, "resample unit"]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; the ends are None where the data cannot support one.

    Attributes:
        p: two-sided p-value of no effect (a difference of 0, a mean accuracy of 0.5), from the same procedure as the
            interval: under 0.05 exactly where that leaves no effect out. None where nothing was tested.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn as a whole, for several evaluations of one target together.

    Attributes:
        of_pairs: for each evaluation, its pairs' units, numbered from 0.
        n_units: how many there are among all of them.
    """

    of_pairs: tuple[Int[np.ndarray, " _pair"], ...]
    n_units: int


def resampling_units(evaluations: Sequence[Evaluation]) -> Units | None:
    """Prompt groups, or examples where there are under 30 groups and more examples.

    Args:
        evaluations: of one target; they may lack some of its pairs.

    Returns:
        The units, or None where groups are unknown, or where there is one unit only.
    """
    ids = [one.group for one in evaluations if one.group is not None]
    if len(ids) < len(evaluations):
        return None
    examples = [one.example for one in evaluations if one.example is not None]
    if len(examples) == len(evaluations):
        groups = np.concatenate(ids)
        units, by_example = independent_groups(groups, np.concatenate(examples))
        if by_example:
            log.warning(
                "only %d prompt groups in %d examples: intervals take examples for independent, and may be too narrow",
                len(np.unique(groups)),
                len(np.unique(units)),
            )
            ids = examples
    names, places = np.unique(np.concatenate(ids), return_inverse=True)
    if len(names) < 2:
        return None
    return Units(tuple(np.split(places, np.cumsum([len(one) for one in ids])[:-1])), len(names))


def draw(n_units: int, resamples: int, generator: np.random.Generator) -> Draws:
    """How often each unit is drawn in each resample; float32 counts up to 16 million exactly."""
    drawn = np.empty((resamples, n_units), np.float32)
    for counts in drawn:
        # By far the sooner done than multinomial counts of as many units.
        counts[:] = np.bincount(generator.integers(n_units, size=n_units), minlength=n_units)
    return drawn


def ends(means: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    """The ends of the percentile interval."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def check_resamples(resamples: int) -> None:
    """Refuse no resample."""
    if resamples < 1:
        raise BadInput(f"{resamples} resamples; take 1 or more, usually 2000")


def check_same_length(one: Sequence[object], other: Sequence[object]) -> None:
    """Refuse lists of different shifts, or none."""
    if len(one) != len(other) or not one:
        raise BadInput(f"{len(one)} and {len(other)} shifts; give the same shifts on both sides, one at least")


def check_same_pairs(a: Evaluation, b: Evaluation, target: str) -> None:
    """Refuse two evaluations of different pairs or texts, as far as they tell."""
    if a.n_items is None or b.n_items is None:
        return
    if a.figure != b.figure:
        raise BadInput(f"{target}: {a.figure} on one side and {b.figure} on the other; compare like with like")
    if a.n_items != b.n_items:
        items = "pairs" if a.figure == PAIR_ACCURACY else "texts"
        raise BadInput(
            f"{target}: {a.n_items} {items} on one side and {b.n_items} on the other; compare evaluations of the same "
            "split and --limit"
        )
    if a.known_items == b.known_items:
        return
    for name in ITEM_ARRAYS:
        one, other = getattr(a, name, None), getattr(b, name, None)
        if one is not None and other is not None and not np.array_equal(one, other):
            raise BadInput(f"{target}: the pairs' {name} numbers differ; compare evaluations of the same split")
