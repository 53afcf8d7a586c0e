"""Who computes what next, where many workers compute pieces of different lengths and may be lost."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar, runtime_checkable

from repeng.errors import RepengError

MOST_LOSSES = 3
"""Workers that may be lost with one piece in hand before the piece is taken to be what kills them."""
ONE_LOSS_SECONDS = 10.0
"""The workers of one machine that are lost within so many seconds are lost together, with the machine."""


@runtime_checkable
class Sized(Protocol):
    """What is handed out: something of a length, as in tokens."""

    @property
    def n_tokens(self) -> int:
        """Its length."""
        ...


PieceT = TypeVar("PieceT", bound=Sized)


class Dispatch(Generic[PieceT]):
    """Pieces that wait, the longest first, and those that workers have in hand.

    The longest first, since a long one that is begun last keeps everybody waiting. A worker is given a second piece
    while it computes the first, so that it need not wait for us, but not near the end, where a slow worker would sit
    on what another could do.

    Args:
        pieces: all that is to be done.
        clock: tells seconds.
    """

    def __init__(self, pieces: Iterable[PieceT] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting: list[tuple[int, int, PieceT]] = []
        self._hands: dict[Hashable, list[PieceT]] = {}
        self._machines: dict[Hashable, str] = {}
        self._losses: dict[int, list[tuple[str, float]]] = {}
        self._clock = clock
        self._number = 0
        self.add(pieces)

    def add(self, pieces: Iterable[PieceT]) -> None:
        """More that is to be done."""
        for piece in pieces:
            heapq.heappush(self._waiting, (-piece.n_tokens, self._number, piece))
            self._number += 1

    def join(self, worker: Hashable, machine: str = "") -> None:
        """A worker that is ready, on some machine."""
        self._hands.setdefault(worker, [])
        self._machines[worker] = machine

    def give(self, worker: Hashable) -> PieceT | None:
        """What a worker that is ready is to compute next, or after what it has in hand; None where nothing is."""
        hand = self._hands[worker]
        allowed = 1 if len(self._waiting) <= len(self._hands) else 2
        if not self._waiting or len(hand) >= allowed:
            return None
        piece = heapq.heappop(self._waiting)[2]
        hand.append(piece)
        return piece

    def done(self, worker: Hashable, piece: PieceT) -> None:
        """A worker has computed a piece, or failed to."""
        self._hands[worker].remove(piece)

    def lost(self, worker: Hashable) -> list[PieceT]:
        """A worker is gone: what it had in hand waits again.

        Returns:
            That.

        Raises:
            RepengError: a piece was in hand whenever several workers were lost, not all together with one machine.
        """
        pieces, machine, now = self._hands.pop(worker, []), self._machines.pop(worker, ""), self._clock()
        for piece in pieces:
            losses = self._losses.setdefault(id(piece), [])
            if not any(where == machine and now - when < ONE_LOSS_SECONDS for where, when in losses):
                losses.append((machine, now))
            if len(losses) >= MOST_LOSSES:
                raise RepengError(
                    f"{MOST_LOSSES} workers were lost, each with {piece} in hand: it may be what kills them, by the "
                    "memory that it takes; look into their logs, or give a worker more memory"
                )
        self.add(pieces)
        return pieces

    def drop(self, unwanted: Callable[[PieceT], bool]) -> None:
        """Forget what waits and is not wanted any more; what is in hand stays there."""
        self._waiting = [entry for entry in self._waiting if not unwanted(entry[2])]
        heapq.heapify(self._waiting)

    @property
    def in_hand(self) -> tuple[PieceT, ...]:
        """What workers have in hand."""
        return tuple(piece for hand in self._hands.values() for piece in hand)

    @property
    def n_waiting(self) -> int:
        """Pieces that wait."""
        return len(self._waiting)

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nobody has anything in hand."""
        return not self._waiting and not self.in_hand
