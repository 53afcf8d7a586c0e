"""What a comparison computes: each function gives the rows of one table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from repeng.errors import BadInput, UnknownName
from repeng.metrics import Evaluation, correlation, holm, mean_paired_difference, mistake_kappa
from repeng.report.compared_studies import ComparedStudy, Entrant
from repeng.report.grouping import BASELINES, mean_of
from repeng.report.predictions import Prediction
from repeng.results import ResultRow

TUNED = ("lora", "prompt-tuning", "full")
"""Methods that tune the model; what is neither these nor a baseline is a probe."""

PERMUTATIONS = 4000
RESAMPLES = 1000

Row = dict[str, Any]


class Field:
    """Every entrant of every side, and what each did on each shift.

    With `against`, pairs are those of every other method with that one.
    """

    def __init__(self, sides: Sequence[ComparedStudy], against: str | None = None) -> None:
        self.sides = tuple(sides)
        self.entrants = tuple(entrant for side in sides for entrant in side.entrants())
        known = {entrant.method for entrant in self.entrants}
        if against is not None and against not in known:
            raise UnknownName("method to compare against", against, sorted(known))
        self.against = against
        self._side = {side.name: side for side in sides}

    def title(self, entrant: Entrant) -> str:
        """The method, and the model and study where there are several."""
        parts = [entrant.method]
        if len({other.model for other in self.entrants}) > 1:
            parts.append(entrant.model.rpartition("/")[2])
        if sum((other.model, other.method) == (entrant.model, entrant.method) for other in self.entrants) > 1:
            parts.append(entrant.study)
        return " · ".join(parts)

    def rows(self, entrant: Entrant) -> list[ResultRow]:
        """Its rows, as the study lists them."""
        rows = self._side[entrant.study].rows
        return [row for row in rows if (row.model, row.method) == (entrant.model, entrant.method)]

    def by_shift(self, entrant: Entrant) -> dict[tuple[str, str], ResultRow]:
        """Its rows with an accuracy, each source and target once."""
        return {(row.source, row.target): row for row in self.rows(entrant) if row.accuracy is not None}

    def prediction(self, entrant: Entrant, source: str, target: str) -> Prediction | None:
        """Its evaluation, fitted on source and scored on target."""
        return self._side[entrant.study].predictions.get((entrant.model, entrant.method, source, target))

    def evaluations(self, a: Entrant, b: Entrant) -> list[tuple[str, Evaluation, Evaluation]]:
        """Target and both evaluations of every shift that both scored on the same pairs."""
        found = []
        for source, target in self.by_shift(a):
            one, other = self.prediction(a, source, target), self.prediction(b, source, target)
            if one is not None and other is not None and _same_pairs(one, other):
                found.append((target, one.evaluation, other.evaluation))
        return found

    def neighbours(self) -> list[tuple[Entrant, Entrant]]:
        """Pairs worth comparing: methods of one model, and models (or studies) of one method."""
        if self.against is not None:
            return [
                (a, b)
                for b in self.entrants
                for a in self.entrants
                if b.method == self.against != a.method and (a.model, a.study) == (b.model, b.study)
            ]
        return [
            (a, b)
            for a, b in itertools.combinations(self.entrants, 2)
            if a.method == b.method or (a.model, a.study) == (b.model, b.study)
        ]


def scatter_rows(field: Field) -> list[Row]:
    """Accuracy of two entrants on each shift that both have: models of one method, else methods beside zero-shot."""
    pairs = [(a, b) for a, b in itertools.combinations(field.entrants, 2) if a.method == b.method]
    if not pairs:
        first = next((one for one in field.entrants if one.method == "zero-shot"), field.entrants[0])
        pairs = [(first, one) for one in field.entrants if one != first]
    return [
        {
            "x": field.title(a),
            "y": field.title(b),
            "shift": f"{key[0]} → {key[1]}",
            "label": row.label or "shift",
            "x_accuracy": row.accuracy,
            "y_accuracy": field.by_shift(b)[key].accuracy,
        }
        for a, b in pairs
        for key, row in field.by_shift(a).items()
        if key in field.by_shift(b)
    ]


def model_correlations(field: Field) -> list[Row]:
    """Does one model's accuracy over the shifts foretell another's? Pearson and Spearman, by method."""
    rows = []
    for a, b in itertools.combinations(field.entrants, 2):
        if a.method != b.method:
            continue
        shared = [key for key in field.by_shift(a) if key in field.by_shift(b)]
        x = [field.by_shift(a)[key].accuracy or 0.0 for key in shared]
        y = [field.by_shift(b)[key].accuracy or 0.0 for key in shared]
        rows.append({"a": field.title(a), "b": field.title(b), "shifts": len(shared), **_correlations(x, y)})
    return rows


def zero_shot_correlations(field: Field) -> list[Row]:
    """Does zero-shot accuracy on the target foretell generalization accuracy? By fitted entrant, over shifts."""
    rows = []
    for entrant in field.entrants:
        if entrant.method in BASELINES:
            continue
        known = [row for row in field.by_shift(entrant).values() if row.baseline_accuracy is not None]
        x = [row.baseline_accuracy or 0.0 for row in known]
        y = [row.accuracy or 0.0 for row in known]
        rows.append({"method": field.title(entrant), "shifts": len(known), **_correlations(x, y)})
    return [row for row in rows if row["shifts"]]


def elicitation_by_size(field: Field) -> list[Row]:
    """Mean accuracy and elicitation of every entrant, by label, with the model's size in billions where its name
    tells."""
    rows = []
    for entrant in field.entrants:
        own = field.rows(entrant)
        for label in dict.fromkeys(row.label or "all" for row in own):
            chosen = [row for row in own if (row.label or "all") == label]
            elicited, count = mean_of(chosen, lambda row: row.elicitation)
            rows.append(
                {
                    "model": entrant.model,
                    "method": entrant.method,
                    "study": entrant.study,
                    "billions": model_size(entrant.model),
                    "label": label,
                    "accuracy": mean_of(chosen, lambda row: row.accuracy)[0],
                    "elicitation": elicited,
                    "shifts": count,
                }
            )
    return rows


def mistake_agreement(field: Field) -> list[Row]:
    """Cohen's kappa of right and wrong on the same pairs, over all shared shifts: do they fail on the same ones?"""
    rows = []
    for a, b in field.neighbours():
        shared = field.evaluations(a, b)
        if not shared:
            continue
        found = mistake_kappa(
            pooled([(target, one) for target, one, _ in shared]),
            pooled([(target, other) for target, _, other in shared]),
            resamples=RESAMPLES,
        )
        if found is not None:
            names = {"a": field.title(a), "b": field.title(b), "shifts": len(shared)}
            rows.append({**names, "kappa": found.value, "low": found.low, "high": found.high})
    return rows


