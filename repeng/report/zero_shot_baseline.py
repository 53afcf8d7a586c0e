"""Zero-shot of one model in one study: how often it is right on a distribution, and by how many nats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from repeng.metrics import Estimate, Evaluation, accuracy_interval, mean_interval
from repeng.metrics.resampling import LEVEL
from repeng.report.compared_studies import ComparedMethod
from repeng.report.predictions import Prediction
from repeng.results import PAIR_ACCURACY
from repeng.study.text_forms import form_of, zero_shot_form

RULES = ("zero-shot", "zero-shot-genies")
"""Rules that rank by total log-probability, the first that a study has of one form is its baseline in that form."""
LARGEST_GAP = 53 * float(np.log(2))
"""Nats: a probability of a double that is nearer to 1 than at this gap is 1."""
MOST_SATURATED = 0.05
"""Where more probabilities than this are exactly 0 or 1, their mean log-odds say no more than the accuracy."""
MOST_PAIRS_A_PROMPT = 3
"""In GENIES; where prompts are unknown so many pairs count as one, as if a prompt's pairs were all right or wrong."""


@dataclass(frozen=True, eq=False)
class Gap:
    """Log-probability of the best response less that of the worse, pair by pair.

    Attributes:
        values: nats; None where they are unknown.
        origin: what they were made of, or why they are unknown.
        of: the evaluation whose pairs they are of.
    """

    values: Float[np.ndarray, " pair"] | None
    origin: str
    of: Evaluation | None = None

    @property
    def mean(self) -> Estimate | None:
        """Over pairs, with an interval over prompts."""
        return None if self.values is None or self.of is None else mean_interval(self.values, self.of)


def gap_of(evaluation: Evaluation) -> Gap:
    """The gap that an evaluation of pairs tells: of its scores, else of its probabilities as log-odds.

    A probability of exactly 0 or 1 hides its gap, which then counts as the largest that a double tells from
    certainty, 36.7 nats; where more than a twentieth do so, the gap is unknown.
    """
    if evaluation.scores is not None:
        return Gap(evaluation.scores[:, 0] - evaluation.scores[:, 1], "scores", evaluation)
    if evaluation.probabilities is None:
        return Gap(None, "a bare accuracy tells no gap")
    p = evaluation.probabilities
    hidden = int(np.sum((p == 0) | (p == 1)))
    if hidden > MOST_SATURATED * len(p):
        return Gap(None, f"{hidden} of {len(p)} probabilities are exactly 0 or 1")
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    origin = "probabilities" if not hidden else f"probabilities, {hidden} of {len(p)} exactly 0 or 1"
    return Gap(np.clip(odds, -LARGEST_GAP, LARGEST_GAP), origin, evaluation)


@dataclass(frozen=True, eq=False)
class ZeroShotBaseline:
    """Zero-shot as a study has it. It learns from no source, so any evaluation on a distribution speaks of it."""

    method: ComparedMethod

    def evaluation(self, target: str, source: str = "") -> Evaluation | None:
        """On a target's test split: the one next to the source's others, else the target's own, else any."""
        return next((one.evaluation for one in self._on(target, source)), None)

    def accuracy(self, name: str) -> Estimate | None:
        """On a distribution's own test split, with its interval where pairs are known."""
        found = self.evaluation(name)
        if found is not None:
            return Estimate(found.accuracy, *(pair_interval(found) or (None, None)))
        rows = self.method.rows
        at_home = rows.loc[rows["source"] == name, "source_id_accuracy"].dropna()
        if len(at_home):
            return Estimate(float(at_home.iloc[-1]))
        there = rows.loc[rows["target"] == name, ["accuracy", "accuracy_low", "accuracy_high"]].dropna()
        return Estimate(*map(float, there.iloc[-1])) if len(there) else None

    def gap(self, target: str, source: str = "") -> Gap:
        """On a target's test split: of the first evaluation that tells it, in the order of `evaluation`."""
        found = [gap_of(one.evaluation) for one in self._on(target, source)]
        known = next((one for one in found if one.values is not None), None)
        if known is None:
            return next(iter(found), Gap(None, "no evaluation of zero-shot"))
        return known if known is found[0] else replace(known, origin=f"{known.origin}, of another run of zero-shot")

    def _on(self, target: str, source: str) -> Iterator[Prediction]:
        """Evaluations on a target, nearest first; last that of a released folder MODEL, which has no source."""
        own = self.method
        sources = dict.fromkeys((*filter(None, (source, target)), *self._sources))
        found = (own.predictions.get((own.model, own.method, name, target)) for name in sources)
        return (one for one in found if one is not None and one.evaluation.figure == PAIR_ACCURACY)

    @property
    def _sources(self) -> list[str]:
        keys = self.method.predictions
        known = {key[2] for key in keys if key[:2] == (self.method.model, self.method.method)}
        return sorted(known, key=lambda name: (not name, name))


def pair_interval(evaluation: Evaluation) -> tuple[float, float] | None:
    """95 % interval of an accuracy over prompts; where these are unknown as if three pairs were one.

    Returns:
        (low, high), or None where pairs are unknown too, or there is one prompt.
    """
    found = accuracy_interval(evaluation)
    if found is not None or evaluation.group is not None or evaluation.n_pairs is None or evaluation.credit is None:
        return found
    from scipy.special import betaincinv

    tail, count = (1 - LEVEL) / 2, evaluation.n_pairs / MOST_PAIRS_A_PROMPT
    won = evaluation.accuracy * count
    low = float(betaincinv(won, count - won + 1, tail)) if won > 0 else 0.0
    high = float(betaincinv(won + 1, count - won, 1 - tail)) if won < count else 1.0
    return low, high


def zero_shot_of(method: ComparedMethod, methods: Sequence[ComparedMethod]) -> ZeroShotBaseline | None:
    """Zero-shot of a method's own model, study and form, else in plain form, else in any; None where there is none."""
    alike = (method.study, method.model, method.figure)
    own = [one for one in methods if (one.study, one.model, one.figure) == alike and _rule(one) in RULES]
    order = (form_of(method.method), "plain", "chat")
    own.sort(key=lambda one: (order.index(form_of(one.method)), RULES.index(_rule(one))))
    return ZeroShotBaseline(own[0]) if own else None


def _rule(method: ComparedMethod) -> str:
    """The rule of zero-shot that a method is; empty of every other method."""
    return "" if zero_shot_form(method.method) is None else method.method.partition("(")[0].strip()


def baseline_accuracies(method: ComparedMethod, baseline: ZeroShotBaseline | None) -> pd.Series:
    """Zero-shot accuracy on the target of each of a method's shifts, by (source, target); nan where unknown.

    Without a baseline the table's own baseline accuracy, whose form it does not say.
    """
    found = method.measured["baseline_accuracy"].astype(float)
    if baseline is None:
        return found
    listed = baseline.method.measured["accuracy"].astype(float)
    for source, target in found.index:
        held = baseline.evaluation(target, source)
        if (source, target) in listed.index:
            found.loc[(source, target)] = listed.loc[(source, target)]
        else:
            other = Estimate(held.accuracy) if held else baseline.accuracy(target)
            found.loc[(source, target)] = other.value if other else float("nan")
    return found
