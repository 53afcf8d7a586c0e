"""Causal figures of a study: what the model's answers do when what a probe found is added to it, or taken away."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from repeng.atomic import write_atomically
from repeng.distributions.schema import ResponseLabels, Split
from repeng.distributions.stimuli import Form
from repeng.errors import BadInput, sentence
from repeng.methods.base import Method
from repeng.methods.probes import CachedSource, ProbeMethod
from repeng.models.fingerprint import slug
from repeng.places import Place
from repeng.probes.base import Probe
from repeng.probes.fitted import NO_HEAD
from repeng.results import CausalRow, DoseRow, evaluation_path
from repeng.steering.edits import Add
from repeng.steering.questions import SteeredScores
from repeng.steering.steered_model import SteeredModel
from repeng.study.causal_edits import DOSES, STRENGTH, CausalEdits, causal_edits, n_conditions
from repeng.study.causal_figures import Answers, CausalNames, Costs, causal_rows, dose_rows
from repeng.study.cautions import Failure
from repeng.study.evaluations import Runner, Task
from repeng.study.model_settings import ModelSettings
from repeng.version import __version__

log = logging.getLogger(__name__)

FORMAT = 3
"""Of those rows: a number that goes up where what they are made by changes."""
TRIAL_EXAMPLES, TRIAL_EDITS = 4, 4
ENOUGH_SECONDS = 2.0
"""After so long no further split is tried."""

Key = tuple[ProbeMethod, Split]
"""A probe and the train split that it is fitted on."""


@dataclass(frozen=True)
class CausalPlan:
    """What is to be tried on the model.

    Attributes:
        runner: that tries it.
        asked: of each probe and source the test splits that the model answers about, the source's own first.
        n_edits: of the model, at most, for each probe and source.
        directionless: probes that read along no direction, which are left out.
        done: how many of these (probe, source, target) lie on disk already.
        seconds: an estimate for the others; None without a trial.
    """

    runner: CausalRunner
    asked: Mapping[Key, tuple[Split, ...]]
    n_edits: int
    directionless: tuple[str, ...] = ()
    done: int = 0
    seconds: float | None = None

    @property
    def count(self) -> int:
        """How many (probe, source, target) there are."""
        return sum(len(targets) for targets in self.asked.values())

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "figures": self.count,
            "figures_done": self.done,
            "edits": self.n_edits,
            "directionless": list(self.directionless),
            "examples": self.runner.examples,
            "seconds_estimate": self.seconds,
        }


@dataclass(frozen=True)
class Found:
    """The rows of one probe, source and target."""

    rows: list[CausalRow]
    doses: list[DoseRow]


FOUND = TypeAdapter(Found)


@dataclass(frozen=True)
class CausalOutcome:
    """Rows of the causal tables, and what failed."""

    rows: tuple[CausalRow, ...] = ()
    doses: tuple[DoseRow, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class CausalRunner:
    """Tries the directions of a study's probes on its model.

    Attributes:
        runner: the study's, which holds labels and activations.
        settings: of the model.
        folder: where the rows are kept.
        examples: of each test split, the first.
        too_long: what becomes of a text longer than the model takes.
        elsewhere: the flag by which the model is held by other processes than this one; empty for none.

    Raises:
        BadInput: it is.
    """

    runner: Runner
    settings: ModelSettings
    folder: Place
    examples: int
    too_long: str = "skip"
    elsewhere: str = ""

    def __post_init__(self) -> None:
        if self.elsewhere:
            raise BadInput(
                f"--causal edits the model in this process, and {self.elsewhere} holds it elsewhere; run the study "
                f"without --causal, then once more with it and without {self.elsewhere}"
            )

    def plan(
        self,
        tasks: Sequence[Task],
        methods: Sequence[Method],
        own_tests: Mapping[Split, Split],
        *,
        trial: bool,
    ) -> CausalPlan:
        """What there is to do for some tasks of a study; those about labelled texts are left out.

        Args:
            tasks: the study's.
            methods: of the study; the directions of its probes are tried.
            own_tests: of each source that is a distribution's train split, the test split of that distribution.
            trial: load the model and time a few edits.
        """
        asked: dict[Key, dict[Split, None]] = {}
        every = {method.name: method for method in methods if isinstance(method, ProbeMethod) and method.probe.learns}
        probes = {name: method for name, method in every.items() if reads_along_direction(method.probe)}
        for task in tasks:
            method = probes.get(task.method)
            own = own_tests.get(task.source)
            as_texts = task.target.as_texts or own is None or own.as_texts
            if method is None or own is None or as_texts:
                continue
            asked.setdefault((method, task.source), {own: None})[task.target] = None
        listed = {key: tuple(targets) for key, targets in asked.items()}
        shared = self.runner.settings
        count = n_conditions(shared.fits, shared.nulls)
        done = sum(
            self._known(key, targets[0], target) is not None for key, targets in listed.items() for target in targets
        )
        found = CausalPlan(self, listed, count, tuple(sorted(every.keys() - probes.keys())), done)
        return replace(found, seconds=self._seconds(found)) if trial and done < found.count else found

    def run(self, plan: CausalPlan, *, progress: Callable[[int, int], None]) -> CausalOutcome:
        """Every row of a plan; what lies on disk already is read back. A failure costs its own rows alone."""
        rows: list[CausalRow] = []
        doses: list[DoseRow] = []
        failures: list[Failure] = []
        finished = 0
        for (method, source), targets in plan.asked.items():
            for target, found in zip(targets, self._of_source((method, source), targets), strict=True):
                finished += 1
                progress(finished, plan.count)
                if isinstance(found, Exception):
                    failures.append(
                        Failure(f"{method.name} (causal)", source.distribution, target.distribution, sentence(found))
                    )
                    log.debug("causal figures of %s failed", method.name, exc_info=found)
                else:
                    rows += found.rows
                    doses += found.doses
            self.runner.forget()
        return CausalOutcome(tuple(rows), tuple(doses), tuple(failures))

    def _of_source(self, key: Key, targets: Sequence[Split]) -> Iterator[Found | Exception]:
        """The rows of each target, the source's own test split first, or why there are none."""
        known = [self._known(key, targets[0], target) for target in targets]
        made: tuple[CausalEdits, SteeredScores, Costs] | Exception | None = None
        for target, held in zip(targets, known, strict=True):
            if held is not None:
                yield held
                continue
            try:
                made = self._at_home(key, targets[0]) if made is None else made
                if isinstance(made, Exception):
                    raise made
                edits, at_home, costs = made
                scores = at_home if target == targets[0] else self._scores(key, edits, target)
                answers = Answers.about(scores, ResponseLabels.of(target.first(self.examples)))
                names = CausalNames(self._name, key[0].name, key[1].distribution, target.distribution)
                found = Found(causal_rows(names, edits, answers, costs), dose_rows(names, edits, answers, costs))
            except Exception as error:
                # A probe may be somebody else's code, and whatever it raises is its own.
                made = error if made is None else made
                yield error
                continue
            self._write(key, targets[0], target, found)
            yield found

    def _at_home(self, key: Key, own: Split) -> tuple[CausalEdits, SteeredScores, Costs]:
        """The edits of a probe and source, and what the model says about the source's own test split under them."""
        method, split = key
        shared, source = self.runner.settings, self.runner.source(split)
        cached = CachedSource.of(method.spec, shared.n_layers, source.activations, source.labels)
        edits = causal_edits(method.spec, cached, fits=shared.fits, draws=shared.nulls)
        if edits is None:
            raise BadInput(f"{method.name} reads along no direction, so there is nothing to add or to take away")
        scores = self._scores(key, edits, own)
        return edits, scores, Costs.over(scores, own.first(self.examples))

    def _scores(self, key: Key, edits: CausalEdits, split: Split) -> SteeredScores:
        conditions = [one.edits for one in edits.conditions]
        return self._model.scores(split.first(self.examples), edits.site, conditions, form=_form(key[0]))

    @cached_property
    def _model(self) -> SteeredModel:
        return SteeredModel(self.settings.load(), too_long=self.too_long)

    @property
    def _name(self) -> str:
        return self.runner.settings.model

    def _seconds(self, plan: CausalPlan) -> float:
        """About how long the rest takes: a few edits of some examples at the middle layer, timed."""
        lm = self._model.lm
        n_tokens = n_done = 0
        spent = 0.0
        for (method, source), targets in plan.asked.items():
            todo = [target for target in targets if self._known((method, source), targets[0], target) is None]
            for split in dict.fromkeys([targets[0], *todo] if todo else ()):
                first = split.first(self.examples)
                n_tokens += self._model.n_tokens(first, _form(method))
                if spent < ENOUGH_SECONDS:
                    few, layer = first.first(TRIAL_EXAMPLES), lm.n_layers // 2
                    n_done += self._model.n_tokens(few)
                    nothing = (Add(torch.zeros(lm.d_model)),)
                    begin = time.monotonic()
                    self._model.scores(few, "resid_post", [{(layer, NO_HEAD): nothing}] * TRIAL_EDITS)
                    spent += time.monotonic() - begin
        return spent / max(1, n_done) / TRIAL_EDITS * n_tokens * plan.n_edits

    def _path(self, key: Key, target: Split) -> Place:
        return evaluation_path(self.folder, key[0].name, slug(self._name), key[1].distribution, target.distribution)

    def _facts(self, key: Key, own: Split, target: Split, *, trusted: bool) -> str:
        """A hash over what the rows of a target follow from: the evaluation's facts, and `own`, whose prompts say what
        an edit costs."""
        method, source = key
        task = Task(method.name, source, target)
        of_evaluation = self.runner.keys([task], [method], trusted=trusted).get(task)
        facts = [of_evaluation, own.data_hash, self.examples, self.too_long, STRENGTH, DOSES, FORMAT, __version__]
        return "" if of_evaluation is None else hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def _known(self, key: Key, own: Split, target: Split) -> Found | None:
        """The rows on disk, if they are these very ones."""
        path = self._path(key, target)
        if not path.is_file():
            return None
        # Where content need not be checked, what was made of checked content is as good.
        facts = {self._facts(key, own, target, trusted=trusted) for trusted in {False, self.runner.store.trust}}
        try:
            held = from_json(path.read_bytes())
            if not held["key"] or held["key"] not in facts:
                return None
            return FOUND.validate_python(held["found"])
        except (OSError, ValueError, KeyError, AttributeError, ValidationError) as error:
            log.warning("%s is damaged and is made anew: %s", path, error)
            return None

    def _write(self, key: Key, own: Split, target: Split, found: Found) -> None:
        facts = self._facts(key, own, target, trusted=self.runner.store.trust)
        content = {"key": facts, "found": asdict(found)}
        write_atomically(self._path(key, target), json.dumps(content, indent=1, allow_nan=False) + "\n")


def reads_along_direction(probe: Probe) -> bool:
    """Whether a probe's class says that it learns a direction."""
    return any("direction_" in vars(cls).get("__annotations__", {}) for cls in type(probe).__mro__)


def _form(method: ProbeMethod) -> Form:
    """How the texts are written that the probe reads."""
    return method.named.reads[0].form
