"""Every error is one message, with its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_samples import Repeng

WRONG: list[tuple[str, list[str], str]] = [
    ("an unknown command", ["rnu"], "No such command"),
    ("an unknown flag", ["run", "--modle", "x"], "No such option"),
    ("an unknown method", ["run", "--methods", "msm"], "unknown method 'msm'; choose from"),
    ("an unknown benchmark", ["run", "--benchmark", "gnies"], "gnies"),
    ("a benchmark without its data", ["run", "--benchmark", "genies", "--data", "{place}/data"], "are not there"),
    ("no such model", ["run", "--model", "./nowhere"], "./nowhere"),
    ("no such data", ["data", "ls", "./nowhere"], "./nowhere"),
    ("no such study", ["run", "nowhere.toml"], "nowhere.toml: cannot read"),
    ("a study that is no TOML", ["run", "{place}/broken.toml"], "not a TOML file"),
    ("a wrong type in a study", ["run", "{place}/typed.toml"], "seed is 'one': Input should be a valid integer"),
    ("a layer that is not there", ["run", "--layers", "99"], "has layers 0 to"),
    ("layers that are none", ["cache", "--layers", "some"], "give auto, all, top-k:N"),
    ("a limit of nothing", ["run", "--limit", "0"], "--limit"),
    ("an unknown dtype", ["run", "--dtype", "float8"], "unknown dtype 'float8'"),
    ("an unknown stimulus", ["cache", "--stimuli", "plan"], "unknown stimulus 'plan'"),
    ("no such share", ["run", "--augment", "much"], "is no share"),
    (
        "an unknown probe",
        ["fit", "--store", "{place}/planted", "--source", "near", "--probe", "x", "--out", "o"],
        "'x'",
    ),
    (
        "an unknown source",
        ["fit", "--store", "{place}/planted", "--source", "x", "--probe", "mms", "--out", "o"],
        "choose from far, like, near",
    ),
    (
        "a layer that no probe reads",
        ["fit", "--store", "{place}/planted", "--source", "near", "--probe", "mms", "--layers", "9", "--out", "o"],
        "layers 0 to 3",
    ),
    ("an empty store", ["matrix", "--store", "{place}/data"], "no capture here"),
    ("no fitted probe", ["score", "--store", "{place}/planted", "--probe", "x", "--target", "near"], "repeng fit"),
    ("an unknown tuning method", ["tune", "--source", "facts", "--method", "lroa", "--out", "o"], "lroa"),
    ("an unknown embedded benchmark", ["data", "export", "maxi", "o"], "choose from mini"),
]


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_bad_usage_is_one_message_and_exit_code_2(
    repeng: Repeng,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (place / "broken.toml").write_text("seed = ")
    (place / "typed.toml").write_text('seed = "one"')
    said = repeng(*(argument.replace("{place}", str(place)) for argument in arguments))
    assert said.code == 2, said.err
    assert said.out == ""
    assert message in said.err
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_was_raised(repeng: Repeng) -> None:
    from repeng.errors import BadInput

    with pytest.raises(BadInput):
        repeng("run", "nowhere.toml", "--debug")


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(
    repeng: Repeng, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_keywords: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("repeng.study.study.plan_study", fail)
    said = repeng("run")
    assert said.code == 1
    assert said.err.startswith("error: ZeroDivisionError: by nothing")
    assert "--debug shows where" in said.err
