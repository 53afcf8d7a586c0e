"""Figures from evaluation files, ours or published: every column that GENIES published, and our own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from repeng.benchmarks.shift_lists import get_benchmark
from repeng.distributions.load import list_distributions, load_distributions
from repeng.distributions.schema import Benchmark, Shift, Split
from repeng.errors import BadData
from repeng.metrics import Evaluation
from repeng.results import (
    ResultRow,
    evaluation_path,
    our_name,
    read_evaluation,
    read_provenance,
    row_from,
    write_csv,
)
from repeng.study.evaluation_folders import choose_folders, folder_of, models_by_folder, only_model

log = logging.getLogger(__name__)

PUBLISHED_COLUMNS = (
    "source",
    "target",
    "target_reference",
    "generalization_accuracy",
    "baseline_accuracy",
    "baseline_intervention",
    "target_tuned_capability",
    "target_tuned_capability_intervention",
    "source_ID_accuracy",
    "RMS_calibration_error",
    "differential_elicitation",
)


@dataclass(frozen=True)
class Rescored:
    """One shift's figures, and what could not be found.

    Attributes:
        row: our figures, as in results.csv.
        baseline_intervention: folder that the baseline was read from, as `zero_shot`; empty where there is none.
        capability_intervention: the method that reached the target-tuned capability, by its file's own name.
        missing: files that are not there; the figures that they hold are blank.
    """

    row: ResultRow
    baseline_intervention: str
    capability_intervention: str
    missing: tuple[Path, ...]

    def published(self) -> dict[str, str | float | None]:
        """The row under GENIES' own columns and rules."""
        row = self.row
        values = (
            row.source,
            row.target,
            row.target_reference,
            row.accuracy,
            row.baseline_accuracy,
            self.baseline_intervention,
            row.target_tuned_capability,
            self.capability_intervention,
            row.source_id_accuracy,
            row.genies_rms_calibration_error,
            row.differential_elicitation,
        )
        return dict(zip(PUBLISHED_COLUMNS, values, strict=True))


