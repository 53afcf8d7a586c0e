"""Blocks of data read one ahead of their use, so that a disk or a network is waited for while something is computed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Sized(Protocol):
    """What says how many bytes it takes: a tensor, an array."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


Block = TypeVar("Block", bound=Sized)

LARGE_BYTES = 8 << 20
"""Behind a block of so much, what the C library keeps of freed memory goes back to the system."""


def read_ahead(reads: Sequence[Callable[[], Block]], most_bytes: int) -> Generator[Block, None, None]:
    """What some functions give, in order; while one block is in use a thread reads the next one, and no other.

    So two blocks are in memory at a time. Behind a block of more than `most_bytes` nothing is read ahead, so that of
    large blocks there is one. The caller lets go of a block before it asks for the next.

    Args:
        reads: each reads one block; what they raise is raised where their block's turn comes.
        most_bytes: of a block that the next may be read beside.
    """
    if not reads:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        block = reads[0]()
        for read in reads[1:]:
            size = block.nbytes
            following = reader.submit(read) if size <= most_bytes else None
            yield block
            del block
            if size >= LARGE_BYTES:
                _give_back_freed_memory()
            block = read() if following is None else following.result()
            del following
        yield block


def _give_back_freed_memory() -> None:
    """Where the C library is glibc: small results between large blocks would keep the blocks' memory from the system.

    A fit of 80 layers of 33 MB, 20 nulls at each, came to three times the memory that it needed.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
