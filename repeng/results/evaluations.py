"""Evaluation files, in GENIES' format and more: reading and writing."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from repeng.atomic import write_atomically
from repeng.errors import BadData, BadInput
from repeng.limits import RECORD_BYTES, read_bounded
from repeng.metrics import AGREES, Evaluation, TextEvaluation, brier, genies_rms_calibration_error
from repeng.places import Place
from repeng.results.kinds import kind_of

log = logging.getLogger(__name__)

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
TwoScores = Annotated[list[float], Field(min_length=2, max_length=2)]
"""Of a pair's best response and of its worse."""
ARRAYS = ("example", "group", "scores", "fit_probabilities", "fit_scores", "shuffled", "unlabelled", "random")
"""What an evaluation knows besides its probabilities: its keys in a file begin with `eval_`."""
TEXT_ARRAYS = ("labels", "text_scores", "rows", "thresholds")
"""What an evaluation of labelled texts knows besides that."""
CHANGED = "%s was changed since repeng wrote it: eval_accuracy is %.6g, its %s give %.6g and stand"


def evaluation_path(root: Place, method: str, model_slug: str, source: str, target: str) -> Place:
    """Where an evaluation lies: ROOT/METHOD/MODEL-SOURCE/TARGET.json.

    Raises:
        BadInput: a name is empty or holds a slash, so that it would lead elsewhere.
    """
    for kind, name in (("method", method), ("model", model_slug), ("source", source), ("target", target)):
        if not name or "/" in name or "\\" in name or name in (".", ".."):
            raise BadInput(f"the {kind} {name!r} cannot name a file; give it a name without slashes")
    return root / method / f"{model_slug}-{source}" / f"{target}.json"


def write_evaluation(path: Place, evaluation: Evaluation, provenance: Mapping[str, Any]) -> None:
    """Write an evaluation atomically, in GENIES' format and with what ours know besides.

    Args:
        path: the file; folders are made.
        evaluation: what is known of each pair.
        provenance: further keys, such as model, method, source, target, layers, seed, versions and `eval_responses`.

    Raises:
        BadInput: a key of the provenance is one that the evaluation itself writes.
    """
    held = _held(evaluation)
    twice = sorted(set(held) & set(provenance))
    if twice:
        raise BadInput(f"the provenance has the key {twice[0]!r}, which the evaluation writes; give it another name")
    write_atomically(path, to_json({**held, **provenance}, inf_nan_mode="constants") + b"\n")


def _held(evaluation: Evaluation) -> dict[str, Any]:
    """What an evaluation's file holds of it, by key."""
    texts = evaluation if isinstance(evaluation, TextEvaluation) else None
    held: dict[str, Any] = {
        "eval_accuracy": evaluation.accuracy,
        "eval_accuracy_reported": evaluation.reported_accuracy is not None,
    }
    by_fit = evaluation.by_fit
    if by_fit is not None and evaluation.probabilities is not None:
        held["eval_brier_score"] = float(np.mean([brier(one) for one in by_fit]))
        held["eval_average_probability"] = float(np.mean(evaluation.probabilities))
        if texts is None:
            released = float(np.mean([genies_rms_calibration_error(one) for one in by_fit]))
            held["eval_rms_calibration_error"] = None if math.isnan(released) else released
        held["eval_probabilities"] = evaluation.probabilities.tolist()
    for name in ARRAYS if texts is None else (*ARRAYS, *TEXT_ARRAYS):
        values = getattr(evaluation, name)
        if values is not None:
            held[f"eval_{name}"] = values.tolist()
    if texts is not None:
        held["eval_benign"] = texts.benign
        if texts.pairs is not None:
            held["eval_pairs"] = _held(texts.pairs)
    return held


