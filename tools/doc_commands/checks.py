"""Options that no command has, and files that are not there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from repeng.cli import app
from tools.doc_commands.pages import ROOT, Piece
from tools.doc_commands.tables import FOREIGN_OPTIONS

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]+")
INLINE_OPTION = re.compile(r"`(--[a-z][a-z0-9_-]+)[^`]*`")
FILE = re.compile(r"(?<![\w./-])((?:docs|examples|perf|tests|tools)/[\w./-]+\.(?:md|py|ipynb|csv|svg|json|toml))\b")
USAGE_ERROR: Any = typer.BadParameter.__base__
"""What is raised by words that a command does not take."""


def command_of(words: list[str]) -> tuple[Any, list[str]] | None:
    """The command that some words call and its arguments; None where there is no such command."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return None if hasattr(command, "commands") and not (rest and rest[0].startswith("-")) else (command, rest)


def is_whole(words: list[str]) -> bool:
    """Whether some words after `repeng` are a command to be typed: it has arguments, and takes them."""
    found = command_of(words)
    if found is None or not found[1]:
        return False
    if hasattr(found[0], "commands"):
        return True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found[0].make_context("repeng", list(found[1]))
    except typer.Exit:
        return True
    except USAGE_ERROR:
        return False
    return True


def options_of(command: Any) -> set[str]:
    """Every option of a command, with those that hold everywhere."""
    own = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    root = {name for one in typer.main.get_command(app).params for name in one.opts}
    return own | root | {"--help"}


def all_options() -> set[str]:
    """The options of every command."""

    def walk(command: Any) -> set[str]:
        return options_of(command).union(*(walk(each) for each in getattr(command, "commands", {}).values()))

    return walk(typer.main.get_command(app))


def unknown_options(pieces: list[Piece], text: str, page: str) -> Iterator[str]:
    """Options of repeng's commands, and options named in sentences, that there are not."""
    for piece in pieces:
        if piece.kind != "python" and piece.text.startswith("repeng "):
            words = piece.text.split()[1:]
            found = command_of(words)
            known = options_of(found[0]) if found else all_options()
            for option in OPTION.findall(re.sub(r"'[^']*'|\"[^\"]*\"", "", piece.text)):
                if option not in known:
                    yield f"{piece.place}: {piece.text!r} has an option {option}, which the command has not"
    everywhere = all_options().union(FOREIGN_OPTIONS)
    for number, line in enumerate(text.split("\n"), start=1):
        for option in INLINE_OPTION.findall(line):
            if option not in everywhere:
                yield f"{page}:{number}: no command has the option {option}"


def missing_files(text: str, page: str, root: Path = ROOT) -> Iterator[str]:
    """Files of the repository that a page names and that are not there."""
    for number, line in enumerate(text.split("\n"), start=1):
        for name in FILE.findall(line):
            if not (root / name).exists():
                yield f"{page}:{number}: there is no {name}"


def words_of(text: str) -> list[str]:
    """A command's words after `repeng`, as a shell takes them."""
    return shlex.split(text, comments=True)[1:]
