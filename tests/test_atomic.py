"""Files that are there whole or not at all, and what is flushed in which order."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from repeng import atomic
from repeng.atomic import append_line, copy_atomically, make_folder, read_lines, sync_folder, write_atomically


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


@pytest.mark.parametrize("move", [False, True])
def test_a_copy_is_flushed_before_it_has_its_name(move: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(3 * atomic.COPIED_BYTES + 5)
    (tmp_path / "old").write_bytes(content)
    disk = Recorder()
    monkeypatch.setattr(atomic, "os", disk)
    copy_atomically(tmp_path / "old", tmp_path / "a" / "new", move=move)
    flushed = "folder old" if move else "flush file"
    assert disk.calls[2:] == [flushed, "rename new", "folder a"]
    assert (tmp_path / "a" / "new").read_bytes() == content
    assert (tmp_path / "old").exists() != move
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["new"]


def test_a_file_is_moved_from_one_disk_to_another_by_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoDisks(Recorder):
        def replace(self, old: Path, new: Path) -> None:
            if old.name == "old":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            os.replace(old, new)

    (tmp_path / "old").write_bytes(b"content")
    monkeypatch.setattr(atomic, "os", TwoDisks())
    copy_atomically(tmp_path / "old", tmp_path / "new", move=True)
    assert (tmp_path / "new").read_bytes() == b"content"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").write_bytes(b"content")
    monkeypatch.setattr(atomic, "os", Recorder(flush=errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        copy_atomically(tmp_path / "old", tmp_path / "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


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
