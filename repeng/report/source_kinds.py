"""Sources on which zero-shot is above chance, and on which it is below: how probes fitted on either generalise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from repeng.metrics import Estimate, difference_of_kinds
from repeng.report.answer import Row, interval_columns
from repeng.report.compared_studies import ComparedMethod
from repeng.report.zero_shot_baseline import pair_interval, zero_shot_of
from repeng.results import FITTED

ABOVE, BELOW, UNTOLD = "above chance", "below chance", "cannot be told"
"""What zero-shot is on a source: right more often than not, no more often than not, or either may be."""
CHANCE = 0.5
TOO_FEW = "an interval needs two sources of either kind and two targets, not all alike"
NONE_SHARED = "no target is reached from sources of both kinds"
ON_SHARED_TARGETS, OVER_ALL_SHIFTS = "on the targets that both reach", "over all shifts"
FIGURES = ("accuracy", "elicitation")


def kind_of_source(zero_shot: Estimate | None) -> str:
    """By the interval of zero-shot accuracy on the source's own test split: above 1/2, at or below it, or on it."""
    if zero_shot is None or zero_shot.low is None or zero_shot.high is None:
        return UNTOLD
    return ABOVE if zero_shot.low > CHANCE else BELOW if zero_shot.high <= CHANCE else UNTOLD


def source_rows(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Every source of every study, model and form that has zero-shot: its zero-shot accuracy, gap, and kind."""
    rows: list[Row] = []
    for one in methods:
        baseline = zero_shot_of(one, methods)
        if baseline is None or baseline.method is not one:
            continue
        alike = [other for other in methods if (other.study, other.model) == (one.study, one.model)]
        sources = dict.fromkeys(source for other in alike for source, _ in other.measured.index)
        for source in sources:
            found, gap = baseline.accuracy(source), baseline.gap(source)
            held = baseline.evaluation(source)
            rows.append(
                {
                    "source": source,
                    "model": one.model,
                    "study": one.study,
                    "baseline": one.method,
                    **interval_columns("zero_shot", found),
                    "interval": "" if held is None else _over(held.n_prompts, pair_interval(held)),
                    **interval_columns("gap", gap.mean),
                    "gap_from": gap.origin,
                    "zero_shot_is": kind_of_source(found),
                }
            )
    return rows


def _over(n_prompts: int | None, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return "over prompts" if n_prompts is not None else "prompts unknown: three pairs count as one"


def kind_rows(methods: Sequence[ComparedMethod], sources: Sequence[Row]) -> list[Row]:
    """By fitted method: its mean over targets on sources where zero-shot is below chance, less where it is above.

    Args:
        methods: all that were compared.
        sources: of `source_rows`.
    """
    names = ("study", "model", "baseline", "source")
    kinds = {tuple(row[name] for name in names): row["zero_shot_is"] for row in sources}
    baselines = {id(one): own.method.method if (own := zero_shot_of(one, methods)) else "" for one in methods}
    return [
        _kind_row(one, baselines[id(one)], figure, kinds, compared)
        for figure in FIGURES
        for compared in (ON_SHARED_TARGETS, OVER_ALL_SHIFTS)
        for one in methods
        if one.kind in FITTED and one.measured[figure].notna().any()
    ]


def _kind_row(
    method: ComparedMethod, baseline: str, figure: str, kinds: Mapping[tuple[str, ...], str], compared: str
) -> Row:
    known = method.measured[figure].dropna()
    values, of, at, kind = [], [], [], []
    for value, (source, target) in zip(known, known.index, strict=True):
        own = kinds.get((method.study, method.model, baseline, source), UNTOLD)
        if own != UNTOLD and source != target:
            values.append(float(value))
            of.append(str(source))
            at.append(str(target))
            kind.append(own)
    is_first = np.array([one == BELOW for one in kind], dtype=bool)
    found = difference_of_kinds(np.array(values), of, at, is_first, paired=compared == ON_SHARED_TARGETS)
    names: Row = {"method": method.title, "figure": figure, "compared": compared, "baseline": baseline}
    if found is not None:
        return {
            **names,
            "zero_shot_below": found.first,
            "zero_shot_above": found.second,
            **interval_columns("difference", found.difference),
            "sources_below": found.n_first,
            "sources_above": found.n_second,
            "targets": found.n_targets,
            "blank": "" if found.difference.low is not None else TOO_FEW,
        }
    missing = [one for one in (BELOW, ABOVE) if one not in kind]
    return {
        **names,
        "zero_shot_below": None,
        "zero_shot_above": None,
        **interval_columns("difference", None),
        "sources_below": len(_of(BELOW, of, kind)),
        "sources_above": len(_of(ABOVE, of, kind)),
        "targets": len(set(at)),
        "blank": f"zero-shot is {missing[0]} on no source of its shifts" if missing else NONE_SHARED,
    }


def _of(wanted: str, sources: Sequence[str], kinds: Sequence[str]) -> set[str]:
    return {source for source, kind in zip(sources, kinds, strict=True) if kind == wanted}
