"""Asking every method about every target; an evaluation that already lies on disk is read back, not made again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from repeng.activations.store.cached_split import Activations, CachedSplit, Kept, MixedSplit
from repeng.activations.store.files import INDEX, LOGPROB, ActivationKey, split_folder, split_key
from repeng.activations.store.records import read_index
from repeng.activations.store.store import Store, StoredCapture
from repeng.activations.store.stored_activations import StoredActivations
from repeng.distributions.mixture import Mixture, members_of
from repeng.distributions.schema import ResponseLabels, Split
from repeng.errors import NonFinite, RepengError, StoreError, sentence
from repeng.methods.answers import ByLayer, by_layer, evaluate
from repeng.methods.base import (
    Answer,
    AnswersTogether,
    FittedMethod,
    KnowsLayers,
    Method,
    MethodSettings,
    Note,
    RequiredActivations,
    ScoresItself,
    Source,
    Target,
    no_note,
)
from repeng.methods.text_answers import benign_thresholds
from repeng.metrics import Evaluation, TextEvaluation
from repeng.models.fingerprint import slug
from repeng.places import Place
from repeng.results import LayerFigure, evaluation_path, read_evaluation_file, write_evaluation
from repeng.study.cautions import Failure
from repeng.version import __version__

log = logging.getLogger(__name__)

Fitted = FittedMethod | ScoresItself
Item = TypeVar("Item")


@dataclass(frozen=True)
class Task:
    """One method, fitted on one source, asked about one target."""

    method: str
    source: Split
    target: Split


@dataclass(frozen=True)
class MethodEvaluation:
    """A task's evaluation, with what its fit said of itself, and how every layer of it does alone.

    Attributes:
        by_layer: how every layer does alone; empty where there was no choice of layers.
        unread: why there is nothing by layer, where a layer that was not chosen cannot be read.
        n_overlap: pairs whose prompt stands in the source's train split; None where none does, or that is unknown.
        accuracy_without_overlap: of the other pairs, where there are such.
    """

    evaluation: Evaluation
    layers: str
    held_out_accuracy: float | None
    by_layer: ByLayer = ByLayer()
    unread: str = ""
    n_overlap: int | None = None
    accuracy_without_overlap: float | None = None


@dataclass
class StudyEvaluations:
    """Every evaluation of a study by (method, source name, target name), what failed, and of which causes.

    Attributes:
        quiet: whether somebody else says what failed.
    """

    found: dict[tuple[str, str, str], MethodEvaluation] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    causes: set[str] = field(default_factory=set)
    reused: int = 0
    computed: int = 0
    quiet: bool = False

    def fail(self, failures: Sequence[Failure]) -> None:
        """Take down failures of one cause, and say so of the first of a cause."""
        first = failures[0]
        if first.cause not in self.causes and not self.quiet:
            log.warning("%s on %s failed: %s", first.method, first.source, first.reason)
        self.failures += failures
        self.causes |= {failure.cause for failure in failures}

    def add(self, other: StudyEvaluations) -> None:
        """What else was found, by evaluations that were quiet."""
        self.found |= other.found
        self.computed += other.computed
        self.reused += other.reused
        for failure in other.failures:
            self.fail([failure])

    def get(self, method: str, source: str, target: str) -> MethodEvaluation | None:
        """The evaluation, or None where it failed or was not asked for."""
        return self.found.get((method, source, target))


@dataclass(frozen=True)
class Runner:
    """Holds the labels and the cached activations of a study, and shows methods no more of them than they may see.

    Attributes:
        settings: what the study's methods share.
        store: where the activations are.
        predictions: folder of the evaluations.
        benign: whose texts of label 0 set thresholds for labelled texts; None where the source's own do.
    """

    settings: MethodSettings
    store: Store
    predictions: Place
    benign: Split | None = None
    _read: dict[Split, CachedSplit] = field(default_factory=dict, repr=False, compare=False)
    _kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    _thresholds: dict[tuple[str, Split], np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    _targets: dict[Split, tuple[Target, ResponseLabels]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def capture(self) -> StoredCapture:
        """The model's capture."""
        return self.store.capture(self.settings.capture_id)

    def source(self, split: Split) -> Source:
        """A train split to be fitted on, which may be a mixture."""
        return Source(split, lambda: self._activations(split))

    def target(self, split: Split) -> Target:
        """A split to be asked about, without its labels."""
        return self._target(split)[0]

    def _target(self, split: Split) -> tuple[Target, ResponseLabels]:
        if split not in self._targets:
            self._targets[split] = Target.of(split, lambda: self._activations(split)), ResponseLabels.of(split)
        return self._targets[split]

    def _activations(self, split: Split) -> Activations:
        if not isinstance(split, Mixture):
            return self._cached(split)
        name = f"{split.distribution}/{split.name}"
        return MixedSplit(name, tuple(map(self._cached, split.members)), split.rows)

    def _cached(self, split: Split) -> CachedSplit:
        """The cached activations of a split; what was read of it stays in memory until `forget`."""
        if split not in self._read:
            self._read[split] = CachedSplit(self.capture, *split_key(split), self._kept)
        return self._read[split]

    def forget(self) -> None:
        """Let go of everything that was read."""
        self._read.clear()
        self._kept.layers.clear()
        self._targets.clear()

    def path(self, task: Task) -> Place:
        """Where a task's evaluation lies."""
        model = slug(self.settings.model)
        source, target = task.source.distribution, task.target.distribution
        return evaluation_path(self.predictions, task.method, model, source, target)

    def keys(self, tasks: Sequence[Task], methods: Sequence[Method], *, trusted: bool = False) -> dict[Task, str]:
        """Says what each task's evaluation follows from, of the tasks whose activations are all in the store.

        A file with another key is another evaluation.

        Args:
            tasks: what is asked.
            methods: those that the tasks name.
            trusted: keys of evaluations that follow from activations whose content was not checked.
        """
        by_name = {method.name: method for method in methods}
        identities = {name: by_name[name].identity() for name in {task.method for task in tasks}}
        read, texts = cache(self._content), cache(_texts)
        keys = {}
        for task in tasks:
            needs = by_name[task.method].requires(task.source)
            contents = [read(split, need) for split, need in self._reads(task, by_name[task.method])]
            if None not in contents:
                facts = {
                    "capture": self.settings.capture_id,
                    "method": identities[task.method],
                    "texts": texts(tuple(needs)),
                    "activations": contents,
                    "trusted": trusted and bool(needs),
                    "source": [task.source.distribution, task.source.data_hash],
                    "target": [task.target.distribution, task.target.data_hash],
                    "version": __version__,
                }
                if (benign := self._benign(task)) is not None:
                    facts["benign"] = [benign.distribution, benign.data_hash]
                keys[task] = _key(facts)
        return keys

    def known(self, tasks: Sequence[Task], methods: Sequence[Method]) -> dict[Task, MethodEvaluation]:
        """The tasks whose file on disk already holds this very evaluation, with it."""
        found: dict[Task, MethodEvaluation] = {}
        for trusted in {False, self.store.trust}:
            keys = self.keys([task for task in tasks if task not in found], methods, trusted=trusted)
            read = ((task, _read_back(self.path(task), key)) for task, key in keys.items())
            found |= {task: held for task, held in read if held is not None}
        return found

    def check(self, tasks: Iterable[Task], methods: Sequence[Method]) -> None:
        """Check the content of all activations that some tasks read.

        Raises:
            StoreError: some are damaged.
        """
        by_name = {method.name: method for method in methods}
        needed: dict[tuple[Split, RequiredActivations], None] = {}
        for task in tasks:
            needed |= dict.fromkeys(self._reads(task, by_name[task.method]))
        for split, need in needed:
            if (self._folder(split, need) / INDEX).is_file():
                StoredActivations(self._folder(split, need), trust=self.store.trust).check(need.layers)

    def lacking(self, task: Task, method: Method) -> list[tuple[Split, RequiredActivations]]:
        """What a task reads that the store does not hold."""
        return [(split, need) for split, need in self._reads(task, method) if self._content(split, need) is None]

    def _reads(self, task: Task, method: Method) -> list[tuple[Split, RequiredActivations]]:
        """What a task reads of each split, the target first; of a mixture what each of its members holds."""
        members = members_of(task.source) if method.reads_of(task.source) else ()
        benign = () if (found := self._benign(task)) is None else (found,)
        splits = (*members_of(task.target), *benign, *members)
        return [(split, need) for split in splits for need in method.requires(task.source)]

    def _benign(self, task: Task) -> Split | None:
        """What sets a task's thresholds, where that is not the source."""
        return self.benign if task.target.as_texts else None

    def _folder(self, split: Split, need: RequiredActivations) -> Place:
        key = ActivationKey(need.stimulus.name, need.site or LOGPROB, need.token)
        return split_folder(self.store.root / self.settings.capture_id, split) / key.folder

    def _content(self, split: Split, need: RequiredActivations) -> str | None:
        """A hash over what the store holds of a need; None where it lacks it."""
        try:
            index = read_index(self._folder(split, need))
        except StoreError:
            return None
        wanted = range(self.settings.n_layers) if need.layers is None else need.layers
        return index.content(need.layers) if not need.site or {*wanted} <= {*index.layers} else None

    def evaluate(
        self,
        tasks: Iterable[Task],
        methods: Sequence[Method],
        *,
        known: Mapping[Task, MethodEvaluation],
        progress: Callable[[int, int], None],
        note: Note = no_note,
        quiet: bool = False,
    ) -> StudyEvaluations:
        """Evaluate every task that is not known already, and write the evaluations.

        Methods that read the store are first fitted source by source, then asked target by target, so that one
        distribution's activations are read once for all methods. The others (tuned models, plug-ins) answer all
        targets of one source before the next, so that one model is loaded at a time.

        Args:
            tasks: what is asked.
            methods: those that the tasks name.
            known: evaluations that lie there already, from `known`.
            progress: told how many are done, and of how many.
            note: told what a long fit is at.
            quiet: whether the caller says what failed.
        """
        found = StudyEvaluations(quiet=quiet)
        by_name = {method.name: method for method in methods}
        tasks = list(dict.fromkeys(tasks))
        keys = self.keys([task for task in tasks if task not in known], methods, trusted=self.store.trust)
        todo: dict[tuple[str, Split], list[Task]] = defaultdict(list)
        for task in tasks:
            if task in known:
                found.found[names_of(task)] = known[task]
                found.reused += 1
            else:
                todo[task.method, task.source].append(task)

        def settle(task: Task, fitted: Fitted, given: Evaluation | Exception) -> None:
            if isinstance(given, Exception):
                _failed(found, [task], given)
            else:
                held_out = getattr(fitted, "held_out_accuracy", None)
                layers = getattr(fitted, "layers", "")
                made = MethodEvaluation(given, layers, held_out, *self._by_layer(fitted, task))
                self._write(task, by_name[task.method], keys[task], made)
                found.found[names_of(task)] = made
                found.computed += 1
            progress(found.reused + found.computed + len(found.failures), len(tasks))

        def fit(key: tuple[str, Split]) -> Fitted | None:
            try:
                return by_name[key[0]].fit(self.source(key[1]), note)
            except Exception as error:
                # A method may be somebody else's code, and whatever it raises is its own.
                _failed(found, todo[key], error)
                return None

        cached = [key for key in todo if by_name[key[0]].requires(key[1])]
        ready: dict[tuple[str, Split], Fitted] = {}
        for group in _grouped(cached, lambda key: key[1]):
            ready |= {key: fitted for key in group if (fitted := fit(key)) is not None}
            self.forget()
        waiting = [task for key in ready for task in todo[key]]
        for asked in _grouped(waiting, lambda task: task.target):
            for task in asked:
                fitted = ready[task.method, task.source]
                ((_, given),) = self._ask(fitted, [task])
                settle(task, fitted, given)
            self.forget()
        ready.clear()
        self._thresholds.clear()
        for key in [key for key in todo if key not in cached]:
            one = fit(key)
            if one is not None:
                for task, given in self._ask(one, todo[key]):
                    settle(task, one, given)
        progress(len(tasks), len(tasks))
        return found

    def _ask(self, fitted: Fitted, tasks: Sequence[Task]) -> Iterator[tuple[Task, Evaluation | Exception]]:
        """Evaluations of many targets, in one go where the method can, or why there is none."""
        targets = [self.target(task.target) for task in tasks]
        waiting = list(tasks)
        try:
            if isinstance(fitted, ScoresItself):
                for given in fitted.evaluate_all([task.target for task in tasks]):
                    yield waiting.pop(0), given
                return
            answers: Iterator[Answer | Exception] = (_tried(fitted, target) for target in targets)
            if isinstance(fitted, AnswersTogether):
                answers = fitted.answer_all(targets)
            for answer in answers:
                task = waiting.pop(0)
                yield task, self._judged(task, answer, fitted)
        except Exception as error:
            yield from ((task, error) for task in waiting)

    def _judged(self, task: Task, answer: Answer | Exception, fitted: FittedMethod) -> Evaluation | Exception:
        if isinstance(answer, Exception):
            return answer
        try:
            found = evaluate(answer, *self._target(task.target))
            if isinstance(found, TextEvaluation) and self.benign is not None:
                found = replace(found, thresholds=self._limits(fitted, task), benign=self.benign.distribution)
            return found
        except RepengError as error:
            return error

    def _limits(self, fitted: FittedMethod, task: Task) -> Float[np.ndarray, "fit rate"]:
        """Thresholds that the benign distribution sets for a task's fitted method, found once for all its targets."""
        assert self.benign is not None
        key = task.method, task.source
        if key not in self._thresholds:
            target, labels = self._target(self.benign)
            self._thresholds[key] = benign_thresholds(fitted.answer(target), target, labels)
        return self._thresholds[key]

    def by_layer(self, fitted: Fitted, task: Task) -> ByLayer:
        """How every layer does alone; nothing where there is no choice of layers.

        Raises:
            NonFinite: a layer that was not chosen cannot read the target.
        """
        if not isinstance(fitted, KnowsLayers):
            return ByLayer()
        target, labels = self._target(task.target)
        scores = fitted.layer_scores(target)
        return ByLayer() if scores is None else by_layer(scores, target, labels)

    def _by_layer(self, fitted: Fitted, task: Task) -> tuple[ByLayer, str]:
        """How every layer does alone, or why that is not known."""
        try:
            return self.by_layer(fitted, task), ""
        except NonFinite as error:
            return ByLayer(), str(error)

    def _write(self, task: Task, method: Method, key: str, made: MethodEvaluation) -> None:
        provenance = {
            "key": key,
            "model": self.settings.model,
            "capture": self.settings.capture_id,
            "method": task.method,
            "kind": method.kind,
            "source": task.source.distribution,
            "target": task.target.distribution,
            "layers": made.layers,
            "held_out_accuracy": made.held_out_accuracy,
            **_of_layers(made.by_layer),
            **({"unread": made.unread} if made.unread else {}),
            "seed": self.settings.seed,
            "source_data_hash": task.source.data_hash,
            "target_data_hash": task.target.data_hash,
            **({"source_members": task.source.sources} if isinstance(task.source, Mixture) else {}),
            "repeng_version": __version__,
        }
        write_evaluation(self.path(task), made.evaluation, provenance)


