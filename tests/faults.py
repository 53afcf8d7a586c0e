"""A disk that fails: every call that `repeng.atomic` makes of it in turn, and what a power cut may leave."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from repeng import atomic

COUNTED = ("open", "write", "fsync", "replace", "mkdir", "truncate", "unlink")
FAULTS = ("full", "broken", "short", "death")
"""full: from the call on the disk takes nothing more. broken: the call ends in EIO, once. short: a write takes half,
then the disk is full. death: the process is gone before the call."""


class Died(BaseException):
    """Stands for the end of the process: nothing catches it, and the disk takes nothing after it."""


@dataclass
class Disk:
    """In the place of `os` in `repeng.atomic`.

    Attributes:
        fault: one of `FAULTS`, or None for a disk that works and counts.
        at: number of the call at which it comes, from 0.
        calls: what was asked of it.
        held: descriptors of every file that was made or flushed, so that nothing gets the number of one that is gone.
    """

    fault: str | None = None
    at: int = -1
    calls: list[str] = field(default_factory=list)
    flushed: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)
    _gone: bool = False
    _full: bool = False
    _lock: Any = field(default_factory=threading.Lock)

    def __getattr__(self, name: str) -> Any:
        if name not in COUNTED:
            return getattr(os, name)
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> Any:
        with self._lock:
            if self._gone:
                raise Died
            if name == "open" and not arguments[1] & os.O_CREAT:
                return os.open(*arguments)
            self.calls.append(f"{name} {_named(arguments[0])}")
            if len(self.calls) - 1 == self.at:
                self._strike(name, arguments)
            if self._full and name in ("open", "write", "fsync", "mkdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done = getattr(os, name)(*arguments)
            if name == "open":
                self.held.append(os.dup(done))
            if name == "fsync":
                self._keep(arguments[0])
            return done

    def _strike(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.fault == "death":
            self._gone = True
            raise Died
        if self.fault == "broken":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._full = self.fault in ("full", "short")
        if self.fault == "short" and name == "write":
            os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])

    def _keep(self, number: int) -> None:
        """Note what is on the disk now: a file's content, or the names in a folder."""
        about = os.fstat(number)
        self.held.append(os.dup(number))
        if stat.S_ISDIR(about.st_mode):
            self.names[about.st_ino] = {entry.name: entry.inode() for entry in os.scandir(number)}
        else:
            self.flushed[about.st_ino] = Path(f"/proc/self/fd/{number}").read_bytes()

    def begin(self, root: Path) -> None:
        """What is in a folder now is on the disk."""
        for folder, _, names in os.walk(root):
            for path in (Path(folder), *(Path(folder) / name for name in names)):
                number = os.open(path, os.O_RDONLY)
                self._keep(number)
                os.close(number)

    def cut_power(self, root: Path, draw: random.Random, *, lost: float) -> None:
        """Leave of a folder what a power cut may leave.

        Args:
            root: the folder.
            draw: which of what is not on the disk is lost.
            lost: share of it that is; 1.0 leaves what is on the disk for certain, and no more.
        """
        now = {path: path.stat().st_ino for path in root.rglob("*")}
        content = {inode: path.read_bytes() for path, inode in now.items() if path.is_file()}
        folders = {inode for path, inode in now.items() if path.is_dir()} | self.names.keys()
        listing = {root.stat().st_ino: {path.name: path.stat().st_ino for path in root.iterdir()}}
        for path, inode in now.items():
            if path.is_dir():
                listing[inode] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}

        def left_of(inode: int) -> dict[str, int]:
            here, safe = listing.get(inode, {}), self.names.get(inode, {})
            return {
                name: number
                for name in here.keys() | safe.keys()
                if (number := (safe if draw.random() < lost else here).get(name)) is not None
            }

        def restore(folder: Path, inode: int) -> None:
            folder.mkdir(exist_ok=True)
            for name, number in sorted(left_of(inode).items()):
                if number in folders:
                    restore(folder / name, number)
                    continue
                safe, here = self.flushed.get(number), content.get(number, b"")
                if safe is not None and (safe == here or draw.random() < lost or number not in content):
                    (folder / name).write_bytes(safe)
                elif draw.random() < lost:
                    # Neither old nor new: nothing, half, or the right size with a hole.
                    torn = (b"", here[: len(here) // 2], here[: len(here) // 3].ljust(len(here), b"\0"))
                    (folder / name).write_bytes(draw.choice(torn))
                else:
                    (folder / name).write_bytes(here)

        inode = root.stat().st_ino
        for path in list(root.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        restore(root, inode)

    def release(self) -> None:
        """Let go of the files."""
        for number in self.held:
            os.close(number)
        self.held.clear()


def _named(about: Any) -> str:
    if isinstance(about, int):
        about = Path(f"/proc/self/fd/{about}").resolve()
    return Path(about).name


@contextmanager
def on(disk: Disk) -> Iterator[Disk]:
    """Have `repeng.atomic` write to a disk."""
    with patch.object(atomic, "os", disk):
        yield disk


def content(folder: Path) -> dict[str, bytes]:
    """Every file but locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def whole_files(folder: Path) -> dict[str, bytes]:
    """Every file but locks and what is half written."""
    return {name: held for name, held in content(folder).items() if not name.endswith(".tmp")}


def told(name: str, counts: Any) -> None:
    print(f"{name}: {dict(counts)}, {counts.total() - counts['calls']} faults")  # noqa: T201


def bounded(few: int) -> Any:
    """So many faults in the default suite, and every one among the slow tests."""
    every = pytest.param(None, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])
    return pytest.mark.parametrize("bound", [few, every])


@dataclass(frozen=True)
class Scenario:
    """Something that writes to a folder.

    Attributes:
        folder: where; it holds what the scenario begins with.
        act: what writes. Done again after it was stopped it goes on.
        check: raises where what the folder holds would be believed and is wrong. Called after every fault.
        content: what the folder must hold in the end, by name.
        errors: what `act` may raise where the disk fails.
    """

    folder: Path
    act: Callable[[Path], None]
    check: Callable[[Path], None]
    content: Callable[[Path], dict[str, Any]]
    errors: tuple[type[Exception], ...] = (OSError,)


def prove(scenario: Scenario, *, bound: int | None = None, seed: int = 0) -> Counter[str]:
    """Have every call fail in every way, cut the power at every call, and see that nothing wrong is believed.

    Args:
        scenario: what is done.
        bound: at most so many faults, drawn at random; None for every one.
        seed: of the draw.

    Returns:
        How many faults of each kind there were, and the number of `calls`.
    """
    draw = random.Random(seed)
    work = scenario.folder.with_name(f"{scenario.folder.name}-work")

    def afresh() -> Path:
        shutil.rmtree(work, ignore_errors=True)
        if scenario.folder.is_dir():
            shutil.copytree(scenario.folder, work)
        else:
            work.mkdir()
        return work

    disk = Disk()
    with on(disk):
        scenario.act(afresh())
    disk.release()
    expected, calls = scenario.content(work), disk.calls
    assert expected
    cases = [(kind, at, 0.0) for kind in FAULTS for at in range(len(calls))]
    cases = [case for case in cases if case[0] != "short" or calls[case[1]].startswith("write ")]
    cases += [("power", at, lost) for at in range(len(calls) + 1) for lost in (1.0, 0.5, 0.2)]
    if bound is not None and bound < len(cases):
        cases = draw.sample(cases, bound)
    counts: Counter[str] = Counter(calls=len(calls))
    for kind, at, lost in cases:
        where = f"{kind} at {at} of {len(calls)} ({calls[at] if at < len(calls) else 'the end'})"
        afresh()
        disk = Disk("death" if kind == "power" else kind, at)
        disk.begin(work)
        with on(disk):
            try:
                scenario.act(work)
                ended = None
            except (Died, *scenario.errors) as error:
                ended = error
        if isinstance(ended, Died) != (disk.fault == "death" and at < len(calls)):
            raise AssertionError(f"{where}: ended in {ended!r}")
        if kind == "power":
            disk.cut_power(work, draw, lost=lost)
        disk.release()
        try:
            scenario.check(work)
            if kind == "power" and at == len(calls):
                # A file that was removed last may be there again: it goes with the next act.
                assert scenario.content(work).items() >= expected.items(), "what was done is lost"
            scenario.act(work)
            scenario.check(work)
            found = scenario.content(work)
            assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
            assert found == expected, [name for name in found if found[name] != expected[name]]
        except Exception as error:
            raise AssertionError(f"{where}, lost {lost}: {error!r}") from error
        counts[kind] += 1
    shutil.rmtree(work)
    return counts
