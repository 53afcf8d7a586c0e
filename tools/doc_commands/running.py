"""Runs the pieces of a page in its folder: each command in a process that is forked with everything imported."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
import urllib.error
import urllib.request
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tools.doc_commands import stand_ins
from tools.doc_commands.checks import is_whole, words_of
from tools.doc_commands.pages import ROOT, Piece, pieces_of
from tools.doc_commands.tables import EXIT_CODES, MENTIONS, NOT_OURS, SKIPPED

SECONDS = 600.0
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """What became of a piece.

    Attributes:
        how: `ran`, `failed`, `known` (not ours to run), `skipped`, or `mention` (no whole command).
        said: why not, or the end of what it printed.
    """

    piece: Piece
    how: str
    said: str = ""
    seconds: float = 0.0

    @property
    def first(self) -> str:
        """The first line of the piece."""
        return self.piece.text.splitlines()[0]


def run_page(page: Path, place: Path) -> list[Outcome]:
    """Run every piece of a page, in order."""
    name = str(page.relative_to(ROOT))
    text = page.read_text(encoding="utf-8")
    pieces = pieces_of(text, name)
    folder = stand_ins.lay(name, text, place)
    stand_ins.shorten_benchmarks()
    python, done = Interpreter(folder), set[str]()
    found = []
    try:
        if (before := stand_ins.prelude(name)) and (said := python.run(before)):
            raise RuntimeError(f"{name}: what its Python begins with does not run: {said}")
        for piece in pieces:
            if (outcome := _not_run(piece, done)) is None:
                outcome = _run(piece, folder, python)
            done.add(piece.text)
            found.append(outcome)
    finally:
        python.close()
    return found


def _not_run(piece: Piece, done: set[str]) -> Outcome | None:
    for how, table in (("known", NOT_OURS), ("skipped", SKIPPED), ("mention", MENTIONS)):
        for entry in table:
            if entry.fits(piece.page, piece.text):
                return Outcome(piece, how, entry.what)
    if piece.kind == "inline" and (piece.text in done or not is_whole(words_of(stand_ins.in_words(piece.text)))):
        return Outcome(piece, "mention")
    if piece.kind == "command" and not piece.text.startswith("repeng"):
        return Outcome(piece, "failed", "no command of ours, and none that tables.NOT_OURS knows")
    return None


def _run(piece: Piece, folder: Path, python: Interpreter) -> Outcome:
    if piece.kind == "python":
        begun = time.monotonic()
        said = python.run(piece.text)
        return Outcome(piece, "failed" if said else "ran", said, time.monotonic() - begun)
    command = stand_ins.as_run(piece.text)
    code, seconds, said = run_command(command, folder)
    wanted = EXIT_CODES.get((piece.page, piece.text), 0)
    if code == wanted:
        return Outcome(piece, "ran", seconds=seconds)
    return Outcome(piece, "failed", f"{command}\nexit code {code}, not {wanted}\n{said}", seconds)


def run_command(text: str, folder: Path) -> tuple[int, float, str]:
    """Run one command of repeng in a folder; a server is asked, and stopped.

    Returns:
        Its exit code, the seconds that it took of a processor, and the end of what it said.
    """
    log = folder / f".said-{time.monotonic_ns()}"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _become(words_of(text), folder, log)
    serves = text.startswith("repeng browse") and "--export" not in text
    asked = not serves
    deadline = time.monotonic() + SECONDS
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        if not asked and (address := re.search(r"http://\S+(?=\s)", log.read_text() if log.exists() else "")):
            # The address is announced before anybody answers there.
            with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(address[0], timeout=20) as answer:
                asked = answer.status == 200
                os.kill(child, signal.SIGINT)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -1, 0.0, f"took more than {SECONDS:.0f} s\n{log.read_text()[-2000:]}"
        time.sleep(0.02)
    code, said = os.waitstatus_to_exitcode(status), log.read_text(errors="replace")[-3000:]
    log.unlink()
    # Ctrl-C is how a server is left.
    return (0 if serves and asked and code in (0, 130) else code), used.ru_utime + used.ru_stime, said


def _become(words: list[str], folder: Path, log: Path) -> None:
    """The child: a command of repeng with its output in a file. Does not come back."""
    code = 1
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(folder)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["repeng", *words]
        from repeng.cli import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Interpreter:
    """Python blocks of one page in one namespace, in a process of its own: what they leave running harms no command."""

    def __init__(self, folder: Path) -> None:
        self._here, there = FORK.Pipe()
        self._process = FORK.Process(target=_answer, args=(there, folder), daemon=True)
        self._process.start()

    def run(self, code: str) -> str:
        """Run a block; returns its traceback, empty where it ran."""
        self._here.send(code)
        if not self._here.poll(SECONDS):
            return f"took more than {SECONDS:.0f} s"
        return str(self._here.recv())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _answer(pipe: Connection, folder: Path) -> None:
    os.chdir(folder)
    namespace: dict[str, Any] = {"__name__": "__page__"}
    while True:
        code = pipe.recv()
        said = ""
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(code, "<page>", "exec"), namespace)
        except BaseException:
            said = traceback.format_exc()
        pipe.send(said)
