"""The terminal table and the sentence under it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from made_up_study import make_row, make_rows
from rich.console import Console
from rich.table import Table

from repeng.report.tables import study_table, summary_sentence

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


def test_the_sentence_names_the_highest_mean_of_each_label_with_its_spread_and_what_zero_shot_does() -> None:
    assert summary_sentence(ROWS) == (
        "On extreme shifts mms has the highest of 2 mean accuracies, 0.93 (2 shifts from 0.91 to 0.95; intervals: 2 "
        "above chance, 0 below; zero-shot 0.60); on probing shifts mms has the highest of 2 mean accuracies, 0.47 "
        "(2 shifts from 0.45 to 0.49; intervals: 0 above chance, 0 below; zero-shot 0.60); "
        "2 of the 8 intervals of fitted methods lie wholly below chance."
    )


def test_shifts_far_from_chance_are_not_called_chance_by_their_mean() -> None:
    sentence = summary_sentence(make_rows({"mms": (0.0, 0.95, 0.5, 0.5)}))
    assert "0.47 (2 shifts from 0.00 to 0.95; intervals: 1 above chance, 1 below" in sentence
    assert "at chance" not in sentence and "generalis" not in sentence


def test_the_sentence_follows_the_figures() -> None:
    good = make_rows({"mms": (0.9, 0.9, 0.9, 0.9)})
    assert "on probing shifts mms has a mean accuracy of 0.90 (2 shifts from 0.90 to 0.90;" in summary_sentence(good)
    assert summary_sentence([make_row(accuracy=0.3)]) == "On all shifts mms has a mean accuracy of 0.30 (1 shift)."
    assert summary_sentence([make_row(accuracy=None)]) == "No accuracy was measured."
    assert summary_sentence([]) == "No accuracy was measured."


def test_a_study_of_baselines_alone_still_has_a_sentence() -> None:
    assert "zero-shot has a mean accuracy of 0.80" in summary_sentence([make_row(method="zero-shot", accuracy=0.8)])


def test_a_method_competes_by_its_kind_and_not_by_its_name() -> None:
    mms = make_row(accuracy=0.6)
    plugin = make_row(method="zero-shot-calibrated", accuracy=0.7, kind="plugin")
    asked = make_row(method="asked-kindly", accuracy=0.9, kind="prompted")
    assert "zero-shot-calibrated has the highest of 2 mean accuracies, 0.70" in summary_sentence([mms, plugin, asked])
    assert "mms has a mean accuracy of 0.60" in summary_sentence([mms, asked])
    assert "mms has a mean accuracy of 0.60" in summary_sentence([mms, replace(plugin, kind="prompted")])
