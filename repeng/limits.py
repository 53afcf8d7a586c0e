"""How much one command takes in. What is beyond is refused before work begins, with the limit in the message."""

from __future__ import annotations

import errno
import math
import os
import stat
from typing import Any

from repeng.errors import BadData, BadInput
from repeng.places import Place, is_remote

SETTINGS_BYTES = 1_000_000
"""Of a study file."""
RECORD_BYTES = 256_000_000
"""Of a list of shifts, an evaluation, a results table, a description in JSON."""
DATA_BYTES = 2_000_000_000
"""Of a data file, unpacked, and of a probe's weights."""
DATA_ROWS = 10_000_000
"""Rows of a Parquet file: columns without values take no space in it."""
TEXT_CHARACTERS = 20_000_000
"""Of a prompt or a response."""
RESPONSES = 1_000
"""Of an example: every two of them are a pair to be asked about."""
LAYERS = 10_000
COUNT = 100_000
"""Of a parameter that counts, such as a probe's restarts or the steps of a tuning run."""
PIECE = 1 << 20
LARGEST_SEED = 2**31 - 1
"""The largest that every library takes."""


def size(number: int) -> str:
    """A number of bytes as people say it."""
    for unit, worth in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= worth:
            return f"{number / worth:.3g} {unit}"
    return f"{number} bytes"


def read_bounded(path: Place, most: int) -> bytes:
    """A file's content.

    Args:
        path: a regular file, or a link to one; a device or a pipe may never end.
        most: bytes that it may have.

    Raises:
        BadData: it is no regular file, or larger.
        OSError: it cannot be read.
    """
    status = path.stat()
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise BadData("not a regular file but a device or a pipe; give a file on a disk", path=path)
    if is_remote(path):
        if status.st_size > most:
            raise BadData(f"{size(status.st_size)}, and at most {size(most)} are read of such a file", path=path)
        return path.read_bytes()
    with path.open("rb") as file:
        found = os.fstat(file.fileno()).st_size
        content = file.read(found) if found <= most else b""
        # Some files, such as those of /proc, are longer than they say.
        while max(found, len(content)) <= most and (more := file.read(PIECE)):
            content += more
    if max(found, len(content)) > most:
        raise BadData(f"{size(max(found, len(content)))}, and at most {size(most)} are read of such a file", path=path)
    return content


def check_number(what: str, value: Any, like: int | float) -> None:
    """See that a parameter which a user gave is a number of the kind of its default, and none that never ends.

    Args:
        what: its name, for the message.
        value: what was given.
        like: its default: true or false, a count or a measure.

    Raises:
        BadInput: it is of another kind, not finite, or a count above `COUNT`.
    """
    if isinstance(like, bool):
        fits, rule = isinstance(value, bool), "True or False"
    elif isinstance(like, int):
        most = LARGEST_SEED if what.endswith("seed") else COUNT
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
        rule = f"a whole number from 0 to {most:,}"
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        rule = "a finite number"
    if not fits:
        raise BadInput(f"{what} is {value!r}; it must be {rule}")
