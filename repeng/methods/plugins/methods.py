"""Other people's methods in a study: folders with `train.py` and `eval.py`, and Python objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repeng.distributions.schema import Distribution, Split
from repeng.errors import RepengError
from repeng.methods.base import Context, RequiredActivations
from repeng.methods.plugins.genies_folder import FolderPlugin, TrainedPlugin
from repeng.methods.plugins.python_object import PythonPlugin, PythonSession
from repeng.metrics import Evaluation
from repeng.models.fingerprint import file_hash


class Together(ABC):
    """A fitted plug-in that answers many targets in one go."""

    @abstractmethod
    def evaluate_all(self, targets: Sequence[Split]) -> Iterator[tuple[Split, Evaluation | RepengError]]:
        """An evaluation, or what went wrong, for each target."""

    def evaluate(self, target: Split) -> Evaluation:
        """Its answer about one target."""
        ((_, answer),) = self.evaluate_all([target])
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True)
class Plugged:
    """What both kinds of plug-in have in common as methods."""

    plugin: FolderPlugin | PythonPlugin
    tuned: bool = False
    learns: bool = True
    fits_on_cache: bool = False

    @property
    def name(self) -> str:
        """The folder's name, the entry point's or the object's."""
        return self.plugin.name

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """Nothing of the store."""
        return ()


@dataclass(frozen=True)
class Folder(Plugged):
    """GENIES' plug-in protocol as a method."""

    plugin: FolderPlugin

    def settings(self, context: Context) -> dict[str, Any]:
        """Its scripts, and the seed."""
        folder = self.plugin.directory
        scripts = {str(file.relative_to(folder)): file_hash(file) for file in sorted(folder.rglob("*.py"))}
        return {"scripts": scripts, "seed": context.seed}

    def fit(self, source: Split, context: Context) -> FittedFolder:
        """Run its train.py."""
        whole = context.distributions.get(source.distribution)
        splits = {**whole.splits, "train": source} if whole else {"train": source, "test": source}
        trained = self.plugin.train(
            context.model,
            Distribution(source.distribution, splits),
            (),
            context.folder,
            seed=context.seed,
        )
        return FittedFolder(trained, context)


@dataclass(frozen=True)
class FittedFolder(Together):
    """A trained plug-in; eval.py is run once for all targets of a source."""

    trained: TrainedPlugin
    context: Context
    layers: str = ""
    held_out_accuracy: float | None = None

    def evaluate_all(self, targets: Sequence[Split]) -> Iterator[tuple[Split, Evaluation | RepengError]]:
        """Run its eval.py once on all of them."""
        asked = [replace(self.context.distributions[t.distribution], splits=self._splits(t)) for t in targets]
        answers = self.trained.evaluate(asked, self.context.folder)
        for target in targets:
            yield target, answers[target.distribution]

    def _splits(self, target: Split) -> dict[str, Split]:
        return {**self.context.distributions[target.distribution].splits, "test": target}


@dataclass(frozen=True)
class PythonObject(Plugged):
    """An object with `fit` and `score` as a method."""

    plugin: PythonPlugin

    def settings(self, context: Context) -> dict[str, Any]:
        """Its code, where that is a file, and the seed."""
        place = Path(self.plugin.reference.rpartition(":")[0])
        return {
            "object": self.plugin.reference,
            "code": file_hash(place) if place.is_file() else "",
            "seed": context.seed,
        }

    def fit(self, source: Split, context: Context) -> FittedPython:
        """Fit it in a process of its own."""
        return FittedPython(self.plugin, source, context)


@dataclass(frozen=True)
class FittedPython(Together):
    """Fits and answers within one process, which ends with the last answer."""

    plugin: PythonPlugin
    source: Split
    context: Context
    layers: str = ""
    held_out_accuracy: float | None = None

    def evaluate_all(self, targets: Sequence[Split]) -> Iterator[tuple[Split, Evaluation | RepengError]]:
        """Fit once, and ask about each target. After a failed answer the process is gone, and the rest fail with it."""
        with self._session() as session:
            for target in targets:
                try:
                    yield target, session.evaluate(target)
                except RepengError as error:
                    yield target, error

    def _session(self) -> PythonSession:
        return self.plugin.fit(self.context.model, self.source, self.context.folder, seed=self.context.seed)
