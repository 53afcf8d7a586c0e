"""What a comparison computes: each function gives the rows of one table."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from repeng.errors import BadInput
from repeng.metrics import Evaluation, correlation, holm, mean_paired_difference, mistake_kappa
from repeng.report.answer import Row
from repeng.report.compared_studies import ComparedMethod, MethodPair, shared_evaluations
from repeng.report.zero_shot_baseline import zero_shot_of
from repeng.results import figure_name
from repeng.study.text_forms import zero_shot_form

RESAMPLES = 1000


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
        shared = a.measured.join(b.measured["accuracy"], rsuffix="_of_b", how="inner").reset_index()
        for row in shared.to_dict("records"):
            names = {"x": a.title, "y": b.title, "shift": f"{row['source']} → {row['target']}"}
            figures = {"x_accuracy": row["accuracy"], "y_accuracy": row["accuracy_of_b"]}
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
    """Mean accuracy and elicitation by method and label, with the model's size in billions where its name tells."""
    rows = []
    many = len({one.figure for one in methods}) > 1
    for one in methods:
        for label, own in one.rows.groupby(one.rows["label"].replace("", "all"), sort=False):
            names = {"model": one.model, "method": one.method, "study": one.study, "billions": model_size(one.model)}
            means = {name: _known(own[name].mean()) for name in ("accuracy", "elicitation")}
            kind = f"{label}, {figure_name(one.figure)}" if many else label
            rows.append({**names, "label": kind, **means, "shifts": int(own["elicitation"].count())})
    return rows


def mistake_agreement(pairs: Sequence[MethodPair]) -> list[Row]:
    """Cohen's kappa of right and wrong on the same pairs, over all shared shifts: do they fail on the same ones?

    Of labelled texts, what is right at the threshold that the source chose.
    """
    rows = []
    for a, b in pairs:
        shared = [one for one in shared_evaluations(a, b) if _tell_right(*one[1:])]
        if not shared:
            continue
        found = mistake_kappa(
            pooled((target, one) for target, one, _ in shared),
            pooled((target, other) for target, _, other in shared),
            resamples=RESAMPLES,
        )
        if found is not None:
            names = {"a": a.title, "b": b.title, "shifts": len(shared)}
            rows.append({**names, "kappa": found.value, "low": found.low, "high": found.high})
    return rows


def paired_tests(pairs: Sequence[MethodPair]) -> list[Row]:
    """Difference of mean accuracy over the shared shifts, with interval, p and Holm's p over all comparisons made."""
    rows: list[Row] = []
    for a, b in pairs:
        shared = shared_evaluations(a, b)
        if shared:
            targets, one, other = (list(values) for values in zip(*shared, strict=True))
            found = mean_paired_difference(one, other, targets)
            figures = {"difference": found.value, "low": found.low, "high": found.high, "p": found.p, "p_holm": None}
            rows.append({"a": a.title, "b": b.title, "shifts": len(shared), **figures})
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
    for one, kind, where in itertools.product(methods, ("probe", "tuned"), ("target_reference", "target")):
        wanted = (one.study, one.model, one.figure, kind)
        rivals = [other for other in methods if (other.study, other.model, other.figure, other.kind) == wanted]
        reached = {name: _best(rivals, name) for name in one.rows[where].unique()}
        ratios = (one.rows["accuracy"] / one.rows[where].map(reached).astype(float)).dropna()
        if len(ratios):
            measure = f"best {kind}, {where.replace('_', ' ')}"
            mean = float(ratios.mean())
            rows.append({"method": one.title, "capability": measure, "elicitation": mean, "shifts": len(ratios)})
    return rows


@dataclass(frozen=True)
class Question:
    """One table of a comparison.

    Attributes:
        answer: makes its rows, of the methods or of pairs of them; its name is that of the file and the key in JSON.
        title: over it.
        how: its caption.
        missing: what it needs, said where there is no answer.
        of_pairs: whether it is asked of pairs.
    """

    answer: Callable[[Any], list[Row]]
    title: str
    how: str
    missing: str
    of_pairs: bool = False

    @property
    def name(self) -> str:
        """Of its file, and its key in JSON."""
        return self.answer.__name__


QUESTIONS = (
    Question(
        elicitation_by_size,
        "Elicitation by model size",
        "Means over the shifts of a label; the model's size is read off its name.",
        "there are no rows.",
    ),
    Question(
        model_correlations,
        "Accuracy over shifts, one model against another",
        "Does one model's accuracy foretell another's? Pearson's coefficient with its interval, and Spearman's.",
        "needs one method on two models or in two studies.",
    ),
    Question(
        paired_tests,
        "Paired tests, corrected by Holm for all of them",
        "Difference of mean accuracy over the shared shifts, a minus b: interval and p over prompts, and p corrected "
        "for all tests of this table.",
        "needs two methods with predictions on the same pairs.",
        of_pairs=True,
    ),
    Question(
        mistake_agreement,
        "Agreement of mistakes (Cohen's kappa)",
        "1 where they fail on the same pairs, 0 where they agree no more than by chance.",
        "needs two methods with predictions on the same pairs.",
        of_pairs=True,
    ),
    Question(
        capability_measures,
        "Elicitation under other measures of capability",
        "Mean elicitation if capability were what the best probe, or the best tuned model, reaches on the target or on "
        "its reference.",
        "needs predictions of methods fitted on the targets themselves.",
    ),
)


def model_size(name: str) -> float | None:
    """Billions of parameters, as a model's name tells them: 7.0 of `llama-7b`, 0.16 of `pythia-160m`; else None."""
    found = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", name.rpartition("/")[2].lower())
    return float(found[0][0]) / (1000.0 if found[0][1] == "m" else 1.0) if found else None


def pooled(evaluations: Iterable[tuple[str, Evaluation]]) -> Evaluation:
    """Evaluations by target as one, prompts of one target grouped together wherever it occurs.

    Groups are unknown as a whole where they are for one.

    Raises:
        BadInput: one holds a bare accuracy, or there is none.
    """
    listed = list(evaluations)
    probabilities = [one.probabilities for _, one in listed if one.probabilities is not None]
    if not listed or len(probabilities) < len(listed):
        raise BadInput("a bare accuracy cannot be pooled; give evaluations with the probabilities of their pairs")
    together = np.concatenate(probabilities)
    targets = [target for target, _ in listed]
    group, example = (_numbered(targets, [getattr(one, name) for _, one in listed]) for name in ("group", "example"))
    return Evaluation(together, group=group, example=example)


def _numbered(
    targets: Sequence[str], numbers: Sequence[Int[np.ndarray, " _pair"] | None]
) -> Int[np.ndarray, " _all"] | None:
    """Numbers that tell the groups, or examples, of all targets apart; None where those of one are unknown."""
    known = [
        (target, number) for target, own in zip(targets, numbers, strict=True) if own is not None for number in own
    ]
    return None if any(own is None for own in numbers) else pd.factorize(pd.Series(known))[0]


def _tell_right(one: Evaluation, other: Evaluation) -> bool:
    """Whether both say what is right, as texts do not that have scores alone."""
    return one.probabilities is not None and other.probabilities is not None


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


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
