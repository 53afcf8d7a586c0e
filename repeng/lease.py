"""Leases: folders of an object store held by one process at a time, where there are no locks.

A lease is a row of numbered objects in the folder, `.lease-1`, `.lease-2` and so on. The highest is the one that
counts: it says who holds the folder, or that nobody does. It is made only where there is none of its number, which lets
one of several takers win; and it is never removed before there is a higher one, so that no number is the highest twice.

- To take the folder, make the number after the highest, once that one is free, or was not written for more than its
  term and a little: then its holder is dead, or cut off. Ages are those that the object store's own clock gives. Then
  look again: a taker that slept between the two may have made a number that is not the highest; it has nothing.
- The holder writes its object again four times a term, and looks whether there is a higher one. Where it could not for
  a whole term, by its own clock from before its last write that succeeded, it no longer holds the folder, whether
  anybody took it or not: it may only go on if it can make the next number, as any taker.
- Before anything is written in the folder, the holder is asked whether it still holds it (`check`). So what a holder
  and the next both write is at most what was on its way as the first one's term ended.
- To let go, the holder writes into its object that it is free.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from repeng.errors import RemoteError, RepengError
from repeng.places import Place, Remote

log = logging.getLogger(__name__)

TERM = 60.0
"""Seconds after which a lease that is not renewed may be taken over."""
MARGIN = 2.0
"""Seconds that a taker waits beyond: object stores give whole seconds."""
LOOK = 1.0
"""Seconds between two looks of a taker that waits."""
NAME = ".lease-"
CLOCK = ".lease-clock"
"""Written to learn what the time is by the object store's clock."""
_held: list[Lease] = []
_tested: set[str] = set()


class LeaseLost(RepengError):
    """A folder is no longer this process's own: another took it, since its lease was not renewed."""


