"""The causal tables: what a model's answers do when a probe's direction is added to its activations, or taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import with_config

from repeng.places import Place
from repeng.results.csv_table import read_rows, write_rows

CAUSAL_TABLES = FILE, DOSES = "causal.csv", "doses.csv"
ADD, REMOVE, LEACE = "add", "remove", "leace"
CAUSAL_LEVEL = 0.05
"""Under this p an edit moves an answer."""
MOVES, AS_SHUFFLED = "moves the answer", "moves it as shuffled labels do"
BYSTANDER, BREAKS = "bystander", "breaks the model"
PREFERENCE, ACCURACY, VERDICT, VERDICT_GAP = "preference", "accuracy", "verdict", "verdict_gap"


@with_config(allow_inf_nan=False)
@dataclass(frozen=True)
class CausalRow:
    """One row of causal.csv: one edit of the model and one measure of its answers; fields are the columns, in order.

    Every figure is a mean over the probe's fits, each edited along its own direction at the first layer that it chose.

    Attributes:
        method, source: the probe and what it was fitted on.
        target: whose pairs the model answers.
        layers: edited, as `3`, or where fits differ `4 (3/5), 1 (2/5)`.
        edit: `add` (the direction, one standard deviation of the source's projections, at every token), `remove` (the
            projection set to the source's mean), or `leace` (LEACE's subspace of the source's labels).
        measure: `preference`: log-probability of the best response less that of the worse, in nats; `accuracy`: the
            share of pairs in which it is above 0; `verdict`: log-odds in nats that a response is right, by the model's
            own answer to a question; `verdict_gap`: of the best response less that of the worse.
        before: the measure of the model as it is.
        change: by the edit, with its interval over prompts and fits.
        change_p: of no change.
        random_low, random_high: where the change by one more random direction of the same length lies, 95 % of the
            time; of `leace`, by one that is removed.
        random_p: of the change being that of one more random direction.
        shuffled_low, shuffled_high, shuffled_p: the same of the probe fitted on shuffled labels; blank where labels
            decide nothing of the direction but its sign.
        p: the larger of `change_p` and `random_p`, corrected by Holm's method for the four tests that the conclusion
            rests on; blank of the others.
        perplexity: of the source's prompts, over that of the model as it is; with its interval.
        conclusion: of all edits on this target: `moves the answer`; `moves it as shuffled labels do` (further than
            random directions, and no further than the probe fitted on shuffled labels); `breaks the model` (whose
            perplexity doubles, and nothing that leaves it whole moves an answer); `bystander`.
    """

    model: str
    method: str
    layers: str
    source: str
    target: str
    edit: str
    measure: str
    before: float
    change: float
    change_low: float | None
    change_high: float | None
    change_p: float | None
    random_low: float | None
    random_high: float | None
    random_p: float | None
    shuffled_low: float | None
    shuffled_high: float | None
    shuffled_p: float | None
    p: float | None
    perplexity: float | None
    perplexity_low: float | None
    perplexity_high: float | None
    conclusion: str
    n_pairs: int
    n_prompts: int | None
    n_fits: int
    n_random: int
    n_shuffled: int
    others: Mapping[str, str] = field(default_factory=dict, hash=False)


@with_config(allow_inf_nan=False)
@dataclass(frozen=True)
class DoseRow:
    """One row of doses.csv: a measure of the answers at one strength of the probe's direction.

    Attributes:
        strength: standard deviations of the source's projections that are added; 0 for the model as it is.
        measure: as in causal.csv.
        value: with its interval over prompts and fits.
        perplexity: of the source's prompts, over that of the model as it is.
    """

    model: str
    method: str
    source: str
    target: str
    strength: float
    measure: str
    value: float
    value_low: float | None
    value_high: float | None
    perplexity: float | None
    others: Mapping[str, str] = field(default_factory=dict, hash=False)


def write_causal(rows: Sequence[CausalRow], doses: Sequence[DoseRow], folder: Place) -> None:
    """Write both tables into a results folder."""
    write_rows(rows, folder / FILE, CausalRow)
    write_rows(doses, folder / DOSES, DoseRow)


def read_causal(folder: Place) -> tuple[list[CausalRow], list[DoseRow]]:
    """Both tables of a results folder; none of a study without them.

    Raises:
        BadInput: a cell is missing, or not what its column holds.
    """
    if not (folder / FILE).is_file():
        return [], []
    names = ("model", "method", "source", "target", "measure")
    rows = read_rows(folder / FILE, CausalRow, what="causal figures", needed=(*names, "edit", "before", "change"))
    if not (folder / DOSES).is_file():
        return rows, []
    return rows, read_rows(folder / DOSES, DoseRow, what="doses", needed=(*names, "strength", "value"))
