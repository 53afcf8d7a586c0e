"""`repeng doctor` as text to be pasted and as JSON, and its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_samples import Repeng


@pytest.mark.parametrize(("accuracy", "code"), [(1.0, 0), (0.5, 1)])
def test_the_doctor_lists_what_it_finds_and_fails_where_something_is_broken(
    repeng: Repeng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accuracy: float, code: int
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("repeng.study.self_check.self_check", lambda: (0.0, accuracy))
    said = repeng("doctor", "--store", tmp_path)
    assert said.code == code and said.err == ""
    for area in ("software", "extras", "devices", "room", "hub", "self-check"):
        assert f"## {area}\n" in said.out
    assert ("- BROKEN: mms on facts" in said.out) is bool(code)
    found = repeng("doctor", "--store", tmp_path, "--json").json
    assert found["broken"] == code
    assert {each["area"] for each in found["findings"]} >= {"software", "hub"}