class Lease:
    """A folder's lease, as one process takes it, holds it and lets go of it.

    Args:
        folder: what is held.

    Attributes:
        folder: what is held.
        term: seconds after which it may be taken over unless it is renewed.
        lost: why it is no longer held, in words; empty while nothing is known of that.
    """

    def __init__(self, folder: Remote, term: float | None = None) -> None:
        self.folder, self.term = folder, TERM if term is None else term
        self._number = 0
        self._token = secrets.token_hex(8)
        self._written = 0
        self._since = float("-inf")
        self.lost = ""
        self._guard = threading.RLock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, *, wait: bool) -> bool:
        """Take the folder; False where another holds it, and `wait` is False.

        Raises:
            RemoteError: the object store does not answer, or makes an object where there is one.
        """
        while True:
            top = self._highest()
            if top and not self._is_free(top):
                if not wait:
                    return False
                time.sleep(min(LOOK, self.term / 4))
            elif self._make(top + 1):
                break
        self._test()
        for name in self.folder.children():
            if 0 < _number(name) < self._number:
                self._object(_number(name)).unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._renewing, name="repeng-lease", daemon=True)
        self._thread.start()
        _held.append(self)
        return True

    def check(self) -> None:
        """See that the folder is still held.

        Raises:
            LeaseLost: it is not.
        """
        if self.lost or time.monotonic() - self._since >= self.term:
            self.renew()

    def renew(self) -> None:
        """Say that the folder is still held, unless it is no longer.

        Raises:
            LeaseLost: it is not.
            OSError: the object store does not answer.
        """
        with self._guard:
            if self.lost:
                raise LeaseLost(self.lost)
            began = time.monotonic()
            if began - self._since < self.term:
                self._write(self._number, "held")
                if self._highest() == self._number and time.monotonic() - self._since < self.term:
                    self._since = began
                    return
            # Too late for a renewal: as any other taker, or not at all.
            top = self._highest()
            if top == self._number and self._make(top + 1):
                return
            self.lost = (
                f"{self.folder}: this process could not renew its lease for {self.term:g} s (the machine slept, or the "
                "object store did not answer) and another took over, or still might, so this one stops; run the same "
                "command again: it goes on from what is finished"
            )
            raise LeaseLost(self.lost)

    def free(self) -> None:
        """Let go of the folder, or of what is left of it."""
        self._done.set()
        if self in _held:
            _held.remove(self)
        if self._thread is not None:
            self._thread.join()
        with self._guard:
            if self._number and not self.lost:
                try:
                    # Where it is gone, the folder was removed with it.
                    if self._object(self._number).is_file():
                        self._write(self._number, "free")
                except OSError as error:
                    log.warning("the lease of %s ends by itself in %g s: %s", self.folder, self.term, error)

    def _renewing(self) -> None:
        while not self._done.wait(self.term / 4):
            try:
                self.renew()
            except LeaseLost as error:
                log.error("%s", error)
                return
            except OSError as error:
                log.warning("a lease could not be renewed, and is tried again: %s", error)

    def _make(self, number: int) -> bool:
        """Make the next number; False where another made it, or it is not the highest after all."""
        began = time.monotonic()
        if not self._object(number).create(self._content("held")):
            return False
        if self._highest() != number:
            self._object(number).unlink(missing_ok=True)
            return False
        if time.monotonic() - began >= self.term:
            # Never removed while it is the highest: it would be so a second time, made by another.
            self._write(number, "free")
            return False
        self._number, self._since = number, began
        return True

    def _write(self, number: int, state: str) -> None:
        self._object(number).write_bytes(self._content(state))

    def _content(self, state: str) -> bytes:
        self._written += 1
        said = {"state": state, "owner": self._token, "host": socket.gethostname(), "pid": os.getpid()}
        return json.dumps({**said, "written": self._written, "time": time.time()}).encode()

    def _object(self, number: int) -> Remote:
        found: Remote = self.folder / f"{NAME}{number}"  # type: ignore[operator]
        return found

    def _highest(self) -> int:
        return max(map(_number, self.folder.children()), default=0)

    def _is_free(self, number: int) -> bool:
        """Whether nobody holds a lease any more. One whose content is no lease's counts by its age."""
        try:
            content = self._object(number).read_bytes()
            try:
                if json.loads(content)["state"] == "free":
                    return True
            except (ValueError, KeyError, TypeError):
                pass
            clock: Any = self.folder / CLOCK  # type: ignore[operator]
            clock.write_bytes(b"")
            age = clock.modified() - self._object(number).modified()
            return bool(age.total_seconds() > self.term + MARGIN)
        except FileNotFoundError:
            # A higher one is there by now.
            return False

    def _test(self) -> None:
        """See, once a bucket, that the object store refuses to make an object where there is one."""
        where = f"{self.folder.fs} {self.folder.parts[0]}"
        if where in _tested:
            return
        if self._object(self._number).create(self._content("held")):
            self._object(self._number).unlink(missing_ok=True)
            raise RemoteError(
                f"{self.folder}: this object store does not refuse to make an object where there is one "
                "(If-None-Match), so that two runs could write here at once; choose another, or a version of it that "
                "does"
            )
        _tested.add(where)


def check(path: Place) -> None:
    """See that a file may be written: where this process holds a lease of its folder, that it still does.

    Raises:
        LeaseLost: another took it.
        OSError: the object store does not answer.
    """
    for lease in list(_held):
        if f"{path}".startswith(f"{lease.folder}/"):
            lease.check()


@contextmanager
def leased(folder: Remote, *, wait: bool) -> Iterator[bool]:
    """Hold a folder; yields False where another holds it and `wait` is False.

    Raises:
        LeaseLost: on leaving, it was taken meanwhile.
    """
    lease = Lease(folder)
    if not lease.take(wait=wait):
        yield False
        return
    try:
        yield True
    finally:
        lease.free()
    if lease.lost:
        raise LeaseLost(lease.lost)


def _number(name: str) -> int:
    rest = name.removeprefix(NAME)
    return int(rest) if name.startswith(NAME) and rest.isdigit() else 0
