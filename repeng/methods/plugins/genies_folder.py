"""Methods as folders: GENIES' own protocol, a `train.py` and an `eval.py` that run as programs of their own.

Arguments are exactly those of its runner. A script written from its README alone knows other names for some of them:
it is given those. What a plug-in does wrong is its own failure, said as such.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from repeng.atomic import sync_tree, write_atomically
from repeng.distributions.load import write_genies
from repeng.distributions.schema import Distribution, Split
from repeng.errors import BadInput, RepengError
from repeng.methods.base import Kind, Method, MethodSettings, Note, Source, no_note
from repeng.methods.code_hash import files_hash
from repeng.methods.plugins.processes import PLUGINS, TIME_LIMIT, run_script
from repeng.metrics import Evaluation
from repeng.models.fingerprint import identify
from repeng.models.source import find_model
from repeng.places import on_disk
from repeng.results import read_evaluation


@dataclass(frozen=True)
class FolderPlugin:
    """A method that is a folder with `train.py` and `eval.py`.

    Attributes:
        name: the folder's.
        directory: the folder.
        time_limit: seconds that either script may run.
        python: the interpreter that runs them.
    """

    name: str
    directory: Path
    time_limit: float = TIME_LIMIT
    python: str = sys.executable

    @classmethod
    def at(cls, directory: str | Path, *, time_limit: float = TIME_LIMIT) -> FolderPlugin:
        """The plug-in of a folder.

        Raises:
            BadInput: the folder lacks one of the scripts.
        """
        folder = Path(directory).resolve()
        missing = [name for name in ("train.py", "eval.py") if not (folder / name).is_file()]
        if missing:
            raise BadInput(
                f"{directory}: no {' and no '.join(missing)} here; a method's folder has train.py and eval.py"
            )
        return cls(folder.name, folder, time_limit)

    def train(
        self, model: str, source: Distribution, targets: Sequence[Distribution], work: Path, *, seed: int = 0
    ) -> TrainedPlugin:
        """Run train.py on a source, or find what it made before of the same model, source and scripts.

        Args:
            model: hub id, folder or `mini`; the script is given the folder, or the hub id.
            source: written to a folder of GENIES' format for the script.
            targets: whose folders the script is told of, if it asks for them.
            work: folder for everything that the plug-in reads and writes.
            seed: part of what the result is known by; the protocol has no argument for it.

        Raises:
            RepengError: the script fails or does not end in time.
        """
        identity = identify(model)
        digest = hashlib.sha256(" ".join((*identity.content, str(seed))).encode())
        for split in source.splits.values():
            digest.update(f"{split.distribution} {split.name} {split.data_hash}".encode())
        digest.update(files_hash(self.directory).encode())
        place = work.resolve() / self.name / f"{identity.slug}-{source.name}-{digest.hexdigest()[:12]}"
        # GENIES names a trained model MODEL-SOURCE, and its scripts may make the folder themselves.
        trained = TrainedPlugin(self, place / f"{identity.slug}-{source.name}", place)
        if (place / "trained.json").is_file():
            return trained
        model_dir = find_model(model).folder_for_others()
        folders = [write_distribution(each, work) for each in (source, *targets)]
        arguments = train_arguments(
            (self.directory / "train.py").read_text(encoding="utf-8", errors="replace"),
            model_dir=model_dir,
            source=folders[0],
            targets=folders,
            output_dir=trained.model_dir,
        )
        run_script(
            [self.python, str(self.directory / "train.py"), *arguments],
            what=f"{self.name}: train.py on {source.name}",
            log=place / "train.log",
            time_limit=self.time_limit,
        )
        sync_tree(place)
        write_atomically(place / "trained.json", json.dumps({"arguments": arguments}))
        return trained


@dataclass(frozen=True)
class TrainedPlugin:
    """What a folder's train.py made of one source.

    Attributes:
        plugin: the method.
        model_dir: the folder that train.py was told to write to.
        place: the folder of this source's work: trained model, evaluations, logs.
    """

    plugin: FolderPlugin
    model_dir: Path
    place: Path

    def evaluate(self, targets: Sequence[Distribution], work: Path) -> dict[str, Evaluation | RepengError]:
        """Run eval.py once on some targets and read back what it wrote.

        Args:
            targets: whose test splits are asked about, by distinct names.
            work: the folder given to `train`.

        Returns:
            For each target's name its evaluation, or the error that says what is wrong with what was written.

        Raises:
            RepengError: the script fails or does not end in time.
        """
        paths = [self.place / "evaluations" / f"{target.name}.json" for target in targets]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        folders = [write_distribution(target, work) for target in targets]
        names = ", ".join(target.name for target in targets)
        run_script(
            [
                self.plugin.python,
                str(self.plugin.directory / "eval.py"),
                "--model_dir",
                str(self.model_dir),
                "--distribution_dirs",
                as_list(folders),
                "--output_paths",
                as_list(paths),
            ],
            what=f"{self.plugin.name}: eval.py on {names}",
            log=self.place / "eval.log",
            time_limit=self.plugin.time_limit,
        )
        found: dict[str, Evaluation | RepengError] = {}
        for target, path in zip(targets, paths, strict=True):
            try:
                found[target.name] = read_output(path, target.test, self.plugin.name)
            except RepengError as error:
                found[target.name] = error
        return found


@dataclass(frozen=True)
class GeniesFolder(Method):
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

    def trial(self) -> None:
        """See that its files can be kept where they are to be.

        Raises:
            BadInput: that is in an object store.
        """
        on_disk(self.settings.plugins, PLUGINS)

    def fit(self, source: Source, note: Note = no_note) -> FittedFolder:  # noqa: ARG002
        """Run its train.py. The protocol's folders have a test split too: it is the train split once more."""
        split = source.split
        trained = self.plugin.train(
            self.settings.model,
            Distribution(split.distribution, {"train": split, "test": replace(split, name="test")}),
            (),
            on_disk(self.settings.plugins, PLUGINS),
            seed=self.settings.seed,
        )
        return FittedFolder(trained, on_disk(self.settings.plugins, PLUGINS))


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


