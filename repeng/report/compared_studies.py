"""What is compared: studies, results tables and folders of evaluations, ours or published."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from repeng.distributions.schema import Shift
from repeng.errors import BadData, BadInput, UnknownName
from repeng.metrics import Evaluation
from repeng.places import Place
from repeng.report.contradictions import Contradiction, settle, stated_contradictions
from repeng.report.current import hash_of, is_settled
from repeng.report.frames import with_figures
from repeng.report.predictions import Key, Prediction, read_predictions, same_items
from repeng.results import AUROC, CAPABILITY, ResultRow, figure_name, read_results, results_frame, row_from
from repeng.study.rescore import read_capability
from repeng.study.text_forms import baseline_method

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparedStudy:
    """One of the things compared: its rows, and what is known of single pairs."""

    name: str
    rows: tuple[ResultRow, ...]
    predictions: dict[Key, Prediction]
    contradictions: tuple[Contradiction, ...] = ()


@dataclass(frozen=True, eq=False)
class ComparedMethod:
    """One method of one model in one study, on pairs or on labelled texts: what is of both is never averaged.

    Attributes:
        title: the method, and the model and study where there are several; and where pairs and texts are compared, what
            its accuracies are.
        kind: what it is.
        figure: what its accuracies are, as in results.csv.
        rows: its results, as the study lists them.
        predictions: of its study.
    """

    study: str
    model: str
    method: str
    title: str
    kind: str
    figure: str
    rows: pd.DataFrame
    predictions: Mapping[Key, Prediction]

    @cached_property
    def measured(self) -> pd.DataFrame:
        """Its rows with an accuracy by (source, target), each once."""
        rows = self.rows.dropna(subset="accuracy").drop_duplicates(["source", "target"], keep="last")
        return rows.set_index(["source", "target"])

    def prediction(self, source: str, target: str) -> Prediction | None:
        """Its evaluation, fitted on source and scored on target."""
        return self.predictions.get((self.model, self.method, source, target))


MethodPair = tuple[ComparedMethod, ComparedMethod]


def compared_methods(studies: Sequence[ComparedStudy]) -> list[ComparedMethod]:
    """Every method of every model of every study, by first appearance; those of labelled texts after those of pairs."""
    by = ["model", "method", "figure"]
    found = [
        (study, str(model), str(method), str(figure), rows)
        for study in studies
        for (model, method, figure), rows in with_figures(results_frame(study.rows)).groupby(by, sort=False)
    ]
    found.sort(key=lambda one: one[3] == AUROC)
    many = len({model for _, model, *_ in found}) > 1
    figures = len({figure for *_, figure, _ in found})
    studies_with = Counter((model, method, figure) for _, model, method, figure, _ in found)
    methods = []
    for study, model, method, figure, rows in found:
        title = [
            method,
            model.rpartition("/")[2] if many else "",
            study.name if studies_with[model, method, figure] > 1 else "",
            figure_name(figure) if figures > 1 else "",
        ]
        names = (study.name, model, method, " · ".join(filter(None, title)), rows["kind"].iloc[0], figure)
        methods.append(ComparedMethod(*names, rows, study.predictions))
    return methods


def method_pairs(methods: Sequence[ComparedMethod], against: str | None = None) -> list[MethodPair]:
    """Pairs worth comparing: methods of one model, and models (or studies) of one method, by one figure.

    With `against`, every other method with that one.

    Raises:
        UnknownName: no method has the name `against`.
    """
    known = {one.method for one in methods}
    if against is not None and against not in known:
        raise UnknownName("method to compare against", against, sorted(known))
    if against is not None:
        every = ((a, b) for b in methods for a in methods if b.method == against != a.method)
        return [(a, b) for a, b in every if (a.model, a.study, a.figure) == (b.model, b.study, b.figure)]
    return [
        (a, b)
        for a, b in itertools.combinations(methods, 2)
        if a.figure == b.figure and (a.method == b.method or (a.model, a.study) == (b.model, b.study))
    ]


def shared_evaluations(a: ComparedMethod, b: ComparedMethod) -> list[tuple[str, Evaluation, Evaluation]]:
    """Target and both evaluations of every shift that both scored on the same pairs, or texts."""
    found = []
    for source, target in a.measured.index:
        one, other = a.prediction(source, target), b.prediction(source, target)
        if one is not None and other is not None and _same_pairs(one, other):
            found.append((target, one.evaluation, other.evaluation))
    return found


def _same_pairs(one: Prediction, other: Prediction) -> bool:
    """Whether two evaluations are of the same pairs or texts, as far as they tell."""
    if one.data_hash and other.data_hash and one.data_hash != other.data_hash:
        return False
    return same_items(one.evaluation, other.evaluation)


def read_compared_studies(paths: Sequence[Place], *, scored: bool = True) -> tuple[ComparedStudy, ...]:
    """Read each path: a study's folder, a results.csv, or a folder METHOD/MODEL-SOURCE/TARGET.json.

    A folder of evaluations knows no labels: it takes the shifts of the others, or where they know none either,
    every pair of a source and another target.

    Args:
        paths: of each.
        scored: whether the scores of pairs are asked for. Of a table that its predictions are known to bear out they
            are then not read.

    Raises:
        BadInput: a path is none of these, or nothing is given.
    """
    if not paths:
        raise BadInput("nothing to compare; give a results folder or more")
    names = _names(paths)
    tables = {path: _results(path) for path in paths}
    shifts = [_shift(row) for rows in tables.values() for row in rows or () if not row.method.startswith(CAPABILITY)]
    studies = []
    for path, name in zip(paths, names, strict=True):
        rows = tables[path]
        folder = path.parent if path.is_file() else path
        has_predictions = path.is_dir() and rows is None or (folder / "predictions").is_dir()
        table = path if path.is_file() else folder / "results.csv"
        table_hash = None if rows is None else hash_of(table)
        whole = scored or table_hash is None or not is_settled(table, table_hash=table_hash)
        predictions = read_predictions(folder, scored=whole) if has_predictions else {}
        if rows is None and not predictions:
            raise BadInput(f"{path}: no results.csv and no METHOD/MODEL-SOURCE/TARGET.json; give a study's folder")
        if rows is None:
            rows = _rows_of_evaluations(path, predictions, shifts)
            contradictions = stated_contradictions(rows, path)
        else:
            rows, contradictions = settle(rows, predictions, table, table_hash=table_hash)
        # Capability is no method to compare.
        rows = [row for row in rows if not row.method.startswith(CAPABILITY)]
        studies.append(ComparedStudy(name, tuple(rows), predictions, tuple(contradictions)))
    return tuple(studies)


def _results(path: Place) -> list[ResultRow] | None:
    """The rows of a study or of a table; None for a folder of evaluations."""
    table = path if path.is_file() else path / "results.csv"
    if not table.is_file():
        return None
    return read_results(table)


def _names(paths: Sequence[Place]) -> list[str]:
    """The shortest end of each path that tells it from the others."""
    whole = [(path.parent if path.name == "results.csv" else path).resolve().parts for path in paths]
    for length in range(1, max(len(parts) for parts in whole) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    raise BadInput("the same results are given twice; give each once")


def _shift(row: ResultRow) -> Shift:
    return Shift(row.source, row.target, row.target_reference, row.label, row.category)


def _rows_of_evaluations(path: Place, known: Mapping[Key, Prediction], shifts: Sequence[Shift]) -> list[ResultRow]:
    wanted = list(dict.fromkeys(shifts)) or [
        Shift(source, target)
        for source, target in dict.fromkeys(key[2:] for key in known)
        if source not in ("", target)
    ]
    evaluations = {key: one.evaluation for key, one in known.items()}
    methods = list(dict.fromkeys(key[:2] for key in known))
    baselines = {model: baseline_method(name for of, name in methods if of == model) for model, _ in methods}
    return [
        row_from(
            evaluations[model, method, shift.source, shift.target],
            model=model,
            method=method,
            layers="",
            shift=shift,
            source_id=evaluations.get((model, method, shift.source, shift.source)),
            baseline=evaluations.get((model, baselines[model], shift.source, shift.target)),
            capability=_capability(path, model, shift.target),
            kind=known[model, method, shift.source, shift.target].kind,
        )
        for model, method in methods
        for shift in wanted
        if (model, method, shift.source, shift.target) in known
    ]


def _capability(path: Place, model: str, target: str) -> float | None:
    """What the released files next to the evaluations say: ../target_tuned_capability/MODEL/TARGET.json."""
    file = path.parent / "target_tuned_capability" / model / f"{target}.json"
    try:
        return read_capability(file)[0] if file.is_file() else None
    except BadData as error:
        log.warning("passed over: %s", error)
        return None
