"""Methods as Python objects, each run in a process of its own: what it does wrong or never ends harms nothing else."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from repeng.atomic import write_atomically
from repeng.distributions.schema import Split, prompt_value
from repeng.errors import BadInput, RepengError
from repeng.methods.base import Answer, Kind, Method, MethodSettings, Note, ResponseScores, Source, Target, no_note
from repeng.methods.code_hash import files_hash
from repeng.methods.plugins.processes import PLUGINS, TIME_LIMIT, last_words, run_script
from repeng.models.fingerprint import file_hash
from repeng.models.source import find_model
from repeng.places import on_disk

TRIAL_SECONDS = 60.0
"""That importing a method and making its object may take."""
ENTRY_POINTS = ("repeng.methods", "repeng.interventions")
"""Groups in which installed packages offer methods; the second is what the first was called in earlier versions."""


def entry_point_references() -> dict[str, str]:
    """Name and `module:name` of every method that an installed package offers, without importing any."""
    # Asked once: each time the files of all installed packages are read.
    offered = entry_points()
    return {point.name: point.value for group in ENTRY_POINTS[::-1] for point in offered.select(group=group)}


def find_object(reference: str) -> tuple[str, str]:
    """Name and place of an entry point, of `module:name` or of `path/file.py:name`. Nothing is imported.

    Raises:
        BadInput: it is none of these.
    """
    points = entry_point_references()
    if reference in points:
        return reference, points[reference]
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise BadInput(
            f"{reference!r} is no entry point of {ENTRY_POINTS[0]}, and neither module:name nor file.py:name"
        )
    if not place.endswith(".py"):
        return name, reference
    if not Path(place).is_file():
        raise BadInput(f"{place}: no such Python file")
    return name, f"{Path(place).resolve()}:{name}"


@dataclass(frozen=True)
class PythonObject(Method):
    """An object with `fit` and `score` as a method; `worker.PythonMethod` says what it must have.

    Attributes:
        reference: `module:name` or `path/file.py:name`.
        time_limit: seconds for the fit and the answers about all targets of one source.
    """

    name: str
    reference: str
    settings: MethodSettings
    time_limit: float = TIME_LIMIT
    kind: Kind = "plugin"
    title: str = "a Python object with fit and score"

    @classmethod
    def at(cls, reference: str, settings: MethodSettings, *, time_limit: float = TIME_LIMIT) -> PythonObject:
        """The method that an entry point's name, `module:name` or `path/file.py:name` stands for.

        Raises:
            BadInput: it is none of these.
        """
        return cls(*find_object(reference), settings, time_limit)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Which object, and the seed."""
        return {"object": self.reference, "seed": self.settings.seed}

    def code(self) -> str:
        """Over the file, or all Python files of the top-level package, that holds it. Nothing is imported."""
        place = Path(self.reference.rpartition(":")[0])
        if place.suffix == ".py":
            return file_hash(place)[:12]
        found = find_spec(place.name.partition(".")[0])
        if found is None or found.origin is None:
            return ""
        origin = Path(found.origin)
        return files_hash(origin.parent, "*.py") if origin.name == "__init__.py" else file_hash(origin)[:12]

    def trial(self) -> None:
        """Import it and make the object, in a process of its own.

        Raises:
            RepengError: it cannot be imported or made, it has no fit and score, or that takes too long; or its files
                are to be kept in an object store.
        """
        on_disk(self.settings.plugins, PLUGINS)
        with tempfile.TemporaryDirectory() as folder:
            write_atomically(Path(folder) / "request.json", json.dumps({"object": self.reference}))
            command = [sys.executable, "-m", "repeng.methods.plugins.worker", folder, "--load-only"]
            run_script(command, what=f"{self.name}: its process", log=Path(folder) / "log", time_limit=TRIAL_SECONDS)
            found = _read(Path(folder) / "fitted.json")
        if found is None or "error" in found:
            raise BadInput(found["error"] if found else f"{self.reference}: its process ended before it was made")

    def fit(self, source: Source, note: Note = no_note) -> FittedObject:  # noqa: ARG002
        """It is fitted once it is asked, in the process that answers."""
        return FittedObject(self, source.split)


