"""An object store whose client dies: before or after any of its requests, and from then on nothing is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from repeng import lease
from repeng.lease import LeaseLost
from repeng.places import Remote

WRITES = ("write_bytes", "create", "unlink")


class Died(BaseException):
    """Stands for the end of the process: nothing catches it."""


@dataclass
class Client:
    """What a process asks of the object store, and when it dies.

    Attributes:
        at: number of the write at which it does, from 0; -1 for never.
        after: whether that write is done first.
        writes: name and place of each write.
    """

    at: int = -1
    after: bool = False
    writes: list[tuple[str, str]] = field(default_factory=list)
    gone: bool = False
    guard: Any = field(default_factory=threading.RLock)

    def call(self, name: str, write: Any, place: Remote, *arguments: Any, **how: Any) -> Any:
        with self.guard:
            if self.gone:
                # A thread that lives on by itself is gone with the process: it ends without a word.
                raise LeaseLost("gone") if threading.current_thread().name == "repeng-lease" else Died
            if threading.current_thread().name == "repeng-lease":
                return write(place, *arguments, **how)
            self.writes.append((name, str(place)))
            self.gone = len(self.writes) - 1 == self.at
            if self.gone and not self.after:
                raise Died
            found = write(place, *arguments, **how)
            if self.gone:
                raise Died
            return found


@contextmanager
def client(at: int = -1, *, after: bool = False) -> Iterator[Client]:
    """A process that writes to an object store, and dies; what it held is then nobody's in this process."""
    found = Client(at, after)
    held = list(lease._held)

    def counted(name: str) -> Any:
        write = getattr(Remote, name)
        return lambda place, *arguments, **how: found.call(name, write, place, *arguments, **how)

    patches = [patch.object(Remote, name, counted(name)) for name in WRITES]
    for each in patches:
        each.start()
    try:
        yield found
    finally:
        for each in patches:
            each.stop()
        lease._held[:] = held
