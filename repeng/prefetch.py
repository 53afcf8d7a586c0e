"""Blocks of data read one ahead of their use, so that a disk or a network is waited for while something is computed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Sized(Protocol):
    """What says how many bytes it takes: a tensor, an array."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


Block = TypeVar("Block", bound=Sized)


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
            if block.nbytes > most_bytes:
                yield block
                del block
                block = read()
                continue
            following = reader.submit(read)
            yield block
            del block
            block = following.result()
            del following
        yield block
