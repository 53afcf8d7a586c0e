"""Two kinds of sources compared over targets, where both sources and targets are draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from repeng.errors import BadInput
from repeng.metrics.resampling import LEVEL, Estimate

FEWEST = 2
"""Sources of each kind, and targets, from which a spread can be told."""
ROUNDING = 1e-12
"""A reach under this is no certainty: figures that are all alike have not been seen to vary."""


@dataclass(frozen=True)
class DifferenceOfKinds:
    """How figures of one kind of sources differ from those of another.

    Attributes:
        first, second: the mean of each kind, over the cells that are compared.
        difference: first less second; its ends are None where there are under two sources of a kind, or targets, or
            none of them differ.
        n_first, n_second: sources of each kind.
        n_targets: how many targets they reach.
    """

    first: float
    second: float
    difference: Estimate
    n_first: int
    n_second: int
    n_targets: int


def difference_of_kinds(
    values: Float[np.ndarray, " cell"],
    sources: Sequence[str],
    targets: Sequence[str],
    is_first: Bool[np.ndarray, " cell"],
    *,
    paired: bool,
) -> DifferenceOfKinds | None:
    """The mean figure of cells whose source is of the first kind, less that of the others, and its interval.

    The variance is that over sources of each kind, plus that over targets beyond what single cells explain (Cameron,
    Gelbach and Miller 2011). The interval reaches as far as the square root of the sum of each variance by the square
    of its own Student's t: few sources make it wide.

    Args:
        values: a figure of each cell.
        sources: of each cell.
        targets: of each cell.
        is_first: whether its source is of the first kind; the same for all cells of a source.
        paired: on the targets that both kinds reach, as the mean over these of the difference on each, so that what
            makes a target hard cancels; else of the means over all cells.

    Returns:
        None where one kind has no cell, or no target is reached by both.

    Raises:
        BadInput: not one source, target and kind for each value.
    """
    of, at = np.array(sources, dtype=object), np.array(targets, dtype=object)
    if not len(values) == len(of) == len(at) == len(is_first):
        raise BadInput(f"{len(values)} values, {len(of)} sources and {len(at)} targets; give one of each for a cell")
    if paired:
        both = np.isin(at, at[is_first]) & np.isin(at, at[~is_first])
        values, of, at, is_first = values[both], of[both], at[both], is_first[both]
    if is_first.all() or not is_first.any():
        return None
    weights, residuals = _paired(values, at, is_first) if paired else _unpaired(values, is_first)
    first, second = float(weights[is_first] @ values[is_first]), -float(weights[~is_first] @ values[~is_first])
    reach = _reach(weights * residuals, of, at, is_first)
    found = first - second
    difference = Estimate(found) if reach is None else Estimate(found, found - reach, found + reach)
    counts = (len(set(of[is_first])), len(set(of[~is_first])), len(set(at)))
    return DifferenceOfKinds(first, second, difference, *counts)


def _unpaired(
    values: Float[np.ndarray, " cell"], is_first: Bool[np.ndarray, " cell"]
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """Weights whose sum with the values is the difference of means, and each value less its kind's mean."""
    weights = np.where(is_first, 1 / is_first.sum(), -1 / (~is_first).sum())
    return weights, values - np.where(is_first, values[is_first].mean(), values[~is_first].mean())


def _paired(
    values: Float[np.ndarray, " cell"], at: np.ndarray, is_first: Bool[np.ndarray, " cell"]
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """The same of the mean difference by target, less the target's level, halfway between its two kinds."""
    names = list(dict.fromkeys(at))
    weights, residuals = np.zeros(len(values)), np.zeros(len(values))
    for target in names:
        one, other = (at == target) & is_first, (at == target) & ~is_first
        weights[one], weights[other] = 1 / (len(names) * one.sum()), -1 / (len(names) * other.sum())
        residuals[one | other] = values[one | other] - (values[one].mean() + values[other].mean()) / 2
    difference = float(weights @ values)
    return weights, residuals - np.where(is_first, difference, -difference) / 2


def _reach(
    terms: Float[np.ndarray, " cell"], of: np.ndarray, at: np.ndarray, is_first: Bool[np.ndarray, " cell"]
) -> float | None:
    """How far the difference may lie off; None where a spread cannot be told, or there is none to tell by."""
    from scipy.special import stdtrit

    of_first, of_second = _summed(terms[is_first], of[is_first]), _summed(terms[~is_first], of[~is_first])
    of_targets = _summed(terms, at)
    if min(map(len, (of_first, of_second, of_targets))) < FEWEST:
        return None
    square = 0.0
    for sums, counted in ((of_first, 0.0), (of_second, 0.0), (of_targets, float((terms**2).sum()))):
        count = len(sums)
        variance = max(0.0, count / (count - 1) * float((sums**2).sum()) - counted)
        square += float(stdtrit(count - 1, (1 + LEVEL) / 2)) ** 2 * variance
    reach = math.sqrt(square)
    return reach if reach > ROUNDING else None


def _summed(terms: Float[np.ndarray, " cell"], names: np.ndarray) -> Float[np.ndarray, " name"]:
    return np.array([terms[names == name].sum() for name in dict.fromkeys(names)])
