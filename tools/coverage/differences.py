"""Differences of two methods on the same pairs: how often the interval holds the truth, and p < 0.05 without one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from repeng.metrics.differences import difference_ends
from repeng.metrics.resampling import Units
from repeng.metrics.variance import TargetValues, variance_of_mean
from tools.coverage import rivals
from tools.coverage.draws import Cell, fit_accuracies, uniforms

ACCURACIES = ((0.5, 0.5), (0.7, 0.7), (0.9, 0.9), (0.97, 0.97), (0.6, 0.5), (0.9, 0.8), (0.99, 0.95), (1.0, 0.97))
SHARED = (0.0, 0.8)
"""The chance that both methods see a prompt's pairs alike."""
SHAPES = ((10, 1, 0.0), (10, 4, 0.3), (30, 1, 0.0), (30, 3, 0.3), (100, 2, 0.3), (300, 1, 0.0))


def difference_cells(
    shapes: Sequence[tuple[int, int, float]] = SHAPES, fits: int = 1, fit_sd: float = 0.0
) -> list[tuple[Cell, float, float]]:
    """The first method's cell, the other's accuracy, and the share of prompts that both see alike."""
    steady = [pair for pair in ACCURACIES if not fit_sd or max(pair) <= 1 - 2 * fit_sd]
    return [
        (Cell(n, m, alike, a, fits=fits, fit_sd=fit_sd), b, shared)
        for (n, m, alike), (a, b), shared in itertools.product(shapes, steady, SHARED)
    ]


def difference_coverage(
    cell: Cell, other: float, shared: float, *, draws: int, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Of each procedure: the share of intervals that hold the truth, their mean width, and the share without 0."""
    generator = np.random.default_rng([seed, cell.prompts, cell.pairs, round(1000 * other)])
    gaps = _gaps(generator, cell, other, shared, draws)
    values = gaps.mean(axis=1).reshape(draws, cell.prompts, cell.pairs).mean(axis=2)
    units = Units((np.repeat(np.arange(cell.prompts), cell.pairs),), cell.prompts)
    ours = []
    for gap in gaps:
        parted = np.stack([np.maximum(gap, 0), np.maximum(-gap, 0), gap])
        ours.append(difference_ends(variance_of_mean([TargetValues((parted,), units)])))
    found = {
        "t over prompts": rivals.t_interval(values),
        "Agresti-Min, half a prompt": rivals.t_interval(values, 0.5),
        "Agresti-Min, one prompt": rivals.t_interval(values, 1.0),
        "MOVER of Korn-Graubard": tuple(np.array(ours).T),
    }
    truth = cell.accuracy - other
    answer = {}
    for name, (low, high) in found.items():
        holds = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
        width = np.minimum(high, 1) - np.maximum(low, -1)
        answer[name] = (float(holds.mean()), float(width.mean()), float(((low > 0) | (high < 0)).mean()))
    return answer


def _gaps(generator: np.random.Generator, cell: Cell, other: float, shared: float, draws: int) -> np.ndarray:
    shape = (draws, 1, cell.prompts, cell.pairs)
    one = uniforms(generator, shape, cell.alike)
    same = generator.random((draws, 1, cell.prompts, 1)) < shared
    two = np.where(same, one, uniforms(generator, shape, cell.alike))
    a = fit_accuracies(generator, cell, draws)
    rival = Cell(cell.prompts, cell.pairs, cell.alike, other, fits=cell.fits, fit_sd=cell.fit_sd)
    b = fit_accuracies(generator, rival, draws)
    won = (one < a[:, :, None, None]).astype(float) - (two < b[:, :, None, None])
    return won.reshape(draws, cell.fits, -1)
