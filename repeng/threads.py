"""How many threads, and how many processes, many small problems are worth."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

SMALL_LAYER = 4 << 20
"""Bytes of one layer's activations: with no more, several threads take twice the processors' time and end no sooner."""
SMALL_MODEL = 64 << 20
"""Bytes of a model's weights: with no more, two threads are a tenth sooner than one, and two processes nearly twice."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread for as long as the context lasts.

    The products inside a solver for one layer, or of a step on a few texts, are so small that threads wait for each
    other longer than they work: on two busy cores, two threads were six to thirty times slower than one.
    """
    # Loaded first, because a library that is loaded later is not limited.
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1):
        yield


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread for as long as the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def few_threads(n_bytes: int, small: int) -> AbstractContextManager[None]:
    """One thread of torch's while something of some bytes is worked on, if that is no more than `small`; else all."""
    return one_torch_thread() if n_bytes <= small else nullcontext()


def n_beside(work: int, worth: int) -> int:
    """How many processes to have beside this one: together as many as torch has threads, if there is work for them.

    None where the system has no semaphores for them to share, as in some containers.

    Args:
        work: how much there is to do.
        worth: how much of it is worth a process, which takes seconds to begin.
    """
    wanted = max(0, min(torch.get_num_threads() - 1, work // worth))
    try:
        return wanted if wanted and multiprocessing.Lock() else 0
    except (ImportError, OSError):
        return 0
