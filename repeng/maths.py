"""Formulas that several rooms share. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from repeng.errors import BadInput

FALSE_POSITIVE_RATES = (0.01, 0.05)
"""Rates of false positives that thresholds for labelled texts are set for, in this order."""
FEWEST_GROUPS = 30
"""With fewer prompt groups than this, examples are the groups."""


def sigmoid(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logistic function, without overflow; NaN stays NaN, and nothing warns of it."""
    # An exponential that overflows is infinite, and one over it zero, as it should be.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def offsets_of(counts: Sequence[int] | Int[np.ndarray, " one"]) -> Int[np.ndarray, " one_1"]:
    """Where each begins and the last ends, in a row of which each has so many: 0, and the running sum."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


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


def threshold_at(scores: Float[np.ndarray, " negative"], rate: float) -> float:
    """The lowest of the negatives' scores that at most the share `rate` of the negatives score above.

    A text is flagged where its score is above the threshold. Negatives that share the threshold's score are not
    flagged, so that ties never flag more than `rate`. With under 1 / rate negatives it is the highest score of all.

    Args:
        scores: of negatives, such as a benign distribution.
        rate: of false positives, from 0 to under 1.

    Raises:
        BadInput: there is no negative, a score is not finite, or the rate is not one.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise BadInput(f"a threshold of {len(scores)} negatives' scores; give one finite score or more")
    if not 0 <= rate < 1:
        raise BadInput(f"the rate of false positives is {rate}; give one from 0 to under 1, such as 0.01")
    # 0.01 * 300 is a little under 3 in floating point.
    above = int(np.floor(rate * len(scores) + 1e-9))
    return float(np.sort(scores)[len(scores) - 1 - above])


def in_ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in words as short as can be, ascending: `2-5, 8`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
