"""Tables of the question about scale: accuracies of several models side by side, and how one foretells another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from repeng.metrics import Estimate, correlation, mean_of_draws, prompt_variance
from repeng.metrics.resampling import LEVEL
from repeng.report.answer import Row, interval_columns
from repeng.report.compared_studies import ComparedMethod
from repeng.report.comparisons import billions_of

PRESET = "-genies"
"""Ends the name of a method that follows the released rules, as published files do under the plain name."""


def family_of(method: str) -> str:
    """The method that a preset of the released rules is one of: `mms` of `mms-genies(order=both)`."""
    name, bracket, rest = method.partition("(")
    return method if not name.endswith(PRESET) else f"{name.removesuffix(PRESET)}{bracket}{rest}"


def is_preset(method: str) -> bool:
    """Whether a method follows the released rules by name."""
    return method.partition("(")[0].endswith(PRESET)


@dataclass(frozen=True)
class ModelPair:
    """One method on a smaller and on a larger model."""

    small: ComparedMethod
    large: ComparedMethod


def by_size(methods: Sequence[ComparedMethod]) -> list[ComparedMethod]:
    """Methods in order of their models' sizes; models of unknown size come last."""
    return sorted(methods, key=lambda one: billions_of(one.model) or math.inf)


def model_pairs(methods: Sequence[ComparedMethod]) -> list[ModelPair]:
    """Every two models of one method, by method and size.

    A preset of the released rules is a method of its own. Next to a model that has the plain method and no preset of
    it, as published evaluations have, it is compared with that too, since it is what these files mean by the name.
    """
    presets = {(one.study, one.model, family_of(one.method)) for one in methods if is_preset(one.method)}

    def alike(one: ComparedMethod, other: ComparedMethod) -> bool:
        if one.method == other.method:
            return True
        if family_of(one.method) != family_of(other.method) or is_preset(one.method) == is_preset(other.method):
            return False
        plain = other if is_preset(one.method) else one
        return (plain.study, plain.model, family_of(plain.method)) not in presets

    families = list(dict.fromkeys(family_of(one.method) for one in methods))
    found = [
        ModelPair(one, other)
        for one, other in itertools.combinations(by_size(methods), 2)
        if one.model != other.model and one.figure == other.figure and alike(one, other)
    ]
    return sorted(found, key=lambda pair: families.index(family_of(pair.small.method)))


def accuracy_rows(pairs: Sequence[ModelPair]) -> list[Row]:
    """Shift by shift the accuracy of every model that has a method in common with another, smallest first."""
    shown = by_size(list({id(one): one for pair in pairs for one in (pair.small, pair.large)}.values()))
    columns = {id(one): column_of(one, shown) for one in shown}
    blank = {name: value for column in dict.fromkeys(columns.values()) for name, value in _cells(column).items()}
    rows: dict[tuple[str, str, str, str], Row] = {}
    for family, figure in dict.fromkeys((family_of(one.method), one.figure) for one in shown):
        own = [one for one in shown if (family_of(one.method), one.figure) == (family, figure)]
        for one in own:
            for place, (source, target) in enumerate(one.measured.index):
                held = one.measured.iloc[place]
                names = {"method": family, "source": source, "target": target, "label": held["label"] or ""}
                row = rows.setdefault((family, figure, source, target), {**names, **blank})
                ends = [held[name] for name in ("accuracy", "accuracy_low", "accuracy_high")]
                row.update(_cells(columns[id(one)], *(None if pd.isna(end) else float(end) for end in ends)))
    return list(rows.values())


def column_of(method: ComparedMethod, methods: Sequence[ComparedMethod]) -> str:
    """What a model's column is called: the model, whether a preset, and its study where several have the model."""
    same = {one.study for one in methods if one.model == method.model}
    kind = f"({PRESET.strip('-')})" if is_preset(method.method) else ""
    study = f"of {method.study}" if len(same) > 1 else ""
    return " ".join(filter(None, (method.model.rpartition("/")[2], kind, study)))


