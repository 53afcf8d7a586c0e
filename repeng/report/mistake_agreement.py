"""Do two methods fail on the same pairs? Cohen's kappa of every two, and what is missing where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Int

from repeng.errors import BadInput
from repeng.metrics import Evaluation, mistake_kappas
from repeng.report.answer import Row
from repeng.report.compared_studies import ComparedMethod, shared_evaluations

RESAMPLES = 1000


def mistake_agreement(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Cohen's kappa of right and wrong on the same pairs, over all shared shifts, of every two methods that have any.

    Of labelled texts, what is right at the threshold that the source chose.
    """
    # A method shares the same shifts with most of the others: its evaluations of them are pooled once.
    known = cache(pooled)
    pairs, names = [], []
    for a, b in itertools.combinations(methods, 2):
        shared = [one for one in shared_evaluations(a, b) if _tell_right(*one[1:])] if a.figure == b.figure else []
        if shared:
            one = known(tuple((target, one) for target, one, _ in shared))
            pairs.append((one, known(tuple((target, other) for target, _, other in shared))))
            names.append({"a": a.title, "b": b.title, "shifts": len(shared), "pairs": one.n_items})
    found = mistake_kappas(pairs, resamples=RESAMPLES)
    return [
        {**own, "kappa": kappa.value, "low": kappa.low, "high": kappa.high}
        for own, kappa in zip(names, found, strict=True)
        if kappa is not None
    ]


def no_shared_predictions(methods: Sequence[ComparedMethod]) -> str:
    """What is missing where no two methods have predictions on the same pairs, and how to get it."""
    needs = "needs two methods with predictions on the same pairs"
    if len(methods) < 2:
        there = "".join(one.title for one in methods) or "none"
        return f"{needs}; there is {there} alone: give results of another too."
    without = [one for one in methods if not _has_predictions(one)]
    if len(methods) - len(without) < 2:
        studies = ", ".join(dict.fromkeys(one.study for one in without))
        return (
            f"{needs}. {studies} has no probabilities of single pairs: give the study's folder as `repeng run` writes "
            "it, with its predictions/, and not results.csv alone."
        )
    return (
        f"{needs}. There are predictions, but no two methods have them on one shift with the same pairs: give studies "
        "of one benchmark and one --limit."
    )


def _has_predictions(method: ComparedMethod) -> bool:
    """Whether probabilities of single pairs are known on some of its shifts."""
    found = (method.prediction(source, target) for source, target in method.measured.index)
    return any(one is not None and one.evaluation.probabilities is not None for one in found)


def _tell_right(one: Evaluation, other: Evaluation) -> bool:
    """Whether both say what is right, as texts do not that have scores alone."""
    return one.probabilities is not None and other.probabilities is not None


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
    known = [own for own in numbers if own is not None]
    if len(known) < len(numbers):
        return None
    own = pd.factorize(np.concatenate(known))[0]
    of_target = np.repeat(pd.factorize(np.array(targets, dtype=object))[0], [len(one) for one in known])
    return pd.factorize(of_target * len(own) + own)[0]
