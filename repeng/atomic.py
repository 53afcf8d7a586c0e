"""Files that are there whole, or not at all; and that a power cut leaves there.

In an object store a file is one PUT, which is just that; there is nothing to flush, to rename or to make a folder of.
On a disk every step is one call of `os`, named through the module, so that tests can put a failing disk in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from repeng.errors import BadInput
from repeng.lease import check
from repeng.places import Place, is_remote

COPIED_BYTES = 1 << 20
"""Of a copied file, in memory at once."""


def write_atomically(path: Place, content: bytes | str, *, flush: bool = True) -> None:
    """Write a file under a temporary name, flush it to the disk, rename it, flush its folder: readers see all or none.

    Its folder is made.

    Args:
        path: the file; one that is there is replaced.
        content: text is written as UTF-8, line ends as they are.
        flush: False for what may be lost, or be there cut short, after a power cut.

    Raises:
        BadInput: the path is of a device or a pipe.
        LeaseLost: another process took the folder of the object store that this one held.
        OSError: the disk is full, or the folder may not be written to, or the object store does not answer. There is
            either what was there before or, where only the flush of the folder or the answer failed, the new content.
    """
    if is_remote(path):
        check(path)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A rename would put a file in the place of the device itself, and root may do so.
        raise BadInput(f"{path}: a device or a pipe, which cannot be written as a whole; give the name of a file")
    make_folder(path.parent, flush=flush)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write(temporary, os.O_CREAT | os.O_EXCL, content, flush=flush)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    if flush:
        sync_folder(path.parent)


def copy_atomically(source: Place, target: Place, *, move: bool = False) -> None:
    """Copy a file, in bounded memory on a disk: readers of the copy see all or none. Its folder is made.

    Args:
        source: the file.
        target: the copy; a file that is there is replaced.
        move: the source may go: on one disk it is renamed.

    Raises:
        LeaseLost, OSError: as of `write_atomically`.
    """
    if is_remote(source) or is_remote(target):
        write_atomically(target, source.read_bytes())
        return
    make_folder(target.parent)
    if move and _renamed(source, target):
        return
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with source.open("rb") as file:
            _write_pieces(temporary, iter(lambda: file.read(COPIED_BYTES), b""))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(target.parent)


def _renamed(source: Path, target: Path) -> bool:
    """Whether a file, flushed to the disk, could be renamed; not from one disk to another."""
    file = os.open(source, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    sync_folder(target.parent)
    return True


def clear_temporaries(folder: Place) -> None:
    """Remove the files that a killed process left half written. Nobody else may be writing in the folder."""
    for file in () if is_remote(folder) else folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)


def append_line(path: Place, line: str) -> None:
    """Append a line to a file and flush it to the disk; the file is made. `read_lines` reads it.

    One writer at a time. A line that an earlier writer left unfinished is cut off first. In an object store the whole
    file is written anew.

    Args:
        path: the file.
        line: without its end, and without NUL.

    Raises:
        OSError: the disk is full, or the file may not be written to. A beginning of the line may be there.
    """
    before = path.read_bytes() if path.is_file() else None
    if is_remote(path):
        whole = (before or b"")[: (before or b"").rfind(b"\n") + 1]
        write_atomically(path, whole + f"{line}\n".encode())
        return
    if before is None:
        make_folder(path.parent)
    elif not before.endswith(b"\n"):
        os.truncate(path, before.rfind(b"\n") + 1)
    _write(path, os.O_CREAT | os.O_APPEND, f"{line}\n")
    if before is None:
        sync_folder(path.parent)


def read_lines(path: Place) -> list[str]:
    """The whole lines of a file that `append_line` writes; none where there is no file.

    Left out are a last line without an end, which its writer did not finish, and one with NULs in it, of which a power
    cut took a block.

    Raises:
        OSError: the file cannot be read.
    """
    content = path.read_bytes() if path.is_file() else b""
    return [line.decode(errors="replace") for line in content.split(b"\n")[:-1] if b"\0" not in line]


def make_folder(path: Place, *, flush: bool = True) -> None:
    """Make a folder and those above it, each flushed to the disk, unless it is there.

    Raises:
        OSError: the folder above may not be written to.
    """
    for folder in () if is_remote(path) else (*reversed(path.parents), path):
        if not folder.is_dir():
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
            if flush:
                sync_folder(folder.parent)


def sync_folder(path: Place) -> None:
    """Flush a folder to the disk: the names in it, made, renamed or removed, are as they are now after a power cut.

    Raises:
        OSError: the disk fails.
    """
    if is_remote(path):
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        # What a file system says that cannot flush folders; those write them as they are changed.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(folder)


def sync_tree(path: Place) -> None:
    """Flush a folder that others wrote to the disk: every file and folder in it, and its own name.

    Raises:
        OSError: the disk fails.
    """
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.open(Path(folder) / name, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        sync_folder(Path(folder))
    sync_folder(path.parent)


def _write(path: Path, how: int, content: bytes | str, *, flush: bool = True) -> None:
    _write_pieces(path, [content.encode() if isinstance(content, str) else content], how=how, flush=flush)


def _write_pieces(
    path: Path, pieces: Iterable[bytes], *, how: int = os.O_CREAT | os.O_EXCL, flush: bool = True
) -> None:
    file = os.open(path, os.O_WRONLY | how, 0o666)
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(file, rest) :]
        if flush:
            os.fsync(file)
    finally:
        os.close(file)
