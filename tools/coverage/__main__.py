"""Print the tables of docs/intervals.md: `python -m tools.coverage [TABLE ...] [--draws N]`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tools.coverage.accuracies import (
    ACCURACIES,
    FITS,
    NAMES,
    SIZES,
    coverage,
    five_fit_cells,
    one_fit_cells,
)
from tools.coverage.differences import difference_cells, difference_coverage
from tools.coverage.draws import Cell
from tools.coverage.held_out import SEED, held_out_rows
from tools.coverage.others import RATIOS, calibration_coverage, mean_coverage, null_levels, ratio_coverage
from tools.coverage.texts import (
    ALONE,
    DIFFERENCES,
    TextCell,
    text_cells,
    text_coverage,
    text_difference_coverage,
    threshold_coverage,
)
from tools.coverage.texts import FIGURES as TEXT_FIGURES


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in markdown; shares with three digits."""
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        cells = [f"{cell:.3f}".replace("0.", ".", 1) if isinstance(cell, float) else str(cell) for cell in row]
        print("| " + " | ".join(cells) + " |")
    print()


def one_fit(draws: int) -> None:
    """Worst coverage over pairs, correlations and accuracies, and mean width, by the number of prompts."""
    rows = []
    for size in SIZES:
        cells = one_fit_cells([size], ACCURACIES)
        found = [coverage(cell, draws=draws) for cell in cells]
        for name in NAMES:
            worst = min(range(len(cells)), key=lambda number: found[number][name][0])
            cell = cells[worst]
            where = f"{cell.accuracy:g}, {cell.pairs} x {cell.alike:g}"
            width = float(np.mean([one[name][1] for one in found]))
            rows.append((size, name, found[worst][name][0], where, float(np.mean([o[name][0] for o in found])), width))
    table(("prompts", "procedure", "worst", "at accuracy, pairs x correlation", "mean", "width"), rows)


def five_fits(draws: int) -> None:
    """The same of several fits, by how fits differ."""
    rows = []
    for kind in FITS:
        for fits in (5, 20) if kind.startswith("two") else (5,):
            cells = five_fit_cells(kind, fits)
            found = [coverage(cell, draws=draws) for cell in cells]
            for name in found[0]:
                shares = [one[name][0] for one in found]
                rows.append(
                    (kind, fits, name, min(shares), float(np.mean(shares)), float(np.mean([o[name][1] for o in found])))
                )
    table(("fits' accuracies", "fits", "procedure", "worst", "mean", "width"), rows)


def differences(draws: int) -> None:
    """Of paired differences: coverage, width, and false alarms where the methods are alike."""
    for title, cells in (
        ("one fit", difference_cells()),
        ("5 fits, sd .1", difference_cells([(30, 3, 0.3), (100, 2, 0.3)], fits=5, fit_sd=0.1)),
    ):
        found = [difference_coverage(*one, draws=draws) for one in cells]
        alike = [number for number, (cell, other, _) in enumerate(cells) if cell.accuracy == other]
        rows = []
        for name in found[0]:
            shares = [one[name][0] for one in found]
            alarms = [found[number][name][2] for number in alike]
            widths = float(np.mean([one[name][1] for one in found]))
            rows.append((title, name, min(shares), float(np.mean(shares)), widths, max(alarms), float(np.mean(alarms))))
        table(("fits", "procedure", "worst", "mean", "width", "most false alarms", "mean false alarms"), rows)


def ratios(draws: int) -> None:
    """Of elicitation."""
    rows = []
    for size in (30, 100, 250):
        for shared in (False, True):
            found = [ratio_coverage(Cell(size, 2, 0.3, a), c, shared=shared, draws=draws) for a, c in RATIOS]
            for name in found[0]:
                shares, widths = zip(*(one[name] for one in found), strict=True)
                rows.append(
                    (
                        size,
                        "same" if shared else "other",
                        name,
                        min(shares),
                        float(np.mean(shares)),
                        float(np.mean(widths)),
                    )
                )
    table(("prompts", "capability on", "procedure", "worst", "mean", "width"), rows)


def means(draws: int) -> None:
    """Of means over shifts."""
    rows = []
    for kind in ("alike", "spread", "two kinds"):
        for count in (3, 6, 18):
            found = mean_coverage(kind, n_shifts=count, draws=draws)
            rows.append((kind, count, found["fixed"], found["sampled"]))
    table(("shifts' accuracies", "shifts", "fixed", "sampled"), rows)


def nulls(draws: int) -> None:
    """Of p < 0.05 where labels say nothing."""
    rows = []
    for spread in (0.0, 0.05, 0.2, "two kinds"):
        for fits in (1, 5):
            found = null_levels(spread, fits=fits, nulls=20, draws=draws)
            rows.append((f"{spread:g}" if isinstance(spread, float) else spread, fits, *found.values()))
    table(("spread of accuracies", "fits", "interval alone", "null alone", "both"), rows)


