"""The table of layers: how a probe does at every layer, alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import with_config

from repeng.places import Place
from repeng.results.csv_table import read_rows, write_rows


@dataclass(frozen=True)
class LayerFigure:
    """A probe at one layer, and one head where the site has heads, on one target.

    Of a probe that was fitted several times every figure is the mean over fits.

    Attributes:
        held_out_accuracy: of the same layer and head on held-out prompts of the source.
        chosen_share: of the fits, those that chose it.
        tied_share: of the fits, those in which no layer has a higher held-out accuracy.
        n_pairs: pairs scored; None of labelled texts, whose number is `n_texts`.
        n_prompts: prompt groups among them, over which the interval is.
    """

    layer: int
    head: int | None
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    held_out_accuracy: float
    chosen_share: float = 0.0
    tied_share: float = 0.0
    n_pairs: int | None = None
    n_texts: int | None = None
    n_prompts: int | None = None


@with_config(allow_inf_nan=False)
@dataclass(frozen=True)
class LayerRow:
    """One row of layers.csv, and of `repeng sweep`; fields are the columns, in order.

    Attributes:
        chosen: the source alone chose this layer and head, in one fit at the least.
        chosen_share: of the fits, those that chose it; None in tables of earlier versions, as is `tied_share`.
        tied_share: of the fits, those in which no layer has a higher held-out accuracy.
        oracle: the target's labels would have; no method may use it.
        figure: what the accuracies on the target are, as in results.csv; empty in tables of earlier versions, of pairs.
        n_pairs: pairs scored; None of labelled texts, whose number is `n_texts`, and in tables of earlier versions.
        n_prompts: prompt groups among them, over which the interval is; None in tables of earlier versions.
        others: cells of columns that are none of ours, as text.
    """

    model: str
    probe: str
    source: str
    target: str
    layer: int
    head: int | None
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    held_out_accuracy: float
    chosen: bool
    oracle: bool
    chosen_share: float | None = None
    tied_share: float | None = None
    figure: str = ""
    n_pairs: int | None = None
    n_texts: int | None = None
    n_prompts: int | None = None
    others: Mapping[str, str] = field(default_factory=dict, hash=False)


def layer_rows(
    figures: Sequence[LayerFigure], *, model: str, probe: str, source: str, target: str, figure: str = ""
) -> list[LayerRow]:
    """The rows of one probe on one target; of equal accuracies the oracle is the first."""
    best = max(range(len(figures)), key=lambda place: (figures[place].accuracy, -place))
    names: dict[str, Any] = {"model": model, "probe": probe, "source": source, "target": target, "figure": figure}
    return [
        LayerRow(**names, **asdict(one), chosen=one.chosen_share > 0, oracle=place == best)
        for place, one in enumerate(figures)
    ]


def write_layers(rows: Sequence[LayerRow], path: Place) -> None:
    """Write a table of layers atomically; figures to the last bit, blanks as nothing between commas."""
    write_rows(rows, path, LayerRow)


def read_layers(path: Place) -> list[LayerRow]:
    """Read a table of layers by column names. Columns that are none of ours are kept.

    Raises:
        BadInput: there is no such file, or a cell is missing or not what its column holds.
    """
    needed = ("model", "probe", "source", "target", "layer", "accuracy", "held_out_accuracy", "chosen", "oracle")
    return read_rows(path, LayerRow, what="layers", needed=needed)