@dataclass(frozen=True)
class FittedObject:
    """Fits and answers in one process, which is given everything at its start and ends with its last answer."""

    method: PythonObject
    source: Split
    layers: str = ""
    held_out_accuracy: float | None = None

    def answer(self, target: Target) -> Answer:
        """Its answer about one target.

        Raises:
            RepengError: it raises, does not end in time, its process ends, or its answer is nonsense.
        """
        (given,) = self.answer_all([target])
        if isinstance(given, Exception):
            raise given
        return given

    def answer_all(self, targets: Sequence[Target]) -> Iterator[Answer | RepengError]:
        """Fit, and ask about each target's responses, which it is shown in a random order.

        Raises:
            RepengError: it cannot be fitted.
        """
        method, settings = self.method, self.method.settings
        what = f"{method.name} on {self.source.distribution}"
        plugins = on_disk(settings.plugins, PLUGINS)
        folder = plugins.resolve() / method.name / f"{self.source.distribution}-{uuid.uuid4().hex[:8]}"
        log, orders = folder / "plugin.log", [self._orders(target) for target in targets]
        asked = [_shown(target, order) for target, order in zip(targets, orders, strict=True)]
        write_atomically(folder / "request.json", json.dumps(self._request() | {"targets": asked}))
        failure: RepengError | None = None
        try:
            command = [sys.executable, "-m", "repeng.methods.plugins.worker", str(folder)]
            run_script(command, what=f"{what}: its process", log=log, time_limit=method.time_limit)
        except RepengError as error:
            failure = error
        fitted = _read(folder / "fitted.json")
        if fitted is None:
            raise failure or RepengError(f"{what}: its process ended before it was fitted; {last_words(log)}")
        if "error" in fitted:
            raise RepengError(
                f"{method.name}: fitting on {self.source.distribution} failed: {fitted['error']}; {last_words(log)}"
            )
        for number, (target, order) in enumerate(zip(targets, orders, strict=True)):
            given = _read(folder / f"answer-{number}.json")
            said = f"{method.name}: scoring {target.distribution}"
            if given is None:
                yield failure or RepengError(f"{said}: its process ended before; {last_words(log)}")
            elif "error" in given:
                yield RepengError(f"{said} failed: {given['error']}; {last_words(log)}")
            else:
                yield _scores(given.get("scores"), order, said)

    def _orders(self, target: Target) -> list[np.ndarray]:
        draw = np.random.default_rng([self.method.settings.seed, int(target.key, 16)])
        return [draw.permutation(len(question.responses)) for question in target.questions]

    def _request(self) -> dict[str, Any]:
        return {
            "object": self.method.reference,
            "model": find_model(self.method.settings.model).place,
            "seed": self.method.settings.seed,
            "distribution": self.source.distribution,
            "split": self.source.name,
            "examples": [[prompt_value(e.prompt), e.responses, e.right] for e in self.source.examples],
        }


def _shown(target: Target, orders: Sequence[np.ndarray]) -> list[list[Any]]:
    return [
        [prompt_value(question.prompt), [question.responses[place] for place in order]]
        for question, order in zip(target.questions, orders, strict=True)
    ]


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _scores(shown: Any, orders: Sequence[np.ndarray], what: str) -> ResponseScores | RepengError:
    """The scores in file order, if there is a finite one for each response of each question."""
    if not isinstance(shown, list) or len(shown) != len(orders):
        found = len(shown) if isinstance(shown, list) else 0
        return RepengError(f"{what} gave nonsense: scores of {found} questions, and {len(orders)} were asked")
    scores = []
    for number, (row, order) in enumerate(zip(shown, orders, strict=True)):
        if len(row) != len(order):
            return RepengError(
                f"{what} gave nonsense: {len(row)} scores for the {len(order)} responses of question {number}"
            )
        if not all(math.isfinite(score) for score in row):
            return RepengError(f"{what} gave nonsense: a score of question {number} is {row}, which is not finite")
        scores.append(np.array(row)[np.argsort(order)])
    return ResponseScores(np.concatenate(scores))
