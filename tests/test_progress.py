"""What a call from Python shows of how far it is: where somebody sees it, and nowhere else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

import repeng
from repeng import progress
from repeng.benchmarks.mini import mini_distributions
from repeng.progress import capture_bar, lines, shown, when_long
from repeng.study.settings import Study


def settings_of(study: Study) -> dict[str, object]:
    return {name: value for name, value in asdict(study).items() if value is not None}


def test_a_study_tells_a_function_how_far_it_is(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, int, int]] = []
    settings = settings_of(study_of(small_world, tmp_path, methods=("mms", "length"), limit=8))
    study = repeng.run(progress=lambda *one: told.append(one), **settings)
    titles = list(dict.fromkeys(what for what, _, _ in told))
    assert titles[0].startswith("capturing (1 of ") and titles[-1] == "evaluations"
    for what in titles:
        counts = [(done, total) for own, done, total in told if own == what]
        assert counts == sorted(counts) and counts[-1][0] == counts[-1][1]
    assert set(study.frame["method"]) == {"mms", "length"}
    assert "evaluations" not in capfd.readouterr().err


def test_a_study_is_quiet_in_a_pipe_and_says_its_notes_to_whoever_listens(
    small_world: Path, study_of: Callable[..., Study], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(study_of(small_world, tmp_path, methods=("length",), limit=8))
    repeng.run(**settings)
    assert caplog.text == ""
    with caplog.at_level(logging.INFO, "repeng"):
        repeng.run(**settings)
    said = [record.getMessage() for record in caplog.records if record.name == "repeng"]
    assert [line for line in said if "read back" in line] == [
        line for line in said if line.startswith("0 evaluations made, ")
    ]
    assert any(line.startswith("caution: targets of fewer than 30 test prompts") for line in said)


def test_bars_and_notes_are_shown_where_they_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    for asked, said in ((None, ""), (False, ""), (True, "work: 1 of 2\na note\n")):
        bar, note = shown(asked)
        with bar("work") as advance:
            advance(1, 2)
            note("a note")
        assert capsys.readouterr() == ("", said)


def test_lines_come_now_and_then() -> None:
    said: list[str] = []
    with lines("work", said.append) as advance:
        for done in range(100):
            advance(done, 100)
    assert said == []


def test_a_bar_for_what_is_long_is_shown_once_it_took_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    said: list[str] = []
    with when_long(lambda what: lines(what, said.append))("work") as advance:
        advance(1, 4)
        clock[0] = 2.0
        advance(4, 4)
        assert said == []
        advance(2, 4)
        advance(3, 4)
    assert said == ["work: 2 of 4", "work: 3 of 4"]


def test_a_function_of_ones_own_is_told_of_a_short_capture_too() -> None:
    told: list[tuple[str, int, int]] = []
    with capture_bar(lambda *one: told.append(one)) as advance:
        advance(3, 3)
    assert told == [("capturing", 3, 3)]


def test_both_captures_tell(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    model = repeng.load_model("mini", device="cpu")
    repeng.capture(model, ["one", "two"], layers=2, progress=lambda *one: told.append(one))
    assert told == [("capturing", 2, 2)]
    facts = mini_distributions(names=("facts",))["facts"]
    repeng.capture(model, [facts], limit=2, store=tmp_path, progress=lambda *one: told.append(one))
    assert told[-1][0] == "capturing" and told[-1][1] == told[-1][2] > 2
