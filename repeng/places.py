"""Where a store or results folder is: a folder of a disk, or one of an object store such as `s3://bucket/store`.

`place` makes one of text: a `pathlib.Path`, or a path of `universal_pathlib` with the same methods, over fsspec. Both
are a `Place`. A file of a remote place is an object: it is there whole after one PUT, or not at all, and a folder is
nothing but the beginning of names.
"""

from __future__ import annotations

import errno
import io
import os
import random
import re
import shutil
import threading
import time
from abc import ABC
from collections.abc import Callable, Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from repeng.errors import BadInput, RemoteError

Result = TypeVar("Result")
TRIES = 3
"""How often a request is made before its failure is told. The libraries below try each several times by themselves, so
that a service that says SlowDown to everything is given up after two minutes."""
FIRST_WAIT = 0.5
"""Seconds before the second try; each later wait is twice as long, and up to half as long again by chance."""
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs")}
"""Of each file system the module that it needs, and the extra that installs it."""
ATOMIC = (*EXTRAS, "memory")
"""File systems in which an object is there whole or not at all, and can be made only where there is none."""
TRANSIENT = {
    "ClientPayloadError",
    "ClientConnectionError",
    "ConnectionError",
    "FSTimeoutError",
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "ResponseParserError",
    "ServerDisconnectedError",
    "TimeoutError",
}
"""Errors of the libraries below, or what they derive from, after which a request is made again."""
TRANSIENT_ERRNOS = {
    *(errno.EIO, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE),
    *(errno.EAGAIN, errno.EHOSTUNREACH, errno.ENETUNREACH, getattr(errno, "EREMOTEIO", errno.EIO)),
}
"""What s3fs makes of a server's 500 and 503 (SlowDown), and the system of a connection that was lost."""
CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"}

_making = threading.Lock()
"""Held while an object is made where there is none: `memory://` looks and writes in two steps."""

if TYPE_CHECKING:
    # A remote path has the methods of a local one that are used here.
    Place = Path
    _Base = object
else:

    class Place(ABC):  # noqa: B024  (it has no method of its own: it is what both kinds have in common)
        """A local or remote path."""

    Place.register(Path)
    _Base = Place


def place(text: str | Place) -> Place:
    """Where a name leads: `store` and `~/store` to a folder of this machine, `s3://bucket/store` to an object store.

    How an object store is reached (endpoint, credentials, region) is configured as fsspec and its file systems have it.

    Args:
        text: a name, or a place, which is returned with `~` replaced.

    Raises:
        BadInput: a file system whose writes are not whole or not at all, or for which a package is not installed.
    """
    if not isinstance(text, str):
        if isinstance(text, Path) and (lost := re.match(r"(\w+):/[^/]", str(text))) and lost[1] in ATOMIC:
            raise BadInput(f"{text}: a pathlib.Path loses a slash of {lost[1]}://; give the place as text")
        return text.expanduser()
    scheme = SCHEME.match(text)
    if scheme is None and "::" not in text:
        return Path(text).expanduser()
    protocol = scheme[1].lower() if scheme is not None else ""
    if protocol not in ATOMIC or "::" in text:
        local = "give a local folder by its path alone; " if protocol in ("file", "local") else ""
        raise BadInput(
            f"{text}: not a file system that a store or results can be on: of remote ones it must be "
            f"{', '.join(f'{name}://' for name in ATOMIC)}, whose objects are written whole or not at all; {local}"
            "mount any other, and give the folder that it is mounted on"
        )
    module, extra = EXTRAS.get(protocol, ("fsspec", ""))
    if find_spec(module) is None:
        raise BadInput(f'{text}: {protocol}:// needs the package {module}; pip install "repeng-toolkit[{extra}]"')
    if not text[len(protocol) + 3 :].strip("/"):
        raise BadInput(f"{text}: names no {'folder' if protocol == 'memory' else 'bucket'}; give {protocol}://NAME/...")
    # Other processes write there too: what was listed a second ago need not be so any more.
    options = {} if protocol == "memory" else {"use_listings_cache": False}
    found: Any = _class_of(protocol)(text.rstrip("/"), **options)
    return found


