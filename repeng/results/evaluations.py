"""Evaluation files, in GENIES' format and more: reading and writing."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from repeng.atomic import write_atomically
from repeng.errors import BadData, BadInput
from repeng.metrics import AGREES, Evaluation, brier, genies_rms_calibration_error

log = logging.getLogger(__name__)


def evaluation_path(root: Path, method: str, model_slug: str, source: str, target: str) -> Path:
    """Where an evaluation lies: ROOT/METHOD/MODEL-SOURCE/TARGET.json.

    Raises:
        BadInput: a name is empty or holds a slash, so that it would lead elsewhere.
    """
    for kind, name in (("method", method), ("model", model_slug), ("source", source), ("target", target)):
        if not name or "/" in name or "\\" in name or name in (".", ".."):
            raise BadInput(f"the {kind} {name!r} cannot name a file; give it a name without slashes")
    return root / method / f"{model_slug}-{source}" / f"{target}.json"


def write_evaluation(path: Path, evaluation: Evaluation, provenance: Mapping[str, Any]) -> None:
    """Write an evaluation atomically, in GENIES' format and with what ours know besides.

    Args:
        path: the file; folders are made.
        evaluation: what is known of each pair.
        provenance: further keys, such as model, method, source, target, layers, seed, versions and `eval_responses`.

    Raises:
        BadInput: a key of the provenance is one that the evaluation itself writes.
    """
    held: dict[str, Any] = {"eval_accuracy": evaluation.accuracy}
    if evaluation.probabilities is not None:
        released = genies_rms_calibration_error(evaluation.probabilities)
        held |= {
            "eval_brier_score": brier(evaluation.probabilities),
            "eval_average_probability": float(np.mean(evaluation.probabilities)),
            "eval_rms_calibration_error": None if math.isnan(released) else released,
            "eval_probabilities": evaluation.probabilities.tolist(),
        }
    for name in ("example", "group", "scores"):
        values = getattr(evaluation, name)
        if values is not None:
            held[f"eval_{name}"] = values.tolist()
    twice = sorted(set(held) & set(provenance))
    if twice:
        raise BadInput(f"the provenance has the key {twice[0]!r}, which the evaluation writes; give it another name")
    write_atomically(path, json.dumps({**held, **provenance}, ensure_ascii=False, allow_nan=False) + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation file, ours or one of GENIES' format; only `eval_accuracy` or `eval_probabilities` is required.

    A stated accuracy stands; where the probabilities say otherwise, a warning is logged.

    Raises:
        BadData: there is no such file, or what it holds is no evaluation.
    """
    held = _load(path)
    probabilities = _array(held, "eval_probabilities", path, np.float64)
    example = _array(held, "eval_example", path, np.int64)
    group = _array(held, "eval_group", path, np.int64)
    scores = _array(held, "eval_scores", path, np.float64)
    reported = held.get("eval_accuracy")
    if reported is not None and (isinstance(reported, bool) or not isinstance(reported, int | float)):
        raise BadData(f"`eval_accuracy` is {reported!r}; it must be a number between 0 and 1", path=path)
    try:
        evaluation = Evaluation(
            probabilities=probabilities,
            example=example,
            group=group,
            scores=scores,
            reported_accuracy=None if reported is None else float(reported),
        )
    except BadInput as error:
        raise BadData(str(error), path=path) from error
    return _settle_accuracy(evaluation, path)


def read_provenance(path: Path) -> dict[str, Any]:
    """What an evaluation file says besides its evaluation: the keys that do not begin with `eval_`.

    Raises:
        BadData: there is no such file, or it is no evaluation.
    """
    return {key: value for key, value in _load(path).items() if not key.startswith("eval_")}


def _load(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadData(f"cannot read the evaluation: {error.strerror}", path=path) from error
    except ValueError as error:
        raise BadData(f"not a JSON file: {error}; evaluate again", path=path) from error
    if not isinstance(held, dict) or held.keys().isdisjoint({"eval_accuracy", "eval_probabilities"}):
        raise BadData("no key `eval_accuracy`; an evaluation is an object that has at least that one", path=path)
    return held


def _array(held: dict[str, Any], key: str, path: Path, kind: type[np.generic]) -> np.ndarray | None:
    """A list of numbers, or of pairs of numbers, as an array; None where the key is absent or null."""
    values = held.get(key)
    if values is None:
        return None
    wide = key == "eval_scores"
    wanted = int if kind is np.int64 else (int, float)
    if not isinstance(values, list):
        raise BadData(f"`{key}` is no list; give one entry for each pair", path=path)
    for number, entry in enumerate(values):
        parts = entry if wide and isinstance(entry, list) and len(entry) == 2 else [None] if wide else [entry]
        if not all(isinstance(part, wanted) and not isinstance(part, bool) for part in parts):
            shape = "two numbers, best and worse" if wide else "a whole number" if wanted is int else "a number"
            raise BadData(f"`{key}` of pair {number} is {json.dumps(entry)[:60]}; it must be {shape}", path=path)
    try:
        return np.array(values, dtype=kind).reshape((-1, 2) if wide else (-1,))
    except OverflowError as error:
        raise BadData(f"`{key}` holds a number that no 64-bit number can hold: {error}", path=path) from error


def _settle_accuracy(evaluation: Evaluation, path: Path) -> Evaluation:
    """Drop a stated accuracy that the pairs give exactly; warn of one that they do not give at all."""
    if evaluation.probabilities is None or evaluation.reported_accuracy is None:
        return evaluation
    ours = float(np.mean(evaluation.wins))
    if ours == evaluation.reported_accuracy:
        return Evaluation(evaluation.probabilities, evaluation.example, evaluation.group, evaluation.scores)
    if abs(ours - evaluation.reported_accuracy) > AGREES:
        ties = int(np.sum(evaluation.wins == 0.5))
        log.warning(
            "%s: eval_accuracy is %.6g, its probabilities give %.6g with %d ties counted half; eval_accuracy stands%s",
            path,
            evaluation.reported_accuracy,
            ours,
            ties,
            "" if evaluation.credit is not None else ", and has no interval",
        )
    return evaluation
