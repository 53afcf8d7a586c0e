"""Sources on which low perplexity is better, and on which it is not: how probes fitted on either generalise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repeng.metrics import Estimate, difference_of_kinds
from repeng.report.answer import interval_columns
from repeng.report.compared_studies import ComparedMethod
from repeng.report.zero_shot_baseline import baseline_of, pair_interval
from repeng.results import FITTED

Row = dict[str, Any]

BETTER, NOT_BETTER, UNTOLD = "better", "not better", "cannot be told"
"""What low perplexity is on a source: zero-shot is right more often than not, no more often, or either may be."""
CHANCE = 0.5
TOO_FEW = "an interval needs two sources of either kind and two targets, not all alike"
NONE_SHARED = "no target is reached from sources of both kinds"
ON_SHARED_TARGETS, OVER_ALL_SHIFTS = "on the targets that both reach", "over all shifts"
FIGURES = ("accuracy", "elicitation")


def kind_of_source(zero_shot: Estimate | None) -> str:
    """By the interval of zero-shot accuracy on the source's own test split: above 1/2, at or below it, or on it."""
    if zero_shot is None or zero_shot.low is None or zero_shot.high is None:
        return UNTOLD
    return BETTER if zero_shot.low > CHANCE else NOT_BETTER if zero_shot.high <= CHANCE else UNTOLD


def source_rows(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Every source of every study and model that has zero-shot: its zero-shot accuracy, gap, and kind."""
    rows: list[Row] = []
    for one in methods:
        baseline = baseline_of(one, methods)
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
                    **interval_columns("zero_shot", found),
                    "interval": "" if held is None else _over(held.n_prompts, pair_interval(held)),
                    **interval_columns("gap", gap.mean),
                    "gap_from": gap.origin,
                    "low_perplexity_is": kind_of_source(found),
                }
            )
    return rows


def _over(n_prompts: int | None, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return "over prompts" if n_prompts is not None else "prompts unknown: three pairs count as one"


def kind_rows(methods: Sequence[ComparedMethod], sources: Sequence[Row]) -> list[Row]:
    """By fitted method: its mean over targets on sources where low perplexity is not better, less where it is.

    Args:
        methods: all that were compared.
        sources: of `source_rows`.
    """
    kinds = {(row["study"], row["model"], row["source"]): row["low_perplexity_is"] for row in sources}
    return [
        _kind_row(one, figure, kinds, compared)
        for figure in FIGURES
        for compared in (ON_SHARED_TARGETS, OVER_ALL_SHIFTS)
        for one in methods
        if one.kind in FITTED and one.measured[figure].notna().any()
    ]


def _kind_row(method: ComparedMethod, figure: str, kinds: Mapping[tuple[str, str, str], str], compared: str) -> Row:
    known = method.measured[figure].dropna()
    values, of, at, kind = [], [], [], []
    for value, (source, target) in zip(known, known.index, strict=True):
        own = kinds.get((method.study, method.model, source), UNTOLD)
        if own != UNTOLD and source != target:
            values.append(float(value))
            of.append(str(source))
            at.append(str(target))
            kind.append(own)
    is_first = np.array([one == NOT_BETTER for one in kind], dtype=bool)
    found = difference_of_kinds(np.array(values), of, at, is_first, paired=compared == ON_SHARED_TARGETS)
    names: Row = {"method": method.title, "figure": figure, "compared": compared}
    if found is not None:
        return {
            **names,
            "not_better": found.first,
            "better": found.second,
            **interval_columns("difference", found.difference),
            "not_better_sources": found.n_first,
            "better_sources": found.n_second,
            "targets": found.n_targets,
            "blank": "" if found.difference.low is not None else TOO_FEW,
        }
    missing = [one for one in (NOT_BETTER, BETTER) if one not in kind]
    return {
        **names,
        "not_better": None,
        "better": None,
        **interval_columns("difference", None),
        "not_better_sources": len(_of(NOT_BETTER, of, kind)),
        "better_sources": len(_of(BETTER, of, kind)),
        "targets": len(set(at)),
        "blank": f"no source of its shifts is of the kind '{missing[0]}'" if missing else NONE_SHARED,
    }


def _of(wanted: str, sources: Sequence[str], kinds: Sequence[str]) -> set[str]:
    return {source for source, kind in zip(sources, kinds, strict=True) if kind == wanted}
