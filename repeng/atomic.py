"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, content: bytes | str, *, flush: bool = True) -> None:
    """Write a file under a temporary name, flush it to the disk, rename it: a reader sees the whole file or none.

    Its folder is made, and is not flushed: file systems keep the order of renames within a folder, so after a power cut
    a file is not there without those that were renamed before it.

    Args:
        path: the file; one that is there is replaced.
        content: text is written as UTF-8, line ends as they are.
        flush: False for what may be lost in a power cut.

    Raises:
        OSError: the disk is full, or the folder may not be written to. What was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
