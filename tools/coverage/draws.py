"""Made-up methods whose true accuracy is known: prompts of several pairs, and fits that differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAME = 0.9
"""Two fits of one accuracy agree on a pair with this correlation."""


@dataclass(frozen=True)
class Cell:
    """One made-up situation.

    Attributes:
        prompts: how many prompts.
        pairs: how many pairs each has.
        alike: correlation of two pairs of one prompt.
        accuracy: the truth.
        fits: how many fits.
        fit_sd: standard deviation of the fits' true accuracies (of a beta distribution).
        modes: accuracies of the two kinds of fit, where there are two kinds.
        same: correlation of two fits' verdicts on one pair.
    """

    prompts: int
    pairs: int
    alike: float
    accuracy: float
    fits: int = 1
    fit_sd: float = 0.0
    modes: tuple[float, float] | None = None
    same: float = SAME


def uniforms(generator: np.random.Generator, shape: tuple[int, ...], alike: float) -> np.ndarray:
    """Uniform numbers [..., prompt, pair]; a pair takes its prompt's own with the chance that makes them so alike."""
    own = generator.random(shape)
    if not alike:
        return own
    return np.where(generator.random(shape) < np.sqrt(alike), generator.random((*shape[:-1], 1)), own)


def fit_accuracies(generator: np.random.Generator, cell: Cell, count: int) -> Float[np.ndarray, "draw fit"]:
    """The true accuracy of each fit."""
    shape, p = (count, cell.fits), cell.accuracy
    if cell.modes is not None:
        high, low = cell.modes
        return np.where(generator.random(shape) < (p - low) / (high - low), high, low)
    if not cell.fit_sd or p in (0.0, 1.0):
        return np.full(shape, p)
    size = p * (1 - p) / cell.fit_sd**2 - 1
    return generator.beta(p * size, (1 - p) * size, size=shape)


def wins_of(generator: np.random.Generator, cell: Cell, count: int) -> Float[np.ndarray, "draw fit pair"]:
    """Verdicts on every pair: won where the pair's uniform number is under the fit's accuracy."""
    shape = (count, 1, cell.prompts, cell.pairs)
    number = uniforms(generator, shape, cell.alike)
    if cell.fits > 1:
        shape = (count, cell.fits, cell.prompts, cell.pairs)
        fresh = uniforms(generator, shape, cell.alike)
        number = np.where(generator.random(shape) < np.sqrt(cell.same), number, fresh)
    won = number < fit_accuracies(generator, cell, count)[:, :, None, None]
    return won.reshape(count, cell.fits, -1).astype(float)
