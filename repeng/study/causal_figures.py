"""From what a model says under each edit to rows of the causal tables, with intervals, controls and a conclusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from repeng.distributions.schema import ResponseLabels, Split
from repeng.maths import pair_wins, sigmoid
from repeng.methods.answers import some_pairs
from repeng.metrics import Estimate, Evaluation, accuracy_interval, draw_ends, draw_p, holm, mean_interval
from repeng.results import (
    ACCURACY,
    ADD,
    AS_SHUFFLED,
    BREAKS,
    BYSTANDER,
    CAUSAL_LEVEL,
    LEACE,
    MOVES,
    PREFERENCE,
    REMOVE,
    VERDICT,
    VERDICT_GAP,
    CausalRow,
    DoseRow,
)
from repeng.steering.questions import SteeredScores
from repeng.study.causal_edits import DOSES, OWN, RANDOM, SHUFFLED, STRENGTH, CausalEdits

MEASURES = (PREFERENCE, ACCURACY, VERDICT, VERDICT_GAP)
TESTS = ((ADD, PREFERENCE), (ADD, VERDICT), (REMOVE, PREFERENCE), (REMOVE, VERDICT_GAP))
"""What the conclusion rests on: an answer that is added to moves as a whole, of one that is taken away the difference
between best and worse."""
BROKEN = 2.0
"""So many times its own perplexity on the source's prompts, by the interval's lower end, and a model is broken."""


@dataclass(frozen=True, eq=False)
class Costs:
    """Log of the perplexity of a source's prompts over that of the model as it is, as a mean over prompts.

    Attributes:
        values: of each condition; empty where no prompt has two tokens.
        of: the prompts, as what is resampled.
    """

    values: Float[np.ndarray, "edit example"]
    of: Evaluation | None

    @classmethod
    def over(cls, scores: SteeredScores, split: Split) -> Costs:
        """Of the prompts of a split."""
        there = np.flatnonzero((scores.prompt_tokens > 0) & np.isfinite(scores.prompts).all(axis=0))
        if not len(there):
            return cls(np.empty((len(scores.prompts), 0)), None)
        lost = scores.prompts[:1, there] - scores.prompts[:, there]
        mean_tokens = scores.prompt_tokens[there].mean()
        groups = split.groups[there].astype(np.int64)
        return cls(lost / mean_tokens, Evaluation(np.full(len(there), 0.5), example=there, group=groups))

    def ratio(self, places: Sequence[int]) -> Estimate | None:
        """Over some conditions, each a fit; None where it is unknown."""
        if self.of is None:
            return None
        found = mean_interval(self.values[list(places)], self.of)
        low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
        return Estimate(math.exp(found.value), low, high)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers about the pairs of a target under each condition.

    Attributes:
        values: of each measure.
        of: the pairs, as what is resampled.
    """

    values: Mapping[str, Float[np.ndarray, "edit pair"]]
    of: Evaluation

    @classmethod
    def about(cls, scores: SteeredScores, labels: ResponseLabels) -> Answers:
        """The pairs of a target both of whose texts the model takes.

        Raises:
            RepengError: there is none.
        """
        assert scores.verdicts is not None
        known = np.isfinite(scores.logprobs).all(axis=0) & np.isfinite(scores.verdicts).all(axis=0)
        pairs = some_pairs(labels.pairs[known[labels.pairs].all(axis=1)], labels.name)
        best, worse = pairs.T
        preference = scores.logprobs[:, best] - scores.logprobs[:, worse]
        values = {
            PREFERENCE: preference,
            ACCURACY: pair_wins(preference),
            VERDICT: (scores.verdicts[:, best] + scores.verdicts[:, worse]) / 2,
            VERDICT_GAP: scores.verdicts[:, best] - scores.verdicts[:, worse],
        }
        return cls(values, Evaluation(sigmoid(preference[0]), example=labels.units[best], group=labels.groups[best]))

    def accuracy(self, place: int) -> Estimate:
        """Of one condition, with the interval of a proportion."""
        value = Evaluation(self.values[ACCURACY][place], example=self.of.example, group=self.of.group)
        return Estimate(float(self.values[ACCURACY][place].mean()), *(accuracy_interval(value) or (None, None)))

    def change(self, measure: str, places: Sequence[int]) -> Float[np.ndarray, "edit pair"]:
        """By some conditions, of each pair."""
        values = self.values[measure]
        return values[list(places)] - values[0]


@dataclass(frozen=True)
class CausalNames:
    """What a row is of."""

    model: str
    method: str
    source: str
    target: str


