"""The command line in this process, and a small place to work in."""

from __future__ import annotations

import functools
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from cli_samples import Repeng, Said
from planted_store import two_worlds
from small_world import world, write_world
from tiny_models import make_model

from repeng.cli import main

command_of = functools.cache(typer.main.get_command)
"""The whole tree of commands, made once: typer makes it at each call."""


@pytest.fixture
def repeng(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Repeng]:
    """Runs the command in this process."""
    logger = logging.getLogger("repeng")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = (list(logger.handlers), logger.propagate)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["repeng", *map(str, arguments)])
        monkeypatch.setattr(typer.main, "get_command", command_of)
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Said(code, *capsys.readouterr())

    yield run
    logger.handlers[:], logger.propagate = before
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, a small world, and a planted store."""
    root = tmp_path_factory.mktemp("cli")
    make_model("llama", root / "tiny", positions=256)
    write_world(root, world(8))
    two_worlds(root / "planted")
    return root


@pytest.fixture(scope="session")
def study_flags(place: Path) -> tuple[object, ...]:
    return (
        *("--model", place / "tiny", "--benchmark", place / "shifts.json", "--data", place / "data"),
        *("--store", place / "store", "--out", place / "out", "--methods", "mms,zero-shot,length", "--device", "cpu"),
    )
