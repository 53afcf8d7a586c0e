"""Formulas that several rooms share. Pure numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

FEWEST_GROUPS = 30
"""With fewer prompt groups than this, examples are the groups."""


def sigmoid(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logistic function, without overflow; NaN stays NaN, and nothing warns of it."""
    # logaddexp calls a NaN that it passes on an invalid value.
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -x))


def all_pairs(
    labels: Float[np.ndarray, " response"],
    examples: Int[np.ndarray, " response"],
    usable: Bool[np.ndarray, " response"] | None = None,
) -> Int[np.ndarray, "pair 2"]:
    """Every pair as rows (best, worse): each 1.0 row of an example against each of its 0.0 rows.

    In order of the worse row, and of one worse row in order of the best one. A pair of which a row is not usable is
    left out.
    """
    if usable is not None:
        labels = np.where(usable, labels, np.nan)
    best_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(labels == 1.0).tolist():
        best_of.setdefault(int(examples[row]), []).append(row)
    worse = np.flatnonzero(labels == 0.0).tolist()
    pairs = [(best, row) for row in worse for best in best_of.get(int(examples[row]), ())]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def pair_wins(gaps: Float[np.ndarray, "*unit pair"]) -> Float[np.ndarray, "*unit pair"]:
    """1.0 for each pair whose best response scores higher, 0.5 for a tie, else 0.0.

    Args:
        gaps: score of the best response less that of the worse, pair by pair.
    """
    return (gaps > 0) + 0.5 * (gaps == 0)


def pair_accuracy(gaps: Float[np.ndarray, "*unit pair"]) -> Float[np.ndarray, "*unit"]:
    """The share of pairs whose best response scores higher; a tie counts half.

    Args:
        gaps: score of the best response less that of the worse, pair by pair.
    """
    return np.asarray(np.mean(pair_wins(gaps), axis=-1))


def independent_groups(
    groups: Int[np.ndarray, " one"], examples: Int[np.ndarray, " one"]
) -> tuple[Int[np.ndarray, " one"], bool]:
    """What stays together where data are divided or resampled: prompt groups, or examples where groups are few.

    Args:
        groups: prompt group of each response, pair or example.
        examples: the example of each.

    Returns:
        The groups, or the examples where there are under `FEWEST_GROUPS` groups; and whether this parts what is in one
        group, of which the caller warns.
    """
    n_groups = len(np.unique(groups))
    if n_groups >= FEWEST_GROUPS:
        return groups, False
    return examples, n_groups < len(np.unique(examples))


def threshold_at(negatives: Float[np.ndarray, " negative"], rate: float) -> float:
    """The lowest of some negatives' scores such that at most `rate` of them score above it.

    What scores above it is flagged. With n negatives floor(rate * n) of them may score above it; with fewer than
    1 / rate that is none, and it is the highest score among them. Tied scores are flagged together or not at all.

    Args:
        negatives: the scores; one at the least.
        rate: of false positives, from 0 to below 1.
    """
    ordered = np.sort(negatives)[::-1]
    # Rounding must not cost a flag: 0.05 * 20 is 1.
    return float(ordered[int(np.floor(rate * len(ordered) + 1e-9))])
