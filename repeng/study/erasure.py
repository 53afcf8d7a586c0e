"""What erasing a concept leaves and what it takes: the figures, a row for each layer, probe and tested distribution."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from repeng.metrics import Evaluation, TextEvaluation, accuracy_interval, mean_paired_difference
from repeng.steering.eraser import Eraser

if TYPE_CHECKING:
    import pandas as pd

FRESH = "fresh"
"""The probe is fitted on other training responses than the eraser."""
SAME = "same"
"""The probe is fitted on the training responses that the eraser was fitted on."""
OWN = "own"
"""The probe is fitted on another distribution, which the eraser never saw."""


@dataclass(frozen=True)
class ErasureRow:
    """A probe fitted and tested before a concept is erased, and after.

    Attributes:
        by: `leace`, or the probe whose direction is erased.
        source: whose concept is erased.
        fitted_on: the distribution that the probe is fitted on: the source, or the target itself.
        rows: `fresh`, `same` or `own`: which training responses the probe is fitted on.
        linear: whether the probe is linear.
        target: whose test split it is tested on.
        head: None where the site has none.
        figure: what the accuracies are: `pair accuracy`, or `auroc` of labelled texts.
        n: pairs, or labelled texts.
        fits: how many there are; every figure is the mean over them.
        before: accuracy with the activations as they are, with its interval over prompts and fits.
        after: with the concept erased from what is fitted on and from what is tested on.
        after_sd: standard deviation of the fits' own accuracies after; None of one fit.
        change: after less before, on the same pairs, with its interval and p-value.
        random: mean accuracy after each of some random directions was erased in its place, the lowest and the highest;
            None where they were not tried.
        variance_removed: share of the variance of the target's activations that goes, of its test split.
        variance_random: the mean of that over the random directions.
    """

    model: str
    source: str
    by: str
    layer: int
    head: int | None
    fitted_on: str
    rows: str
    probe: str
    linear: bool
    target: str
    figure: str
    n: int
    n_prompts: int | None
    fits: int
    before: float
    before_low: float | None
    before_high: float | None
    after: float
    after_low: float | None
    after_high: float | None
    after_sd: float | None
    change: float
    change_low: float | None
    change_high: float | None
    change_p: float | None
    random: float | None
    random_low: float | None
    random_high: float | None
    variance_removed: float
    variance_random: float | None

    @classmethod
    def of(
        cls,
        before: Evaluation,
        after: Evaluation,
        random: Float[np.ndarray, " draw"] | None,
        **names: Any,
    ) -> ErasureRow:
        """The figures of two evaluations on the same pairs; `names` are the columns that no figure is."""
        ends = [accuracy_interval(one) or (None, None) for one in (before, after)]
        change = mean_paired_difference([after], [before], [names["target"]])
        own = after.fit_wins.mean(axis=1)
        drawn = None if random is None or not len(random) else random
        return cls(
            **names,
            figure=after.figure,
            n=after.n_texts if isinstance(after, TextEvaluation) else after.n_pairs or 0,
            n_prompts=after.n_prompts,
            fits=after.n_fits,
            before=before.accuracy,
            before_low=ends[0][0],
            before_high=ends[0][1],
            after=after.accuracy,
            after_low=ends[1][0],
            after_high=ends[1][1],
            after_sd=float(own.std(ddof=1)) if len(own) > 1 else None,
            change=change.value,
            change_low=change.low,
            change_high=change.high,
            change_p=change.p,
            random=None if drawn is None else float(drawn.mean()),
            random_low=None if drawn is None else float(drawn.min()),
            random_high=None if drawn is None else float(drawn.max()),
        )

    @property
    def went(self) -> bool:
        """Whether the accuracy fell, by its interval, and below what every random direction leaves."""
        fell = self.change_high is not None and self.change_high < 0
        return fell and (self.random_low is None or self.after < self.random_low)


@dataclass(frozen=True)
class Erasure:
    """A source's concept erased at some layers.

    Attributes:
        eraser: from all of the source's training responses.
        layer: where the erased probe (mass mean shift, for LEACE) does best on held-out pairs of the source.
        head: its head there; None where the site has none.
        draws: how many random directions there are.
        rows: the figures.
    """

    model: str
    source: str
    by: str
    eraser: Eraser
    layer: int
    head: int | None
    draws: int
    rows: tuple[ErasureRow, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a layer, probe, way of fitting and target, with the columns of `ErasureRow`."""
        import pandas as pd

        return pd.DataFrame(self.records)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows as plain values by column."""
        return [asdict(row) for row in self.rows]

    def at(self, layer: int, head: int | None = None) -> tuple[ErasureRow, ...]:
        """The rows of one layer and head."""
        return tuple(row for row in self.rows if (row.layer, row.head) == (layer, head))

    def _repr_html_(self) -> str:
        return str(self.frame.round(3).to_html(index=False))
