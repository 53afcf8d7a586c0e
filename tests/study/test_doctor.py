"""What the doctor finds here is true, holds no secret and no home folder, and says what to do about what is broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repeng.errors import RepengError
from repeng.study import doctor
from repeng.study.doctor import Finding, examine
from repeng.study.self_check import GOOD, NEAR, self_check


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_notforanyone")


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {one.name: one for one in found}


def test_a_capture_equals_lone_passes_and_a_probe_learns() -> None:
    difference, accuracy = self_check()
    assert difference < NEAR and accuracy >= GOOD


def test_what_is_here_is_named_without_token_or_home(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repeng.study.self_check.self_check", lambda: (0.0, 1.0))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = examine(tmp_path / "not yet" / "store")
    here = by_name(found)
    assert [one for one in found if one.state == "broken"] == []
    assert here["token"].value == "set"
    assert "offline mode (HF_HUB_OFFLINE)" in here["reachable"].value
    assert "float32 computes" in here[f"dtypes on {here['--device auto'].value}"].value
    assert "free at ~" in here[f"store ({tmp_path / 'not yet' / 'store'})".replace(str(tmp_path), "~")].value
    said = str(found)
    assert "hf_notforanyone" not in said and str(tmp_path) not in said
    assert f"{os.cpu_count()} cores" in said


def test_what_is_broken_says_so_and_what_to_do_and_the_rest_is_still_looked_at(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> tuple[float, float]:
        raise RepengError("out of order")

    monkeypatch.setattr("repeng.study.self_check.self_check", fail)
    wanted = ["numpy>=999.1", "no-such-package>=1", "pandas>=1", 'nowhere>=1; extra == "gguf"']
    monkeypatch.setattr(doctor, "requires", lambda _package: wanted)
    here = by_name(examine(tmp_path))
    assert (here["numpy"].state, here["numpy"].todo) == ("broken", "pip install -U 'numpy>=999.1'")
    assert (here["no-such-package"].state, here["no-such-package"].todo) == ("broken", "pip install no-such-package")
    assert here["packages"].value.startswith("pandas ")
    assert (here["gguf"].state, here["gguf"].todo) == ("note", 'pip install "repeng-toolkit[gguf]"')
    assert here["cannot be looked at"] == Finding(
        "self-check", "cannot be looked at", "out of order", "broken", "mend what the error names"
    )
    assert "memory" in here


def test_figures_that_are_wrong_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repeng.study.self_check.self_check", lambda: (0.5, 0.5))
    assert [one.state for one in doctor._self_check()] == ["broken", "broken"]


def test_a_hub_that_does_not_answer_is_a_note_with_a_way_on() -> None:
    found = doctor._reach("http://127.0.0.1:9")
    assert found.state == "note" and "HF_HUB_OFFLINE=1" in found.todo
