"""The terminal table."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from made_up_study import make_row, make_rows
from rich.console import Console

from repeng.cli.console import Talk
from repeng.report.frames import shift_frame, units_of
from repeng.report.page import Cell, Grid, Line
from repeng.report.tables import UNTOLD, grid_table, study_table
from repeng.report.wide_table import WideTable

ROWS = make_rows({"mms": (0.91, 0.95, 0.49, 0.45), "lat": (0.7, 0.8, 0.2, 0.3), "zero-shot": (0.7, 0.72, 0.5, 0.48)})
METHODS = "mms lat ccs cra logistic lda random zero-shot few-shot lora prompt-tuning length tfidf"
NAMES = METHODS.split()


def text_of(table: WideTable, width: int = 100) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, no_color=True).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_shift_shows_its_accuracies_over_their_intervals() -> None:
    lines = text_of(study_table(ROWS))
    row = next(i for i, line in enumerate(lines) if line.startswith(" easy"))
    assert lines[row].split() == ["easy", ".91", ".70", ".70"]
    assert lines[row + 1].split() == ["→", "hard", ".86-.96", ".65-.75", ".65-.75"]


def test_sections_follow_label_and_category_and_end_with_the_means() -> None:
    lines = text_of(study_table(list(reversed(ROWS))))
    titles = [line.split("·")[0].strip() for line in lines if "·" in line]
    assert titles == ["extreme", "extreme", "probing", "probing"]
    means = {line[:25].strip(): line[25:].split() for line in lines if line.startswith("mean")}
    assert means["mean of extreme"] == [".71", ".75", ".93"]  # zero-shot, lat, mms: as they came
    assert means["mean of all"] == [".60", ".50", ".70"]
    assert means["mean elicitation"] == [".67", ".56", ".78"]


def test_a_frame_of_rows_is_nobody_elses_and_that_of_other_rows_is_another() -> None:
    frame = shift_frame(ROWS)
    frame["accuracy"] = 0.0
    assert shift_frame(ROWS)["accuracy"].min() > 0
    assert shift_frame([replace(row, accuracy=0.25) for row in ROWS])["accuracy"].eq(0.25).all()


@pytest.mark.parametrize("width", [80, 100, 105, 120, 200])
@pytest.mark.parametrize("count", [1, 9, 13])
def test_no_line_is_wider_than_the_terminal_and_no_name_head_or_figure_is_cut(count: int, width: int) -> None:
    lines = text_of(study_table(make_rows({name: (0.91, 0.95, 0.49, 1.0) for name in NAMES[:count]})), width)
    assert max(map(len, lines)) <= width
    assert sum(line.count(" .91") for line in lines) == count
    assert sum(line.count(" .86-.96") for line in lines) == (count if count <= 9 else 0)
    assert sum(line.count(".95-1.00") for line in lines) == (count if count <= 9 else 0)
    heads = [word for line in lines if line.startswith("shift ") for word in line.split()[1:]]
    assert heads == [name.rpartition("-")[2] for name in NAMES[:count]]
    assert not any("…" in line for line in lines)


def test_nine_methods_with_every_mark_fit_105_columns_in_one_block() -> None:
    cells = {"accuracy": 0.97, "accuracy_low": 0.96, "accuracy_high": 1.0, "selectivity": -0.02}
    rows = [make_row(method=name, verdict=UNTOLD[0], fits_disagree=True, n_fits=5, **cells) for name in NAMES[:9]]
    lines = text_of(study_table(rows), 105)
    assert max(map(len, lines)) <= 105 and sum(line.startswith("shift ") for line in lines) == 1
    assert sum(line.count(".97?~") for line in lines) == sum(line.count(".96-1.00") for line in lines) == 9
    assert next(line for line in lines if line.startswith("mean selectivity")).split()[2:] == ["-.02"] * 9


def test_methods_that_do_not_fit_stand_in_even_blocks_that_repeat_the_shifts() -> None:
    rows = make_rows({name: (0.91, 0.95, 0.49, 1.0) for name in NAMES[:9]})
    lines = text_of(study_table(rows), 80)
    starts = [place for place, line in enumerate(lines) if line.startswith("shift ")]
    assert [len(lines[start].split()) - 1 for start in starts] == [5, 4]
    first, second = lines[starts[0] : starts[1]], lines[starts[1] :]
    names = [[line[:24].strip() for line in block if "·" in line or "→" in line] for block in (first, second)]
    assert names[0] == names[1] and len(names[0]) == 8
    assert sum("interval over prompts" in " ".join(block) for block in (first, second)) == 1


def test_a_pipe_gets_every_method_in_one_block() -> None:
    stream = io.StringIO()
    talk = Talk(out=Console(file=stream, width=80))
    talk.result({}, study_table(make_rows({name: (0.91, 0.95, 0.49, 1.0) for name in NAMES})))
    assert sum(line.startswith("shift ") for line in stream.getvalue().splitlines()) == 1


def test_a_figure_has_no_zero_before_its_point_unless_it_is_one() -> None:
    rows = [make_row(accuracy=value, target=f"t{place}") for place, value in enumerate((1.0, 0.996, 0.0, 0.5))]
    lines = text_of(study_table(rows))
    assert [line.split()[1] for line in lines if line.startswith(" easy")] == ["1.00", "1.00", ".00", ".50"]
    assert not re.search(r"\b0\.\d", " ".join(line for line in lines if "chance is" not in line))


def test_other_tables_in_a_narrow_terminal_fold_no_figure_and_read_no_markup_in_a_name() -> None:
    heads = ("distribution", *(f"figure {number}" for number in range(12)))
    table = grid_table("Figures", Grid(heads, (Line("[red]a", (Cell("0.123"),) * 12),)))
    lines = text_of(table, 60)
    assert max(map(len, lines)) <= 60 and sum(line.count("0.123") for line in lines) == 12
    assert sum(line.count("figure ") for line in lines) == 12 and any("[red]a" in line for line in lines)


def test_several_models_share_a_shift_line_by_line() -> None:
    rows = ROWS + make_rows({"mms": (0.6, 0.6, 0.6, 0.6)}, model="org/small")
    lines = text_of(study_table(rows))
    start = next(i for i, line in enumerate(lines) if line.startswith(" easy"))
    assert [line.split()[0] for line in lines[start : start + 6 : 2]] == ["easy", "tiny", "small"]
    assert lines[start + 4].split() == ["small", ".60", "-", "-"]


def test_what_was_not_measured_is_a_dash_and_leaves_the_means_alone() -> None:
    rows = [make_row(accuracy=0.8, target="a"), make_row(accuracy=None, target="b")]
    lines = text_of(study_table(rows))
    assert any(line.startswith("mean of all") and line.endswith(" .80") for line in lines)
    assert not any("elicitation" in line for line in lines)


def test_what_no_test_tells_and_what_hangs_on_the_fit_is_marked() -> None:
    told = make_row(accuracy=0.9, method="mms", verdict="above chance", n_fits=5, fits_disagree=False)
    untold = make_row(accuracy=0.52, method="lat", verdict="no better than its null", n_fits=5, fits_disagree=True)
    lines = text_of(study_table([told, untold]))
    assert any(line.split()[1:3] == [".90", ".52?~"] for line in lines if line.startswith(" easy"))
    assert "? no better than its null or than chance; ~ fits disagree" in " ".join(lines)
    assert "prompts and fits" in " ".join(lines)
    assert "?" not in " ".join(text_of(study_table([replace(told, n_fits=1)])))


def test_the_mean_selectivity_stands_under_the_means() -> None:
    lines = text_of(study_table([make_row(accuracy=0.9, selectivity=0.4), make_row(method="lat", accuracy=0.9)]))
    assert next(line for line in lines if line.startswith("mean selectivity")).split()[-2:] == [".40", "-"]


def test_intervals_are_over_groups_where_some_accuracies_are_of_texts() -> None:
    assert units_of([]) == units_of(["pair accuracy"]) == "prompts"
    assert units_of(["auroc"]) == units_of(["pair accuracy", "auroc"]) == "groups"
