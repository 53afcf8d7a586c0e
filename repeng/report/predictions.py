"""Evaluation files of a study: which pairs of a split they speak of, and what they say over several shifts."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Int

from repeng.distributions.schema import Pair, Split
from repeng.errors import BadData, BadInput
from repeng.metrics import (
    Estimate,
    Evaluation,
    TextEvaluation,
    check_same_pairs,
    mean_accuracy_intervals,
    reliability_bins,
)
from repeng.places import Place
from repeng.report.frames import items_of
from repeng.results import our_name, read_evaluation_file, warn_of_denied
from repeng.study.overlap import read_overlaps, without

log = logging.getLogger(__name__)

Key = tuple[str, str, str, str]
"""Model, method, source, target."""


@dataclass(frozen=True)
class Prediction:
    """One evaluation and where it comes from.

    Attributes:
        model: the model's name; for a file that does not say, what its folder says.
        method: the method's name; for a file that does not say, what its folder says, in our words.
        source: fitted on.
        target: scored on.
        evaluation: p(best) of each pair, or what is said of each labelled text, as far as the file goes.
        data_hash: of the target's test split; empty where the file does not say.
        kind: what the method is; empty where the file does not say.
    """

    model: str
    method: str
    source: str
    target: str
    evaluation: Evaluation
    data_hash: str = ""
    kind: str = ""

    @property
    def key(self) -> Key:
        """What finds it."""
        return self.model, self.method, self.source, self.target

    def pairs_in(self, split: Split) -> list[Pair | None] | None:
        """The split's pair behind each of the evaluation's; None in place of one that cannot be told.

        None as a whole where the evaluation is of other data or of texts, or says too little to match its pairs.
        """
        one = self.evaluation
        if isinstance(one, TextEvaluation) or one.n_pairs is None or not self._may_be_of(split):
            return None
        best = np.array([pair.best for pair in split.pairs], dtype=np.int64)
        places = _places(one.example, split.units[best], one.n_pairs)
        return None if places is None else [None if place is None else split.pairs[place] for place in places]

    def texts_in(self, split: Split) -> list[int | None] | None:
        """The split's response behind each of the evaluation's texts; None in place of one that cannot be told.

        None as a whole where the evaluation is of other data or of pairs, or says too little to match its texts.
        """
        one = self.evaluation
        if not isinstance(one, TextEvaluation) or not self._may_be_of(split):
            return None
        rows = one.rows
        if rows is None:
            found = _places(one.example, split.units, one.n_texts)
        else:
            found = rows.tolist() if rows.min() >= 0 and rows.max() < split.n_responses else None
        labels = one.labels.tolist()
        same = found and all(row is None or split.labels[row] == own for row, own in zip(found, labels, strict=True))
        return found if same else None

    def _may_be_of(self, split: Split) -> bool:
        return not self.data_hash or self.data_hash == split.data_hash


def _places(
    asked: Int[np.ndarray, " one"] | None, listed: Int[np.ndarray, " other"], count: int
) -> list[int | None] | None:
    """The place among some that are listed of each that was asked about, by the unit that each belongs to.

    None in place of those of a unit that lists more than was asked about: something was left out, and nothing says
    what. None as a whole where units are unknown and the counts differ.
    """
    if asked is None:
        return list(range(count)) if len(listed) == count else None
    of_unit: dict[int, list[int]] = defaultdict(list)
    for place, unit in enumerate(listed.tolist()):
        of_unit[unit].append(place)
    counts = Counter(asked.tolist())
    left = {unit: iter(places) for unit, places in of_unit.items() if len(places) == counts[unit]}
    return [next(left[unit]) if unit in left else None for unit in asked.tolist()]


def read_predictions(
    folder: Place, *, shifts: Collection[tuple[str, str]] | None = None, scored: bool = True
) -> dict[Key, Prediction]:
    """Every evaluation METHOD/MODEL-SOURCE/TARGET.json under `folder/predictions`, or `folder` itself, by its key.

    A file that is no evaluation is passed over with a warning; those that state another accuracy than their
    probabilities give are warned of in one line. Of a study that leaves out what stands in a source's
    train split (overlap.json), the other pairs are read.

    Args:
        folder: a study's, or one of evaluations.
        shifts: the sources and targets to read; None reads all there are.
        scored: False leaves out the scores of pairs, for files that are known to be whole (`current.is_settled`).
    """
    files = [one for one in _files_of(folder) if shifts is None or (one.source, one.path.stem) in shifts]
    return {one.key: one for _, one in _read_all(files, read_overlaps(folder).left_out(), scored=scored)}


class PredictionsByTarget:
    """Evaluations by the distribution that they were scored on, and the methods that they are of.

    Attributes:
        methods: model and method of each, by first appearance.
        targets: what there are evaluations of.
    """

    def __init__(
        self, methods: Iterable[tuple[str, str]], targets: Iterable[str], read: Callable[[str], Iterable[Prediction]]
    ) -> None:
        self.methods, self.targets = tuple(dict.fromkeys(methods)), frozenset(targets)
        self._read = read

    @classmethod
    def of(cls, predictions: Sequence[Prediction]) -> PredictionsByTarget:
        """Those that have been read."""
        by_target = defaultdict(list)
        for one in predictions:
            by_target[one.target].append(one)
        return cls(((one.model, one.method) for one in predictions), by_target, by_target.__getitem__)

    @classmethod
    def stored(cls, folder: Place) -> PredictionsByTarget:
        """Those of a folder, as `read_predictions` finds them; the files of a target are read when it is asked for.

        Files of one method and model lie together, so the first of them that can be read names all of them. One that
        bears other names is passed over with a warning when its target is asked for.
        """
        left_out = read_overlaps(folder).left_out()
        by_folder: dict[tuple[str, str], list[_File]] = defaultdict(list)
        by_target: dict[str, list[_File]] = defaultdict(list)
        for one in _files_of(folder):
            by_folder[one.path.parent.parent.name, one.model].append(one)
            by_target[one.path.stem].append(one)
        methods = dict.fromkeys(name for files in by_folder.values() for name in _first_names(files))

        def read(target: str) -> Iterator[Prediction]:
            for file, one in _read_all(by_target[target], left_out):
                if (one.model, one.method) in methods and one.target == target:
                    yield one
                else:
                    names = one.method, one.model, one.target
                    log.warning("passed over: %s: it is of %s of %s on %s, unlike files next to it", file.path, *names)

        return cls(methods, by_target, read)

    def on(self, target: str) -> list[Prediction]:
        """Those of a target; none where there are none."""
        return list(self._read(target)) if target in self.targets else []


@dataclass(frozen=True)
class _File:
    """A file of an evaluation, and what its folder says of it."""

    path: Place
    model: str
    source: str


def _files_of(folder: Place) -> list[_File]:
    """The files METHOD/MODEL-SOURCE/TARGET.json under `folder/predictions`, or `folder` itself, in order."""
    root = folder / "predictions" if (folder / "predictions").is_dir() else folder
    paths = sorted(path for path in root.glob("*/*/*.json") if not path.name.startswith("."))
    known, folders = {path.stem for path in paths}, {path.parent.name for path in paths}
    names = {name: _split_folder(name, known, folders) for name in folders}
    return [_File(path, *names[path.parent.name]) for path in paths]


def _read_all(
    files: Iterable[_File], left_out: Mapping[tuple[str, str], Collection[int]], *, scored: bool = True
) -> list[tuple[_File, Prediction]]:
    """The evaluations of files, without what the study does not score; of one that cannot be read a warning."""
    found = []
    denied: list[str] = []
    for one in files:
        try:
            prediction = _read(one, denied, scored=scored)
        except BadData as error:
            log.warning("passed over: %s", error)
            continue
        numbers = left_out.get((prediction.source, prediction.target))
        evaluation = without(prediction.evaluation, numbers) if numbers else prediction.evaluation
        if evaluation is not None:
            found.append((one, replace(prediction, evaluation=evaluation)))
    warn_of_denied(denied)
    return found


def _first_names(files: Iterable[_File]) -> Iterator[tuple[str, str]]:
    """Model and method of the first file that can be read; nothing where there is none."""
    for one in files:
        with suppress(BadData):
            prediction = _read(one, [])
            yield prediction.model, prediction.method
            return


def same_items(one: Evaluation, other: Evaluation) -> bool:
    """Whether two evaluations are of the same pairs, or of the same texts, as far as they tell."""
    if one.n_items is None or other.n_items is None:
        return False
    try:
        check_same_pairs(one, other, "the target")
    except BadInput:
        return False
    return True


def evaluations_of(predictions: Mapping[Key, Prediction]) -> dict[Key, Evaluation]:
    """The evaluation of each prediction."""
    return {key: one.evaluation for key, one in predictions.items()}


def predictions_from(evaluations: Mapping[Key, Evaluation]) -> dict[Key, Prediction]:
    """The predictions that are made of evaluations in memory."""
    return {key: Prediction(*key, evaluation) for key, evaluation in evaluations.items()}


def predictions_of(rows: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> list[Prediction | None]:
    """The prediction behind each row of a results frame, None where there is none."""
    keys = rows[["model", "method", "source", "target"]].itertuples(index=False, name=None)
    return [predictions.get(key) for key in keys]


def mean_estimates(parts: Iterable[pd.DataFrame], predictions: Mapping[Key, Prediction]) -> list[Estimate | None]:
    """Mean accuracy of each of many choices of one method's rows, computed together; None of rows without one.

    With an interval over prompts where every evaluation supports one.
    """
    found: list[Estimate | None] = []
    asked: dict[int, tuple[list[Evaluation], list[str]]] = {}
    for rows in parts:
        known = rows.dropna(subset="accuracy")
        evaluations = [one.evaluation for one in predictions_of(known, predictions) if one is not None]
        if len(evaluations) == len(known) > 0:
            asked[len(found)] = evaluations, list(known["target"])
        found.append(None if known.empty else Estimate(float(known["accuracy"].mean())))
    for number, estimate in zip(asked, mean_accuracy_intervals(list(asked.values())), strict=True):
        found[number] = estimate
    return found


def reliability_frame(rows: pd.DataFrame, predictions: Mapping[Key, Prediction]) -> pd.DataFrame:
    """Reliability bins of every method, pooled over the shifts of a kind: the frame of `reliability_chart`.

    Of labelled texts the probability of a text's own label takes the place of p(best). A pair of
    source and target that is listed twice under one label counts once.

    Args:
        rows: as `shift_frame` gives them.
        predictions: by key.
    """
    found = []
    many = rows["figure"].nunique() > 1
    for name, own in rows.groupby("name", sort=False):
        for (label, figure), chosen in own.groupby(["label", "figure"], sort=False):
            title = " · ".join(filter(None, [str(label), items_of([str(figure)]) if many else ""])) or "all shifts"
            known = {one.key: one.evaluation for one in predictions_of(chosen, predictions) if one is not None}
            pooled = [one.probabilities for one in known.values() if one.probabilities is not None]
            for one in reliability_bins(np.concatenate(pooled)) if pooled else ():
                found.append((name, title, one.confidence, one.accuracy, one.n_pairs))
    return pd.DataFrame(found, columns=["method", "label", "confidence", "accuracy", "n_pairs"])


def _read(file: _File, denied: list[str], *, scored: bool = True) -> Prediction:
    evaluation, held = read_evaluation_file(file.path, denied=denied, scored=scored)
    names = {
        "model": file.model,
        "method": our_name(file.path.parent.parent.name),
        "source": file.source,
        "target": file.path.stem,
        "kind": "",
    }
    stated = {name: held[name] for name in names if isinstance(held.get(name), str)}
    hashed = held.get("target_data_hash", held.get("data_hash", ""))
    return Prediction(**{**names, **stated}, evaluation=evaluation, data_hash=hashed if isinstance(hashed, str) else "")


def _split_folder(name: str, known: set[str], folders: set[str]) -> tuple[str, str]:
    """MODEL and SOURCE of `MODEL-SOURCE`: the longest ending that is a known distribution, else after the last dash.

    The source is empty for the folder `MODEL` itself, which the released zero-shot evaluations have next to the others.
    """
    cuts = [place for place, char in enumerate(name) if char == "-" and name[place + 1 :] in known]
    if cuts:
        return name[: cuts[0]], name[cuts[0] + 1 :]
    if any(other.startswith(f"{name}-") for other in folders):
        return name, ""
    model, _, source = name.rpartition("-")
    return model, source
