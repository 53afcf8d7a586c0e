"""What a study shows, in words that its figures, intervals, nulls and tests allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from repeng.maths import FEWEST_GROUPS
from repeng.metrics import Estimate, Evaluation, holm, mean_accuracy_intervals, mean_paired_differences
from repeng.report.frames import fitted, shift_frame, units_of
from repeng.report.predictions import Key, same_items
from repeng.results import AUROC, ResultRow, figure_name
from repeng.results.verdicts import ABOVE, BELOW, LEVEL
from repeng.study.text_forms import baseline_method

MOST_NAMED = 4
NOTHING = "No accuracy was measured."
Paired = tuple[Sequence[Evaluation], Sequence[Evaluation], Sequence[str]]
"""Two methods' evaluations of the same items, shift by shift, and the shifts' targets."""


@dataclass(frozen=True)
class Mean:
    """A method's mean over the shifts of a label.

    Attributes:
        figure: what it is a mean of, in a sentence.
        evaluations: of its shifts, in their order; None where one is unknown.
    """

    name: str
    rows: pd.DataFrame
    estimate: Estimate
    evaluations: tuple[Evaluation, ...] | None
    figure: str = "accuracy"

    @property
    def targets(self) -> list[str]:
        """Of each shift."""
        return list(self.rows["target"])


@dataclass(frozen=True)
class LabelSummary:
    """What the figures of one label say.

    Attributes:
        where: which shifts, as `On the 15 extreme shifts`.
        said: which methods lead, as far as paired tests tell.
        leader: the method of the highest mean.
        notes: how the leader's results lie about chance, and what zero-shot has.
    """

    where: str
    said: str
    leader: Mean
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it."""
        return f"{self.where} {'; '.join([self.said, *self.notes])}."

    @property
    def with_interval(self) -> str:
        """What is said of these shifts, with the interval of the leader's mean where there is one."""
        figure, name = _figure(self.leader.estimate), self.leader.name
        if self.leader.estimate.low is None or figure in self.said:
            return f"{'; '.join([self.said, *self.notes])}."
        has, rest = f"{name} has {figure}", self.notes
        if rest and rest[0].startswith(f"{name} is "):
            has, rest = f"{has} and {rest[0].removeprefix(f'{name} ')}", rest[1:]
        return f"{'; '.join([self.said, has, *rest])}."


def summary_sentences(rows: Sequence[ResultRow], evaluations: Mapping[Key, Evaluation] | None = None) -> str:
    """What the figures show, label by label; then how many results are below chance, and where fits disagree.

    Accuracies of pairs and AUROCs of labelled texts have sentences of their own, and no mean is over both.

    A method leads where paired tests on the same pairs say so, corrected (Holm) over its rivals; else those that lead
    together are named. Without evaluations nothing is tested, and the sentence says so.

    Args:
        rows: of a study, as `with_verdicts` leaves them.
        evaluations: of the same study.
    """
    frame = shift_frame(rows)
    found = [one.sentence for one in label_summaries(frame, evaluations)]
    pool = measured_methods(frame)
    return " ".join([*found, *_below_chance(pool), *disagreeing(pool)]) if found else NOTHING


