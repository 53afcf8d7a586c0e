"""Tables of the question about perplexity: what goes along with zero-shot, over shifts and over pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repeng.metrics import Estimate, Evaluation, correlation, grouped_correlation, grouped_rank_correlation
from repeng.report.answer import Row, interval_columns
from repeng.report.compared_studies import ComparedMethod
from repeng.report.predictions import same_items
from repeng.report.zero_shot_baseline import Gap, ZeroShotBaseline, baseline_accuracies, gap_of, zero_shot_of

AGAINST = {
    "zero_shot_of_target": "zero-shot accuracy on the target",
    "gap_of_target": "log-probability gap on the target",
    "zero_shot_of_source": "zero-shot accuracy on the source",
    "gap_of_source": "log-probability gap on the source",
}
"""What generalization accuracy is held against, by the column of `shift_rows`."""

NO_BASELINE = "no zero-shot in this study"
OF_TABLE = "baseline_accuracy of results.csv"
FEWEST_EXPECTED = 5
"""As of a chi-square test: an interval of phi needs so many prompts in the rarest of its four cells, by chance."""


def shift_rows(methods: Sequence[ComparedMethod], every: Sequence[ComparedMethod]) -> list[Row]:
    """Every shift of every method: its accuracy, zero-shot on target and source, and how pairs go together.

    Args:
        methods: to be held against zero-shot.
        every: all that were compared, zero-shot among them.
    """
    rows = []
    for one in methods:
        baseline = zero_shot_of(one, every)
        zero_shot = baseline_accuracies(one, baseline)
        named = baseline.method.method if baseline else OF_TABLE if zero_shot.notna().any() else ""
        for place, (source, target) in enumerate(one.measured.index):
            own = one.measured.iloc[place]
            gap, home = (
                baseline.gap(name, source) if baseline else Gap(None, NO_BASELINE) for name in (target, source)
            )
            at_home = baseline.accuracy(source) if baseline else None
            rows.append(
                {
                    "method": one.title,
                    "source": source,
                    "target": target,
                    "label": own["label"] or "",
                    "accuracy": float(own["accuracy"]),
                    "baseline": named,
                    "zero_shot_of_target": _known(zero_shot.loc[source, target]),
                    **interval_columns("gap_of_target", gap.mean),
                    "gap_from": gap.origin,
                    "zero_shot_of_source": at_home and at_home.value,
                    "gap_of_source": home.mean and home.mean.value,
                    **_pair_columns(one, source, target, baseline, gap),
                }
            )
    return rows


def _pair_columns(method: ComparedMethod, source: str, target: str, baseline: ZeroShotBaseline | None, gap: Gap) -> Row:
    """Over the pairs of one shift: phi of right and zero-shot right, and the rank correlation of margin and gap."""
    own = method.prediction(source, target)
    other = baseline.evaluation(target, source) if baseline else None
    right: Estimate | None
    margin: Estimate | None
    found: Row = {"pairs": own and own.evaluation.n_pairs}
    if own is None or own.evaluation.is_bare:
        right, of_right = None, "no predictions of pairs"
        margin, of_margin = None, ""
    else:
        right, of_right = _right_together(own.evaluation, other)
        margin, of_margin = _margins_together(own.evaluation, gap)
    found |= {**interval_columns("right_together", right), **interval_columns("margin_with_gap", margin)}
    return {**found, "blank": "; ".join(filter(None, (of_right, of_margin)))}


def _right_together(own: Evaluation, other: Evaluation | None) -> tuple[Estimate | None, str]:
    if other is None or other.is_bare:
        return None, "no zero-shot predictions of pairs"
    if not same_items(own, other):
        return None, "zero-shot is of other pairs"
    known = own if own.group is not None else other
    found = grouped_correlation(own.fit_wins, other.wins, known)
    if found is None:
        constant = "zero-shot" if np.ptp(other.wins) == 0 else "the method"
        return None, f"{constant} is right on all pairs, or wrong on all"
    rarest = [min(share, 1 - share) for share in (float(own.wins.mean()), float(other.wins.mean()))]
    if rarest[0] * rarest[1] * (known.n_prompts or len(other.wins)) < FEWEST_EXPECTED:
        # Where chance alone would make both rare together in hardly a prompt, none such is no sign of anything.
        return Estimate(found.value), "too few prompts on which either is of its rarer verdict for an interval of phi"
    return found, ""


def _margins_together(own: Evaluation, gap: Gap) -> tuple[Estimate | None, str]:
    if gap.values is None or gap.of is None:
        return None, f"gap: {gap.origin}"
    if not same_items(own, gap.of):
        return None, "the gap is of other pairs"
    margin = margin_of(own)
    if margin is None:
        return None, "the method's probabilities are exactly 0 or 1"
    found = grouped_rank_correlation(margin, gap.values, own if own.group is not None else gap.of)
    return found, "" if found else "margin or gap is constant"


def margin_of(evaluation: Evaluation) -> np.ndarray | None:
    """A method's own margin on each pair: its score of the best less that of the worse, else its log-odds.

    The mean over fits, each in units of its own spread; None where probabilities hide it.
    """
    if evaluation.n_fits == 1:
        return gap_of(evaluation).values
    if evaluation.fit_scores is not None:
        margins = evaluation.fit_scores[..., 0] - evaluation.fit_scores[..., 1]
    else:
        found = [values for one in evaluation.fits if (values := gap_of(one).values) is not None]
        if len(found) < evaluation.n_fits:
            return None
        margins = np.array(found)
    spread = margins.std(axis=1, keepdims=True)
    return np.asarray((margins / np.where(spread > 0, spread, 1.0)).mean(axis=0))


def correlation_rows(shifts: Sequence[Row]) -> list[Row]:
    """By method: Pearson and Spearman over its shifts, of accuracy against each of `AGAINST`.

    Args:
        shifts: of `shift_rows`.
    """
    rows = []
    for method, own in pd.DataFrame(shifts).groupby("method", sort=False):
        for column, against in AGAINST.items():
            known = own[["accuracy", column]].astype(float).dropna()
            x, y = known["accuracy"].tolist(), known[column].tolist()
            pearson, spearman = correlation(x, y), correlation(x, y, method="spearman")
            rows.append(
                {
                    "method": method,
                    "against": against,
                    "baseline": own["baseline"].iloc[0],
                    "shifts": len(known),
                    **interval_columns("pearson", pearson),
                    **interval_columns("spearman", spearman),
                    "blank": "" if pearson else _why_blank(known),
                }
            )
    return rows


def _why_blank(known: pd.DataFrame) -> str:
    if len(known) < 2:
        return "known on fewer than two shifts"
    return "constant over the shifts"


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
