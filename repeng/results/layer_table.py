"""The table of layers: how a probe does at every layer, alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from repeng.atomic import write_atomically
from repeng.errors import BadInput


@dataclass(frozen=True)
class LayerFigure:
    """A probe at one layer, and one head where the site has heads, on one target.

    Attributes:
        held_out_accuracy: of the same layer and head on held-out prompts of the source.
    """

    layer: int
    head: int | None
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    held_out_accuracy: float


@dataclass(frozen=True)
class LayerRow:
    """One row of layers.csv, and of `repeng sweep`; fields are the columns, in order.

    Attributes:
        chosen: the source alone chose this layer and head.
        oracle: the target's labels would have; no method may use it.
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


COLUMNS = tuple(field.name for field in fields(LayerRow))


def layer_rows(
    figures: Sequence[LayerFigure], chosen: Sequence[bool], *, model: str, probe: str, source: str, target: str
) -> list[LayerRow]:
    """The rows of one probe on one target; of equal accuracies the oracle is the first."""
    best = max(range(len(figures)), key=lambda place: (figures[place].accuracy, -place))
    names: dict[str, Any] = {"model": model, "probe": probe, "source": source, "target": target}
    return [
        LayerRow(**names, **asdict(figure), chosen=mark, oracle=place == best)
        for place, (figure, mark) in enumerate(zip(figures, chosen, strict=True))
    ]


def write_layers(rows: Sequence[LayerRow], path: Path) -> None:
    """Write a table of layers atomically; figures to the last bit, blanks as nothing between commas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if value is None else value for value in asdict(row).values()] for row in rows)
    write_atomically(path, text.getvalue())


def read_layers(path: Path) -> list[LayerRow]:
    """Read a table of layers. Columns may stand in any order; others than ours are passed over.

    Raises:
        BadInput: there is no such file, or a cell is missing or not what its column holds.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [_row(cells) for cells in csv.DictReader(file)]
    except OSError as error:
        raise BadInput(f"{path}: cannot read the layers: {error.strerror}; give a study's layers.csv") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise BadInput(f"{path}: not a table of layers ({error!r}); run the study again") from error


def _row(cells: dict[str, Any]) -> LayerRow:
    names: dict[str, Any] = {name: cells[name] for name in COLUMNS[:4]}
    marks: dict[str, Any] = {name: {"True": True, "False": False}[cells[name]] for name in COLUMNS[-2:]}
    return LayerRow(
        **names,
        **marks,
        layer=int(cells["layer"]),
        head=int(cells["head"]) if cells["head"] else None,
        accuracy=float(cells["accuracy"]),
        accuracy_low=float(cells["accuracy_low"]) if cells["accuracy_low"] else None,
        accuracy_high=float(cells["accuracy_high"]) if cells["accuracy_high"] else None,
        held_out_accuracy=float(cells["held_out_accuracy"]),
    )
