"""What a study must still tune, and about how long that takes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repeng.methods.base import Method
from repeng.methods.weight_tuning import Tuning
from repeng.study.evaluations import Task
from repeng.tuning.trial import trial_seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuningPlan:
    """What a study must still tune by one method.

    Attributes:
        method: its name.
        sources: on how many sources a tuned model is needed.
        found: of how many of these it is there already.
        seconds: estimate for the others, if none stops early; None before a trial, or where the trial failed.
    """

    method: str
    sources: int
    found: int
    seconds: float | None = None


def plan_tunings(tasks: Iterable[Task], methods: Sequence[Method], *, trial: bool) -> tuple[TuningPlan, ...]:
    """What must be tuned to answer some tasks.

    Args:
        tasks: those that have no answer yet.
        methods: of the study.
        trial: time a few steps of each method on one source.
    """
    tasks = list(tasks)
    plans = []
    for method in methods:
        sources = list(dict.fromkeys(task.source for task in tasks if task.method == method.name))
        if not isinstance(method, Tuning) or not sources:
            continue
        try:
            missing = [run for source in sources if not (run := method.run(source)).finished]
            each = trial_seconds(missing[0]) if trial and missing else None
        except Exception as error:
            # It is reported where the study comes to it, with the methods that do work.
            log.debug("%s cannot be planned: %s", method.name, error)
            plans.append(TuningPlan(method.name, len(sources), 0))
            continue
        seconds = None if each is None else each * len(missing)
        plans.append(TuningPlan(method.name, len(sources), len(sources) - len(missing), seconds))
    return tuple(plans)