def causal_rows(names: CausalNames, edits: CausalEdits, answers: Answers, costs: Costs) -> list[CausalRow]:
    """Every edit and measure of a probe on one target."""
    rows = [_row(names, edits, answers, costs, edit, measure) for edit in (ADD, REMOVE, LEACE) for measure in MEASURES]
    tested = [row for row in rows if (row.edit, row.measure) in TESTS]
    keys = [(row.edit, row.measure) for row in tested]
    p = dict(zip(keys, holm([_largest_p(row.change_p, row.random_p) for row in tested]), strict=True))
    # Where there is no such control the direction on shuffled labels is the direction itself.
    shuffled = [row.shuffled_p if row.n_shuffled else 1.0 for row in tested]
    of_labels = holm([_largest_p(row.change_p, row.random_p, p) for row, p in zip(tested, shuffled, strict=True)])
    rows = [replace(row, p=p.get((row.edit, row.measure))) for row in rows]
    said = conclusion(
        moved={edit for (edit, _), one in p.items() if one < CAUSAL_LEVEL},
        by_labels={edit for (edit, _), one in zip(keys, of_labels, strict=True) if one < CAUSAL_LEVEL},
        broken={row.edit for row in rows if (row.perplexity_low or 0.0) > BROKEN},
    )
    return [replace(row, conclusion=said) for row in rows]


def dose_rows(names: CausalNames, edits: CausalEdits, answers: Answers, costs: Costs) -> list[DoseRow]:
    """Every measure of a target at every strength, the model as it is among them."""
    rows = []
    for strength in sorted({0.0, *DOSES}):
        places = edits.places(ADD, OWN, strength) if strength else [0]
        cost = costs.ratio(places)
        for measure in MEASURES:
            found = mean_interval(answers.values[measure][places], answers.of)
            rows.append(
                DoseRow(
                    **vars(names),
                    strength=strength,
                    measure=measure,
                    value=found.value,
                    value_low=found.low,
                    value_high=found.high,
                    perplexity=None if cost is None else cost.value,
                )
            )
    return rows


def _row(names: CausalNames, edits: CausalEdits, answers: Answers, costs: Costs, edit: str, measure: str) -> CausalRow:
    strength = STRENGTH if edit == ADD else None
    places = edits.places(edit, OWN, strength)
    found = mean_interval(answers.change(measure, places), answers.of)
    cost = costs.ratio(places)
    # LEACE takes one dimension away, as what removes a direction does.
    alike = REMOVE if edit == LEACE else edit
    controls = {of: answers.change(measure, edits.places(alike, of)).mean(axis=1) for of in (RANDOM, SHUFFLED)}
    random, shuffled = (_Control.of(found.value, draws) for draws in controls.values())
    return CausalRow(
        **vars(names),
        layers=edits.layers,
        edit=edit,
        measure=measure,
        before=float(answers.values[measure][0].mean()),
        change=found.value,
        change_low=found.low,
        change_high=found.high,
        change_p=found.p,
        random_low=random.low,
        random_high=random.high,
        random_p=random.p,
        shuffled_low=shuffled.low,
        shuffled_high=shuffled.high,
        shuffled_p=shuffled.p,
        p=None,
        perplexity=None if cost is None else cost.value,
        perplexity_low=None if cost is None else cost.low,
        perplexity_high=None if cost is None else cost.high,
        conclusion="",
        n_pairs=answers.of.n_pairs or 0,
        n_prompts=answers.of.n_prompts,
        n_fits=edits.n_fits,
        n_random=len(controls[RANDOM]),
        n_shuffled=len(controls[SHUFFLED]),
    )


@dataclass(frozen=True)
class _Control:
    """Where one more draw of a control lies, and how likely a change as large is one; None where there are too few."""

    low: float | None = None
    high: float | None = None
    p: float | None = None

    @classmethod
    def of(cls, change: float, draws: Float[np.ndarray, " draw"]) -> _Control:
        return cls(*draw_ends(draws), draw_p(change, draws)) if len(draws) > 1 else cls()


def _largest_p(of_no_change: float | None, *of_controls: float | None) -> float:
    """Of no change, and of being one more draw of each control that there is; 1 where the interval is unknown."""
    return 1.0 if of_no_change is None else max(p for p in (of_no_change, *of_controls) if p is not None)


def conclusion(*, moved: set[str], by_labels: set[str], broken: set[str]) -> str:
    """Of a probe's direction on one target.

    Args:
        moved: edits that move an answer further than random directions do.
        by_labels: those that move it further than shuffled labels do as well.
        broken: those that break the model.
    """
    if by_labels - broken:
        return MOVES
    if moved - broken:
        return AS_SHUFFLED
    return BREAKS if broken & {ADD, REMOVE} else BYSTANDER
