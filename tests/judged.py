"""Evaluations of answers, as a study makes them, from scores or from a text baseline alone."""

from __future__ import annotations

import numpy as np

from repeng.activations.store.cached_split import CachedSplit
from repeng.distributions.schema import ResponseLabels, Split
from repeng.methods.answers import evaluate
from repeng.methods.base import Answer, Target
from repeng.methods.text import FittedText, FittedTexts
from repeng.metrics import Evaluation


class Taken(CachedSplit):
    """Log-probabilities of a model that takes some texts and skips the others."""

    def __init__(self, kept: np.ndarray) -> None:
        vars(self)["rows"] = kept

    def logprobs(self, stimulus: str) -> tuple[np.ndarray, np.ndarray]:
        kept = vars(self)["rows"]
        return np.where(kept, -1.0, np.nan), kept.astype(np.int64)


def unread(split: Split) -> Target:
    """A target of which nothing in a store is read."""
    return Target.of(split, lambda: Taken(np.empty(0)))


def judged(answer: Answer, split: Split) -> Evaluation:
    return evaluate(answer, unread(split), ResponseLabels.of(split))


def judged_text(fitted: FittedText, split: Split, kept: np.ndarray | None = None) -> Evaluation:
    """A text baseline on a split of which the model takes some texts; all by default."""
    taken = Taken(np.ones(split.n_responses, dtype=bool) if kept is None else kept)
    target = Target.of(split, lambda: taken)
    return evaluate(FittedTexts((fitted,)).answer(target), target, ResponseLabels.of(split))
