"""What a figure means, for the head of a page."""

from __future__ import annotations

from repeng.results import AUROC, PAIR_ACCURACY

MEANING = {
    PAIR_ACCURACY: "Pair accuracy: how often the best response is preferred; chance is 0.5.",
    AUROC: "AUROC of labelled texts: how often a text with the label scores above one without it; chance is 0.5.",
}
"""By the values of the column `figure`."""
