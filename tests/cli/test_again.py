"""A report's command and settings make the study again, to the bit."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest
import typer
from cli_samples import Repeng

from repeng.cli.app import app
from repeng.study.command import command_of
from repeng.study.settings import Study


def shown(page: str, block: str) -> str:
    """The text of a block that can be copied."""
    found = re.search(rf'<pre [^>]*id="{block}"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


def asked(command: str) -> Study:
    """The study that a command line asks for, by the command's own parser."""
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:2] == ["repeng", "run"]
    run = typer.main.get_command(app).get_command(None, "run")  # type: ignore[attr-defined]
    given = run.make_context("run", words[2:]).params
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return Study.read(None, {key: value for key, value in flags.items() if value is not None and hasattr(Study, key)})


def test_the_command_and_the_settings_of_a_report_give_the_same_results(
    repeng: Repeng, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("first", "again")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[0])
    model = ("--model", place / "tiny", "--benchmark", place / "shifts.json", "--data", place / "data")
    settings = ("--methods", "mms,logistic(C=0.1),length", "--fits", 2, "--nulls", 3, "--seed", 7, "--no-capability")
    assert repeng("run", *model, *settings, "--device", "cpu", "--out", "out").code == 0
    page = Path("out/report.html").read_text()
    results = Path("out/results.csv").read_bytes()

    monkeypatch.chdir(folders[1])
    assert repeng(*shlex.split(shown(page, "command").replace("\\\n", ""))[1:]).code == 0
    assert Path("out/results.csv").read_bytes() == results
    Path("study.toml").write_text(shown(page, "settings"))
    assert Study.read(Path("study.toml"), {}) == asked(shown(page, "command"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"methods": ("mms(stimulus='chat')", "logistic(C=0.1, max_iter=5)"), "layers": "4-8", "limit": 12},
        {"capability": False, "drop_overlap": True, "partial": True, "strict": True, "trust_store": True},
        {"data": "my data/it's.jsonl", "columns": "text=a b,label=c", "positive": "-1", "group": "$x", "turn": "all"},
        {"augment": 0.01, "seed": 5, "out": "some where", "store": "kept", "tune_preset": "genies", "benign": "b"},
        {"model": "org/model", "device": "cpu", "dtype": "float32", "too_long": "cut", "chat": "plain", "fits": 1},
    ],
)
def test_the_command_asks_for_the_very_same_study(settings: dict[str, object]) -> None:
    study = Study(**settings)  # type: ignore[arg-type]
    assert asked(command_of(study)) == study
    assert command_of(Study()) == "repeng run"


def test_a_method_whose_name_has_a_comma_leaves_the_file_of_settings_alone() -> None:
    assert command_of(Study(methods=("mms", "plug,ins/mine"))) == ""
