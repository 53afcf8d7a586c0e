"""Fits that disagree, nulls and ties between layers in the report."""

from __future__ import annotations

import numpy as np
from made_up_study import make_row

from repeng.metrics import Evaluation
from repeng.report.fit_section import fit_pictures, tie_table
from repeng.report.frames import shift_frame
from repeng.report.predictions import Prediction


def predicted(method: str, source: str, target: str, evaluation: Evaluation) -> dict[tuple[str, ...], Prediction]:
    one = Prediction("tiny", method, source, target, evaluation)
    return {one.key: one}


def of_fits(*accuracies: float, **nulls: np.ndarray) -> Evaluation:
    wins = np.arange(100)[None] < 100 * np.array(accuracies)[:, None]
    return Evaluation.of_fits(np.where(wins, 0.9, 0.1), group=np.arange(100), **nulls)


def test_results_whose_fits_disagree_are_shown_fit_by_fit_the_widest_first() -> None:
    rows = [
        make_row(accuracy=0.5, method="cra", fits_disagree=True, fit_lowest=0.4, fit_highest=0.6, n_fits=2),
        make_row(accuracy=0.5, method="ccs", fits_disagree=True, fit_lowest=0.0, fit_highest=1.0, n_fits=2),
        make_row(accuracy=0.9, method="mms", fits_disagree=False, fit_lowest=0.9, fit_highest=0.9, n_fits=2),
    ]
    known = predicted("cra", "easy", "hard", of_fits(0.4, 0.6)) | predicted("ccs", "easy", "hard", of_fits(1.0, 0.0))
    (picture,) = fit_pictures(shift_frame(rows), known)
    assert [line.name for line in picture.table.rows] == ["ccs: easy → hard", "cra: easy → hard"]
    assert picture.table.rows[0].cells[1].text == "0.00, 1.00"
    assert picture.chart.to_dict()["layer"]


def test_a_probes_null_stands_beside_its_accuracy_on_its_source() -> None:
    nulls = {
        "shuffled": np.array([0.45, 0.55]),
        "unlabelled": np.array([0.1, 0.9]),
        "random": np.array([0.5, 0.7, 0.9]),
    }
    known = predicted("mms", "easy", "easy", of_fits(0.9, 0.92, **nulls))
    (picture,) = fit_pictures(shift_frame([make_row(accuracy=0.8), make_row(accuracy=0.5, method="length")]), known)
    (line,) = picture.table.rows
    assert line.name == "mms: easy"
    assert [(cell.text, cell.interval) for cell in line.cells] == [
        ("0.910", ""),
        ("0.500", "0.450–0.550"),
        ("0.700", "0.500–0.900"),
    ]


def test_ties_that_change_little_are_left_out_and_the_widest_comes_first() -> None:
    tied = {"tied_layers": "1 2", "tied_lowest": 0.5, "layers": "1"}
    rows = [
        make_row(accuracy=0.5, target="a", **tied, tied_highest=0.6),
        make_row(accuracy=0.5, target="b", **tied, tied_highest=0.9),
        make_row(accuracy=0.5, target="c", **tied, tied_highest=0.52),
        make_row(accuracy=0.5, target="d"),
    ]
    table = tie_table(shift_frame(rows))
    assert [line.name for line in table.rows] == ["mms: easy → b", "mms: easy → a"]
    assert tie_table(shift_frame(rows[2:])) is None


def test_a_study_of_one_fit_has_none_of_these() -> None:
    frame = shift_frame([make_row(accuracy=0.8)])
    assert fit_pictures(frame, predicted("mms", "easy", "easy", of_fits(0.9))) == [] and tie_table(frame) is None
