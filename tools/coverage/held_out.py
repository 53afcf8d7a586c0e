"""Cells, and draws, that no procedure was chosen or mended by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tools.coverage.accuracies import coverage
from tools.coverage.differences import difference_cells, difference_coverage
from tools.coverage.draws import Cell

SEED = 7
SHAPES = ((15, 1, 0.0), (15, 3, 0.5), (50, 1, 0.0), (50, 3, 0.5), (200, 3, 0.5))
ACCURACIES = (0.65, 0.85, 0.97, 0.995)
FITS: dict[str, tuple[tuple[float, ...], dict]] = {
    "sd 0": (ACCURACIES, {}),
    "sd 0, fits agree at .6": (ACCURACIES, {"same": 0.6}),
    "sd .03": ((0.65, 0.85, 0.93), {"fit_sd": 0.03}),
    "sd .15": ((0.5, 0.65), {"fit_sd": 0.15}),
}


def held_out_rows(draws: int) -> Iterator[tuple[str, int, int, float, float]]:
    """What is estimated, how many fits and cells, worst and mean coverage of our intervals."""
    alone = [Cell(n, m, alike, p) for (n, m, alike), p in itertools.product(SHAPES, ACCURACIES)]
    yield _row("accuracy", 1, _covered(alone, draws))
    for (kind, (accuracies, options)), fits in itertools.product(FITS.items(), (3, 5, 8)):
        cells = [
            Cell(n, m, alike, p, fits=fits, **options) for (n, m, alike), p in itertools.product(SHAPES, accuracies)
        ]
        yield _row(f"accuracy, {kind}", fits, _covered(cells, draws))
    for fits, fit_sd in ((1, 0.0), (3, 0.1), (5, 0.1)):
        pairs = difference_cells(((20, 2, 0.5), (60, 1, 0.0), (150, 3, 0.3)), fits=fits, fit_sd=fit_sd)
        found = [difference_coverage(*one, draws=draws, seed=SEED)["MOVER of Korn-Graubard"][0] for one in pairs]
        yield _row(f"difference, sd {fit_sd:g}", fits, found)


def _covered(cells: list[Cell], draws: int) -> list[float]:
    return [coverage(one, draws=draws, seed=SEED, bootstraps=False)["Korn-Graubard"][0] for one in cells]


def _row(name: str, fits: int, shares: list[float]) -> tuple[str, int, int, float, float]:
    return name, fits, len(shares), min(shares), sum(shares) / len(shares)
