"""Folders held by one process at a time: by a lock on a disk, by a lease in an object store."""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from repeng.atomic import make_folder
from repeng.errors import RepengError
from repeng.lease import leased
from repeng.places import Place, Remote

LOCK = ".lock"
MOUNTS = Path("/proc/self/mounts")
"""The file systems that are mounted, one a line: device, folder, type, options."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that has no locks."""
REMEDY = (
    "mount it with locks that hold for all machines (Lustre: -o flock; NFS: without nolock and local_lock, and with "
    "its lock service running), or give a folder on another file system; without locks two runs could write here at "
    "once"
)


@contextmanager
def locked(folder: Place, *, wait: bool) -> Iterator[bool]:
    """Hold a folder against other processes; yields False where another holds it and `wait` is False.

    Another thread than the one that took the lock may let go of it. The folder is made.

    Raises:
        RepengError: the file system has no locks, or such as hold on one machine alone though others write there.
        LeaseLost: of an object store, on leaving: another process took the folder meanwhile.
        OSError: the folder cannot be written to, or the object store does not answer.
    """
    if isinstance(folder, Remote):
        with leased(folder, wait=wait) as held:
            yield held
        return
    make_folder(folder)
    if why := locks_of_one_machine(folder):
        raise RepengError(f"{folder}: locks do not work here: {why}; {REMEDY}")
    lock: BaseFileLock = FileLock(folder / LOCK, thread_local=False)
    try:
        with warnings.catch_warnings():
            # Where there are no locks it goes over to another kind, which is refused below.
            warnings.filterwarnings("ignore", message="flock not supported")
            lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except NotImplementedError as error:
        raise _without_locks(folder, errno.ENOSYS) from error
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise _without_locks(folder, error.errno or 0) from error
        raise
    try:
        # The other kind of lock is a mere file, which a killed run leaves behind for good.
        if isinstance(lock, SoftFileLock):
            raise _without_locks(folder, errno.ENOSYS)
        yield True
    finally:
        lock.release()


def locks_of_one_machine(folder: Path, mounts: Path = MOUNTS) -> str:
    """Why locks in a folder hold on this machine alone though others may write there; empty where they hold.

    A Lustre mounted with `localflock`, and an NFS mounted with `nolock` or with `local_lock=flock` or `all`, grant
    every lock and tell no other machine of it: no error gives them away, so it is read from how they are mounted.

    Args:
        folder: any folder.
        mounts: file that lists what is mounted; where it cannot be read, nothing is known and nothing refused.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    place, best, found = folder.resolve(), -1, ""
    for line in lines:
        fields = line.split()
        if len(fields) < 4:
            continue
        at = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1]))
        # Of two that are mounted on one folder the later one is seen.
        if place.is_relative_to(at) and len(at.parts) >= best:
            best, found = len(at.parts), _fault(str(at), fields[2], set(fields[3].split(",")))
    return found


def _fault(at: str, kind: str, options: set[str]) -> str:
    bad: set[str] = set()
    if kind == "lustre":
        bad = {"localflock"}
    elif kind in ("nfs", "nfs4"):
        bad = {"nolock", "local_lock=flock", "local_lock=all"}
    named = ", ".join(sorted(bad & options))
    return f"{at} is {kind} mounted with {named}, whose locks no other machine sees" if named else ""


def _without_locks(folder: Path, number: int) -> RepengError:
    name = errno.errorcode.get(number, str(number))
    return RepengError(f"{folder}: locks do not work here ({name}: {os.strerror(number)}); {REMEDY}")
