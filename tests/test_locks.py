"""Locks on disks: held by one, and refused where they would hold on one machine alone or not at all."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repeng import locks
from repeng.errors import RepengError
from repeng.locks import locked, locks_of_one_machine


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with locked(tmp_path / "made", wait=False) as held:
        assert held
        with locked(tmp_path / "made", wait=False) as other:
            assert not other
    with locked(tmp_path / "made", wait=True) as held:
        assert held


def mounts(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "mounts"
    file.write_text("\n".join(["/dev/sda / ext4 rw 0 0", *lines, "", "odd"]))
    return file


@pytest.mark.parametrize(
    ("kind", "options", "fault"),
    [
        ("lustre", "rw,flock,lazystatfs", ""),
        ("lustre", "rw,localflock", "lustre mounted with localflock"),
        # Its locks fail, which is seen when one is taken.
        ("lustre", "rw,noflock", ""),
        ("nfs4", "rw,vers=4.2,local_lock=none", ""),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "nfs mounted with local_lock=all, nolock"),
        ("nfs", "rw,vers=3,local_lock=flock", "nfs mounted with local_lock=flock"),
        # Locks of the other kind alone are local.
        ("nfs", "rw,vers=3,local_lock=posix", ""),
        ("ext4", "rw,nolock,localflock", ""),
    ],
)
def test_a_file_system_that_tells_no_other_machine_of_its_locks_is_known_by_how_it_is_mounted(
    kind: str, options: str, fault: str, tmp_path: Path
) -> None:
    shared = tmp_path / "a b"
    inner = tmp_path / "a b" / "inner"
    inner.mkdir(parents=True)
    file = mounts(tmp_path, f"server:/x {str(shared).replace(' ', chr(92) + '040')} {kind} {options} 0 0")
    for folder in (shared, inner):
        why = locks_of_one_machine(folder, file)
        assert (why != "") == (fault != "") and fault in why
    assert locks_of_one_machine(tmp_path, file) == ""
    # What is mounted within it, or later in its place, counts.
    for at in (inner, shared):
        over = mounts(tmp_path, f"s {str(shared).replace(' ', chr(92) + '040')} lustre localflock 0 0")
        over.write_text(over.read_text() + f"\n/dev/sdb {str(at).replace(' ', chr(92) + '040')} ext4 rw 0 0")
        assert locks_of_one_machine(inner, over) == ""


def test_nothing_is_refused_where_what_is_mounted_is_not_known(tmp_path: Path) -> None:
    assert locks_of_one_machine(tmp_path, tmp_path / "none") == ""


def test_a_lock_there_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = mounts(tmp_path, f"server:/x {tmp_path} lustre rw,localflock 0 0")
    monkeypatch.setattr(locks, "locks_of_one_machine", lambda folder: locks_of_one_machine(folder, file))
    refused = pytest.raises(RepengError, match="localflock, whose locks no other machine sees; mount it.*-o flock")
    with refused, locked(tmp_path / "store", wait=False):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("wait", [False, True])
def test_a_file_system_without_locks_is_refused_with_its_error(
    number: int, wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock: Callable[..., Any] = fcntl.flock

    def failing(file: int, how: int) -> None:
        if how & fcntl.LOCK_EX:
            raise OSError(number, "no locks")
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", failing)
    said = rf"locks do not work here \({errno.errorcode[number]}.*mount it with locks"
    with pytest.raises(RepengError, match=said), locked(tmp_path, wait=wait):
        pass