class _Unscored(BaseModel):
    """An evaluation file without the scores of its pairs, which are most of it, and what names it."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Any = None
    method: Any = None
    kind: Any = None
    source: Any = None
    target: Any = None
    target_data_hash: Any = None
    data_hash: Any = None
    repeng_version: Any = None
    eval_accuracy: float | None = None
    # Whether the method stated its accuracy or repeng derived it; None in others' files and in old ones.
    eval_accuracy_reported: bool | None = None
    eval_probabilities: list[float] | None = None
    eval_example: list[Int64] | None = None
    eval_group: list[Int64] | None = None
    eval_fit_probabilities: list[list[float]] | None = None
    eval_shuffled: list[float] | None = None
    eval_unlabelled: list[float] | None = None
    eval_random: list[float] | None = None
    # Of labelled texts.
    eval_labels: list[bool] | None = None
    eval_text_scores: list[list[float]] | None = None
    eval_rows: list[Int64] | None = None
    eval_thresholds: list[TwoScores] | None = None
    eval_benign: str = ""
    eval_pairs: _Unscored | None = None


class _File(_Unscored):
    """An evaluation file; its keys that do not begin with `eval_` say where it comes from."""

    model_config = ConfigDict(strict=True, extra="allow")

    eval_scores: list[TwoScores] | None = None
    eval_fit_scores: list[list[TwoScores]] | None = None
    eval_pairs: _File | None = None


def read_evaluation(path: Place, *, denied: list[str] | None = None) -> Evaluation:
    """Read an evaluation file, ours or one of GENIES' format; only `eval_accuracy` or `eval_probabilities` is required.

    A file with `eval_labels` is of labelled texts, and gives a `TextEvaluation`. A stated accuracy stands; where the
    probabilities say otherwise, a warning is logged. In a file that a study wrote, and in one of texts, the accuracy is
    derived: there the probabilities, or the scores, are believed.

    Args:
        path: the file.
        denied: takes the warning of a stated accuracy in place of the log, so that many files give one line:
            `warn_of_denied` of them all.

    Raises:
        BadData: there is no such file, or what it holds is no evaluation.
    """
    return read_evaluation_file(path, denied=denied)[0]


def read_evaluation_file(
    path: Place, *, denied: list[str] | None = None, scored: bool = True
) -> tuple[Evaluation, dict[str, Any]]:
    """What `read_evaluation` and `read_provenance` read, at once.

    Args:
        path: the file.
        denied: as of `read_evaluation`.
        scored: False leaves out the scores of pairs, which take half of the time and are then not looked at, and of
            the provenance all but what names the evaluation.

    Raises:
        BadData: there is no such file, or what it holds is no evaluation.
    """
    file = _load(path, _File if scored else _Unscored)
    return _evaluation_of(file, path, denied), _provenance_of(file)


def _evaluation_of(file: _Unscored, path: Place, denied: list[str] | None) -> Evaluation:
    try:
        if file.eval_labels is not None:
            return _texts(file, path)
        said: list[str] = []
        found = _settle_accuracy(_pairs(file), file.eval_accuracy, path, derived=_is_derived(file), denied=said)
        if denied is None:
            warn_of_denied(said)
        else:
            denied += said
        return found
    except BadInput as error:
        raise BadData(str(error), path=path) from error


def warn_of_denied(denied: Sequence[str]) -> None:
    """Log the accuracies that files state and their probabilities deny, in one line that counts them."""
    if len(denied) > 1:
        log.warning("%d files state an accuracy that their probabilities do not give; first %s", len(denied), denied[0])
    elif denied:
        log.warning("%s", denied[0])


def _pairs(file: _Unscored) -> Evaluation:
    others = _shared(file)
    by_pair, fit_scores = (file.eval_scores, file.eval_fit_scores) if isinstance(file, _File) else (None, None)
    scores = None if by_pair is None else _flat(by_pair).reshape(-1, 2)
    by_fit = _by_fit(file.eval_fit_probabilities)
    if by_fit is not None:
        return Evaluation.of_fits(by_fit, _by_fit(fit_scores), **others)
    probabilities = _array(file.eval_probabilities, np.float64)
    stated = file.eval_accuracy if probabilities is None else None
    return Evaluation(probabilities, scores=scores, reported_accuracy=stated, **others)


def _texts(file: _Unscored, path: Place) -> TextEvaluation:
    """The evaluation of labelled texts; the accuracy that the file states is never believed over its scores."""
    text_scores = _by_fit(file.eval_text_scores)
    if text_scores is None:
        raise BadInput("eval_labels without eval_text_scores; give a score for each text and fit")
    by_fit = _by_fit(file.eval_fit_probabilities)
    found = TextEvaluation(
        _array(file.eval_probabilities, np.float64) if by_fit is None else by_fit.mean(axis=0),
        labels=np.array(file.eval_labels, dtype=bool),
        text_scores=text_scores,
        rows=_array(file.eval_rows, np.int64),
        thresholds=_array(file.eval_thresholds, np.float64),
        benign=file.eval_benign,
        pairs=None
        if file.eval_pairs is None
        else _settle_accuracy(_pairs(file.eval_pairs), file.eval_pairs.eval_accuracy, path, derived=True, denied=[]),
        fit_probabilities=by_fit,
        **_shared(file),
    )
    if file.eval_accuracy is not None and abs(found.accuracy - file.eval_accuracy) > AGREES:
        log.warning(CHANGED, path, file.eval_accuracy, "scores", found.accuracy)
    return found


def _shared(file: _Unscored) -> dict[str, Any]:
    """What evaluations of pairs and of texts both know."""
    return {
        "example": _array(file.eval_example, np.int64),
        "group": _array(file.eval_group, np.int64),
        "shuffled": _array(file.eval_shuffled, np.float64),
        "unlabelled": _array(file.eval_unlabelled, np.float64),
        "random": _array(file.eval_random, np.float64),
    }


def read_provenance(path: Place) -> dict[str, Any]:
    """What an evaluation file says besides its evaluation: the keys that do not begin with `eval_`.

    Raises:
        BadData: there is no such file, or it is no evaluation.
    """
    return _provenance_of(_load(path))


def _provenance_of(file: _Unscored) -> dict[str, Any]:
    return {key: value for key, value in file if key in file.model_fields_set and not key.startswith("eval_")}


def _is_derived(file: _Unscored) -> bool:
    """Whether repeng derived the accuracy of a file from its probabilities, rather than taking a method's word."""
    if file.eval_accuracy_reported is not None:
        return not file.eval_accuracy_reported
    return "repeng_version" in file.model_fields_set and kind_of(str(file.method)) != "published"


