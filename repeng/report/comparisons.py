"""What a comparison computes: each function gives the rows of one table."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from repeng.metrics import correlation, holm, mean_paired_differences
from repeng.report.answer import Row
from repeng.report.compared_studies import ComparedMethod, MethodPair, shared_evaluations
from repeng.report.mistake_agreement import mistake_agreement, no_shared_predictions
from repeng.report.zero_shot_baseline import zero_shot_of
from repeng.results import figure_name
from repeng.study.text_forms import zero_shot_form

KNOWN_BILLIONS = {"mini": 0.0032, "smollm2": 0.135}
"""Billions of parameters of the models that this toolkit knows by a name of its own."""
ACCURACY = ("accuracy", "accuracy_low", "accuracy_high")


def scatter_rows(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Accuracy of two on each shift that both have: models of one method, else every method against its zero-shot."""
    pairs = _of_one_method(methods)
    for figure in dict.fromkeys(one.figure for one in methods) if not pairs else ():
        alike = [one for one in methods if one.figure == figure]
        first = next((one for one in alike if zero_shot_form(one.method)), alike[0])
        against = [(own.method if (own := zero_shot_of(one, alike)) else first, one) for one in alike]
        pairs += [(other, one) for other, one in against if other is not one]
    rows = []
    for a, b in pairs:
        of_a = a.measured[["label", *ACCURACY]]
        shared = of_a.join(b.measured[list(ACCURACY)], rsuffix="_of_b", how="inner").reset_index()
        for row in shared.to_dict("records"):
            names = {"x": a.title, "y": b.title, "shift": f"{row['source']} → {row['target']}"}
            figures = {f"x_{name}": _known(row[name]) for name in ACCURACY}
            figures |= {f"y_{name}": _known(row[f"{name}_of_b"]) for name in ACCURACY}
            rows.append({**names, "label": row["label"] or "shift", **figures})
    return rows


