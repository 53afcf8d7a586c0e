"""Evaluations of probes and text baselines by several processes of this machine, each source by one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from repeng.distributions.schema import Split
from repeng.methods.base import Method
from repeng.methods.probes import ProbeMethod
from repeng.methods.registry import make_methods
from repeng.study.evaluations import Runner, StudyEvaluations, Task
from repeng.threads import SMALL_LAYER, n_beside

RESPONSES_WORTH_A_PROCESS = 20_000
"""Fitted on, by every method: about ten seconds' work; a process takes seconds to begin."""


def evaluate_beside(
    runner: Runner,
    tasks: Sequence[Task],
    methods: Sequence[Method],
    *,
    d_model: int,
    progress: Callable[[int, int], None],
) -> StudyEvaluations:
    """Fit probes and text baselines on small sources, each in one process with all its targets.

    None are made where it is not worth a process. Threads are of no use to small layers. A probe in a file of the
    user's own is run in this process alone.

    Args:
        runner: of the study; its evaluations are written as `Runner.evaluate` does.
        tasks: those without an evaluation; those of other methods are left out.
        methods: of the study.
        d_model: width of the model.
        progress: told how many are done, and of how many.
    """
    found = StudyEvaluations()
    # A folder in the memory of this process is none to another.
    if not (isinstance(runner.store.root, Path) and isinstance(runner.predictions, Path)):
        return found
    ours = {method.name for method in methods if _is_ours(method)}
    by_source: dict[Split, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.method in ours and 4 * d_model * task.source.n_responses <= SMALL_LAYER:
            by_source[task.source].append(task)
    work = {source: source.n_responses * len({task.method for task in asked}) for source, asked in by_source.items()}
    n = min(n_beside(sum(work.values()), RESPONSES_WORTH_A_PROCESS), len(by_source) - 1)
    if n < 1:
        return found
    from repeng.cluster.local_processes import begin, call_beside

    there = Runner(runner.settings, runner.store, runner.predictions, runner.benign)
    order = sorted(by_source, key=lambda source: -work[source])
    calls = [partial(_evaluate, there, by_source[source]) for source in order]
    total = sum(map(len, by_source.values()))
    for _, made in call_beside(begin(n), n, calls):
        found.add(made)
        progress(found.computed + len(found.failures), total)
    return found


def _is_ours(method: Method) -> bool:
    if isinstance(method, ProbeMethod):
        return type(method.probe).__module__.startswith("repeng.")
    return method.kind == "text"


def _evaluate(runner: Runner, tasks: Sequence[Task]) -> StudyEvaluations:
    """Of one source: fit every method, and ask it about its targets."""
    methods = make_methods(tuple(dict.fromkeys(task.method for task in tasks)), runner.settings)
    return runner.evaluate(tasks, methods, known={}, progress=lambda *_: None, quiet=True)
