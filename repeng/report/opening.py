"""What a report opens with: the question of the study in one sentence, and the answer with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from repeng.metrics import Evaluation
from repeng.report.frames import fitted, in_order, model_name
from repeng.report.predictions import Key
from repeng.report.sentences import NOTHING, disagreeing, label_summaries, measured_methods
from repeng.report.wording import many
from repeng.results.verdicts import ABOVE, BELOW

MOST_NAMED = 4
KINDS = (("tuned", "tuned reward model"), ("plugin", "plug-in"), ("published", "published method"))
"""Kinds of fitted methods but for probes, and what one is called."""


@dataclass(frozen=True)
class Opening:
    """The first lines of a report.

    Attributes:
        question: of this study.
        asked: over which shifts, and next to which methods that are not fitted on activations or weights.
        answers: for each label which shifts it is about, and what leads there.
        notes: over all results.
    """

    question: str
    asked: str
    answers: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def opening(frame: pd.DataFrame, evaluations: Mapping[Key, Evaluation], asked_of: str = "") -> Opening:
    """The opening of a study's report.

    Args:
        frame: as `shift_frame` gives it.
        evaluations: of the same study.
        asked_of: the benchmark or data, as `the benchmark mini`, where that is known.
    """
    pool = measured_methods(frame)
    answers = [(one.where, one.with_interval) for one in label_summaries(frame, evaluations)]
    notes = [*_told(pool), *disagreeing(pool)] if answers else [NOTHING]
    return Opening(question(frame), _asked(frame, asked_of), tuple(answers), tuple(notes))


def question(frame: pd.DataFrame) -> str:
    """The question of a study in one sentence."""
    models = _listed([model_name(model) for model in in_order(frame["model"])])
    whose = f"{models}'" if models.endswith("s") else f"{models}'s"
    learners = fitted(frame)
    probes = learners.loc[learners["kind"] == "probe", "method"].nunique()
    others = [
        many(count, noun)
        for kind, noun in KINDS
        if (count := learners.loc[learners["kind"] == kind, "method"].nunique())
    ]
    if probes and not others:
        return (
            f"Does what {many(probes, 'probe')} {_learn(probes)} on one distribution from {whose} activations hold on "
            "another?"
        )
    if others:
        who = _listed([*([many(probes, "probe")] if probes else []), *others])
        return (
            f"Does what {who} of {models} {_learn(learners['method'].nunique())} on one distribution hold on another?"
        )
    methods = in_order(frame["method"])
    return (
        f"How often do {_listed(methods)} prefer the right response?"
        if len(methods) > 1
        else (f"How often does {methods[0]} prefer the right response?")
    )


def _asked(frame: pd.DataFrame, asked_of: str) -> str:
    shifts = frame[["source", "target", "label"]].drop_duplicates()
    labels = in_order(shifts["label"])
    counts = ", ".join(f"{int((shifts['label'] == label).sum())} {label or 'other'}" for label in labels)
    asked = f"Asked over {many(len(shifts), 'shift')}" + (f" of {asked_of}" if asked_of else "")
    asked += f" ({counts})" if any(labels) else ""
    rest = in_order(frame.loc[~frame.index.isin(fitted(frame).index), "method"])
    beside = f", next to {_listed(rest)}" if rest and len(rest) < frame["method"].nunique() else ""
    return f"{asked}{beside}."


def _told(pool: pd.DataFrame) -> list[str]:
    """How many results are above chance and below, and how many are told from neither."""
    told = pool[pool["verdict"] != ""].drop_duplicates(["name", "source", "target"])
    if told.empty:
        return []
    above, below = (int((told["verdict"] == side).sum()) for side in (ABOVE, BELOW))
    rest = len(told) - above - below
    parts = [f"{above} {_is(above)} above chance"]
    if rest:
        parts.append(f"{rest} {_is(rest)} not told from chance or from the method's null")
    if below:
        parts.append(f"{below} {_is(below)} below chance: something else was learned there")
    return [f"Of {many(len(told), 'result')} {_listed(parts)}."]


def _learn(count: int) -> str:
    return "learns" if count == 1 else "learn"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many the first few, and how many more."""
    hidden = len(names) - MOST_NAMED
    shown = [*names[:MOST_NAMED], f"{hidden} more"] if hidden > 0 else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
