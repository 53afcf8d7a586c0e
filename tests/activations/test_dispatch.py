"""Who computes what next."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from repeng.activations.dispatch import MOST_LOSSES, Dispatch
from repeng.errors import RepengError


@dataclass(frozen=True, eq=False)
class Piece:
    n_tokens: int

    def __str__(self) -> str:
        return f"a piece of {self.n_tokens}"


def dispatch_of(*lengths: int, workers: str = "ab") -> Dispatch[Piece]:
    dispatch = Dispatch(Piece(length) for length in lengths)
    for worker in workers:
        dispatch.join(worker)
    return dispatch


def given(dispatch: Dispatch[Piece], worker: str) -> int | None:
    piece = dispatch.give(worker)
    return None if piece is None else piece.n_tokens


def test_the_longest_is_given_first_and_equal_ones_in_their_order() -> None:
    first, second = Piece(3), Piece(3)
    dispatch = Dispatch([Piece(1), first, second, Piece(5)])
    for worker in "abcd":
        dispatch.join(worker)
    found = [dispatch.give(worker) for worker in "abcd"]
    assert [piece.n_tokens for piece in found if piece] == [5, 3, 3, 1]
    assert found[1:3] == [first, second]


def test_a_worker_has_two_in_hand_while_many_wait_and_one_near_the_end() -> None:
    dispatch = dispatch_of(6, 5, 4, 3, 2, 1)
    assert [given(dispatch, "a"), given(dispatch, "a"), given(dispatch, "a")] == [6, 5, None]
    # Four wait for two workers; then two do.
    assert [given(dispatch, "b"), given(dispatch, "b"), given(dispatch, "b")] == [4, 3, None]
    assert given(dispatch, "a") is None
    assert dispatch.n_waiting == 2


def test_what_a_lost_worker_had_in_hand_waits_again_and_nothing_else_is_given_twice() -> None:
    dispatch = dispatch_of(6, 5, 4, 3, 2, 1)
    hand = [dispatch.give("a"), dispatch.give("a")]
    other = dispatch.give("b")
    assert other is not None
    assert dispatch.lost("a") == hand
    dispatch.done("b", other)
    rest = []
    while not dispatch.is_done:
        piece = dispatch.give("b")
        assert piece is not None
        dispatch.done("b", piece)
        rest.append(piece.n_tokens)
    assert rest == [6, 5, 3, 2, 1]


def test_a_piece_that_kills_every_worker_is_an_error_that_names_it() -> None:
    dispatch = dispatch_of(7, workers="")
    for worker in range(MOST_LOSSES - 1):
        dispatch.join(worker, f"machine {worker}")
        assert given(dispatch, worker) == 7  # type: ignore[arg-type]
        dispatch.lost(worker)
    dispatch.join("last")
    dispatch.give("last")
    with pytest.raises(RepengError, match="3 workers were lost, each with a piece of 7 in hand"):
        dispatch.lost("last")


def test_workers_that_are_lost_with_their_machine_are_one_loss_of_a_piece() -> None:
    now = 0.0
    dispatch = Dispatch([Piece(7)], clock=lambda: now)
    for machine, seconds in (("m", 0.0), ("m", 1.0), ("m", 5.0), ("n", 6.0), ("m", 8.0)):
        now = seconds
        dispatch.join(f"{machine}{seconds}", machine)
        assert given(dispatch, f"{machine}{seconds}") == 7
        dispatch.lost(f"{machine}{seconds}")
    # The same machine, back again and lost again.
    now = 60.0
    dispatch.join("back", "m")
    dispatch.give("back")
    with pytest.raises(RepengError, match="3 workers were lost"):
        dispatch.lost("back")


def test_what_is_dropped_is_not_given_and_what_is_in_hand_stays_there() -> None:
    dispatch = dispatch_of(4, 3, 2, 1)
    held = dispatch.give("a")
    dispatch.drop(lambda piece: piece.n_tokens != 2)
    assert dispatch.in_hand == (held,)
    assert given(dispatch, "b") == 2
    assert not dispatch.is_done
