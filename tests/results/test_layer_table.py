"""layers.csv: written and read back to the last bit, and refused where it is damaged."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from repeng.errors import BadInput
from repeng.results import LayerFigure, LayerRow, layer_rows, read_layers, write_layers

FIGURES = [
    LayerFigure(0, None, 0.1 + 0.2, None, None, 0.5),
    LayerFigure(1, None, 2 / 3, 0.5, 0.75, 1.0),
    LayerFigure(2, None, 2 / 3, 0.5, 0.75, 1.0, chosen_share=0.4, tied_share=1.0, n_pairs=12, n_prompts=6),
]
ROWS = layer_rows(FIGURES, model="org/m", probe="mms", source='a,"b"', target="t")


def test_of_equal_accuracies_the_first_is_the_oracle() -> None:
    assert [row.oracle for row in ROWS] == [False, True, False]


def test_a_layer_is_chosen_where_one_fit_chose_it() -> None:
    assert [row.chosen for row in ROWS] == [False, False, True] and ROWS[2].chosen_share == 0.4


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    heads = layer_rows([LayerFigure(3, 0, 0.5, 0.4, 0.6, 0.5, n_texts=9)], model="m", probe="p", source="s", target="t")
    write_layers(ROWS + heads, tmp_path / "layers.csv")
    assert read_layers(tmp_path / "layers.csv") == ROWS + heads


def test_columns_of_others_are_kept(tmp_path: Path) -> None:
    write_layers(ROWS, tmp_path / "layers.csv")
    lines = (tmp_path / "layers.csv").read_text().splitlines()
    text = "".join(f"{cell},{line}\n" for cell, line in zip(["seconds", "1.50", "2", ""], lines, strict=True))
    (tmp_path / "theirs.csv").write_text(text)
    found = read_layers(tmp_path / "theirs.csv")
    assert [replace(row, others={}) for row in found] == ROWS
    write_layers(found, tmp_path / "again.csv")
    again = (tmp_path / "again.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in again] == ["seconds", "1.50", "2", ""]


def test_rows_are_what_a_reader_of_one_cell_after_the_other_makes(tmp_path: Path) -> None:
    text = (
        "note,target,source,probe,model,oracle,chosen,layer,head,accuracy,held_out_accuracy,accuracy_low\n"
        'x, t ,"a,""b""",mms,m,True, False ,3, ,0.30000000000000004,1e-3,\n'
        " y ,t,s,lat,,False,True,12, 4 ,1,0.5, 0.25\n"
    )
    (tmp_path / "layers.csv").write_text(text)
    wanted = []
    for cells in csv.DictReader(io.StringIO(text)):
        known = {name: cell.strip() for name, cell in cells.items()}
        wanted.append(
            LayerRow(
                *(cells[name] for name in ("model", "probe", "source", "target")),
                layer=int(known["layer"]),
                head=int(known["head"]) if known["head"] else None,
                accuracy=float(known["accuracy"]),
                accuracy_low=float(known["accuracy_low"]) if known["accuracy_low"] else None,
                accuracy_high=None,
                held_out_accuracy=float(known["held_out_accuracy"]),
                chosen=known["chosen"] == "True",
                oracle=known["oracle"] == "True",
                others={"note": cells["note"]},
            )
        )
    assert read_layers(tmp_path / "layers.csv") == wanted


@pytest.mark.parametrize("damage", ["layer,accuracy\n1,0.5\n", "model,probe\n\x00,\n"])
def test_a_table_of_something_else_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "layers.csv").write_text(damage)
    with pytest.raises(BadInput, match="not a table of layers"):
        read_layers(tmp_path / "layers.csv")


def test_a_cell_that_is_no_figure_is_refused(tmp_path: Path) -> None:
    write_layers(ROWS, tmp_path / "layers.csv")
    text = (tmp_path / "layers.csv").read_text()
    (tmp_path / "layers.csv").write_text(text.replace("True", "perhaps"))
    with pytest.raises(BadInput, match="not a table of layers"):
        read_layers(tmp_path / "layers.csv")
