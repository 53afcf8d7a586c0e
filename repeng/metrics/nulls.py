"""What a method reaches on labels that say nothing, and how far an accuracy, or a cosine, is from that."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.metrics.evaluation import Evaluation
from repeng.metrics.intervals import CHANCE, chance_p
from repeng.metrics.resampling import LEVEL

SAME = 1e-6
"""Cosines this close, in Fisher's z, are one and the same."""


def null_sd(shuffled: Float[np.ndarray, " null"]) -> float:
    """Root mean square distance from 0.5 of accuracies on shuffled labels, which lie about 0.5 by symmetry.

    Returns:
        nan where there is none.
    """
    return float(np.sqrt(np.mean((shuffled - CHANCE) ** 2))) if len(shuffled) else math.nan


def null_p(evaluation: Evaluation) -> float | None:
    """Two-sided p-value of an accuracy that labels which say nothing would give as well.

    The distance from 0.5 over `null_sd` has Student's t distribution with as many degrees of freedom as there are
    shuffled fits. The null is of single fits; a mean over several is steadier, so that this errs on the safe side.

    Returns:
        None where the method was not fitted on shuffled labels.
    """
    if evaluation.shuffled is None or not len(evaluation.shuffled):
        return None
    from scipy.special import stdtr

    away, spread = abs(evaluation.accuracy - CHANCE), null_sd(evaluation.shuffled)
    if spread == 0:
        return 1.0 if away == 0 else 0.0
    return float(2 * stdtr(len(evaluation.shuffled), -away / spread))


def cell_p(evaluation: Evaluation) -> float | None:
    """The p-value of a cell of results: of an accuracy of 0.5 or of the method's own null, whichever is larger.

    Returns:
        `chance_p` alone where there is no null; None where there is no interval.
    """
    chance, null = chance_p(evaluation), null_p(evaluation)
    if chance is None or null is None:
        return chance
    return max(chance, null)


def selectivity(accuracy: float, shuffled: Float[np.ndarray, " null"]) -> float:
    """Accuracy less the mean accuracy of the same search on shuffled labels (Hewitt and Liang 2019).

    Returns:
        nan where there is no such accuracy.
    """
    return accuracy - float(np.mean(shuffled)) if len(shuffled) else math.nan


def draw_p(value: float, null: Float[np.ndarray, " null"]) -> float:
    """Two-sided p-value of a figure being one more draw of a null, whose mean need not be 0, by Student's t.

    Of draws that are all the same, which have no spread to go by: the figure is one of n + 1 of which it alone differs.

    Raises:
        BadInput: there are fewer than two draws.
    """
    from scipy.special import stdtr

    mean, reach = _next_draw(null)
    away = abs(value - mean)
    if reach == 0:
        return 1.0 if away == 0 else 1 / (len(null) + 1)
    return float(2 * stdtr(len(null) - 1, -away / reach))


def draw_ends(null: Float[np.ndarray, " null"]) -> tuple[float, float]:
    """Where one more draw of a null lies, 95 % of the time: beyond it `draw_p` is under 0.05.

    Raises:
        BadInput: there are fewer than two draws.
    """
    from scipy.special import stdtrit

    mean, reach = _next_draw(null)
    far = reach * float(stdtrit(len(null) - 1, (1 + LEVEL) / 2))
    return mean - far, mean + far


def _next_draw(null: Float[np.ndarray, " null"]) -> tuple[float, float]:
    """The mean of a null, and the standard error of one more draw about it."""
    if len(null) < 2:
        raise BadInput(f"{len(null)} draws of a null, whose spread needs two; draw more")
    return float(null.mean()), float(null.std(ddof=1)) * math.sqrt(1 + 1 / len(null))


def cosine_p(cosine: float, null: Float[np.ndarray, " null"]) -> float:
    """Two-sided p-value of a cosine being one more draw of a null, whose mean need not be 0.

    `draw_p` of Fisher's z.

    Args:
        cosine: between -1 and 1.
        null: two draws or more.

    Raises:
        BadInput: there are fewer.
    """
    z = _fisher_z(null)
    one = float(_fisher_z(np.array([cosine]))[0])
    if len(z) > 1 and float(z.std()) < SAME:
        return 1.0 if abs(one - float(z.mean())) < SAME else 0.0
    return draw_p(one, z)


def cosine_null_ends(null: Float[np.ndarray, " null"]) -> tuple[float, float]:
    """Where one more draw of a null of cosines lies, 95 % of the time: beyond it `cosine_p` is under 0.05.

    Raises:
        BadInput: there are fewer than two draws.
    """
    low, high = draw_ends(_fisher_z(null))
    return math.tanh(low), math.tanh(high)


def _fisher_z(cosines: Float[np.ndarray, " draw"]) -> Float[np.ndarray, " draw"]:
    # 1 itself, of one and the same direction, would be infinite.
    return np.arctanh(np.clip(cosines, -1 + 1e-9, 1 - 1e-9))
