"""How far a long job is: a bar in a terminal and in a notebook, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[[int, int], None]
"""Told how much is done, and of how much."""

ProgressBar = Callable[[str], AbstractContextManager[Advance]]
"""Makes a bar of some title, which is gone when it is left."""

Told = Callable[[str, int, int], None]
"""A caller's own: told the title, how much is done, and of how much."""

SECONDS_BETWEEN_LINES = 10.0
SECONDS_UNTIL_SHOWN = 1.0

log = logging.getLogger("repeng")


@contextmanager
def no_bar(_what: str) -> Iterator[Advance]:
    """A progress bar that shows nothing."""
    yield lambda _done, _total: None


@contextmanager
def terminal_bar(what: str, console: Console) -> Iterator[Advance]:
    """A bar on a terminal; lines that are printed meanwhile stand above it."""
    from rich import progress as rich

    text, count = rich.TextColumn(what), rich.MofNCompleteColumn()
    columns = (text, rich.BarColumn(), count, rich.TimeElapsedColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def notebook_bar(what: str) -> Iterator[Advance]:
    """A bar under a notebook's cell: a widget where ipywidgets is installed, else of text."""
    with _tqdm()(desc=what, leave=False) as bar:

        def advance(done: int, total: int) -> None:
            if bar.total != total:
                bar.reset(total)
            bar.update(done - bar.n)

        yield advance


@contextmanager
def lines(what: str, say: Callable[[str], None]) -> Iterator[Advance]:
    """Progress as plain lines, at most one every some seconds."""
    last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            say(f"{what}: {done} of {total}")

    yield advance


def when_long(bar: ProgressBar) -> ProgressBar:
    """The same bars, each only once its job has taken a second and is not done."""

    @contextmanager
    def later(what: str) -> Iterator[Advance]:
        begun, shown = time.monotonic(), list[Advance]()
        with ExitStack() as stack:

            def advance(done: int, total: int) -> None:
                if not shown and done < total and time.monotonic() - begun >= SECONDS_UNTIL_SHOWN:
                    shown.append(stack.enter_context(bar(what)))
                for own in shown:
                    own(done, total)

            yield advance

    return later


def shown(progress: bool | Told | None) -> tuple[ProgressBar, Callable[[str], None]]:
    """What a call from Python shows on stderr: its bars, and what says its notes.

    A note goes to the logger `repeng` at INFO where somebody listens there, else next to the bars.

    Args:
        progress: True for bars, or lines now and then where stderr is no terminal and no notebook's; False for
            nothing; None for bars in a terminal and in a notebook alone; or a function that is told the title of what
            is going on, how much is done, and of how much.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    seen = console.is_terminal or console.is_jupyter
    loud = progress is True or (progress is None and seen)

    def note(text: str) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info(text)
        elif loud:
            say(text)

    def say(text: str) -> None:
        if console.is_jupyter:
            _tqdm().write(text, file=sys.stderr)
        else:
            console.print(text, markup=False)

    if callable(progress):
        return _told(progress), note
    if not loud:
        return no_bar, note
    if console.is_jupyter:
        return notebook_bar, note
    return (lambda what: terminal_bar(what, console) if console.is_terminal else lines(what, say)), note


def capture_bar(progress: bool | Told | None) -> AbstractContextManager[Advance]:
    """The bar of a capture from Python, as `shown` has it; ours only where it takes long."""
    bar, _ = shown(progress)
    return (bar if callable(progress) else when_long(bar))("capturing")


def _tqdm() -> Any:
    with warnings.catch_warnings():
        # That ipywidgets is not installed.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm


def _told(own: Told) -> ProgressBar:
    @contextmanager
    def bar(what: str) -> Iterator[Any]:
        yield lambda done, total: own(what, done, total)

    return bar
