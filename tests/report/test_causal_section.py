"""The report's causal part: what it says, and what it draws."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from repeng.distributions.schema import Shift
from repeng.errors import BadInput, UnknownName
from repeng.places import place
from repeng.report.causal_section import causal_section, dose_chart
from repeng.report.causal_sentences import causal_sentences
from repeng.report.study import StudyResults
from repeng.results import ADD, LEACE, PREFERENCE, REMOVE, VERDICT, VERDICT_GAP, CausalRow, DoseRow, ResultRow, row_from
from repeng.results.causal_table import ACCURACY, read_causal, write_causal

MEASURES = (PREFERENCE, ACCURACY, VERDICT, VERDICT_GAP)
ROW = CausalRow(
    model="mini",
    method="mms",
    layers="4",
    source="facts",
    target="facts",
    edit=ADD,
    measure=VERDICT,
    before=-4.0,
    change=4.5,
    change_low=3.0,
    change_high=6.0,
    change_p=0.001,
    random_low=-2.0,
    random_high=2.5,
    random_p=0.002,
    shuffled_low=-6.0,
    shuffled_high=7.0,
    shuffled_p=0.4,
    p=0.008,
    perplexity=1.2,
    perplexity_low=1.1,
    perplexity_high=1.3,
    conclusion="moves it as shuffled labels do",
    n_pairs=40,
    n_prompts=30,
    n_fits=5,
    n_random=20,
    n_shuffled=20,
)


def rows_of(method: str, target: str, conclusion: str) -> list[CausalRow]:
    found = []
    for edit in (ADD, REMOVE, LEACE):
        for measure in MEASURES:
            tested = (edit, measure) in ((ADD, PREFERENCE), (ADD, VERDICT), (REMOVE, PREFERENCE), (REMOVE, VERDICT_GAP))
            first = (edit, measure) == (ADD, VERDICT) and conclusion.startswith("moves")
            changes = (
                {} if first else {"change": 0.1, "change_low": -0.5, "change_high": 0.7, "p": 1.0 if tested else None}
            )
            names = {"method": method, "target": target, "edit": edit, "measure": measure, "conclusion": conclusion}
            found.append(replace(ROW, **names, **changes))  # type: ignore[arg-type]
    return found


def doses_of(method: str, target: str) -> list[DoseRow]:
    return [
        DoseRow(
            "mini", method, "facts", target, strength, measure, strength, strength - 1, strength + 1, math.exp(strength)
        )
        for strength in (-1.0, 0.0, 1.0, 2.0)
        for measure in MEASURES
    ]


def results_row(method: str, **figures: float) -> ResultRow:
    """A row of results.csv from facts to myths."""
    return replace(row_from(None, model="mini", method=method, layers="4", shift=Shift("facts", "myths")), **figures)


@pytest.fixture
def rows() -> list[CausalRow]:
    return [*rows_of("mms", "facts", "moves it as shuffled labels do"), *rows_of("lat", "myths", "bystander")]


def test_each_target_has_its_conclusion_and_its_grounds(rows: list[CausalRow]) -> None:
    first, second = causal_sentences(rows)
    assert first.where == "mms: facts" and second.where == "lat: facts → myths"
    assert first.conclusion == "moves the answer, but no further than the probe fitted on shuffled labels does"
    assert (
        "added, it moves the verdict on all responses by +4.50 nats (3.00 to 6.00; random directions -2.00 to 2.50)"
        in (first.grounds)
    )
    assert first.grounds.endswith(
        "perplexity 1.20 times its own added (1.10 to 1.30), 1.20 times its own taken away (1.10 to 1.30)"
    )
    of_sign = [replace(row, n_shuffled=0) for row in rows_of("lat", "facts", "moves it as shuffled labels do")]
    assert causal_sentences(of_sign)[0].conclusion.endswith("labels set the sign alone")
    assert second.conclusion.startswith("bystander") and "it moves" not in second.grounds


def test_the_section_has_a_line_a_target_and_stars_what_moved(rows: list[CausalRow]) -> None:
    known = results_row("lat", accuracy=0.75, source_id_accuracy=0.9)
    section = causal_section(rows, [*doses_of("mms", "facts"), *doses_of("lat", "myths")], [known])
    assert section is not None
    first, second = section.table.rows
    assert first.name == "mms: facts" and first.cells[0].text == "moves it as shuffled labels do"
    assert [cell.text for cell in first.cells[3:5]] == ["+4.50*", "+0.10"]
    assert not any("*" in cell.text for cell in second.cells)
    assert section.table.columns[3] == "accuracy" and first.cells[2].text == "–" and second.cells[2].text == "0.750"
    (picture,) = section.pictures
    assert picture.title == "Doses: mms" and [one.title for one in picture.more] == ["Doses: lat"]
    assert [cell.text for cell in picture.table.rows[0].cells] == ["-1.00", "0.00", "1.00", "2.00"]


def test_without_causal_figures_there_is_no_section() -> None:
    assert causal_section([], []) is None


def test_a_probe_of_several_sources_and_targets_is_drawn(rows: list[CausalRow]) -> None:
    doses = [*doses_of("mms", "facts"), *doses_of("mms", "myths")]
    doses += [replace(row, source="words") for row in doses]
    spec = dose_chart(doses, rows[:4]).to_dict()
    assert [len(row["hconcat"]) for row in spec["vconcat"]] == [3, 3]


def test_tables_come_back_as_they_were_written(rows: list[CausalRow], tmp_path: Path) -> None:
    doses = doses_of("mms", "facts")
    blank = replace(rows[0], shuffled_p=None, shuffled_low=None, shuffled_high=None, perplexity=None, n_prompts=None)
    write_causal([blank, *rows], doses, place(tmp_path))
    assert read_causal(place(tmp_path)) == ([blank, *rows], doses)
    assert read_causal(place(tmp_path / "none")) == ([], [])


def test_a_study_in_a_notebook_has_its_causal_figures(rows: list[CausalRow], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no causal figures; run the study again with --causal"):
        _ = StudyResults(place(tmp_path)).causal
    write_causal(rows, doses_of("mms", "facts"), place(tmp_path))
    study = StudyResults(place(tmp_path))
    assert len(study.causal) == len(rows) and set(study.doses["strength"]) == {-1.0, 0.0, 1.0, 2.0}
    assert study.dose_curves("mms").to_dict()["vconcat"]
    with pytest.raises(UnknownName, match="probe of doses.csv"):
        study.dose_curves("lat")