def is_remote(path: Place) -> bool:
    """Whether a place is in an object store."""
    return isinstance(path, Remote)


def on_disk(folder: Place, what: str) -> Path:
    """The same folder, for what can be on a disk alone.

    Args:
        folder: any.
        what: is to be there, for the message, as `tuned models`.

    Raises:
        BadInput: it is in an object store.
    """
    if isinstance(folder, Remote):
        raise BadInput(
            f"{what} are written by libraries that need a disk, and {folder} is in an object store; leave these "
            "methods out, or give a folder of a disk"
        )
    return folder


def stamp(path: Place) -> tuple[Any, ...]:
    """What changes whenever a file is written anew: inode, size and time, or what the object store says of a version.

    Raises:
        OSError: it is not there, or cannot be asked.
    """
    if isinstance(path, Remote):
        info = path.info()
        return tuple(str(info.get(key, "")) for key in ("ETag", "etag", "generation", "mtime", "created", "size"))
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_at_most(path: Place, start: int, stop: int) -> bytes:
    """The bytes of a file from `start` up to `stop`, or to its end.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(path, Remote):
        return path.read_range(start, stop)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def read_range(path: Place, start: int, stop: int) -> bytes:
    """The bytes of a file from `start` up to `stop`.

    Raises:
        OSError: it cannot be read.
        EOFError: it is shorter.
    """
    content = read_at_most(path, start, stop)
    if len(content) != stop - start:
        raise EOFError(f"ends at byte {start + len(content)}")
    return content


def remove_tree(path: Place) -> None:
    """Remove a folder with all that is in it.

    Raises:
        OSError: something of it cannot be removed.
    """
    if isinstance(path, Remote):
        path.remove_tree()
    else:
        shutil.rmtree(path)


def tree_bytes(path: Place) -> int:
    """Size of all files in a folder and its sub-folders."""
    if isinstance(path, Remote):
        return sum(int(info["size"] or 0) for info in path.listing().values())
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class Remote(_Base):
    """The methods of `pathlib.Path` that ask an object store: none takes a failure of the network for an empty answer.

    Mixed into the paths of `universal_pathlib`, which know how names are put together. A request that failed for what
    may pass (a 500, SlowDown, a lost connection) is made again up to `TRIES` times. A PUT and a DELETE that are made
    twice leave what one leaves, so that an answer that was lost does no harm.
    """

    __slots__ = ()
    if TYPE_CHECKING:
        fs: Any
        path: str
        parts: tuple[str, ...]
        protocol: str

    def __new__(cls, *_segments: Any, **_options: Any) -> Any:  # noqa: D102
        return object.__new__(cls)

    def __reduce__(self) -> Any:
        return place, (str(self),)

    def info(self) -> dict[str, Any]:
        """What the file system says of an object, or of a folder.

        Raises:
            FileNotFoundError: there is neither.
            OSError: it cannot be asked.
        """
        found: dict[str, Any] = self._tried("asked for", lambda: self.fs.info(self.path))
        return found

    def is_file(self, **_how: Any) -> bool:
        """Whether there is an object of this very name."""
        return self._type() == "file"

    def is_dir(self, **_how: Any) -> bool:
        """Whether there is an object below this name."""
        return self._type() == "directory"

    def exists(self, **_how: Any) -> bool:
        """Whether there is an object of this name, or below it."""
        return self._type() != ""

    def stat(self, **_how: Any) -> Any:
        """Size and kind, as `st_size` and `st_mode`."""
        from upath._stat import UPathStatResult

        return UPathStatResult.from_info(self.info())

    def modified(self) -> datetime:
        """When the object was last written, by the object store's clock."""
        found: datetime = self._tried("asked for", lambda: self.fs.modified(self.path))
        return found

    def read_bytes(self) -> bytes:
        """The whole object, in one request: another may be put in its place meanwhile."""
        alone = {"max_concurrency": 1} if self.protocol in ("s3", "s3a") else {}
        content: bytes = self._tried("read", lambda: self.fs.cat_file(self.path, **alone))
        return content

    def read_range(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`; fewer where the object ends before."""
        if stop <= start:
            return b""
        try:
            content: bytes = self._tried("read", lambda: self.fs.cat_file(self.path, start=start, end=stop))
        except OSError as error:
            # So does s3fs say that the object ends before `start`.
            if error.errno == errno.EINVAL:
                return b""
            raise
        return content

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The whole object as text, UTF-8 unless told otherwise."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding or "utf-8", errors, newline).read()

    def write_bytes(self, data: bytes | bytearray | memoryview) -> int:
        """Put an object there, whole or not at all, in the place of any that is there.

        Raises:
            OSError: it could not be written. There is what was there before, or the new object.
        """
        try:
            self._tried("written", lambda: self.fs.pipe_file(self.path, bytes(data)))
        except FileNotFoundError as error:
            raise RemoteError(f"{self}: there is no such bucket; make it, or give another") from error
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None) -> int:
        """Put a text there, as `write_bytes`; line ends as they are."""
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def create(self, data: bytes) -> bool:
        """Put an object there if there is none, and say whether it is this one that is there now.

        Args:
            data: of its like no other writer puts anything, so that it is known again when an answer was lost.
        """

        def once() -> bool:
            try:
                with _making:
                    self.fs.pipe_file(self.path, data, mode="create")
            except PermissionError:
                raise
            except Exception as error:
                # Refused because one is there; or the answer was lost, and it may be this one.
                try:
                    return bool(self.fs.cat_file(self.path) == data)
                except FileNotFoundError:
                    raise error from None
            return True

        return self._tried("made", once)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object; one that is not there is as removed."""
        try:
            self._tried("removed", lambda: self.fs.rm_file(self.path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Remove every object below this name."""
        for name in self.listing():
            self._below(name).unlink(missing_ok=True)
        if self.protocol == "memory":
            below = [folder for folder in self.fs.pseudo_dirs if f"{folder}/".startswith(f"{self.path}/")]
            for folder in below:
                self.fs.pseudo_dirs.remove(folder)

    def listing(self) -> dict[str, dict[str, Any]]:
        """Every object below this name, by its name from here on, and what the file system says of it."""

        def once() -> dict[str, dict[str, Any]]:
            try:
                found: dict[str, dict[str, Any]] = self.fs.find(self.path, detail=True)
            except FileNotFoundError:
                return {}
            return found

        begin = self.path.rstrip("/") + "/"
        return {
            name[len(begin) :]: info
            for name, info in sorted(self._tried("listed", once).items())
            if name.startswith(begin) and not name.endswith("/")
        }

    def children(self) -> dict[str, str]:
        """Names directly below this one, and of each whether it is a `file` or a `directory`."""

        def once() -> list[dict[str, Any]]:
            try:
                found: list[dict[str, Any]] = self.fs.ls(self.path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return found

        begin = self.path.rstrip("/") + "/"
        rows = [(str(row["name"]).rstrip("/"), str(row["type"])) for row in self._tried("listed", once)]
        return dict(sorted((name[len(begin) :], kind) for name, kind in rows if name.startswith(begin)))

    def iterdir(self) -> Iterator[Any]:
        """What is directly below this name."""
        return iter([self._below(name) for name in self.children()])

    def glob(self, pattern: str, **_how: Any) -> Iterator[Any]:
        """What matches a pattern below this name, as of `pathlib.Path.glob`, in order."""
        folders_only, levels = pattern.endswith("/"), pattern.strip("/").split("/")
        if len(levels) <= 2 and "**" not in levels and not folders_only:
            return iter(list(self._by_level(levels)))
        files = list(self.listing())
        parents = {name[: at.start()] for name in files for at in re.finditer("/", name)}
        found = parents | {""} if folders_only else parents | {*files}
        return iter([self._below(name) for name in sorted(found) if _matches(name.split("/") if name else [], levels)])

    def rglob(self, pattern: str, **_how: Any) -> Iterator[Any]:
        """What matches a pattern anywhere below this name."""
        return self.glob(f"**/{pattern}")

    def open(self, mode: str = "r", *, encoding: str | None = None, **how: Any) -> Any:
        """The object's content, to be read; it is written as a whole, with `write_bytes`."""
        if mode not in ("r", "rb"):
            raise io.UnsupportedOperation(f"{self}: open in mode {mode}; an object is written as a whole")
        content = io.BytesIO(self.read_bytes())
        return content if mode == "rb" else io.TextIOWrapper(content, encoding or "utf-8", **how)

    def mkdir(self, *_mode: Any, **_how: Any) -> None:
        """Nothing: a folder is there when there is an object in it."""

    def absolute(self) -> Any:
        """The place itself."""
        return self

    resolve = expanduser = absolute

    def _below(self, name: str) -> Any:
        return self / name if name else self  # type: ignore[operator]

    def _by_level(self, levels: list[str]) -> Iterator[Any]:
        head, rest = levels[0], levels[1:]
        if not re.search(r"[*?\[]", head):
            here = self._below(head)
            if not rest:
                yield from [here] if here.exists() else []
            else:
                yield from here._by_level(rest)
            return
        for name, kind in self.children().items():
            if fnmatchcase(name, head):
                if not rest:
                    yield self._below(name)
                elif kind == "directory":
                    yield from self._below(name)._by_level(rest)

    def _type(self) -> str:
        try:
            return str(self.info()["type"])
        except FileNotFoundError:
            return ""

    def _tried(self, done: str, request: Callable[[], Result]) -> Result:
        """What a request gives, made again while it fails for what may pass.

        Args:
            done: to the object, for the message.
            request: that leaves the same when it is made twice.
        """
        for number in range(TRIES):
            try:
                return request()
            except Exception as error:
                names = {kind.__name__ for kind in type(error).__mro__}
                if names & CREDENTIALS:
                    raise RemoteError(
                        f"{self}: no credentials ({error}); give them as {EXTRAS[self.protocol][0]} takes them, in its "
                        "environment variables, its files, or the configuration of fsspec"
                    ) from error
                if not _is_transient(error):
                    raise self._named(error) from error
                if number == TRIES - 1:
                    raise RemoteError(
                        f"{self}: could not be {done} in {TRIES} tries ({type(error).__name__}: {error}); see whether "
                        "the service can be reached, and run the same command again: it goes on from what is finished"
                    ) from error
                time.sleep(FIRST_WAIT * 2**number * (1 + random.random() / 2))
        raise AssertionError("unreachable: the last try returns or raises")

    def _named(self, error: Exception) -> Exception:
        """An error of the operating system with its number and the object's name, which libraries below leave out."""
        for kind, number in (
            (FileNotFoundError, errno.ENOENT),
            (PermissionError, errno.EACCES),
            (IsADirectoryError, errno.EISDIR),
        ):
            if isinstance(error, kind):
                return kind(number, os.strerror(number), str(self))
        return error


def _is_transient(error: Exception) -> bool:
    if isinstance(error, FileNotFoundError | PermissionError | FileExistsError | IsADirectoryError | RemoteError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & CREDENTIALS:
        return False
    code = getattr(error, "code", None)
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS:
        return True
    return bool(names & TRANSIENT) or (isinstance(code, int) and (code == 429 or code >= 500))


def _matches(names: list[str], levels: list[str]) -> bool:
    """Whether the levels of a name are those of a pattern, where `**` stands for any number of them."""
    if not levels:
        return not names
    if levels[0] == "**":
        return any(_matches(names[skipped:], levels[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], levels[0]) and _matches(names[1:], levels[1:])


@cache
def _class_of(protocol: str) -> Any:
    """The class of remote paths of a file system."""
    from upath.registry import get_upath_class

    base: Any = get_upath_class(protocol)
    return type(f"Remote{base.__name__}", (Remote, base), {"__slots__": (), "__doc__": Remote.__doc__})