def paired_tests(field: Field) -> list[Row]:
    """Difference of mean accuracy over the shared shifts, with interval, p and Holm's p over all comparisons made."""
    rows: list[Row] = []
    for a, b in field.neighbours():
        shared = field.evaluations(a, b)
        if not shared:
            continue
        targets, one, other = (list(part) for part in zip(*shared, strict=True))
        found = mean_paired_difference(one, other, targets, resamples=RESAMPLES, permutations=PERMUTATIONS)
        names = {"a": field.title(a), "b": field.title(b), "shifts": len(shared)}
        rows.append({**names, "difference": found.value, "low": found.low, "high": found.high, "p": found.p})
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    return [{**row, "p_holm": row.get("p_holm")} for row in rows]


def capability_measures(field: Field) -> list[Row]:
    """Mean elicitation when capability is the best probe's, or the best tuned model's, on target or reference.

    Each capability is the highest accuracy of that kind of method, of the same study and model, fitted on the target
    (or its reference) and tested on it: chosen with its test split, so a little too high.
    """
    rows = []
    for entrant in field.entrants:
        for kind, names in (("probe", None), ("tuned", TUNED)):
            for where in ("target_reference", "target"):
                ratios = [
                    row.accuracy / best
                    for row in field.rows(entrant)
                    if row.accuracy is not None and (best := _best(field, entrant, names, getattr(row, where)))
                ]
                if ratios:
                    measure = f"best {kind}, {where.replace('_', ' ')}"
                    mean = float(np.mean(ratios))
                    shifts = len(ratios)
                    rows.append(
                        {"method": field.title(entrant), "capability": measure, "elicitation": mean, "shifts": shifts}
                    )
    return rows


def model_size(name: str) -> float | None:
    """Billions of parameters, as a model's name tells them: 7.0 of `llama-7b`, 0.16 of `pythia-160m`; else None."""
    found = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", name.rpartition("/")[2].lower())
    return float(found[0][0]) / (1000.0 if found[0][1] == "m" else 1.0) if found else None


def pooled(evaluations: Iterable[tuple[str, Evaluation]]) -> Evaluation:
    """Evaluations by target as one, prompts of one target grouped together wherever it occurs.

    Groups are unknown as a whole where they are for one.
    """
    listed = list(evaluations)
    probabilities = [one.probabilities for _, one in listed]
    if not listed or any(part is None for part in probabilities):
        raise BadInput("a bare accuracy cannot be pooled; give evaluations with the probabilities of their pairs")
    together = np.concatenate([part for part in probabilities if part is not None])
    if any(one.group is None for _, one in listed):
        return Evaluation(together)
    numbers: dict[tuple[str, int], int] = {}
    keys = [(target, int(group)) for target, one in listed for group in (one.group if one.group is not None else ())]
    return Evaluation(together, group=np.array([numbers.setdefault(key, len(numbers)) for key in keys]))


def _best(field: Field, entrant: Entrant, names: Sequence[str] | None, distribution: str) -> float | None:
    """The highest accuracy of that kind of method, fitted and tested on a distribution; None where none was."""
    kind = [
        other
        for other in field.entrants
        if (other.study, other.model) == (entrant.study, entrant.model)
        and (other.method in names if names is not None else other.method not in (*BASELINES, *TUNED))
    ]
    found = [field.prediction(other, distribution, distribution) for other in kind]
    return max((one.evaluation.accuracy for one in found if one is not None), default=None)


def _correlations(x: Sequence[float], y: Sequence[float]) -> Row:
    row: Row = {}
    for name, found in (("pearson", correlation(x, y)), ("spearman", correlation(x, y, method="spearman"))):
        row[name] = None if found is None else found.value
        if name == "pearson":
            row |= {"low": found and found.low, "high": found and found.high}
    return row


def _same_pairs(one: Prediction, other: Prediction) -> bool:
    """Whether two evaluations are of the same pairs, as far as they tell."""
    a, b = one.evaluation, other.evaluation
    if a.n_pairs is None or a.n_pairs != b.n_pairs:
        return False
    if one.data_hash and other.data_hash and one.data_hash != other.data_hash:
        return False
    return a.example is None or b.example is None or bool(np.array_equal(a.example, b.example))