def measured_methods(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with an accuracy: of fitted methods where there are any, else of all."""
    measured = frame[frame["accuracy"].notna()]
    return measured if fitted(measured).empty else fitted(measured)


def label_summaries(frame: pd.DataFrame, evaluations: Mapping[Key, Evaluation] | None = None) -> list[LabelSummary]:
    """What the figures of each label say; of pairs and of labelled texts apart. None where nothing was measured.

    Args:
        frame: as `shift_frame` gives it.
        evaluations: of the same study.
    """
    pool = measured_methods(frame)
    found = []
    baseline = baseline_method(frame["method"].unique())
    everywhere = "all" if pool["label"].nunique() == 1 else "the other"
    mixed = pool["figure"].nunique() > 1
    for (label, figure), own in pool.groupby(["label", "figure"], sort=False):
        count = len(own[["source", "target"]].drop_duplicates())
        shifts = f"{label} shift" if label else ("shift" if everywhere == "all" else "other shift")
        of = f" of {'labelled texts' if figure == AUROC else 'pairs'}" if mixed else ""
        where = f"On the {count} {shifts}s{of}" if count > 1 else f"On the one {shifts}{of}"
        shown = figure_name(str(figure)) if mixed or figure == AUROC else "accuracy"
        found.append(_of_label(where, own, evaluations or {}, shown, baseline))
    return found


def _of_label(
    where: str, rows: pd.DataFrame, evaluations: Mapping[Key, Evaluation], figure: str, baseline: str
) -> LabelSummary:
    means = _means(rows, evaluations, figure)
    means.sort(key=lambda mean: -mean.estimate.value)
    first = means[0]
    prompts = rows["n_prompts"].max()
    notes = [_pattern(first, alone=len(means) == 1)]
    if first.rows["baseline_accuracy"].notna().any() and set(first.rows["method"]) != {baseline}:
        notes.append(f"{baseline} has {first.rows['baseline_accuracy'].mean():.2f}")
    if prompts < FEWEST_GROUPS:
        units = units_of(rows["figure"])
        groups = units if prompts > 1 else units.removesuffix("s")
        notes.append(f"{prompts:.0f} test {groups} a shift are too few to tell methods apart")
    return LabelSummary(where, _alone(first) if len(means) == 1 else _among(means), first, tuple(filter(None, notes)))


def _means(rows: pd.DataFrame, evaluations: Mapping[Key, Evaluation], figure: str) -> list[Mean]:
    """The mean of each method; without an interval where an evaluation is unknown."""
    methods = list(rows.groupby("name", sort=False))
    known = [_known(own, evaluations) for _, own in methods]
    asked = [(one, list(own["target"])) for (_, own), one in zip(methods, known, strict=True) if one is not None]
    estimates = iter(mean_accuracy_intervals(asked))
    return [
        Mean(str(name), own, Estimate(float(own["accuracy"].mean())) if one is None else next(estimates), one, figure)
        for (name, own), one in zip(methods, known, strict=True)
    ]


def _known(rows: pd.DataFrame, evaluations: Mapping[Key, Evaluation]) -> tuple[Evaluation, ...] | None:
    """The evaluation behind each row; None where one is unknown."""
    keys = rows[["model", "method", "source", "target"]].itertuples(index=False, name=None)
    found = tuple(one for key in keys if (one := evaluations.get(key)) is not None)
    return found if len(found) == len(rows) else None


def _alone(mean: Mean) -> str:
    single = f"a {mean.figure}" if mean.figure.startswith("pair") else f"an {mean.figure}"
    many = f"a mean {mean.figure}" if len(mean.rows) > 1 else single
    return f"{mean.name} has {many} of {_figure(mean.estimate)}"


def _among(means: Sequence[Mean]) -> str:
    """Which of several methods lead, as far as tests tell."""
    first, rivals = means[0], means[1:]
    tested = _rival_p(first, rivals)
    together = [mean for mean, p in zip(rivals, tested, strict=True) if p is None or p >= LEVEL]
    lowest = means[-1].estimate.value
    figures = f"{first.figure}s" if first.figure == "AUROC" else f"{first.figure.removesuffix('y')}ies"
    if not together:
        return (
            f"{first.name} has the highest mean {first.figure}, {_figure(first.estimate)}, by paired tests against "
            f"each of {len(rivals)} other{'s' if len(rivals) > 1 else ''} ({_span(lowest, rivals[0].estimate.value)})"
        )
    spread = f"from {lowest:.2f} to {first.estimate.value:.2f}"
    if all(p is None for p in tested):
        return f"mean {figures} of {len(means)} methods go {spread} ({first.name}), untested"
    if len(together) == len(rivals):
        return f"paired tests do not tell {len(means)} methods apart, whose mean {figures} go {spread}"
    named = [first.name, *(mean.name for mean in together)]
    shown = _listed(named) if len(named) <= MOST_NAMED else f"{', '.join(named[:MOST_NAMED])} and others"
    least = min(mean.estimate.value for mean in together)
    others = len(rivals) - len(together)
    return (
        f"{shown} lead together with mean {figures} of {_span(least, first.estimate.value)}, which paired tests "
        f"do not tell apart; {others} other{'s are' if others > 1 else ' is'} lower (from {lowest:.2f})"
    )


def _rival_p(first: Mean, rivals: Sequence[Mean]) -> list[float | None]:
    """Of each rival the corrected p-value of no difference from the first; None where that cannot be tested."""
    paired = [_paired(first, rival) for rival in rivals]
    tested = iter(mean_paired_differences([own for own in paired if own is not None]))
    raw = [None if own is None else next(tested).p for own in paired]
    corrected = iter(holm([p for p in raw if p is not None]))
    return [None if p is None else next(corrected) for p in raw]


def _paired(one: Mean, other: Mean) -> Paired | None:
    """The evaluations of two methods, where both scored the same items on the same shifts."""
    if one.evaluations is None or other.evaluations is None or one.targets != other.targets:
        return None
    if not all(same_items(a, b) for a, b in zip(one.evaluations, other.evaluations, strict=True)):
        return None
    return one.evaluations, other.evaluations, one.targets


def _pattern(mean: Mean, *, alone: bool) -> str:
    """How a method's results lie about chance; where some are above and some below, that no mean describes them."""
    rows = mean.rows.drop_duplicates(["source", "target"])
    told = rows[rows["verdict"] != ""]
    if told.empty:
        return "no interval can be had, so nothing is told from chance"
    above, below = (int((told["verdict"] == side).sum()) for side in (ABOVE, BELOW))
    subject = "it is" if alone else f"{mean.name} is"
    if len(told) == 1:
        return f"{subject} {told['verdict'].iloc[0]}"
    if above == len(told) or below == len(told):
        return f"{subject} {'above' if above else 'below'} chance on all of them"
    if not above and not below:
        whose = "its" if alone else f"{mean.name}'s"
        return f"none of {whose} {len(told)} results is told from its null or from chance"
    rest = len(told) - above - below
    parts = [f"above chance on {above}", f"below on {below}"] + ([f"neither on {rest}"] if rest else [])
    counted = f"{subject} {_listed(parts)}"
    if above and below:
        return f"{counted} ({rows['accuracy'].min():.2f} to {rows['accuracy'].max():.2f}), which no mean describes"
    return counted


def _below_chance(pool: pd.DataFrame) -> list[str]:
    told = pool[pool["verdict"] != ""].drop_duplicates(["name", "source", "target"])
    below = int((told["verdict"] == BELOW).sum())
    if not below:
        return []
    is_are = "is" if below == 1 else "are"
    return [f"Of {len(told)} results {below} {is_are} below chance: something else was learned there."]


def disagreeing(pool: pd.DataFrame) -> list[str]:
    """How often a figure hangs on the fit; the worst by name."""
    repeated = pool[pool["fits_disagree"].notna()].drop_duplicates(["name", "source", "target"])
    apart = repeated[repeated["fits_disagree"].astype(bool)]
    if apart.empty:
        return []
    spans = apart["fit_highest"] - apart["fit_lowest"]
    worst = apart.iloc[int(spans.to_numpy().argmax())]
    over = units_of(pool["figure"])
    span = f"{worst['fit_lowest']:.2f} to {worst['fit_highest']:.2f}"
    return [
        f"Fits with other seeds disagree by more than {over} explain in {len(apart)} of {len(repeated)} results "
        f"(most: {worst['name']} from {worst['source']} to {worst['target']}, {span})."
    ]


def _span(low: float, high: float) -> str:
    """`0.89 to 0.91`, and `0.90` where both are written alike."""
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def _figure(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
