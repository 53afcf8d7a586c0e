"""Blocks are read one ahead of their use, and no other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from repeng.errors import BadInput
from repeng.prefetch import read_ahead


def numbers(count: int) -> list[Callable[[], Tensor]]:
    return [partial(torch.full, (4,), float(number)) for number in range(count)]


@pytest.mark.parametrize("most_bytes", [0, 1 << 20])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_blocks_come_in_order(count: int, most_bytes: int) -> None:
    assert [int(block[0]) for block in read_ahead(numbers(count), most_bytes)] == list(range(count))


def test_the_next_block_is_read_while_one_is_in_use_and_no_other() -> None:
    begun = [threading.Event() for _ in range(4)]

    def read(number: int) -> Tensor:
        begun[number].set()
        return torch.zeros(1)

    blocks = read_ahead([partial(read, number) for number in range(4)], 1 << 20)
    for number, _ in enumerate(blocks):
        if number < 3:
            assert begun[number + 1].wait(5)
        assert not any(event.is_set() for event in begun[number + 2 :])


def test_behind_a_large_block_nothing_is_read_ahead() -> None:
    read: list[int] = []

    def reader(number: int) -> Tensor:
        read.append(threading.get_ident())
        return torch.zeros(8)

    for number, _ in enumerate(read_ahead([partial(reader, number) for number in range(3)], 31)):
        assert read == [threading.get_ident()] * (number + 1)


def test_what_a_read_raises_is_raised_in_its_turn_and_no_thread_is_left() -> None:
    def fail() -> Tensor:
        raise BadInput("damaged")

    before = threading.active_count()
    blocks = read_ahead([*numbers(2), fail, *numbers(1)], 1 << 20)
    assert [int(next(blocks)[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(BadInput, match="damaged"):
        next(blocks)
    left = read_ahead(numbers(5), 1 << 20)
    next(left)
    left.close()
    assert threading.active_count() == before
