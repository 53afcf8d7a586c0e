"""Places: which file systems are taken, and that a remote one answers as a folder of a disk does."""

from __future__ import annotations

import errno
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest

from repeng import places
from repeng.atomic import append_line, read_lines, write_atomically
from repeng.errors import BadData, BadInput, RemoteError, sentence
from repeng.limits import read_bounded
from repeng.places import Place, is_remote, on_disk, place, read_range, remove_tree, stamp, tree_bytes

NAMES = (
    "a/capture.json",
    "a/d[1]/s.01/plain.x.last/index.json",
    "a/d[1]/s.01/plain.x.last/shard-00000.safetensors",
    "a/d[1]/s.01/.x.tmp",
    "a/e/t.02/plain.logprob/index.json",
    "b/capture.json",
    "b c%2E/x.json",
    "top.json",
)
PATTERNS = (
    *("*/capture.json", "*/*/*/*/index.json", "*/*.*/", "*.json", "a/*/", "*/*", "*/.*.tmp", "a/capture.json"),
    *("*", "*/", "a/*/*.*/*/index.json", "nothing/*", "**/", "**/*.json", "**/index.json", "?/capture.json", "a/**/"),
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "FIRST_WAIT", 0.0)


@pytest.fixture
def remote(request: pytest.FixtureRequest) -> Any:
    return place(f"memory://{request.node.name.partition('[')[0]}/store")


def filled(root: Place) -> Place:
    for name in NAMES:
        write_atomically(root / name, name)
    return root


def test_a_name_without_a_scheme_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    assert place("store") == Path("store") and place("~/x") == Path.home() / "x"
    assert place(tmp_path) is not None and not is_remote(place(tmp_path))
    assert isinstance(place("store"), Place) and isinstance(place("memory://a"), Place)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://host/store", "not a file system that a store or results can be on.*s3://, s3a://, gs://"),
        ("file:///tmp/store", "give a local folder by its path alone"),
        ("simplecache::s3://bucket/store", "not a file system"),
        ("s3://", "names no bucket"),
        ("memory://", "names no folder"),
        (Path("s3://bucket/store"), "a pathlib.Path loses a slash of s3://; give the place as text"),
    ],
)
def test_a_place_that_cannot_keep_a_store_is_refused_with_the_way_out(text: str | Place, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        place(text)


def test_a_file_system_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "find_spec", lambda name: None if name == "gcsfs" else importlib.util.find_spec(name))
    with pytest.raises(BadInput, match=r'needs the package gcsfs; pip install "repeng-toolkit\[gs\]"'):
        place("gs://bucket/store")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_remote_place_finds_the_names_that_a_folder_does(pattern: str, remote: Place, tmp_path: Path) -> None:
    filled(remote), filled(tmp_path)
    there = sorted(str(found).removeprefix(str(remote)).strip("/") for found in remote.glob(pattern))
    here = sorted("" if found == tmp_path else str(found.relative_to(tmp_path)) for found in tmp_path.glob(pattern))
    assert there == here


def test_a_remote_place_answers_as_a_folder_does(remote: Place, tmp_path: Path) -> None:
    tmp_path = tmp_path / "store"
    filled(remote), filled(tmp_path)
    assert tree_bytes(remote) == tree_bytes(tmp_path)
    for name in (*NAMES, "a", "a/d[1]/s.01", "none", "a/capture"):
        there, here = remote / name, tmp_path / name
        assert (there.is_file(), there.is_dir(), there.exists()) == (here.is_file(), here.is_dir(), here.exists())
        assert (there.name, there.parent.name, there.stem, there.suffix) == (
            here.name,
            here.parent.name,
            here.stem,
            here.suffix,
        )
        if here.is_file():
            assert there.read_bytes() == here.read_bytes() and there.read_text() == here.read_text()
            assert there.stat().st_size == here.stat().st_size
            assert [there.open().read(), there.open("rb").read()] == [here.read_text(), here.read_bytes()]
            assert read_range(there, 1, 4) == read_range(here, 1, 4)
            assert read_bounded(there, 100) == read_bounded(here, 100)
            with pytest.raises(BadData, match="at most 3 bytes"):
                read_bounded(there, 3)
    assert sorted(each.name for each in remote.iterdir()) == sorted(each.name for each in tmp_path.iterdir())
    assert pickle.loads(pickle.dumps(remote)) == remote and f"{remote / 'a'}" == f"{remote}/a"
    for root in (remote, tmp_path):
        remove_tree(root / "a")
        (root / "top.json").unlink()
        (root / "top.json").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            (root / "top.json").read_bytes()
    assert sorted(each.name for each in remote.glob("**/*.json")) == sorted(
        each.name for each in tmp_path.glob("**/*.json")
    )