def _load(path: Place, form: type[_Unscored] = _File) -> _Unscored:
    try:
        content = read_bounded(path, RECORD_BYTES)
        return form.model_validate_json(content if issubclass(form, _File) else without_scores(content))
    except OSError as error:
        raise BadData(f"cannot read the evaluation: {error.strerror}", path=path) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise BadData(f"{key} is {repr(first['input'])[:60]}: {first['msg']}", path=path) from error


def without_scores(content: bytes) -> bytes:
    """An evaluation file in which the scores of pairs are empty lists; as it is where they are no plain numbers.

    They are most of a file, and a parser takes as long to pass over a number as to read it.
    """
    for start, end in ((b'"eval_fit_scores":[[[', b"]]]"), (b'"eval_scores":[[', b"]]")):
        first, last = content.find(start) + len(start), content.rfind(end)
        # Without a quote or a brace there is no other key between, so that nothing else is left out.
        if len(start) <= first <= last and not any(content.find(sign, first, last) >= 0 for sign in (b'"', b"{", b"}")):
            content = content[:first] + content[last:]
    return content


def _array(values: list[Any] | None, kind: type[np.generic]) -> np.ndarray | None:
    return None if values is None else np.array(values, dtype=kind)


def _by_fit(values: list[list[Any]] | None) -> np.ndarray | None:
    if values is None:
        return None
    if not values or len({len(one) for one in values}) > 1:
        raise BadInput(f"the fits hold {sorted({len(one) for one in values})} pairs; give as many of each fit")
    each = (len(values), len(values[0]))
    if values[0] and isinstance(values[0][0], list):
        return _flat(itertools.chain.from_iterable(values)).reshape(*each, -1)
    return _flat(values).reshape(each)


def _flat(values: Iterable[list[float]]) -> np.ndarray:
    """The numbers of lists one after the other: much sooner done than numpy reads lists in lists."""
    return np.fromiter(itertools.chain.from_iterable(values), np.float64)


def _settle_accuracy(
    evaluation: Evaluation, stated: float | None, path: Place, *, derived: bool, denied: list[str]
) -> Evaluation:
    """With the accuracy that a file states, unless that was derived or is what the pairs give.

    Of one that they do not give at all it is said.
    """
    if evaluation.probabilities is None or stated is None:
        return evaluation
    ours = float(np.mean(evaluation.wins))
    if ours == stated:
        return evaluation
    as_stated = replace(evaluation, reported_accuracy=stated)
    differs = abs(ours - stated) > AGREES
    if derived:
        if differs:
            log.warning(CHANGED, path, stated, "probabilities", ours)
        return evaluation
    if differs:
        ties = int(np.sum(evaluation.wins == 0.5))
        bare = "" if as_stated.credit is not None else ", and has no interval"
        denied.append(
            f"{path}: eval_accuracy is {stated:.6g}, its probabilities give {ours:.6g} with "
            f"{ties} ties counted half; eval_accuracy stands{bare}"
        )
    return as_stated
