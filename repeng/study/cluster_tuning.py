"""The weight-tuned methods of a study on a cluster: each source tuned on a worker of its own, and asked there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from repeng.activations.store.store import Store
from repeng.cluster.ray_cluster import connected
from repeng.distributions.schema import Split
from repeng.errors import sentence
from repeng.methods.base import Method
from repeng.methods.registry import make_methods
from repeng.methods.weight_tuning import Tuning
from repeng.study.cautions import Failure
from repeng.study.evaluations import Runner, StudyEvaluations, Task, names_of
from repeng.study.model_settings import ModelSettings

Result = TypeVar("Result")
Advance = Callable[[int, int], None]

COPIES = 4
"""Of a model's weights, so many take the memory that tuning it takes: gradients and the optimizer's two moments too."""


def tune_elsewhere(
    settings: ModelSettings,
    runner: Runner,
    tasks: Sequence[Task],
    methods: Sequence[Method],
    *,
    progress: Advance,
    note: Callable[[str], None],
) -> StudyEvaluations:
    """Have the workers of a cluster tune on sources and ask about targets; the evaluations are on disk afterwards.

    One call is one method on one source with all its targets, those of the largest sources first.

    Args:
        settings: the model, and the cluster.
        runner: of the study.
        tasks: those without an evaluation; those of other methods are left out.
        methods: of the study.
        progress: told how many are done, and of how many.
        note: told of each source that is done.
    """
    assert settings.cluster is not None
    tuned = {method.name for method in methods if isinstance(method, Tuning)}
    of_source: dict[tuple[str, Split], list[Task]] = defaultdict(list)
    for task in tasks:
        if task.method in tuned:
            of_source[task.method, task.source].append(task)
    found = StudyEvaluations()
    if not of_source:
        return found
    from repeng.cluster.ray_tasks import call_elsewhere

    order = sorted(of_source, key=lambda key: -_characters(key[1]))
    there = _everywhere(runner, settings.elsewhere())
    calls = [partial(_evaluate, there, name, of_source[name, source]) for name, source in order]
    total, done = sum(map(len, of_source.values())), 0
    with connected(settings.cluster) as cluster:
        for number, outcome in call_elsewhere(cluster, settings.needs(cluster, copies=COPIES), calls):
            name, source = order[number]
            asked = of_source[name, source]
            if isinstance(outcome, Exception):
                outcome = _failed(asked, outcome)
            found.add(outcome)
            done += len(asked)
            progress(done, total)
            note(f"{name} on {source.distribution}: {outcome.computed} of {len(asked)} targets scored")
    return found


def _characters(split: Split) -> int:
    return sum(len(str(example.prompt)) + sum(map(len, example.responses)) for example in split.examples)


def _everywhere(runner: Runner, model: ModelSettings) -> Runner:
    """The same runner for processes with another working directory."""
    shared = runner.settings
    settings = replace(
        shared,
        model=model.model,
        device=model.device,
        tuned=shared.tuned.absolute(),
        plugins=shared.plugins.absolute(),
    )
    store = Store(runner.store.root.absolute(), trust=runner.store.trust)
    return Runner(settings, store, runner.predictions.absolute(), runner.benign)


def _evaluate(runner: Runner, name: str, tasks: Sequence[Task]) -> StudyEvaluations:
    """On a worker: tune on one source, or find what was tuned, and ask about its targets."""
    methods = make_methods((name,), runner.settings)
    return runner.evaluate(tasks, methods, known={}, progress=lambda *_: None, quiet=True)


def _failed(tasks: Sequence[Task], error: Exception) -> StudyEvaluations:
    return StudyEvaluations(failures=[Failure(*names_of(task), sentence(error)) for task in tasks])


def call_on_worker(settings: ModelSettings, call: Callable[[], Result]) -> Result:
    """Make one call on a worker of a cluster that has room to tune the model.

    Raises:
        RepengError: the worker was lost again and again.
        Exception: what the call raised.
    """
    from repeng.cluster.ray_tasks import call_elsewhere

    assert settings.cluster is not None
    with connected(settings.cluster) as cluster:
        ((_, outcome),) = call_elsewhere(cluster, settings.needs(cluster, copies=COPIES), [call])
    if isinstance(outcome, Exception):
        raise outcome
    found: Result = outcome
    return found
