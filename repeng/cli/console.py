"""Talking to the user: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.measure import Measurement

from repeng.progress import Advance, lines, no_bar, terminal_bar


@dataclass
class Talk:
    """How a command speaks: `json` makes stdout machine-readable, `quiet` leaves only results and errors."""

    json: bool = False
    quiet: bool = False
    out: Console = field(default_factory=lambda: Console(soft_wrap=False))
    err: Console = field(default_factory=lambda: Console(stderr=True, soft_wrap=True, highlight=False))

    def __post_init__(self) -> None:
        logger = logging.getLogger("repeng")
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.addHandler(_ToConsole(self.err, logging.ERROR if self.quiet else logging.WARNING))
        logger.propagate = False

    def _make_room(self, item: Any) -> None:
        """A log or a pipe has no width of its own: it is as wide as the table needs."""
        if not self.out.is_terminal:
            wanted = Measurement.get(self.out, self.out.options.update(width=10_000), item).maximum
            self.out.width = max(self.out.width, wanted)

    def note(self, text: str) -> None:
        """A line for the reader on stderr; silent under --quiet."""
        if not self.quiet:
            self.err.print(text, markup=False)

    def result(self, plain: Any, *shown: Any) -> None:
        """The command's result: `plain` as JSON under --json, else the renderables or texts in `shown`."""
        if self.json:
            sys.stdout.write(json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
            return
        for item in shown:
            if isinstance(item, str):
                # A line is whole: what wraps it is the terminal, not us.
                self.out.print(item, markup=False, highlight=False, soft_wrap=True)
            else:
                self._make_room(item)
                self.out.print(item)

    def progress(self, what: str) -> AbstractContextManager[Advance]:
        """A callback (done, total): a bar on a terminal, a line now and then in a log, nothing under --quiet."""
        if self.quiet:
            return no_bar(what)
        return terminal_bar(what, self.err) if self.err.is_terminal else lines(what, self.note)


class _ToConsole(logging.Handler):
    """Library warnings as lines on stderr, each text once."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self._console = console
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        if text not in self._said:
            self._said.add(text)
            self._console.print(text, markup=False)
