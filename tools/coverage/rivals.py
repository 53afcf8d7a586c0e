"""Other intervals of an accuracy, of many draws at once; prompts hold equally many pairs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtrit

Ends = tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]
ByPrompt = Float[np.ndarray, "draw prompt"]

TAIL = 0.025


def percentile(values: ByPrompt, resamples: Float[np.ndarray, "resample prompt"]) -> Ends:
    """The percentile bootstrap over prompts; all right or all wrong gets the exact binomial end."""
    low, high = np.quantile(values @ resamples.T, [TAIL, 1 - TAIL], axis=1)
    return _exact_ends(values, low, high)


def bca(values: ByPrompt, resamples: Float[np.ndarray, "resample prompt"]) -> Ends:
    """The bias-corrected and accelerated bootstrap (Efron 1987)."""
    means, mean = np.sort(values @ resamples.T, axis=1), values.mean(axis=1, keepdims=True)
    share = ((means < mean).mean(axis=1) + (means <= mean).mean(axis=1)) / 2
    bias = ndtri(np.clip(share, 1e-3, 1 - 1e-3))
    off = values - mean
    square = np.sum(off**2, axis=1)
    speed = np.divide(np.sum(off**3, axis=1), 6 * square**1.5, out=np.zeros(len(values)), where=square > 0)
    ends = []
    for z in ndtri([TAIL, 1 - TAIL]):
        place = ndtr(bias + (bias + z) / (1 - speed * (bias + z))) * (means.shape[1] - 1)
        below = np.clip(np.floor(place).astype(int), 0, means.shape[1] - 2)
        rows = np.arange(len(means))
        ends.append(means[rows, below] + (place - below) * (means[rows, below + 1] - means[rows, below]))
    return _exact_ends(values, ends[0], ends[1])


def studentised(values: ByPrompt, resamples: Float[np.ndarray, "resample prompt"]) -> Ends:
    """The bootstrap of t: each resample's distance from the mean over its own standard error."""
    n = values.shape[1]
    mean, means = values.mean(axis=1, keepdims=True), values @ resamples.T
    error = np.sqrt(np.maximum(values**2 @ resamples.T - means**2, 0) / (n - 1))
    t = np.where(error > 0, (means - mean) / np.where(error > 0, error, 1), 0)
    low, high = np.quantile(t, [TAIL, 1 - TAIL], axis=1)
    own = values.std(axis=1, ddof=1) / np.sqrt(n)
    return _exact_ends(values, np.clip(mean[:, 0] - high * own, 0, 1), np.clip(mean[:, 0] - low * own, 0, 1))


def wilson(values: ByPrompt, pairs: int) -> Ends:
    """Wilson's score interval with as many pairs as the design effect leaves."""
    n, mean = values.shape[1], values.mean(axis=1)
    variance, alone = values.var(axis=1, ddof=1) / n, mean * (1 - mean)
    size = np.divide(alone, variance, out=np.full(len(mean), float(n)), where=variance > 0)
    size = np.minimum(size, n * pairs)
    z = ndtri(1 - TAIL)
    centre = (mean + z**2 / (2 * size)) / (1 + z**2 / size)
    reach = z / (1 + z**2 / size) * np.sqrt(alone / size + z**2 / (4 * size**2))
    return centre - reach, centre + reach


def two_level(
    wins: Float[np.ndarray, "draw fit prompt"],
    of_prompts: Float[np.ndarray, "resample prompt"],
    of_fits: Float[np.ndarray, "resample fit"],
) -> Ends:
    """The percentile bootstrap that draws prompts, and fits."""
    means = np.einsum("bk,dkb->db", of_fits, wins @ of_prompts.T)
    low, high = np.quantile(means, [TAIL, 1 - TAIL], axis=1)
    return _exact_ends(wins.mean(axis=1), low, high)


def t_interval(values: ByPrompt, pseudo: float = 0.0) -> Ends:
    """Student's t over prompts, of differences; Agresti and Min (2005) with as many prompts more on either side."""
    n = values.shape[1]
    mean, variance = values.mean(axis=1), values.var(axis=1, ddof=1) / n
    shrunk = n / (n + 2 * pseudo)
    reach = -stdtrit(n - 1, TAIL) * np.sqrt(variance * shrunk**2 + 2 * pseudo / (n + 2 * pseudo) ** 2)
    return shrunk * mean - reach, shrunk * mean + reach


def resampled(generator: np.random.Generator, n: int, resamples: int) -> Float[np.ndarray, "resample n"]:
    """The share of each in each resample."""
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples) / n


def _exact_ends(values: ByPrompt, low: Float[np.ndarray, " draw"], high: Float[np.ndarray, " draw"]) -> Ends:
    """Clopper and Pearson's ends where every pair is right, or every one wrong."""
    reach = 1 - TAIL ** (1 / values.shape[1])
    right, wrong = (values == 1).all(axis=1), (values == 0).all(axis=1)
    return np.where(right, 1 - reach, np.where(wrong, 0, low)), np.where(wrong, reach, np.where(right, 1, high))
