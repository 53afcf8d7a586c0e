"""Asking every method about every target; an answer that already lies on disk is read back, not made again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from repeng.distributions.schema import Split
from repeng.errors import NonFinite, RepengError
from repeng.methods.base import Context, Fitted, Method
from repeng.metrics import Evaluation
from repeng.results import LayerFigure, evaluation_path, read_evaluation, write_evaluation
from repeng.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One method, fitted on one source, asked about one target."""

    method: str
    source: Split
    target: Split


@runtime_checkable
class AnswersTogether(Protocol):
    """A fitted method that answers many targets in one go."""

    def evaluate_all(self, targets: Sequence[Split]) -> Iterator[tuple[Split, Evaluation | Exception]]:
        """An evaluation, or what went wrong, for each target."""
        ...


@runtime_checkable
class KnowsLayers(Protocol):
    """A fitted method that was fitted at several layers, and can say how each does alone."""

    def by_layer(self, target: Split) -> list[LayerFigure]:
        """Every fitted layer on a target; empty where there was one only."""
        ...


@dataclass(frozen=True)
class MethodEvaluation:
    """A task's evaluation, with what its fit said of itself, and how every layer of it does alone."""

    evaluation: Evaluation
    layers: str
    held_out_accuracy: float | None
    by_layer: tuple[LayerFigure, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A method that could not be fitted or scored, and why. The rest of the study is unharmed."""

    method: str
    source: str
    target: str
    reason: str


@dataclass
class StudyEvaluations:
    """Every answer of a study by (method, source name, target name), and what failed."""

    found: dict[tuple[str, str, str], MethodEvaluation] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    reused: int = 0
    computed: int = 0

    def get(self, method: str, source: str, target: str) -> MethodEvaluation | None:
        """The answer, or None where it failed or was not asked for."""
        return self.found.get((method, source, target))


def answer_tasks(
    tasks: Iterable[Task],
    methods: Sequence[Method],
    context: Context,
    predictions: Path,
    *,
    known: Mapping[Task, MethodEvaluation],
    progress: Callable[[int, int], None],
) -> StudyEvaluations:
    """Answer every task that is not known already, and write the answers.

    Cached methods are first fitted source by source, then asked target by target, so that one distribution's
    activations are read once for all methods. The others (tuned models, plug-ins) answer all targets of one source
    before the next, so that one model is loaded at a time.

    Args:
        tasks: what is asked.
        methods: those that the tasks name.
        context: of the study.
        predictions: folder that the answers are written to.
        known: answers that lie there already, from `read_answers`.
        progress: told how many are done, and of how many.
    """
    answers = StudyEvaluations()
    by_name = {method.name: method for method in methods}
    todo: dict[tuple[str, Split], list[Task]] = defaultdict(list)
    tasks = list(dict.fromkeys(tasks))
    keys = {task: answer_key(task, by_name[task.method], context) for task in tasks}
    for task in tasks:
        if task not in known:
            todo[task.method, task.source].append(task)
        else:
            answers.found[task.method, task.source.distribution, task.target.distribution] = known[task]
            answers.reused += 1
    cached = {key: group for key, group in todo.items() if by_name[key[0]].needs(key[1], context.n_layers)}
    done = answers.reused

    def settle(task: Task, fitted: Fitted, given: Evaluation | Exception) -> None:
        nonlocal done
        if isinstance(given, Exception):
            _failed(answers, [task], given)
        else:
            answer = MethodEvaluation(given, fitted.layers, fitted.held_out_accuracy, layers_of(fitted, task.target))
            _write(task, keys[task], answer, context, predictions)
            answers.found[task.method, task.source.distribution, task.target.distribution] = answer
            answers.computed += 1
        done += 1
        progress(done, len(tasks))

    fitted: dict[tuple[str, Split], Fitted] = {}
    source = None
    for key, group in sorted(cached.items(), key=lambda item: item[0][1].distribution):
        if key[1] is not source:
            context.forget()
            source = key[1]
        _fit_into(fitted, key, group, by_name, context, answers)
    waiting = [task for key, group in cached.items() if key in fitted for task in group]
    target = None
    for task in sorted(waiting, key=lambda task: task.target.distribution):
        if task.target is not target:
            context.forget()
            target = task.target
        settle(task, fitted[task.method, task.source], _ask(fitted[task.method, task.source], task.target))
    context.forget()
    fitted.clear()
    for key, group in todo.items():
        if key not in cached:
            _fit_into(fitted, key, group, by_name, context, answers)
            if key in fitted:
                one = fitted.pop(key)
                by_target = {task.target: task for task in group}
                for target, given in _ask_all(one, list(by_target)):
                    settle(by_target.pop(target), one, given)
    progress(len(tasks), len(tasks))
    return answers


def _ask(fitted: Fitted, target: Split) -> Evaluation | Exception:
    """An answer, or why there is none: a method may be somebody else's code, and whatever it raises is its own."""
    try:
        return fitted.evaluate(target)
    except Exception as error:
        return error


def layers_of(fitted: Fitted, target: Split) -> tuple[LayerFigure, ...]:
    """How every layer does alone; nothing where one that was not chosen cannot read the target."""
    if not isinstance(fitted, KnowsLayers):
        return ()
    try:
        return tuple(fitted.by_layer(target))
    except NonFinite as error:
        log.warning("no figures by layer on %s: %s", target.distribution, error)
        return ()


def _ask_all(fitted: Fitted, targets: list[Split]) -> Iterator[tuple[Split, Evaluation | Exception]]:
    """Answers about many targets: in one go where the method can, else one by one."""
    if not isinstance(fitted, AnswersTogether):
        yield from ((target, _ask(fitted, target)) for target in targets)
        return
    waiting = dict.fromkeys(targets)
    try:
        for target, given in fitted.evaluate_all(targets):
            del waiting[target]
            yield target, given
    except Exception as error:
        yield from ((target, error) for target in waiting)


def _fit_into(
    fitted: dict[tuple[str, Split], Fitted],
    key: tuple[str, Split],
    group: list[Task],
    by_name: dict[str, Method],
    context: Context,
    answers: StudyEvaluations,
) -> None:
    method, source = key
    try:
        fitted[key] = by_name[method].fit(source, context)
    except Exception as error:
        _failed(answers, group, error)


def reason_of(error: Exception) -> str:
    """What went wrong, in words; of an error that is not ours with its kind."""
    return str(error) if isinstance(error, RepengError) else f"{type(error).__name__}: {error}"


def _failed(answers: StudyEvaluations, tasks: list[Task], error: Exception) -> None:
    reason = reason_of(error)
    for task in tasks:
        answers.failures.append(Failure(task.method, task.source.distribution, task.target.distribution, reason))
    log.warning("%s on %s failed: %s", tasks[0].method, tasks[0].source.distribution, reason)
    log.debug("where %s failed", tasks[0].method, exc_info=error)


def read_evaluations(
    tasks: Iterable[Task], methods: Sequence[Method], context: Context, predictions: Path
) -> dict[Task, MethodEvaluation]:
    """The tasks whose file on disk already holds this very answer, with it."""
    by_name = {method.name: method for method in methods}
    read = (
        (task, _read_back(task, answer_key(task, by_name[task.method], context), context, predictions))
        for task in tasks
    )
    return {task: answer for task, answer in read if answer is not None}


def answer_key(task: Task, method: Method, context: Context) -> str:
    """Says what an answer follows from; a file with another key is another answer."""
    needs = method.needs(task.source, context.n_layers)
    facts = {
        "capture": context.capture_id,
        "method": task.method,
        "settings": method.settings(context),
        "texts": sorted({(need.stimulus.name, need.stimulus.fingerprint) for need in needs}),
        "source": [task.source.distribution, task.source.data_hash],
        "target": [task.target.distribution, task.target.data_hash],
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _path(task: Task, context: Context, predictions: Path) -> Path:
    return evaluation_path(
        predictions, task.method, context.model_slug, task.source.distribution, task.target.distribution
    )


def _read_back(task: Task, key: str, context: Context, predictions: Path) -> MethodEvaluation | None:
    path = _path(task, context, predictions)
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held.get("key") != key:
            return None
        by_layer = tuple(LayerFigure(**figure) for figure in held.get("by_layer", ()))
        return MethodEvaluation(read_evaluation(path), held["layers"], held["held_out_accuracy"], by_layer)
    except (RepengError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("%s is damaged and is made anew: %s", path, error)
        return None


def _write(task: Task, key: str, answer: MethodEvaluation, context: Context, predictions: Path) -> None:
    provenance = {
        "key": key,
        "model": context.model,
        "capture": context.capture_id,
        "method": task.method,
        "source": task.source.distribution,
        "target": task.target.distribution,
        "layers": answer.layers,
        "held_out_accuracy": answer.held_out_accuracy,
        **({"by_layer": [asdict(figure) for figure in answer.by_layer]} if answer.by_layer else {}),
        "seed": context.seed,
        "source_data_hash": task.source.data_hash,
        "target_data_hash": task.target.data_hash,
        "repeng_version": __version__,
    }
    write_evaluation(_path(task, context, predictions), answer.evaluation, provenance)
