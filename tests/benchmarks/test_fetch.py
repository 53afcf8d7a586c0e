"""Fetching from a loopback server that ranges, drops, refuses and lies."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from repeng.benchmarks import archive as unpacking
from repeng.benchmarks import fetch as fetching
from repeng.benchmarks.fetch import download, fetch, fetched_folder
from repeng.distributions.load import load_distributions
from repeng.errors import BadInput, RepengError, UnknownName

ROWS = [{"prompt": f"p{n} ", "responses": {"good": 1.0, "bad": 0.0}} for n in range(3)]


def archive(*, members: dict[str, bytes] | None = None, padding: int = 0) -> bytes:
    files = {
        f"datasets/distributions/{name}/{split}.json": json.dumps(ROWS).encode()
        for name in ("easy", "hard")
        for split in ("train", "test")
    }
    files |= members or {}
    files["datasets/padding.bin"] = bytes(range(256)) * (padding // 256)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, where the hashes of archives are recorded."""
    place = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(place))
    return place / ".cache" / "repeng" / "data"


class Served:
    """What the server serves, and what it was asked."""

    def __init__(self) -> None:
        self.content = archive(padding=300_000)
        self.etag = '"one"'
        self.ranges: list[str | None] = []
        self.cuts: list[int] = []
        self.refusals: list[int] = []
        self.knows_ranges = True


@pytest.fixture
def served() -> Iterator[tuple[Served, str]]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if state.refusals:
                self.send_error(state.refusals.pop(0))
                return
            start = 0
            if wanted and state.knows_ranges and self.headers.get("If-Range") == state.etag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(state.content):
                    self.send_error(416)
                    return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", state.etag)
            self.end_headers()
            self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)
            self.wfile.flush()

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}/genies-datasets.tar"
    finally:
        server.shutdown()
        server.server_close()


def test_an_archive_arrives_whole_and_is_found_again(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    told: list[tuple[int, int]] = []
    folder = fetch("genies", folder=tmp_path / "genies", url=url, progress=lambda *now: told.append(now))
    assert set(load_distributions(folder)) == {"easy", "hard"}
    assert told[-1] == (len(state.content), len(state.content))
    assert fetched_folder("genies", tmp_path) == folder
    assert json.loads((tmp_path / "genies" / "fetched.json").read_text())["bytes"] == len(state.content)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".genies.lock", "genies"]


