"""Running somebody else's program: without a shell, for so long and no longer, and nothing of it left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from repeng.errors import RepengError

GRACE = 3.0
"""Seconds between asking a process group to end and ending it."""
LAST_WORDS = 1500
PLUGINS = "the files of plug-in methods (under the --out)"
TIME_LIMIT = 6 * 3600.0
"""Seconds that a program may run unless told otherwise."""
POLL = 0.02


@contextlib.contextmanager
def own_group(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, all of which is gone when the block is left, however it is left.

    Args:
        command: program and arguments; no shell reads them.
        log: file that takes its output and errors.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and every process that it left in it: asked first, then made to."""
    until = time.monotonic() + GRACE
    _signal(process.pid, signal.SIGTERM)
    while _alive(process) and time.monotonic() < until:
        time.sleep(POLL)
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def run_script(command: Sequence[str], *, what: str, log: Path, time_limit: float) -> None:
    """Run a program to its end.

    Args:
        command: program and arguments.
        what: names it in errors.
        log: file that takes its output and errors.
        time_limit: seconds after which it and all that it started are ended.

    Raises:
        RepengError: it did not end in time, or ended with another exit code than 0.
    """
    with own_group(command, log) as process:
        try:
            code = process.wait(timeout=time_limit)
        except subprocess.TimeoutExpired:
            raise RepengError(
                f"{what} was ended: it had not finished after {time_limit:g} s; {last_words(log)}"
            ) from None
    if code != 0:
        raise RepengError(f"{what} {ending(code)}; {last_words(log)}")


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def last_words(log: Path) -> str:
    """The end of a log, and where the rest is."""
    text = log.read_bytes()[-LAST_WORDS:].decode("utf-8", errors="replace").strip()
    return f"its last words ({log}):\n{text}" if text else f"it said nothing ({log})"


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _alive(process: subprocess.Popen[bytes]) -> bool:
    # Reaps the leader if it ended; the group lives on while any member does.
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