def test_lines_are_appended_and_an_unfinished_one_is_cut_off(remote: Place) -> None:
    file = remote / "written.jsonl"
    append_line(file, "one")
    file.write_bytes(file.read_bytes() + b"unfin")
    append_line(file, "two")
    assert read_lines(file) == ["one", "two"] and file.read_bytes() == b"one\ntwo\n"


def test_what_was_written_anew_has_another_stamp(remote: Place) -> None:
    (remote / "x").write_bytes(b"one")
    before = stamp(remote / "x")
    assert stamp(remote / "x") == before
    (remote / "x").write_bytes(b"two")
    assert stamp(remote / "x") != before


def test_an_object_is_made_only_where_there_is_none(remote: Any) -> None:
    assert (remote / "x").create(b"mine") and not (remote / "x").create(b"theirs")
    # As when the answer to the first was lost.
    assert (remote / "x").create(b"mine") and (remote / "x").read_bytes() == b"mine"


class Failing:
    """A file system that fails so often, before or after what is asked of it."""

    def __init__(self, inner: Any, error: Exception, times: int, *, after: bool = False) -> None:
        self.inner, self.error, self.times, self.after = inner, error, times, after

    def __getattr__(self, name: str) -> Any:
        def asked(*arguments: Any, **how: Any) -> Any:
            if self.times == 0:
                return getattr(self.inner, name)(*arguments, **how)
            self.times -= 1
            if self.after:
                getattr(self.inner, name)(*arguments, **how)
            raise self.error

        return asked


TRANSIENT = [OSError(errno.EBUSY, "SlowDown"), TimeoutError(), ConnectionResetError(), OSError(errno.EIO, "500")]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
@pytest.mark.parametrize("after", [False, True])
def test_what_may_pass_is_tried_again_and_an_answer_that_was_lost_does_no_harm(
    error: Exception, after: bool, remote: Any
) -> None:
    file, inner = remote / "x", remote.fs
    for done in (lambda: file.write_bytes(b"one"), lambda: file.read_bytes(), lambda: file.unlink(missing_ok=True)):
        file._fs_cached = Failing(inner, error, places.TRIES - 1, after=after)
        done()
    file._fs_cached = Failing(inner, error, places.TRIES - 1, after=after)
    assert file.create(b"mine")
    file._fs_cached = inner
    assert file.read_bytes() == b"mine"


def test_a_failure_is_never_an_empty_answer_and_names_the_object(remote: Any) -> None:
    file = remote / "x"
    file.write_bytes(b"")
    for ask in (file.is_file, file.exists, file.read_bytes, lambda: list(file.parent.glob("*")), file.stat):
        for each in (file, file.parent):
            each._fs_cached = Failing(each.fs, TRANSIENT[0], places.TRIES)
        with pytest.raises(RemoteError, match=r"(x|store): could not be (asked for|read|listed) in 3 tries.*SlowDown"):
            file.parent._fs_cached = Failing(file.fs, TRANSIENT[0], 99)
            ask() if ask != file.stat else file.stat()
            list(_with(file.parent, file.fs).glob("*"))


def _with(path: Any, files: Any) -> Any:
    path._fs_cached = files
    return path


def test_no_permission_is_told_at_once_and_by_name(remote: Any) -> None:
    file = _with(remote / "x", Failing(remote.fs, PermissionError("Access Denied"), 1))
    with pytest.raises(PermissionError) as raised:
        file.read_bytes()
    assert sentence(raised.value) == f"{file}: permission denied; change its permissions, or choose another place"


def test_missing_credentials_are_told_with_the_way_out() -> None:
    class NoCredentialsError(Exception):
        pass

    file: Any = place("s3://bucket/x")
    file._fs_cached = Failing(None, NoCredentialsError("Unable to locate credentials"), 1)
    with pytest.raises(RemoteError, match="no credentials.*give them as s3fs takes them"):
        file.read_bytes()


def test_what_needs_a_disk_is_refused_by_name(tmp_path: Path, remote: Place) -> None:
    assert on_disk(tmp_path, "tuned models") == tmp_path
    with pytest.raises(BadInput, match="tuned models are written by libraries that need a disk, and memory://"):
        on_disk(remote, "tuned models")
