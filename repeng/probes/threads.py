"""How many threads many small problems are worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_BYTES = 4 << 20
"""Of one layer's activations: with no more, several threads take twice the processors' time and end no sooner."""


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
def few_threads(n_bytes: int) -> Iterator[None]:
    """One thread of torch's while something is fitted on layers of so many bytes, if that is little; else all."""
    before = torch.get_num_threads()
    if n_bytes <= SMALL_BYTES:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
