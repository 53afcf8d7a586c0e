"""Made-up methods of pairs on several models, whose answers to each pair are given: studies without a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from repeng.distributions.schema import Shift
from repeng.metrics import Evaluation
from repeng.report.compared_studies import ComparedMethod, ComparedStudy, compared_methods
from repeng.report.predictions import Key, Prediction
from repeng.results import ResultRow, row_from

PROMPTS, EACH = 60, 2
GROUP = np.repeat(np.arange(PROMPTS), EACH)


def of_scores(gap: np.ndarray) -> Evaluation:
    """An evaluation by scores whose best response leads by `gap` on each pair, 60 prompts of two pairs."""
    scores = np.stack([gap, np.zeros_like(gap)], axis=1)
    return Evaluation(1 / (1 + np.exp(-gap)), scores=scores, group=GROUP, example=GROUP)


def right_on(share: float, *, seed: int = 0) -> Evaluation:
    """An evaluation that is right on this share of pairs, by scores of a random size."""
    generator = np.random.default_rng(seed)
    right = generator.permutation(PROMPTS * EACH) < round(share * PROMPTS * EACH)
    size = generator.uniform(0.1, 3.0, PROMPTS * EACH)
    return of_scores(np.where(right, size, -size))


@dataclass
class MadeUp:
    """A study that is put together answer by answer.

    Attributes:
        capability: of every target.
    """

    name: str = "study"
    capability: float | None = 0.9
    predictions: dict[Key, Prediction] = field(default_factory=dict)

    def add(self, method: str, of: Mapping[tuple[str, str], Evaluation], model: str = "tiny-1b") -> None:
        """A method's evaluations by source and target."""
        for (source, target), evaluation in of.items():
            self.predictions[model, method, source, target] = Prediction(model, method, source, target, evaluation)

    @property
    def study(self) -> ComparedStudy:
        """With a row for each evaluation on another distribution than its source."""
        rows: list[ResultRow] = []
        for (model, method, source, target), one in self.predictions.items():
            if source == target:
                continue
            baseline = self.predictions.get((model, "zero-shot", source, target))
            rows.append(
                row_from(
                    one.evaluation,
                    model=model,
                    method=method,
                    layers="",
                    shift=Shift(source, target, label="extreme"),
                    baseline=baseline and baseline.evaluation,
                    capability=self.capability,
                )
            )
        return ComparedStudy(self.name, tuple(rows), self.predictions)

    @property
    def methods(self) -> list[ComparedMethod]:
        """Of this study alone."""
        return compared_methods([self.study])
