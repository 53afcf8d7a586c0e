"""Files that are there whole or not at all, and what is flushed in which order."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from repeng import atomic
from repeng.atomic import append_line, make_folder, read_lines, sync_folder, write_atomically


class Recorder:
    """`os`, which notes what is flushed and renamed; a call that is named in `errors` fails."""

    def __init__(self, **errors: int) -> None:
        self.errors, self.calls, self.names = errors, [], {}  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def _do(self, call: str, about: str) -> None:
        self.calls.append(f"{call} {about}")
        if call in self.errors:
            raise OSError(self.errors[call], os.strerror(self.errors[call]))

    def open(self, path: Path, *how: int) -> int:
        number = os.open(path, *how)
        self.names[number] = "file" if how[0] & os.O_CREAT else Path(path).name
        return number

    def fsync(self, number: int) -> None:
        self._do("folder" if self.names[number] != "file" else "flush", self.names[number])

    def replace(self, old: Path, new: Path) -> None:
        self._do("rename", new.name)
        os.replace(old, new)

    def mkdir(self, path: Path) -> None:
        self._do("mkdir", path.name)
        os.mkdir(path)


def test_file_and_every_folder_made_are_flushed_each_after_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Recorder()
    monkeypatch.setattr(atomic, "os", disk)
    write_atomically(tmp_path / "a" / "b" / "x", "text\n")
    made = ["mkdir a", f"folder {tmp_path.name}", "mkdir b", "folder a"]
    assert disk.calls == [*made, "flush file", "rename x", "folder b"]
    disk.calls.clear()
    write_atomically(tmp_path / "a" / "c" / "x", b"", flush=False)
    assert disk.calls == ["mkdir c", "rename x"]


def test_a_file_system_that_flushes_no_folders_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "os", Recorder(folder=errno.EINVAL))
    write_atomically(tmp_path / "x", "text")
    monkeypatch.setattr(atomic, "os", Recorder(folder=errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Recorder):
        def write(self, number: int, content: memoryview) -> int:
            return os.write(number, content[:3])

    monkeypatch.setattr(atomic, "os", Slow())
    write_atomically(tmp_path / "x", "a text of some length")
    append_line(tmp_path / "lines", "another text")
    assert (tmp_path / "x").read_text() == "a text of some length"
    assert read_lines(tmp_path / "lines") == ["another text"]


def test_lines_are_appended_and_a_torn_one_is_left_out_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines"
    assert read_lines(path) == []
    for line in ("one", "", "zwei ä"):
        append_line(path, line)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = read_lines(path)
        assert found == ["one", "", "zwei ä"][: whole[:end].count(b"\n")]
        append_line(path, "next")
        assert read_lines(path) == [*found, "next"]
    path.write_bytes(b"one\n\0\0\0o\nthree\n")
    assert read_lines(path) == ["one", "three"]


def test_a_folder_that_another_makes_at_the_same_time_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Raced(Recorder):
        def mkdir(self, path: Path) -> None:
            os.mkdir(path)
            os.mkdir(path)

    monkeypatch.setattr(atomic, "os", Raced())
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        make_folder(tmp_path / "file" / "c")