def model_correlations(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Does one model's accuracy over the shifts foretell another's? Pearson and Spearman, by method."""
    rows = []
    for a, b in _of_one_method(methods):
        shared = a.measured[["accuracy"]].join(b.measured["accuracy"], rsuffix="_of_b", how="inner")
        rows.append({"a": a.title, "b": b.title, **_correlations(shared)})
    return rows


def _of_one_method(methods: Sequence[ComparedMethod]) -> list[MethodPair]:
    """Every two models, or studies, of one method."""
    both = itertools.combinations(methods, 2)
    return [(a, b) for a, b in both if (a.method, a.figure) == (b.method, b.figure)]


def elicitation_by_size(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Mean accuracy and elicitation by method and label, with the model's size in billions where it is known."""
    rows = []
    many = len({one.figure for one in methods}) > 1
    for one in methods:
        for label, own in one.rows.groupby(one.rows["label"].replace("", "all"), sort=False):
            names = {"model": one.model, "method": one.method, "study": one.study, "billions": billions_of(one.model)}
            means = {name: _known(own[name].mean()) for name in ("accuracy", "elicitation")}
            kind = f"{label}, {figure_name(one.figure)}" if many else label
            rows.append({**names, "label": kind, **means, "shifts": int(own["elicitation"].count())})
    return rows


def paired_tests(pairs: Sequence[MethodPair]) -> list[Row]:
    """Difference of mean accuracy over the shared shifts, with interval, p and Holm's p over all comparisons made."""
    names, compared = [], []
    for a, b in pairs:
        if shared := shared_evaluations(a, b):
            names.append({"a": a.title, "b": b.title, "shifts": len(shared)})
            targets, one, other = zip(*shared, strict=True)
            compared.append((one, other, targets))
    rows: list[Row] = [
        {**own, "difference": found.value, "low": found.low, "high": found.high, "p": found.p, "p_holm": None}
        for own, found in zip(names, mean_paired_differences(compared), strict=True)
    ]
    return with_holm(rows)


def with_holm(rows: list[Row]) -> list[Row]:
    """The rows, with `p_holm` of each that has a `p`: corrected for all of them."""
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    return rows


def capability_measures(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Mean elicitation when capability is the best probe's, or the best tuned model's, on target or reference.

    Each capability is the highest accuracy of that kind of method, of the same study and model, fitted on the target
    (or its reference) and tested on it: chosen with its test split, so a little too high.
    """
    rows = []
    # Many methods have the same rivals, and are asked about the same distributions.
    best = cache(_best)
    for one, kind, where in itertools.product(methods, ("probe", "tuned"), ("target_reference", "target")):
        wanted = (one.study, one.model, one.figure, kind)
        rivals = tuple(other for other in methods if (other.study, other.model, other.figure, other.kind) == wanted)
        reached = {name: best(rivals, name) for name in one.rows[where].unique()}
        ratios = (one.rows["accuracy"] / one.rows[where].map(reached).astype(float)).dropna()
        if len(ratios):
            measure = f"best {kind}, {where.replace('_', ' ')}"
            mean = float(ratios.mean())
            rows.append({"method": one.title, "capability": measure, "elicitation": mean, "shifts": len(ratios)})
    return rows


def _always(sentence: str) -> Callable[[Sequence[ComparedMethod]], str]:
    return lambda _methods: sentence


@dataclass(frozen=True)
class Question:
    """One table of a comparison.

    Attributes:
        answer: makes its rows, of the methods or of pairs of them; its name is that of the file and the key in JSON.
        title: over it.
        how: its caption.
        missing: of the methods, what it needs, said where there is no answer.
        of_pairs: whether it is asked of the pairs that are tested.
    """

    answer: Callable[[Any], list[Row]]
    title: str
    how: str
    missing: Callable[[Sequence[ComparedMethod]], str]
    of_pairs: bool = False

    @property
    def name(self) -> str:
        """Of its file, and its key in JSON."""
        return self.answer.__name__


QUESTIONS = (
    Question(
        elicitation_by_size,
        "Mean accuracy and elicitation",
        "Means over the shifts of a label; billions of parameters are read off the model's name.",
        _always("there are no rows."),
    ),
    Question(
        model_correlations,
        "Accuracy over shifts, one model against another",
        "Does one model's accuracy foretell another's? Pearson's coefficient with its interval, and Spearman's.",
        _always("needs one method on two models or in two studies; give the results of another model too."),
    ),
    Question(
        paired_tests,
        "Paired tests, corrected by Holm for all of them",
        "Difference of mean accuracy over the shared shifts, a minus b: interval and p over prompts, and p corrected "
        "for all tests of this table.",
        no_shared_predictions,
        of_pairs=True,
    ),
    Question(
        mistake_agreement,
        "Agreement of mistakes (Cohen's kappa)",
        "Every two methods that scored the same pairs: 1 where they fail on the same pairs, 0 where they agree no more "
        "than by chance.",
        no_shared_predictions,
    ),
    Question(
        capability_measures,
        "Elicitation under other measures of capability",
        "Mean elicitation if capability were what the best probe, or the best tuned model, reaches on the target or on "
        "its reference.",
        _always("needs predictions of methods fitted on the targets themselves."),
    ),
)


def billions_of(model: str) -> float | None:
    """Billions of parameters, of a model known here or by the name (`7b`, `135m`); None where neither tells."""
    return KNOWN_BILLIONS.get(model, model_size(model))


def model_size(name: str) -> float | None:
    """Billions of parameters, as a model's name tells them: 7.0 of `llama-7b`, 0.16 of `pythia-160m`; else None."""
    found = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", name.rpartition("/")[2].lower())
    return float(found[0][0]) / (1000.0 if found[0][1] == "m" else 1.0) if found else None


def _best(methods: Sequence[ComparedMethod], distribution: str) -> float:
    """The highest accuracy of these methods, fitted and tested on a distribution; nan where there is none above 0."""
    found = [(one, one.prediction(distribution, distribution)) for one in methods]
    reached = (own.evaluation.accuracy for one, own in found if own and own.evaluation.figure == one.figure)
    return max(reached, default=math.nan) or math.nan


def _correlations(figures: pd.DataFrame) -> Row:
    """How the two columns correlate."""
    x, y = (figures.iloc[:, place].tolist() for place in (0, 1))
    pearson, spearman = correlation(x, y), correlation(x, y, method="spearman")
    return {
        "shifts": len(figures),
        "pearson": pearson and pearson.value,
        "low": pearson and pearson.low,
        "high": pearson and pearson.high,
        "spearman": spearman and spearman.value,
    }


def _known(value: float | None) -> float | None:
    return None if pd.isna(value) else float(value)
