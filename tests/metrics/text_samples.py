"""Made-up evaluations of labelled texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from repeng.metrics import TextEvaluation


def texts_of(
    generator: np.random.Generator,
    *,
    n_groups: int = 40,
    size: int = 3,
    fits: int = 1,
    prevalence: float = 0.4,
    apart: float = 1.0,
    digits: int = 1,
    **others: Any,
) -> TextEvaluation:
    """Texts whose scores share a part with their group's; rounded, so that some are tied."""
    n_texts = n_groups * size
    labels = generator.random(n_texts) < prevalence
    labels[:2] = True, False
    group = np.repeat(np.arange(n_groups), size)
    common = generator.normal(size=n_groups)[group] + generator.normal(size=n_texts)
    scores = np.round(common + 0.5 * generator.normal(size=(fits, n_texts)) + apart * (2 * labels - 1), digits)
    positive = 1 / (1 + np.exp(-scores))
    return TextEvaluation.of_scores(
        scores,
        labels,
        positive,
        **{"group": group, "example": np.arange(n_texts), "thresholds": np.tile([2.0, 1.0], (fits, 1)), **others},
    )
