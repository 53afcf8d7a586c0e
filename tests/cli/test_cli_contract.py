"""Every command of the contract is there and explained."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from cli_samples import Repeng

from repeng.cli import app


def commands() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []

    def walk(name: str, command: Any) -> None:
        if hasattr(command, "commands"):
            for each, below in command.commands.items():
                walk(f"{name} {each}", below)
        else:
            found.append((name.strip(), command))

    walk("", typer.main.get_command(app))
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_and_option_is_explained(repeng: Repeng, name: str, command: Any) -> None:
    said = repeng(*name.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert command.help
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text, f"{name} {parameter.name}"
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in said.out


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = {
        "run",
        "cache",
        "fit",
        "score",
        "sweep",
        "tune",
        "rescore",
        "matrix",
        "steer",
        "compare",
        "report",
        "browse",
        "plot",
        "doctor",
        "watch",
        "erase",
        "export",
        "push",
        "pull",
    }
    wanted |= {f"data {name}" for name in ("ls", "check", "fetch", "export")}
    assert wanted | {f"store {name}" for name in ("ls", "verify", "rm")} == {name for name, _ in commands()}


def test_the_version_is_printed(repeng: Repeng) -> None:
    assert repeng("--version").out.startswith("repeng 0.")


@pytest.mark.parametrize(("ends", "said"), [("import sys; sys.exit()", "found"), ("main()", "repeng 0.")])
def test_nothing_is_looked_through_for_garbage_when_a_command_ends(ends: str, said: str) -> None:
    code = (
        "from repeng.cli import main\n"
        "class Circle:\n"
        "    def __del__(self): print('found')\n"
        "one = Circle(); one.own = one; del one\n"
    )
    done = subprocess.run([sys.executable, "-c", code + ends, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said) and done.stdout.count("\n") == 1


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_help_at_80_columns_cuts_no_word_off(
    repeng: Repeng, name: str, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = repeng(*name.split(), "--help").out
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said and "\\" not in said.replace("{response}\\n", "")
    together = "".join(said.split())  # a line may end within a word that has a hyphen
    for parameter in command.params:
        for word in (parameter.help or "").split():
            assert word in together, f"{name} {parameter.name}: {word}"
