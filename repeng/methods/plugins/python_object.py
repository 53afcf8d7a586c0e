"""Methods as Python objects, each run in a process of its own: what it does wrong or never ends harms nothing else."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from repeng.atomic import write_atomically
from repeng.distributions.schema import Split, prompt_value
from repeng.errors import BadInput, RepengError
from repeng.methods.base import ResponseScores, Target
from repeng.methods.code_hash import files_hash
from repeng.methods.plugins.genies_folder import TIME_LIMIT
from repeng.methods.plugins.processes import POLL, ending, last_words, own_group
from repeng.models.fingerprint import file_hash, find_model

ENTRY_POINTS = ("repeng.methods", "repeng.interventions")
"""Groups in which installed packages offer methods; the second is the first one's name in earlier versions."""


@dataclass(frozen=True)
class PythonPlugin:
    """A method that is a Python object.

    Attributes:
        name: what users type.
        reference: `module:name` or `path/file.py:name`.
        time_limit: seconds for the fit, and again for each target.
        python: the interpreter that runs it.
    """

    name: str
    reference: str
    time_limit: float = TIME_LIMIT
    python: str = sys.executable

    @classmethod
    def at(cls, reference: str, *, time_limit: float = TIME_LIMIT) -> PythonPlugin:
        """The plug-in of an entry point's name, of `module:name` or of `path/file.py:name`. Nothing is imported yet.

        Raises:
            BadInput: it is none of these.
        """
        points = entry_point_references()
        if reference in points:
            return cls(reference, points[reference], time_limit)
        place, colon, name = reference.rpartition(":")
        if not colon or not place or not name:
            raise BadInput(
                f"{reference!r} is no entry point of {ENTRY_POINTS[0]}, and neither module:name nor file.py:name"
            )
        if place.endswith(".py"):
            if not Path(place).is_file():
                raise BadInput(f"{place}: no such Python file")
            reference = f"{Path(place).resolve()}:{name}"
        return cls(name, reference, time_limit)

    def code_hash(self) -> str:
        """A hash over its file, or all Python files of its top-level package. Nothing is imported."""
        place = Path(self.reference.rpartition(":")[0])
        if place.suffix == ".py":
            return file_hash(place)[:12]
        found = find_spec(place.name.partition(".")[0])
        if found is None or found.origin is None:
            return ""
        origin = Path(found.origin)
        return files_hash(origin.parent, "*.py") if origin.name == "__init__.py" else file_hash(origin)[:12]

    def fit(self, model: str, source: Split, work: Path, *, seed: int = 0) -> PythonSession:
        """Fit it on a source in a new process, which waits for questions until the session is closed.

        Args:
            model: hub id, folder or `mini`.
            source: the split to fit on.
            work: folder for logs and what passes between the processes.
            seed: of every random choice.

        Raises:
            RepengError: it raises, does not end in time, or its process ends.
        """
        session = PythonSession(self, work.resolve() / self.name / f"{source.distribution}-{uuid.uuid4().hex[:8]}")
        try:
            session.ask(
                {
                    "object": self.reference,
                    "model": find_model(model).path,
                    "seed": seed,
                    "distribution": source.distribution,
                    "split": source.name,
                    "examples": [[prompt_value(e.prompt), e.responses, e.best] for e in source.examples],
                },
                f"{self.name}: fitting on {source.distribution}",
            )
        except BaseException:
            session.close()
            raise
        session.seed = seed
        return session


def entry_point_references() -> dict[str, str]:
    """Name and `module:name` of every method that an installed package offers, without importing any."""
    return {point.name: point.value for group in ENTRY_POINTS[::-1] for point in entry_points(group=group)}


class PythonSession:
    """A fitted Python plug-in and its process. Close it, or use it in a `with` block."""

    def __init__(self, plugin: PythonPlugin, folder: Path) -> None:
        self.plugin, self.folder, self.seed = plugin, folder, 0
        self._stack = contextlib.ExitStack()
        self._log = folder / "plugin.log"
        self._process = self._stack.enter_context(
            own_group([plugin.python, "-m", "repeng.methods.plugins.worker"], self._log, stdin=subprocess.PIPE)
        )

    def __enter__(self) -> PythonSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def close(self) -> None:
        """End the process and all that it started."""
        self._stack.close()

    def answer(self, target: Target) -> ResponseScores:
        """Ask it about a target's responses, which it is shown in a random order.

        Raises:
            RepengError: it raises, does not end in time, its process ends, or its answer is nonsense.
        """
        what = f"{self.plugin.name}: scoring {target.distribution}"
        draw = np.random.default_rng([self.seed, int(target.key, 16)])
        orders = [draw.permutation(len(question.responses)) for question in target.questions]
        answer = self.ask(
            {
                "questions": [
                    [prompt_value(question.prompt), [question.responses[i] for i in order]]
                    for question, order in zip(target.questions, orders, strict=True)
                ]
            },
            what,
        )
        shown = _checked(answer.get("scores"), [len(order) for order in orders], what)
        scores, start = np.zeros(len(target.examples)), 0
        for order, row in zip(orders, shown, strict=True):
            scores[start + order] = row
            start += len(order)
        return ResponseScores(scores)

    def ask(self, request: dict[str, Any], what: str) -> dict[str, Any]:
        """Put a request to the process and wait for its answer; after anything wrong the session is closed.

        Raises:
            RepengError: there was none in time, or it is an error.
        """
        number = uuid.uuid4().hex
        question, answer = self.folder / f"{number}.request.json", self.folder / f"{number}.answer.json"
        write_atomically(question, json.dumps(request))
        try:
            reply = self._wait([str(question), str(answer)], answer, what)
        except BaseException:
            self.close()
            raise
        finally:
            question.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)
        if "error" in reply:
            raise RepengError(f"{what} failed: {reply['error']}; {last_words(self._log)}")
        return reply

    def _wait(self, line: list[str], answer: Path, what: str) -> dict[str, Any]:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise RepengError(f"{what}: its process was ended after an earlier failure")
        with contextlib.suppress(BrokenPipeError):
            pipe.write(json.dumps(line) + "\n")
            pipe.flush()
        until = time.monotonic() + self.plugin.time_limit
        while not answer.exists():
            code = self._process.poll()
            if code is not None and not answer.exists():
                raise RepengError(f"{what}: its process {ending(code)}; {last_words(self._log)}")
            if time.monotonic() > until:
                raise RepengError(
                    f"{what} was ended: it had not finished after {self.plugin.time_limit:g} s; {last_words(self._log)}"
                )
            time.sleep(POLL)
        reply: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return reply


def _checked(scores: Any, counts: Sequence[int], what: str) -> list[list[float]]:
    """The scores, if there is a finite one for each response of each question."""
    if not isinstance(scores, list) or len(scores) != len(counts):
        found = len(scores) if isinstance(scores, list) else 0
        raise RepengError(f"{what} gave nonsense: scores of {found} questions, and {len(counts)} were asked")
    for number, (row, count) in enumerate(zip(scores, counts, strict=True)):
        if len(row) != count:
            raise RepengError(f"{what} gave nonsense: {len(row)} scores for the {count} responses of question {number}")
        if not all(math.isfinite(score) for score in row):
            raise RepengError(f"{what} gave nonsense: a score of question {number} is {row}, which is not finite")
    return scores
