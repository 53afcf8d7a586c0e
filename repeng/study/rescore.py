"""Figures from evaluation files, ours or published: every column that GENIES published, and our own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from repeng.benchmarks.shift_lists import get_benchmark
from repeng.distributions.load import list_distributions, load_distributions
from repeng.distributions.reading import Reading
from repeng.distributions.schema import Benchmark, Shift, Split
from repeng.errors import BadData, BadInput, UnknownName
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.metrics import AGREES, Evaluation
from repeng.places import Place
from repeng.results import (
    ResultRow,
    evaluation_path,
    our_name,
    read_evaluation,
    read_provenance,
    row_from,
    warn_of_denied,
    with_verdicts,
    write_csv,
)
from repeng.study.text_forms import baseline_method

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rescored:
    """One shift's figures, and what could not be found.

    Attributes:
        row: our figures, as in results.csv.
        baseline_intervention: folder that the baseline was read from, as `zero_shot`; empty where there is none.
        capability_intervention: the method that reached the target-tuned capability, by its file's own name.
        missing: files that are not there; the figures that they hold are blank.
        evaluation: what the row was made of.
    """

    row: ResultRow
    baseline_intervention: str
    capability_intervention: str
    missing: tuple[Place, ...]
    evaluation: Evaluation | None = field(default=None, repr=False, compare=False)

    def published(self) -> dict[str, str | float | None]:
        """The row under GENIES' own columns and rules."""
        row = self.row
        return {
            "source": row.source,
            "target": row.target,
            "target_reference": row.target_reference,
            "generalization_accuracy": row.accuracy,
            "baseline_accuracy": row.baseline_accuracy,
            "baseline_intervention": self.baseline_intervention,
            "target_tuned_capability": row.target_tuned_capability,
            "target_tuned_capability_intervention": self.capability_intervention,
            "source_ID_accuracy": row.source_id_accuracy,
            "RMS_calibration_error": row.genies_rms_calibration_error,
            "differential_elicitation": row.differential_elicitation,
        }


def rescore(
    evaluations: Place,
    benchmark: Benchmark | str | Place,
    model: str | None = None,
    *,
    methods: Sequence[str] | None = None,
    groups: Mapping[str, Split] | None = None,
) -> list[Rescored]:
    """Score every shift of a benchmark from the files EVALUATIONS/METHOD/MODEL-SOURCE/TARGET.json.

    Each target's capability is read from `target_tuned_capability/MODEL/TARGET.json` next to the evaluations. A file
    that is not there leaves its figures blank, is named in the row's `missing`, and is warned of.

    Args:
        evaluations: the folder of method folders.
        benchmark: the shifts, or their benchmark's name or file.
        model: the model's name in the folders' names, as `llama-30b`; None for the only one that is there.
        methods: which methods, by our names or the folders'; None for every one that has the model.
        groups: the test split of each target, by name: gives prompt groups to evaluations that have none, and so
            intervals.

    Returns:
        For each method the benchmark's shifts in order, repeats kept.

    Raises:
        BadInput: there is no such folder, no evaluation in it, or there are several models and none is named.
        BadData: a file is damaged.
        UnknownName: there is no such method, or it has no evaluation of the model.
    """
    shifts = benchmark if isinstance(benchmark, Benchmark) else get_benchmark(benchmark)
    folders = _models_by_folder(evaluations, shifts)
    models = sorted(set().union(*folders.values()))
    if model is None and len(models) > 1:
        raise BadInput(f"evaluations of {len(models)} models: {', '.join(models)}; name one of them with --model")
    model = model or models[0]
    if methods is None and model not in models:
        raise UnknownName("model", model, models)
    chosen = [folder for folder in folders if model in folders[folder]]
    if methods is not None:
        chosen = [_folder_of_model(method, model, folders) for method in methods]
    capabilities = evaluations.resolve().parent / "target_tuned_capability" / model
    baseline = baseline_method(map(our_name, folders))
    files = _Files(evaluations, capabilities, model, _folder_of(baseline, folders), groups or {})
    found = [_score(files, folder, shift) for folder in chosen for shift in shifts.shifts]
    _warn_of_missing(found, files)
    warn_of_denied(files.denied)
    rows = with_verdicts([one.row for one in found])
    return [replace(one, row=row) for one, row in zip(found, rows, strict=True)]


def target_groups(
    data: str | Place, benchmark: Benchmark | str | Place, reading: Reading | None = None
) -> dict[str, Split]:
    """`groups` of `rescore`: the test split of each source and target of a benchmark, as far as the data holds them."""
    shifts = benchmark if isinstance(benchmark, Benchmark) else get_benchmark(benchmark)
    names = {name for shift in shifts.shifts for name in (shift.source, shift.target)}
    held = load_distributions(data, sorted(names & set(list_distributions(data))), reading=reading)
    return {name: distribution.test for name, distribution in held.items()}


def write_published(rows: Iterable[Rescored], path: Place) -> None:
    """Write rows of one method as GENIES' generalization_metrics/MODEL/METHOD/*.csv, atomically."""
    write_csv([row.published() for row in rows], path)


