"""Other people's methods in a study: folders with `train.py` and `eval.py`, and Python objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repeng.distributions.schema import Distribution, Split
from repeng.errors import RepengError
from repeng.methods.base import Answer, Kind, Method, MethodSettings, Note, Source, Target, no_note
from repeng.methods.code_hash import files_hash
from repeng.methods.plugins.genies_folder import FolderPlugin, TrainedPlugin
from repeng.methods.plugins.python_object import PythonPlugin, PythonSession
from repeng.metrics import Evaluation


@dataclass(frozen=True)
class Folder(Method):
    """GENIES' plug-in protocol as a method. Its eval.py is handed labelled files, as the protocol has it."""

    plugin: FolderPlugin
    settings: MethodSettings
    kind: Kind = "plugin"
    title: str = "a folder with train.py and eval.py"

    @property
    def name(self) -> str:  # type: ignore[override]
        """The folder's name."""
        return self.plugin.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The seed."""
        return {"seed": self.settings.seed}

    def code(self) -> str:
        """Over every file of the folder."""
        return files_hash(self.plugin.directory)

    def fit(self, source: Source, note: Note = no_note) -> FittedFolder:  # noqa: ARG002
        """Run its train.py. The protocol's folders have a test split too: it is the train split once more."""
        split = source.split
        trained = self.plugin.train(
            self.settings.model,
            Distribution(split.distribution, {"train": split, "test": replace(split, name="test")}),
            (),
            self.settings.plugins,
            seed=self.settings.seed,
        )
        return FittedFolder(trained, self.settings.plugins)


@dataclass(frozen=True)
class FittedFolder:
    """A trained plug-in; eval.py is run once for all targets of a source."""

    trained: TrainedPlugin
    folder: Path
    layers: str = ""
    held_out_accuracy: float | None = None

    def evaluate_all(self, targets: Sequence[Split]) -> Iterator[Evaluation | RepengError]:
        """Run its eval.py once on all of them."""
        asked = [Distribution(target.distribution, {"test": target}) for target in targets]
        found = self.trained.evaluate(asked, self.folder)
        for target in targets:
            yield found[target.distribution]


@dataclass(frozen=True)
class PythonObject(Method):
    """An object with `fit` and `score` as a method."""

    plugin: PythonPlugin
    settings: MethodSettings
    kind: Kind = "plugin"
    title: str = "a Python object with fit and score"

    @property
    def name(self) -> str:  # type: ignore[override]
        """The entry point's name, or the object's."""
        return self.plugin.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Which object, and the seed."""
        return {"object": self.plugin.reference, "seed": self.settings.seed}

    def code(self) -> str:
        """Over the file, or all Python files of the package, that holds it; nothing is imported."""
        return self.plugin.code_hash()

    def fit(self, source: Source, note: Note = no_note) -> FittedPython:  # noqa: ARG002
        """Fit it in a process of its own, once it is asked."""
        return FittedPython(self.plugin, source.split, self.settings)


@dataclass(frozen=True)
class FittedPython:
    """Fits and answers within one process, which ends with the last answer."""

    plugin: PythonPlugin
    source: Split
    settings: MethodSettings
    layers: str = ""
    held_out_accuracy: float | None = None

    def answer(self, target: Target) -> Answer:
        """Its answer about one target."""
        with self._session() as session:
            return session.answer(target)

    def answer_all(self, targets: Sequence[Target]) -> Iterator[Answer | RepengError]:
        """Fit once, and ask about each target. After a failed answer the process is gone, and the rest fail with it."""
        with self._session() as session:
            for target in targets:
                try:
                    yield session.answer(target)
                except RepengError as error:
                    yield error

    def _session(self) -> PythonSession:
        settings = self.settings
        return self.plugin.fit(settings.model, self.source, settings.plugins, seed=settings.seed)
