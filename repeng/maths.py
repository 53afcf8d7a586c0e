"""Formulas that several rooms share. Pure numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

FEWEST_GROUPS = 30
"""With fewer prompt groups than this, examples are the groups."""


def sigmoid(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logistic function, without overflow; NaN stays NaN, and nothing warns of it."""
    # logaddexp calls a NaN that it passes on an invalid value.
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -x))


def pair_accuracy(gaps: Float[np.ndarray, "*unit pair"]) -> Float[np.ndarray, "*unit"]:
    """The share of pairs whose best response scores higher; a tie counts half.

    Args:
        gaps: score of the best response less that of the worse, pair by pair.
    """
    return np.asarray(np.mean((gaps > 0) + 0.5 * (gaps == 0), axis=-1))


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
