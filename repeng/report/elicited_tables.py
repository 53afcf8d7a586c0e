"""The tables of `repeng compare --question elicited`: cosines of directions under two stimuli, and shared mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repeng.metrics import holm, mean_of_draws
from repeng.report.answer import Row
from repeng.report.compared_studies import ComparedMethod
from repeng.results.verdicts import LEVEL

if TYPE_CHECKING:
    from repeng.study.stimulus_cosines import CosineFigure, StimulusCosines, StimulusPair


HIGHER, LOWER, UNTOLD = "higher", "lower", "cannot be told"
"""What a cosine is, held against those of shuffled labels."""


@dataclass(frozen=True)
class AskedPair:
    """A probe under two stimuli in one study.

    Attributes:
        study: its name; empty where there is one study.
        pair: the two methods.
        cosines: what their directions have in common, by source.
        methods: their evaluations: of pairs, of labelled texts, or of both.
    """

    study: str
    pair: StimulusPair
    cosines: tuple[StimulusCosines, ...]
    methods: tuple[tuple[ComparedMethod, ComparedMethod], ...]

    @property
    def title(self) -> str:
        """The probe, and the study where there are several."""
        return self.pair.title + (f" of {self.study}" if self.study else "")

    @property
    def names(self) -> Row:
        """What names it in every table."""
        study = {"study": self.study} if self.study else {}
        return {"method": self.pair.title, "stimuli": " / ".join(self.pair.stimuli), **study}

    def own(self, rows: Iterable[Row]) -> list[Row]:
        """The rows of a table that are its own."""
        return [row for row in rows if all(row.get(name) == value for name, value in self.names.items())]


def direction_rows(one: AskedPair) -> list[Row]:
    """A row a source: the cosine at the layers that both methods choose. Holm's p is over these sources."""
    rows = []
    for found in one.cosines:
        names = {**one.names, "source": found.source, "layers": " ".join(map(str, found.chosen_layers))}
        rows.append({**names, **_figures(found.chosen), "against_shuffled": found.missing or UNTOLD})
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
        if adjusted < LEVEL:
            row["against_shuffled"] = HIGHER if row["cosine"] > row["shuffled"] else LOWER
    return rows


def mean_row(one: AskedPair, rows: Sequence[Row]) -> Row | None:
    """Over sources: the mean cosine, that of shuffled labels, and their difference; None where no source has one.

    Args:
        one: the pair.
        rows: its `direction_rows`.
    """
    known = [row for row in rows if row["cosine"] is not None]
    if not known:
        return None
    found = mean_of_draws([row["cosine"] - row["shuffled"] for row in known])
    count = len(known)
    return {
        **one.names,
        "sources": count,
        "cosine": sum(row["cosine"] for row in known) / count,
        "shuffled": sum(row["shuffled"] for row in known) / count,
        "difference": found.value,
        "difference_low": found.low,
        "difference_high": found.high,
        "p": found.p,
        **{kind: sum(row["against_shuffled"] == kind for row in known) for kind in (HIGHER, LOWER)},
    }


def layer_rows(one: AskedPair) -> list[Row]:
    """A row a source and layer: the same at every layer, without Holm's p."""
    rows = []
    for found in one.cosines:
        for layer, figure in found.layers:
            figures = {name: value for name, value in _figures(figure).items() if name != "p_holm"}
            chosen = "yes" if layer in found.chosen_layers else "no"
            rows.append({**one.names, "source": found.source, "layer": layer, "chosen": chosen, **figures})
    return rows


def _figures(figure: CosineFigure | None) -> Row:
    """A figure's columns, blank where there is none."""
    nothing = (None, None)
    return {
        "cosine": figure and figure.cosine,
        "sd_over_fits": figure and figure.over_fits,
        "fits_alike": figure and figure.between_fits[0],
        "other_fits_alike": figure and figure.between_fits[1],
        "shuffled": figure and figure.shuffled,
        "shuffled_low": (figure.shuffled_ends if figure else nothing)[0],
        "shuffled_high": (figure.shuffled_ends if figure else nothing)[1],
        "p": figure and figure.p,
        "p_holm": None,
        "random": figure and figure.random,
        "random_expected": figure and figure.random_expected,
        "like_activations": figure and figure.spread,
        "like_activations_low": (figure.spread_ends if figure else nothing)[0],
        "like_activations_high": (figure.spread_ends if figure else nothing)[1],
        "p_like_activations": figure and figure.p_spread,
    }