def _models_by_folder(evaluations: Place, benchmark: Benchmark) -> dict[str, set[str]]:
    """Each method's folder, and the models that it has evaluations of for some source of the benchmark."""
    if not evaluations.is_dir():
        raise BadInput(f"{evaluations}: no such folder; give the one that holds METHOD/MODEL-SOURCE/TARGET.json")
    folders: dict[str, set[str]] = {}
    by_length = sorted(benchmark.sources, key=len, reverse=True)
    for place in sorted(path for path in evaluations.glob("*/*") if path.is_dir()):
        source = next((name for name in by_length if place.name.endswith(f"-{name}")), None)
        if source is not None:
            folders.setdefault(place.parent.name, set()).add(place.name.removesuffix(f"-{source}"))
    if not folders:
        raise BadInput(
            f"{evaluations}: no evaluation of any source of {benchmark.name}; give the folder that holds "
            "METHOD/MODEL-SOURCE/TARGET.json (of a study, its `predictions`)"
        )
    return folders


def _folder_of(method: str, folders: Iterable[str]) -> str | None:
    """The folder of a method under its own name, else under another that means the same."""
    same = [folder for folder in folders if our_name(folder) == our_name(method)]
    return method if method in same else next(iter(same), None)


def _folder_of_model(method: str, model: str, folders: Mapping[str, set[str]]) -> str:
    """The folder of a method, which must hold the model."""
    folder = _folder_of(method, folders)
    if folder is None:
        raise UnknownName("method", method, folders)
    if model not in folders[folder]:
        raise UnknownName(f"model of {folder}", model, folders[folder])
    return folder


@dataclass(frozen=True)
class _Files:
    """The files of one model, each evaluation read once."""

    evaluations: Place
    capabilities: Place
    model: str
    baseline: str | None
    groups: Mapping[str, Split]
    read: dict[Place, Evaluation] = field(default_factory=dict)
    denied: list[str] = field(default_factory=list)

    def path(self, folder: str, source: str, target: str) -> Place:
        return evaluation_path(self.evaluations, folder, self.model, source, target)

    def evaluation(self, path: Place) -> Evaluation | None:
        """None where the file is not there."""
        if path not in self.read and path.is_file():
            self.read[path] = _with_groups(read_evaluation(path, denied=self.denied), self.groups.get(path.stem), path)
        return self.read.get(path)


def _score(files: _Files, folder: str, shift: Shift) -> Rescored:
    wanted = {
        "evaluation": files.path(folder, shift.source, shift.target),
        "source_id": files.path(folder, shift.source, shift.source),
        "baseline": files.path(files.baseline or "zero_shot", shift.source, shift.target),
    }
    held = {name: files.evaluation(path) for name, path in wanted.items()}
    missing = [path for name, path in wanted.items() if held[name] is None]
    capability_path = files.capabilities / f"{shift.target}.json"
    capability: Evaluation | float | None = None
    intervention = ""
    if capability_path.is_file():
        stated_capability, intervention = read_capability(capability_path)
        own = files.evaluation(files.path(intervention, shift.target_reference, shift.target_reference))
        agrees = own is not None and abs(own.accuracy - stated_capability) <= AGREES
        capability = own if agrees else stated_capability
    else:
        missing.append(capability_path)
    stated = {} if held["evaluation"] is None else read_provenance(wanted["evaluation"])
    row = row_from(
        held["evaluation"],
        model=files.model,
        method=our_name(folder),
        layers=str(stated.get("layers") or ""),
        kind=str(stated.get("kind") or ""),
        shift=shift,
        source_id=held["source_id"],
        baseline=held["baseline"],
        capability=capability,
    )
    baseline = files.baseline if files.baseline and held["baseline"] is not None else ""
    return Rescored(row, baseline, intervention, tuple(missing), held["evaluation"])


def read_capability(path: Place) -> tuple[float, str]:
    """The capability in a file of `target_tuned_capability`, and the method that reached it.

    Raises:
        BadData: the file does not hold `best_intervention_accuracy` and `best_intervention`.
    """
    try:
        held = json.loads(read_bounded(path, RECORD_BYTES))
        capability, intervention = held["best_intervention_accuracy"], held["best_intervention"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "needs the keys `best_intervention_accuracy` and `best_intervention`"
        raise BadData(f"not a target-tuned capability; it {reason} ({error})", path=path) from error
    if isinstance(capability, bool) or not isinstance(capability, int | float) or not 0 <= capability <= 1:
        raise BadData(f"`best_intervention_accuracy` is {capability!r}; it must lie between 0 and 1", path=path)
    return float(capability), str(intervention)


def _with_groups(evaluation: Evaluation, split: Split | None, path: Place) -> Evaluation:
    """The evaluation with the split's examples and prompt groups, where it has pairs and no groups of its own."""
    if split is None or evaluation.group is not None or evaluation.n_pairs is None:
        return evaluation
    if evaluation.n_pairs != len(split.pairs):
        log.warning(
            "%s has %d pairs and the data's test split %d: its prompt groups stay unknown, its interval blank",
            path,
            evaluation.n_pairs,
            len(split.pairs),
        )
        return evaluation
    best = np.array([pair.best for pair in split.pairs], dtype=np.int64)
    return replace(evaluation, example=split.units[best], group=split.groups[split.response_example[best]])


def _warn_of_missing(rows: Sequence[Rescored], files: _Files) -> None:
    """One warning for each file that is missing, and one alone where a whole folder is."""
    missing = dict.fromkeys(path for row in rows for path in row.missing)
    if not files.capabilities.is_dir():
        log.warning("%s is not there: target-tuned capability and elicitation are blank", files.capabilities)
        missing = {path: None for path in missing if path.parent != files.capabilities}
    if files.baseline is None:
        log.warning("%s has no zero-shot evaluations: baseline accuracy is blank", files.evaluations)
        missing = {path: None for path in missing if path.parent.parent.name != "zero_shot"}
    for path in missing:
        log.warning("%s is not there: the figures that it holds are blank", path)