def train_arguments(
    script: str, *, model_dir: str, source: Path, targets: Sequence[Path], output_dir: Path
) -> list[str]:
    """The arguments of train.py: those of GENIES' runner, or its README's where the script knows no others.

    Args:
        script: text of train.py.
        model_dir: base model.
        source: folder of the distribution to train on.
        targets: folders of the distributions that it will be tested on.
        output_dir: where it writes what it made.
    """
    known = set(re.findall(r"\w+", script))
    if "train_distribution" in known and "training_distribution_dir" not in known:
        named = ["--train_distribution", str(source)]
        if "test_distribution_dirs" in known:
            named += ["--test_distribution_dirs", as_list(targets)]
    else:
        named = ["--training_distribution_dir", str(source), "--test_distribution_dirs", as_list(targets)]
    return ["--model_dir", model_dir, *named, "--output_dir", str(output_dir)]


def as_list(paths: Sequence[Path]) -> str:
    """Paths as the protocol gives a list: one argument that reads as a Python list of strings."""
    return str([str(path) for path in paths])


def write_distribution(distribution: Distribution, work: Path) -> Path:
    """A distribution as a folder NAME with train.json and test.json, written once for the same data.

    A split that the distribution lacks is an empty list.
    """
    digest = hashlib.sha256()
    for name, split in sorted(distribution.splits.items()):
        digest.update(f"{name} {split.data_hash} ".encode())
    parent = work.resolve() / "distributions" / digest.hexdigest()[:12]
    folder = parent / distribution.name
    if not (parent / "written").is_file():
        write_genies(distribution, parent)
        for name in ("train", "test"):
            if name not in distribution.splits:
                write_atomically(folder / f"{name}.json", "[]\n")
        write_atomically(parent / "written", "")
    return folder


def read_output(path: Path, target: Split, name: str) -> Evaluation:
    """An evaluation file that a plug-in wrote; only `eval_accuracy` is required of it.

    Where it gives one probability for each pair of the target, they are taken to be in the order of its pairs.

    Raises:
        RepengError: there is no file, or what it holds is nonsense.
    """
    if not path.is_file():
        raise RepengError(f"{name}: eval.py ended well and wrote nothing to {path}")
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))["eval_accuracy"]
        evaluation = read_evaluation(path)
    except (KeyError, TypeError):
        raise RepengError(f"{name}: {path} has no eval_accuracy, the one key that is required") from None
    except (ValueError, BadInput) as error:
        raise RepengError(f"{name}: eval.py wrote nonsense: {error}") from error
    if stated is None:
        raise RepengError(f"{name}: eval.py wrote nonsense: {path}: eval_accuracy is null")
    pairs = target.pairs
    if evaluation.n_pairs != len(pairs) or evaluation.example is not None:
        return evaluation
    return replace(
        evaluation,
        example=np.array([pair.example for pair in pairs], dtype=np.int64),
        group=np.array([pair.group for pair in pairs], dtype=np.int64),
    )
