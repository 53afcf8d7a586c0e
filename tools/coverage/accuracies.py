"""Coverage of intervals of one accuracy: of one fit, and of several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from repeng.metrics.proportions import proportion_ends
from repeng.metrics.resampling import Units
from repeng.metrics.variance import TargetValues, variance_of_mean
from tools.coverage import rivals
from tools.coverage.draws import Cell, wins_of

Found = dict[str, tuple[float, float]]
"""Of each procedure the share of draws whose interval holds the truth, and the interval's mean width."""

RESAMPLES = 500
NAMES = ("percentile bootstrap", "BCa bootstrap", "studentised bootstrap", "Wilson, design effect", "Korn-Graubard")
SIZES, PAIRS, ACCURACIES = (10, 30, 100, 300, 1000), (1, 2, 4), (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def one_fit_cells(sizes: Sequence[int] = SIZES, accuracies: Sequence[float] = ACCURACIES) -> list[Cell]:
    """Every number of prompts and pairs, correlation and accuracy."""
    every = itertools.product(sizes, PAIRS, (0.0, 0.3), accuracies)
    return [Cell(n, m, alike, p) for n, m, alike, p in every if m > 1 or not alike]


def five_fit_cells(kind: str, fits: int = 5, sizes: Sequence[int] = (10, 30, 100, 300)) -> list[Cell]:
    """Cells of several fits; `kind` says how the fits' accuracies differ."""
    accuracies, options = FITS[kind]
    shapes = [(n, m, alike) for n in sizes for m, alike in ((1, 0.0), (2, 0.3), (4, 0.3))]
    return [Cell(n, m, alike, p, fits=fits, **options) for (n, m, alike), p in itertools.product(shapes, accuracies)]


FITS: dict[str, tuple[tuple[float, ...], dict]] = {
    "sd 0": ((0.5, 0.7, 0.9, 0.95, 0.99), {}),
    "sd 0, fits agree at .3": ((0.5, 0.7, 0.9, 0.95, 0.99), {"same": 0.3}),
    "sd .02": ((0.5, 0.7, 0.9, 0.95), {"fit_sd": 0.02}),
    "sd .1": ((0.5, 0.7, 0.8), {"fit_sd": 0.1}),
    "sd .1, skewed": ((0.9, 0.95), {"fit_sd": 0.1}),
    "two kinds, half each": ((0.5,), {"modes": (0.95, 0.05)}),
    "two kinds, 3 in 4": ((0.725,), {"modes": (0.95, 0.05)}),
    "two kinds, 9 in 10": ((0.86,), {"modes": (0.95, 0.05)}),
}


def coverage(cell: Cell, *, draws: int, seed: int = 0, bootstraps: bool = True) -> Found:
    """Each procedure on the same draws."""
    generator = np.random.default_rng([seed, cell.prompts, cell.pairs, round(1000 * cell.accuracy), cell.fits])
    held: dict[str, list[np.ndarray]] = {}
    left = draws
    while left:
        count = min(left, max(1, 4_000_000 // (cell.prompts * cell.pairs * cell.fits)))
        left -= count
        wins = wins_of(generator, cell, count)
        for name, (low, high) in _procedures(wins, cell, generator, bootstraps):
            held.setdefault(name, []).append(
                np.array([(low <= cell.accuracy + 1e-12) & (cell.accuracy - 1e-12 <= high), high - low])
            )
    return {name: _both(np.concatenate(parts, axis=1).mean(axis=1)) for name, parts in held.items()}


def _both(means: np.ndarray) -> tuple[float, float]:
    return float(means[0]), float(means[1])


def _procedures(
    wins: np.ndarray, cell: Cell, generator: np.random.Generator, bootstraps: bool
) -> Iterator[tuple[str, rivals.Ends]]:
    shaped = wins.reshape(len(wins), cell.fits, cell.prompts, cell.pairs).mean(axis=3)
    of_prompts = rivals.resampled(generator, cell.prompts, RESAMPLES) if bootstraps else np.zeros((0, cell.prompts))
    units = Units((np.repeat(np.arange(cell.prompts), cell.pairs),), cell.prompts)
    yield "Korn-Graubard", proportion_ends(variance_of_mean([TargetValues((wins,), units)]))
    if not bootstraps:
        return
    if cell.fits > 1:
        of_fits = rivals.resampled(generator, cell.fits, RESAMPLES)
        yield "two-level bootstrap", rivals.two_level(shaped, of_prompts, of_fits)
        alone = TargetValues((wins.mean(axis=1, keepdims=True),), units)
        yield "Korn-Graubard over prompts alone", proportion_ends(variance_of_mean([alone]))
        return
    values = shaped[:, 0]
    yield NAMES[0], rivals.percentile(values, of_prompts)
    yield NAMES[1], rivals.bca(values, of_prompts)
    yield NAMES[2], rivals.studentised(values, of_prompts)
    yield NAMES[3], rivals.wilson(values, cell.pairs)