def _cells(column: str, value: float | None = None, low: float | None = None, high: float | None = None) -> Row:
    return {column: value, f"{column}_low": low, f"{column}_high": high}


def correlation_rows(pairs: Sequence[ModelPair]) -> list[Row]:
    """Of every two models and method: how they correlate over the shifts that both have, and what they could reach."""
    rows = []
    for pair in pairs:
        shared = pair.small.measured[["accuracy"]].join(pair.large.measured["accuracy"], rsuffix="_large", how="inner")
        x, y = shared["accuracy"].astype(float).to_numpy(), shared["accuracy_large"].astype(float).to_numpy()
        pearson, spearman = (correlation(x.tolist(), y.tolist(), method=how) for how in ("pearson", "spearman"))
        large, origin = _repeated(pair.large, shared.index, y)
        small, _ = _repeated(pair.small, shared.index, x)
        both = math.sqrt(large.value * small.value) if large and small else None
        rows.append(
            {
                "method": family_of(pair.small.method),
                "small": pair.small.title,
                "large": pair.large.title,
                "small_billions": billions_of(pair.small.model),
                "large_billions": billions_of(pair.large.model),
                "shifts": len(shared),
                **interval_columns("pearson", pearson),
                **interval_columns("spearman", spearman),
                **interval_columns("mean_absolute_difference", mean_absolute_difference(x, y)),
                **interval_columns("ceiling", large),
                "ceiling_of_both": both,
                "ceiling_from": origin,
                "blank": "" if pearson else _why_blank(x),
            }
        )
    return rows


def mean_absolute_difference(x: Float[np.ndarray, " shift"], y: Float[np.ndarray, " shift"]) -> Estimate | None:
    """Mean over shifts of how far two accuracies lie apart, with Student's t interval over shifts."""
    if not len(x):
        return None
    found = mean_of_draws(np.abs(x - y).tolist())
    # Student's t does not know that a mean distance is never below 0.
    return found if found.low is None else replace(found, low=max(0.0, found.low))


def reliability(accuracies: Float[np.ndarray, " shift"], noise: Float[np.ndarray, " shift"]) -> Estimate | None:
    """The correlation over shifts of two draws of the prompts: the share of the variance that is not the prompts'.

    The interval is that of the variance over shifts (chi-square), the noise taken as known.

    Args:
        accuracies: of each shift.
        noise: variance of each over draws of the prompts.

    Returns:
        None with under two shifts, or where the accuracies do not vary.
    """
    from scipy.special import chdtri

    if len(accuracies) < 2 or np.ptp(accuracies) == 0:
        return None
    spread, df = float(np.var(accuracies, ddof=1)), len(accuracies) - 1
    share = float(noise.mean()) / spread
    low, high = (df / float(chdtri(df, tail)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    value, worst, best = (max(0.0, 1 - share / by) for by in (1.0, low, high))
    return Estimate(value, worst, best)


def _repeated(
    method: ComparedMethod, shifts: pd.Index, accuracies: Float[np.ndarray, " shift"]
) -> tuple[Estimate | None, str]:
    """`reliability` of a method over some shifts, and what its noise was taken from."""
    noise, grouped = [], True
    for source, target in shifts:
        own = method.prediction(source, target)
        variance = prompt_variance(own.evaluation) if own else None
        if own is None or variance is None:
            return None, "no predictions of pairs"
        noise.append(variance)
        grouped &= own.evaluation.group is not None
    return reliability(accuracies, np.array(noise)), "prompts" if grouped else "pairs, as prompts are unknown"


def _why_blank(x: Float[np.ndarray, " shift"]) -> str:
    if len(x) < 2:
        return f"{len(x)} shared shifts"
    return f"the {'small' if np.ptp(x) == 0 else 'large'} one's accuracy is the same on all shifts"
