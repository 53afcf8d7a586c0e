"""Unpacking an archive that nobody vouches for: plain files and folders alone, and never outside the folder."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from repeng.errors import RepengError

# The public archive unpacks to some hundred files of well under a gigabyte; what claims to be far larger is not it.
MOST_BYTES = 20 * 1024**3
MOST_MEMBERS = 100_000
MOST_FOLDERS_DEEP = 20
# Of a header that only lengthens the next one's name: tarfile holds it in memory whole.
MOST_HEADER_BYTES = 1 << 20
CHUNK = 1 << 20


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar into a new folder, with every part of every path opened by its parent's descriptor.

    Nothing relies on what a path resolves to: there are no links to follow, since none is made and none is followed.
    Owners, times and modes of the archive are not taken over, nor the files that macOS adds to each file.

    Args:
        archive: a tar, compressed or not.
        folder: where to; it must not be there yet.

    Raises:
        RepengError: a member is no plain file or folder, has a name that leads elsewhere or that another has, or there
            is more than `MOST_BYTES` or `MOST_MEMBERS`.
        tarfile.TarError: it is no tar, or is cut short.
        OSError: the disk refuses.
    """
    folder.mkdir()
    with tarfile.open(archive, tarinfo=_Header) as tar:
        members = list(_members(tar))
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            written = 0
            for member, parts in members:
                written += _write(tar, member, parts, root, MOST_BYTES - written)
        finally:
            os.close(root)


class _Header(tarfile.TarInfo):
    """A header that is refused before what it announces is read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        content = header.type in tarfile.REGULAR_TYPES and header.type != tarfile.GNUTYPE_SPARSE
        if header.size < 0 or not content and header.size > MOST_HEADER_BYTES:
            raise RepengError(f"what arrived has a header of {header.size} bytes; nothing was kept")
        return header


def _members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, tuple[str, ...]]]:
    """The files and folders of a tar with the parts of their paths; anything else is refused."""
    size = 0
    for count, member in enumerate(tar, 1):
        if not (member.isdir() or member.isfile() and not member.issparse()):
            raise RepengError(
                f"what arrived holds {_shown(member)}, which is no plain file or folder; nothing was kept"
            )
        if member.size < 0:
            raise RepengError(f"what arrived holds {_shown(member)} of {member.size} bytes; nothing was kept")
        size += member.size
        if size > MOST_BYTES or count > MOST_MEMBERS:
            raise _too_large()
        parts = _parts(member)
        if parts and not parts[-1].startswith("._"):
            yield member, parts


def _parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    """The names on the way to a member; none for the folder itself."""
    name = member.name
    parts = tuple(part for part in name.split("/") if part != ".")
    odd = not name.isprintable() or "\\" in name or len(parts) > MOST_FOLDERS_DEEP
    # An absolute name begins with an empty part.
    if odd or any(part in ("", "..") or len(os.fsencode(part)) > 255 for part in parts):
        raise RepengError(
            f"what arrived holds a member named {_shown(member)}, which is absolute, leads outside the folder, "
            "or is no usual name; nothing was kept"
        )
    return parts


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, parts: tuple[str, ...], root: int, most: int) -> int:
    """Write one member; the bytes that it had."""
    try:
        if member.isdir():
            with _folder(root, parts):
                return 0
        with _folder(root, parts[:-1]) as parent:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            target = os.open(parts[-1], flags, 0o666, dir_fd=parent)
    except (FileExistsError, NotADirectoryError) as error:
        raise RepengError(f"what arrived holds {_shown(member)} twice, or under a file; nothing was kept") from error
    written = 0
    with os.fdopen(target, "wb") as file:
        content: Any = tar.extractfile(member)
        while chunk := content.read(CHUNK):
            written += len(chunk)
            if written > most:
                raise _too_large()
            file.write(chunk)
    return written


@contextmanager
def _folder(root: int, parts: tuple[str, ...]) -> Iterator[int]:
    """The descriptor of a folder under `root`; what is missing on the way is made, and no link is followed."""
    here = os.dup(root)
    try:
        for part in parts:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _shown(member: tarfile.TarInfo) -> str:
    return ascii(member.name[:100])


def _too_large() -> RepengError:
    return RepengError(
        f"what arrived would unpack to over {MOST_BYTES >> 30} GiB or {MOST_MEMBERS} files; it was not unpacked"
    )