def test_what_is_here_is_not_brought_again(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    first = fetch("genies", folder=tmp_path / "genies", url=url)
    assert fetch("genies", folder=tmp_path / "genies", url=url) == first
    assert len(state.ranges) == 1


def test_a_dropped_connection_goes_on_where_it_stopped(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.cuts = [100_000, 50_000]
    fetch("genies", folder=tmp_path / "genies", url=url, pause=0.0)
    assert state.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_stopped_download_goes_on_in_another_call(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.cuts = [100_000]

    class Stopped(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        fetch("genies", folder=tmp_path / "genies", url=url, progress=stop, pause=0.0)
    assert fetched_folder("genies", tmp_path) is None
    fetch("genies", folder=tmp_path / "genies", url=url, pause=0.0)
    assert state.ranges[0] is None
    assert state.ranges[1] == "bytes=100000-"


def test_the_start_of_another_file_is_never_joined_to_the_rest_of_this_one(
    served: tuple[Served, str], tmp_path: Path
) -> None:
    state, url = served
    state.cuts = [100_000]
    path = tmp_path / "file"

    def swap(_done: int, _total: int) -> None:
        state.content, state.etag = archive(padding=200_192), '"two"'

    download(url, path, progress=swap, pause=0.0)
    assert path.read_bytes() == state.content


def test_a_server_without_ranges_is_asked_from_the_start(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.knows_ranges, state.cuts = False, [100_000]
    download(url, tmp_path / "file", pause=0.0)
    assert (tmp_path / "file").read_bytes() == state.content


def test_a_server_in_trouble_is_asked_again_and_one_that_refuses_is_not(
    served: tuple[Served, str], tmp_path: Path
) -> None:
    state, url = served
    state.refusals = [503, 500]
    download(url, tmp_path / "file", pause=0.0)
    assert (tmp_path / "file").read_bytes() == state.content
    state.refusals = [403]
    with pytest.raises(RepengError, match="answered 403"):
        download(url, tmp_path / "other", pause=0.0)
    assert len(state.ranges) == 4


def test_a_server_that_never_sends_a_byte_ends_in_an_error(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.cuts = [0] * 9
    with pytest.raises(RepengError, match="ended early; 0 bytes are here, and the same command goes on"):
        download(url, tmp_path / "file", pause=0.0)
    assert len(state.ranges) == 5


def test_what_is_no_archive_leaves_nothing(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = b"<html>sign in first</html>" * 100
    with pytest.raises(RepengError, match="no archive that can be unpacked"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert [path.name for path in tmp_path.iterdir()] == [".genies.lock"]


def test_an_archive_cut_short_by_its_server_leaves_nothing(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = state.content[:2_000]
    with pytest.raises(RepengError, match="no archive that can be unpacked"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert not (tmp_path / "genies").exists()


LONG = "d" * 247
STEPS = "abcdefghijklmnop"


def past_the_filter() -> bytes:
    """The archive of CVE-2025-4517: a path too long to resolve, which tarfile's `data` filter passes."""
    buffer, path = io.BytesIO(), ""
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, kind: bytes, target: str = "", content: bytes = b"") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(content)
            tar.addfile(info, io.BytesIO(content))

        for step in STEPS:
            add(path + LONG, tarfile.DIRTYPE)
            add(path + step, tarfile.SYMTYPE, LONG)
            path += LONG + "/"
        link = "/".join(STEPS) + "/" + "l" * 254
        add(link, tarfile.SYMTYPE, "../" * len(STEPS))
        add("escape", tarfile.SYMTYPE, link + "/../")
        add("escape/outside.json", tarfile.REGTYPE, content=b"[]")
    return buffer.getvalue()


def test_a_link_by_a_path_too_long_to_resolve_writes_nothing_outside(
    served: tuple[Served, str], tmp_path: Path
) -> None:
    state, url = served
    state.content = past_the_filter()
    with pytest.raises(RepengError, match="which is no plain file or folder; nothing was kept"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert [path.name for path in tmp_path.iterdir()] == [".genies.lock"]


def test_no_link_that_lies_there_already_is_followed(served: tuple[Served, str], tmp_path: Path) -> None:
    """Whatever gets past the check of members, nothing is written through a link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "new" / "file").symlink_to(tmp_path / "elsewhere" / "file")
    root = os.open(tmp_path / "new", os.O_RDONLY)
    buffer = io.BytesIO(archive(members={"link/a.json": b"[]", "file": b"[]"}))
    try:
        with tarfile.open(fileobj=buffer) as tar:
            for name in ("link/a.json", "file"):
                with pytest.raises(RepengError, match="twice, or under a file"):
                    unpacking._write(tar, tar.getmember(name), tuple(name.split("/")), root, 1 << 20)
    finally:
        os.close(root)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "a/../../outside.json",
        "OUTSIDE/outside.json",
        "datasets//train.json",
        "datasets\\..\\outside.json",
        "datasets/train\n.json",
        "datasets/\u202etrain.json",
        "datasets/" + "n" * 256,
        "/".join("d" * 30),
    ],
)
def test_a_member_of_an_odd_name_is_refused(name: str, served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = archive(members={name.replace("OUTSIDE", str(tmp_path)): b"[]"})
    with pytest.raises(RepengError, match="absolute, leads outside the folder, or is no usual name; nothing was kept"):
        fetch("genies", folder=tmp_path / "place" / "genies", url=url)
    assert not (tmp_path / "outside.json").exists()
    assert [path.name for path in (tmp_path / "place").iterdir()] == [".genies.lock"]


@pytest.mark.parametrize("name", ["datasets/padding.bin", "./datasets/padding.bin", "datasets/padding.bin/below"])
def test_a_member_that_is_there_twice_or_under_a_file_is_refused(
    name: str, served: tuple[Served, str], tmp_path: Path
) -> None:
    state, url = served
    buffer = io.BytesIO(state.content)
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        tar.addfile(tarfile.TarInfo(name))
    state.content = buffer.getvalue()
    with pytest.raises(RepengError, match="twice, or under a file; nothing was kept"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert [path.name for path in tmp_path.iterdir()] == [".genies.lock"]


@pytest.mark.parametrize("pax", [{"size": "-512"}, {"comment": "x" * (1 << 21)}, {"GNU.sparse.realsize": "9" * 15}])
def test_a_header_that_lies_or_fills_the_memory_is_refused(
    pax: dict[str, str], served: tuple[Served, str], tmp_path: Path
) -> None:
    state, url = served
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("file")
        info.pax_headers = pax
        tar.addfile(info)
    state.content = buffer.getvalue()
    with pytest.raises(RepengError, match="header of 2097|-512 bytes; nothing was kept|over 20 GiB"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert [path.name for path in tmp_path.iterdir()] == [".genies.lock"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_plain_file_or_folder_is_refused(
    kind: bytes, served: tuple[Served, str], tmp_path: Path
) -> None:
    state, url = served
    buffer = io.BytesIO(state.content)
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        info = tarfile.TarInfo("datasets/distributions/easy/extra.json")
        info.type, info.linkname = kind, "train.json"
        tar.addfile(info)
    state.content = buffer.getvalue()
    with pytest.raises(RepengError, match="easy/extra.json', which is no plain file or folder; nothing was kept"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert [path.name for path in tmp_path.iterdir()] == [".genies.lock"]


@pytest.mark.parametrize(("limit", "most"), [("MOST_MEMBERS", 4), ("MOST_BYTES", 300_000)])
def test_an_archive_far_larger_than_announced_is_not_unpacked(
    limit: str, most: int, served: tuple[Served, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = served
    monkeypatch.setattr(unpacking, limit, most)
    with pytest.raises(RepengError, match="it was not unpacked"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert [path.name for path in tmp_path.iterdir()] == [".genies.lock"]


def test_a_known_hash_lets_that_archive_in_and_no_other(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    with pytest.raises(RepengError, match=f"has another SHA-256 than {'0' * 64}; nothing was kept"):
        fetch("genies", folder=tmp_path / "genies", url=url, sha256="0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == [".genies.lock"]
    known = hashlib.sha256(state.content).hexdigest()
    fetch("genies", folder=tmp_path / "genies", url=url, sha256=known)
    assert json.loads((tmp_path / "genies" / "fetched.json").read_text())["sha256"] == known


def test_more_bytes_than_were_allowed_are_not_brought(
    served: tuple[Served, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = served
    monkeypatch.setattr(fetching, "MOST_BYTES", 100_000)
    with pytest.raises(RepengError, match=r"announces \d+ bytes, over 0 GiB"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert fetched_folder("genies", tmp_path) is None


def test_another_archive_from_an_address_is_refused_until_its_hash_is_given(
    served: tuple[Served, str], tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, url = served
    fetch("genies", folder=tmp_path / "one", url=url)
    old = hashlib.sha256(state.content).hexdigest()
    assert f"SHA-256 {old} is recorded" in caplog.text
    assert json.loads((home / "archives.json").read_text()) == {url: old}
    caplog.clear()
    fetch("genies", folder=tmp_path / "again", url=url)
    assert caplog.text == ""
    state.content, state.etag = archive(padding=1_024), '"two"'
    new = hashlib.sha256(state.content).hexdigest()
    with pytest.raises(RepengError, match=f"has SHA-256 {new}, and the one first .* had {old}.*--sha256 {new}"):
        fetch("genies", folder=tmp_path / "two", url=url)
    assert not (tmp_path / "two").exists() and not (tmp_path / ".two.fetching").exists()
    fetch("genies", folder=tmp_path / "two", url=url, sha256=new)
    fetch("genies", folder=tmp_path / "three", url=url)
    with pytest.raises(BadInput, match=f"holds data of an archive with SHA-256 {old}, not {new}; remove it"):
        fetch("genies", folder=tmp_path / "one", url=url, sha256=new)


def test_what_could_not_be_unpacked_is_not_the_first_to_be_trusted(
    served: tuple[Served, str], tmp_path: Path, home: Path
) -> None:
    state, url = served
    good, state.content = state.content, b"<html>sign in first</html>" * 100
    with pytest.raises(RepengError, match="no archive that can be unpacked"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    state.content, state.etag = good, '"two"'
    fetch("genies", folder=tmp_path / "genies", url=url)
    (home / "archives.json").write_text("[]")
    with pytest.raises(BadInput, match="archives.json: cannot read the recorded hashes"):
        fetch("genies", folder=tmp_path / "other", url=url)


def test_an_archive_that_could_not_be_unpacked_for_lack_of_space_is_not_brought_again(
    served: tuple[Served, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, url = served

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(RepengError, match="No space left on device"):
        patched.setattr(unpacking, "_write", full)
        fetch("genies", folder=tmp_path / "genies", url=url)
    fetch("genies", folder=tmp_path / "genies", url=url)
    assert len(state.ranges) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".genies.lock", "genies"]


def test_an_archive_without_distributions_is_named(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"), io.BytesIO())
    state.content = buffer.getvalue()
    with pytest.raises(RepengError, match="holds no distributions"):
        fetch("genies", folder=tmp_path / "genies", url=url)


def test_a_distribution_that_cannot_be_read_is_named(served: tuple[Served, str], tmp_path: Path) -> None:
    state, url = served
    state.content = archive(members={"datasets/distributions/easy/train.json": b'[{"prompt": "p"}]'})
    with pytest.raises(RepengError, match="easy/train.json"):
        fetch("genies", folder=tmp_path / "genies", url=url)
    assert not (tmp_path / "genies").exists()


def test_a_folder_that_holds_something_else_is_left_alone(served: tuple[Served, str], tmp_path: Path) -> None:
    _, url = served
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds something else"):
        fetch("genies", folder=tmp_path, url=url)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_unknown_data_and_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean genies"):
        fetch("genie", folder=tmp_path / "x")
    with pytest.raises(BadInput, match="http or https"):
        fetch("genies", folder=tmp_path / "x", url="file:///etc/passwd")