def calibration(draws: int) -> None:
    """Of the debiased calibration error."""
    rows = []
    for pairs in (30, 50, 100, 200, 300, 1000):
        for off in (0.0, 0.05, 0.15):
            found = [calibration_coverage(pairs, off, sure, draws=draws) for sure in ("even", "high", "two")]
            means_of = {name: float(np.mean([one[name] for one in found])) for name in ("raw", "debiased", "high")}
            rows.append(
                (pairs, off, means_of["raw"], means_of["debiased"], means_of["high"], min(o["covers"] for o in found))
            )
    table(("pairs", "true error", "raw", "debiased", "its high end", "worst coverage"), rows)


def texts(draws: int) -> None:
    """Of figures of labelled texts."""
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("1 fit", {}),
        ("1 fit, one label a group", {"sizes": (4, 20), "whole": True}),
        ("5 fits", {"sizes": (1, 4), "fits": 5}),
        ("5 fits, sd .3", {"sizes": (1, 4), "fits": 5, "fit_sd": 0.3}),
    )
    rows = []
    for title, options in kinds:
        for groups in (30, 100, 300) if title.startswith("1") else (30, 100):
            cells = text_cells([groups], **options)
            found = [text_coverage(cell, draws=draws) for cell in cells]
            for name in (*TEXT_FIGURES, ALONE):
                known = [(one[name], cell) for one, cell in zip(found, cells, strict=True) if name in one]
                if known:
                    (share, _), cell = min(known, key=lambda one: one[0][0])
                    where = f"{cell.area:g}, {cell.size} x {cell.prevalence:g}"
                    shares, widths = zip(*(one for one, _ in known), strict=True)
                    rows.append((title, groups, name, share, where, float(np.mean(shares)), float(np.mean(widths))))
    head = ("fits", "groups", "figure", "worst", "at AUROC, texts a group x prevalence", "mean", "width")
    table(head, rows)


def texts_held_out(draws: int) -> None:
    """Of figures of labelled texts, in cells that no procedure was chosen by."""
    rows = []
    for title, options in (("1 fit", {}), ("3 fits, sd .2", {"fits": 3, "fit_sd": 0.2})):
        cells = text_cells([50, 200], (1, 2, 8), (0.65, 0.9, 0.985), (0.3, 0.15), alike=0.5, **options)
        found = [text_coverage(cell, draws=draws, seed=SEED) for cell in cells]
        for name in TEXT_FIGURES:
            shares = [one[name][0] for one in found]
            rows.append((title, name, len(cells), min(shares), float(np.mean(shares))))
    table(("fits", "figure", "cells", "worst", "mean"), rows)


def text_differences(draws: int) -> None:
    """Of differences of two AUROCs on the same texts."""
    rows = []
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (("1 fit", {}), ("5 fits, sd .3", {"fits": 5, "fit_sd": 0.3}))
    for title, options in kinds:
        for groups in (30, 100):
            cells = [
                (TextCell(groups, size, share, a, **options), b)
                for size in (1, 4)
                for share in (0.5, 0.1)
                for a, b in DIFFERENCES
            ]
            found = [text_difference_coverage(cell, b, draws=draws) for cell, b in cells]
            alarms = [one[2] for one, (cell, b) in zip(found, cells, strict=True) if cell.area == b]
            shares, widths, _ = zip(*found, strict=True)
            means = float(np.mean(shares)), float(np.mean(widths))
            rows.append((title, groups, min(shares), *means, max(alarms), float(np.mean(alarms))))
    table(("fits", "groups", "worst", "mean", "width", "most false alarms", "mean false alarms"), rows)


def thresholds(draws: int) -> None:
    """Of recall at 1 % false positives, by the number of benign texts that the threshold was set on."""
    rows = []
    for benign in (50, 100, 300, 1000, 10_000):
        found = threshold_coverage(benign, TextCell(200, 1, 0.5, 0.9), draws=draws)
        rows.append((benign, found["given"], found["meant"], f"{found['low']:.2%} to {found['high']:.2%}"))
    table(("benign texts", "recall at this threshold", "recall at 1 %", "true rates of 95 in 100 thresholds"), rows)


def held_out(draws: int) -> None:
    """Of cells that no procedure was chosen by."""
    table(("of", "fits", "cells", "worst", "mean"), held_out_rows(draws))


TABLES: dict[str, Callable[[int], None]] = {
    one.__name__: one
    for one in (
        *(one_fit, five_fits, differences, ratios, means, nulls, calibration, held_out),
        *(texts, texts_held_out, text_differences, thresholds),
    )
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="by default all")
    parser.add_argument("--draws", type=int, default=2000, help="made-up evaluations a cell")
    asked = parser.parse_args()
    for name in asked.tables or TABLES:
        print(f"### {name}\n")
        TABLES[name](asked.draws)
