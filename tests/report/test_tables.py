"""The terminal table."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from made_up_study import make_row, make_rows
from rich.console import Console
from rich.table import Table

from repeng.report.frames import units_of
from repeng.report.tables import study_table

ROWS = make_rows({"mms": (0.91, 0.95, 0.49, 0.45), "lat": (0.7, 0.8, 0.2, 0.3), "zero-shot": (0.7, 0.72, 0.5, 0.48)})
METHODS = "mms lat ccs cra logistic lda random zero-shot few-shot lora prompt-tuning length tfidf"
NAMES = METHODS.split()


def text_of(table: Table, width: int = 100) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, no_color=True).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_shift_shows_its_accuracies_over_their_intervals() -> None:
    lines = text_of(study_table(ROWS))
    row = next(i for i, line in enumerate(lines) if line.startswith(" easy"))
    assert lines[row].split() == ["easy", "0.91", "0.70", "0.70"]
    assert lines[row + 1].split() == ["→", "hard", ".86-.96", ".65-.75", ".65-.75"]


def test_sections_follow_label_and_category_and_end_with_the_means() -> None:
    lines = text_of(study_table(list(reversed(ROWS))))
    titles = [line.split("·")[0].strip() for line in lines if "·" in line]
    assert titles == ["extreme", "extreme", "probing", "probing"]
    means = {line[:25].strip(): line[25:].split() for line in lines if line.startswith("mean")}
    assert means["mean of extreme"] == ["0.71", "0.75", "0.93"]  # zero-shot, lat, mms: as they came
    assert means["mean of all"] == ["0.60", "0.50", "0.70"]
    assert means["mean elicitation"] == ["0.67", "0.56", "0.78"]


@pytest.mark.parametrize("count", [1, 9, 13])
def test_no_line_is_longer_than_100_and_no_figure_is_cut(count: int) -> None:
    lines = text_of(study_table(make_rows({name: (0.91, 0.95, 0.49, 1.0) for name in NAMES[:count]})))
    assert max(map(len, lines)) <= 100
    assert sum(line.count("0.91") for line in lines) == count
    assert sum(line.count(".86-.96") for line in lines) == (count if count <= 9 else 0)


def test_several_models_share_a_shift_line_by_line() -> None:
    rows = ROWS + make_rows({"mms": (0.6, 0.6, 0.6, 0.6)}, model="org/small")
    lines = text_of(study_table(rows))
    start = next(i for i, line in enumerate(lines) if line.startswith(" easy"))
    assert [line.split()[0] for line in lines[start : start + 6 : 2]] == ["easy", "tiny", "small"]
    assert lines[start + 4].split() == ["small", "0.60", "-", "-"]


def test_what_was_not_measured_is_a_dash_and_leaves_the_means_alone() -> None:
    rows = [make_row(accuracy=0.8, target="a"), make_row(accuracy=None, target="b")]
    lines = text_of(study_table(rows))
    assert any(line.startswith("mean of all") and line.endswith("0.80") for line in lines)
    assert not any("elicitation" in line for line in lines)


def test_what_no_test_tells_and_what_hangs_on_the_fit_is_marked() -> None:
    told = make_row(accuracy=0.9, method="mms", verdict="above chance", n_fits=5, fits_disagree=False)
    untold = make_row(accuracy=0.52, method="lat", verdict="no better than its null", n_fits=5, fits_disagree=True)
    lines = text_of(study_table([told, untold]))
    assert any(line.split()[1:3] == ["0.90", "0.52?~"] for line in lines if line.startswith(" easy"))
    assert "? no better than its null or than chance; ~ fits disagree" in " ".join(lines)
    assert "prompts and fits" in " ".join(lines)
    assert "?" not in " ".join(text_of(study_table([replace(told, n_fits=1)])))


def test_the_mean_selectivity_stands_under_the_means() -> None:
    lines = text_of(study_table([make_row(accuracy=0.9, selectivity=0.4), make_row(method="lat", accuracy=0.9)]))
    assert next(line for line in lines if line.startswith("mean selectivity")).split()[-2:] == ["0.40", "-"]


def test_intervals_are_over_groups_where_some_accuracies_are_of_texts() -> None:
    assert units_of([]) == units_of(["pair accuracy"]) == "prompts"
    assert units_of(["auroc"]) == units_of(["pair accuracy", "auroc"]) == "groups"