def rescore(
    evaluations: Path,
    benchmark: Benchmark | str | Path,
    model: str | None = None,
    *,
    methods: Sequence[str] | None = None,
    capabilities: Path | None = None,
    groups: Mapping[str, Split] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> list[Rescored]:
    """Score every shift of a benchmark from the files EVALUATIONS/METHOD/MODEL-SOURCE/TARGET.json.

    A file that is not there leaves its figures blank, is named in the row's `missing`, and is warned of.

    Args:
        evaluations: the folder of method folders.
        benchmark: the shifts, or their benchmark's name or file.
        model: the model's name in the folders' names, as `llama-30b`; None for the only one that is there.
        methods: which methods, by our names or the folders'; None for every one that has the model.
        capabilities: the folder that holds MODEL/TARGET.json with each target's capability; None for
            `target_tuned_capability` beside the evaluations.
        groups: the test split of each target, by name: gives prompt groups to evaluations that have none, and so
            intervals.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        For each method the benchmark's shifts in order, repeats kept.

    Raises:
        BadInput: there is no such folder, no evaluation in it, or there are several models and none is named.
        BadData: a file is damaged.
        UnknownName: there is no such method, or it has no evaluation of the model.
    """
    shifts = benchmark if isinstance(benchmark, Benchmark) else get_benchmark(benchmark)
    folders = models_by_folder(evaluations, shifts)
    model = model or only_model(folders)
    chosen = choose_folders(folders, methods, model)
    beside = evaluations.resolve().parent / "target_tuned_capability" if capabilities is None else capabilities
    files = _Files(evaluations, beside / model, model, folder_of("zero-shot", folders), groups or {})
    found = [
        _score(files, folder, shift, seed=seed, resamples=resamples) for folder in chosen for shift in shifts.shifts
    ]
    _warn_of_missing(found, files)
    return found


def rescore_study(
    evaluations: Path,
    benchmark: Benchmark | str | Path,
    model: str | None = None,
    *,
    methods: Sequence[str] | None = None,
    data: str | Path | None = None,
) -> list[Rescored]:
    """`rescore`, with prompt groups from a folder of distributions as far as it holds the targets."""
    shifts = benchmark if isinstance(benchmark, Benchmark) else get_benchmark(benchmark)
    groups = {}
    if data is not None:
        targets = {name for shift in shifts.shifts for name in (shift.source, shift.target)}
        held = load_distributions(data, sorted(targets & set(list_distributions(data))))
        groups = {name: distribution.test for name, distribution in held.items()}
    return rescore(evaluations, shifts, model, methods=methods, groups=groups)


def write_published(rows: Iterable[Rescored], path: Path) -> None:
    """Write rows of one method as GENIES' generalization_metrics/MODEL/METHOD/*.csv, atomically."""
    write_csv([row.published() for row in rows], path, PUBLISHED_COLUMNS)


class _Files:
    """The files of one model, each read once; reading says None for one that is not there."""

    def __init__(
        self, evaluations: Path, capabilities: Path, model: str, baseline: str | None, groups: Mapping[str, Split]
    ) -> None:
        self.evaluations, self.capabilities, self.model = evaluations, capabilities, model
        self.baseline, self.groups = baseline, groups
        self.read: dict[Path, Evaluation] = {}

    def path(self, folder: str, source: str, target: str) -> Path:
        return evaluation_path(self.evaluations, folder, self.model, source, target)

    def evaluation(self, path: Path) -> Evaluation | None:
        if path not in self.read:
            if not path.is_file():
                return None
            self.read[path] = _with_groups(read_evaluation(path), self.groups.get(path.stem), path)
        return self.read[path]


def _score(files: _Files, folder: str, shift: Shift, *, seed: int, resamples: int) -> Rescored:
    wanted = {
        "evaluation": files.path(folder, shift.source, shift.target),
        "source_id": files.path(folder, shift.source, shift.source),
        "baseline": files.path(files.baseline or "zero_shot", shift.source, shift.target),
    }
    held = {name: files.evaluation(path) for name, path in wanted.items()}
    missing = [path for name, path in wanted.items() if held[name] is None]
    capability_path = files.capabilities / f"{shift.target}.json"
    capability, intervention = None, ""
    if capability_path.is_file():
        capability, intervention = read_capability(capability_path)
    else:
        missing.append(capability_path)
    provenance = _provenance(wanted["evaluation"])
    row = row_from(
        held["evaluation"],
        model=files.model,
        method=our_name(folder),
        layers=provenance.get("layers", ""),
        kind=provenance.get("kind", ""),
        shift=shift,
        source_id=held["source_id"],
        baseline=held["baseline"],
        capability=capability,
        seed=seed,
        resamples=resamples,
    )
    baseline = files.baseline if files.baseline and held["baseline"] is not None else ""
    return Rescored(row, baseline, intervention, tuple(missing))


def read_capability(path: Path) -> tuple[float, str]:
    """The capability in a file of `target_tuned_capability`, and the method that reached it.

    Raises:
        BadData: the file does not hold `best_intervention_accuracy` and `best_intervention`.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        capability, intervention = held["best_intervention_accuracy"], held["best_intervention"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "needs the keys `best_intervention_accuracy` and `best_intervention`"
        raise BadData(f"not a target-tuned capability; it {reason} ({error})", path=path) from error
    if isinstance(capability, bool) or not isinstance(capability, int | float) or not 0 <= capability <= 1:
        raise BadData(f"`best_intervention_accuracy` is {capability!r}; it must lie between 0 and 1", path=path)
    return float(capability), str(intervention)


def _provenance(path: Path) -> dict[str, str]:
    """What an evaluation of ours says of its method; a published one says nothing."""
    held = read_provenance(path) if path.is_file() else {}
    return {name: str(held[name]) for name in ("layers", "kind") if held.get(name) is not None}


def _with_groups(evaluation: Evaluation, split: Split | None, path: Path) -> Evaluation:
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
    example = np.array([pair.example for pair in split.pairs], dtype=np.int64)
    return replace(evaluation, example=example, group=split.groups[example])


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