def _of_layers(alone: ByLayer) -> dict[str, Any]:
    """What an evaluation file says of layers."""
    found: dict[str, Any] = {"by_layer": [asdict(figure) for figure in alone.figures]} if alone.figures else {}
    return found | ({} if alone.tied is None else {"tied_layers": alone.tied})


def names_of(task: Task) -> tuple[str, str, str]:
    """Method, source and target, by their names."""
    return task.method, task.source.distribution, task.target.distribution


def _texts(needs: tuple[RequiredActivations, ...]) -> list[tuple[str, str]]:
    """The stimuli of what a method reads, by name, and what each of them is."""
    return sorted({(need.stimulus.name, need.stimulus.fingerprint) for need in needs})


def _key(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _grouped(items: Iterable[Item], split_of: Callable[[Item], Split]) -> list[list[Item]]:
    """Items of one split together, splits in order of their names."""
    groups: dict[Split, list[Item]] = defaultdict(list)
    for item in items:
        groups[split_of(item)].append(item)
    return [groups[split] for split in sorted(groups, key=lambda split: split.distribution)]


def _tried(fitted: FittedMethod, target: Target) -> Answer | Exception:
    try:
        return fitted.answer(target)
    except Exception as error:
        return error


def _failed(found: StudyEvaluations, tasks: Sequence[Task], error: Exception) -> None:
    """Take down what failed."""
    reason = sentence(error)
    found.fail([Failure(*names_of(task), reason) for task in tasks])
    log.debug("where %s failed", tasks[0].method, exc_info=error)


def _read_back(path: Place, key: str) -> MethodEvaluation | None:
    if not path.is_file():
        return None
    try:
        evaluation, held = read_evaluation_file(path)
        if held.get("key") != key:
            return None
        figures = tuple(LayerFigure(**figure) for figure in held.get("by_layer", ()))
        alone = ByLayer(figures, tuple(held["tied_layers"]) if "tied_layers" in held else None)
        facts = held["layers"], held["held_out_accuracy"], alone, held.get("unread", "")
        return MethodEvaluation(evaluation, *facts)
    except (RepengError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("%s is damaged and is made anew: %s", path, error)
        return None
