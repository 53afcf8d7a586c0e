"""What an accuracy of a table is of: pairs won, or the AUROC of labelled texts; and how it is named to a reader."""

from __future__ import annotations

from collections.abc import Iterable

from repeng.metrics import AUROC, PAIR_ACCURACY

NAMES = {PAIR_ACCURACY: "pair accuracy", AUROC: "AUROC"}
"""Of each value of the column `figure`; it is empty in tables of earlier versions, which hold pairs."""


def figure_name(figure: str) -> str:
    """How a `figure` is named to a reader: `pair accuracy`, `AUROC`."""
    return NAMES.get(figure or PAIR_ACCURACY, figure)


def figure_names(figures: Iterable[str]) -> str:
    """Each of several figures by its name once, as `pair accuracy or AUROC`; pairs first."""
    named = dict.fromkeys(map(figure_name, figures))
    return " or ".join(sorted(named, key=list(NAMES.values()).index)) or NAMES[PAIR_ACCURACY]
