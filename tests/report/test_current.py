"""What was made of a results folder, and whether it still is what would be made of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made_up_study import write_study

from repeng.places import Place, place
from repeng.report import compared_studies, contradictions, current, html
from repeng.report.compare import compare_results
from repeng.report.contradictions import settle
from repeng.report.current import hash_of, is_current, is_settled, mark_settled
from repeng.report.html import write_report
from repeng.report.predictions import predictions_from, read_predictions
from repeng.results import read_results

ACCURACIES = {"mms": (0.9, 0.8, 0.6, 0.4), "zero-shot": (0.6, 0.6, 0.6, 0.6)}


def changed(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" ")


def test_a_table_is_held_against_its_predictions_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path, ACCURACIES)
    table = place(tmp_path) / "results.csv"
    stated, predictions = read_results(table), read_predictions(tmp_path)
    settled, found = settle(stated, predictions, table)
    assert not is_settled(table)
    mark_settled(table)
    assert is_settled(table)
    monkeypatch.setattr(contradictions, "_derive", None)
    assert settle(stated, predictions, table) == (stated, found)
    prediction = next((tmp_path / "predictions").glob("*/*/*.json"))
    changed(prediction)
    assert not is_settled(table)
    with pytest.raises(TypeError):
        settle(stated, predictions, table)
    assert [row.accuracy for row in settled] == [row.accuracy for row in stated]


def test_a_page_is_current_until_a_file_that_it_is_made_of_changes(tmp_path: Path) -> None:
    distributions = write_study(tmp_path, ACCURACIES)
    page = write_report(tmp_path)
    assert is_current(page, tmp_path)
    assert not is_current(page, tmp_path, with_texts=True)
    write_report(tmp_path, distributions=distributions)
    assert is_current(page, tmp_path, with_texts=True)
    for file in (tmp_path / "results.csv", next((tmp_path / "predictions").glob("*/*/*.json"))):
        before = file.read_bytes()
        changed(file)
        assert not is_current(page, tmp_path)
        file.write_bytes(before)
        assert is_current(page, tmp_path)
    (tmp_path / "report-paper").rename(tmp_path / "elsewhere")
    assert not is_current(page, tmp_path)


def test_the_files_of_a_page_are_hashed_once_and_a_file_changed_meanwhile_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path, ACCURACIES)
    table, taken = place(tmp_path) / "results.csv", []

    def counted(file: Place) -> str:
        taken.append(hash_of(file))
        return taken[-1]

    def read_then_changed(*given: Any, **options: Any) -> Any:
        found = read_predictions(*given, **options)
        changed(next((tmp_path / "predictions").glob("*/*/*.json")))
        return found

    monkeypatch.setattr(html, "hash_of", counted)
    monkeypatch.setattr(current, "hash_of", counted)
    monkeypatch.setattr(html, "read_predictions", read_then_changed)
    write_report(tmp_path)
    assert len(taken) == 1
    assert not is_settled(table) and not is_current(place(tmp_path) / "report.html", place(tmp_path))


def test_what_is_shown_of_a_marked_study_is_the_same_without_the_scores_of_its_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributions = write_study(tmp_path, ACCURACIES)
    table = place(tmp_path) / "results.csv"
    asked: list[bool] = []

    def noted(*given: Any, scored: bool = True, **options: Any) -> Any:
        asked.append(scored)
        return read_predictions(*given, scored=scored, **options)

    monkeypatch.setattr(html, "read_predictions", noted)
    monkeypatch.setattr(compared_studies, "read_predictions", noted)
    compared, pages = [], []
    for marked in (False, True):
        table.with_name(".checked").unlink(missing_ok=True)
        if marked:
            mark_settled(table)
        compared.append(compare_results([place(tmp_path)]).as_dict())
        page = write_report(tmp_path, tmp_path / f"{marked}" / "page.html", distributions=distributions)
        pages.append(re.sub("gradient_[0-9]+", "gradient", page.read_text(encoding="utf-8")))
    assert asked == [True, True, False, False]
    assert compared[0] == compared[1] and pages[0] == pages[1]
    damaged = next((tmp_path / "predictions").glob("*/*/*.json"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    compare_results([place(tmp_path)])
    assert asked[-1]


def test_a_page_made_of_predictions_in_memory_is_the_one_that_is_made_of_the_files(tmp_path: Path) -> None:
    distributions = write_study(tmp_path, ACCURACIES)
    predictions = read_predictions(tmp_path)
    held = predictions_from({key: one.evaluation for key, one in predictions.items()})
    one = write_report(tmp_path, tmp_path / "one" / "page.html", distributions=distributions)
    other = write_report(tmp_path, tmp_path / "other" / "page.html", distributions=distributions, predictions=held)
    # Charts drawn before in one process number their gradients.
    pages = [page.read_text(encoding="utf-8") for page in (one, other)]
    numbered = [page.replace("gradient_1", "gradient_0") for page in pages]
    assert numbered[0].splitlines()[-50:] == numbered[1].splitlines()[-50:]
    assert len(numbered[0]) == pytest.approx(len(numbered[1]), abs=20)
