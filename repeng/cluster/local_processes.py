"""Processes of this machine beside this one, for what threads are of no use to: a pool that reads blocks, and calls."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch

from repeng.activations.block import Group, read_block
from repeng.activations.dispatch import Dispatch
from repeng.activations.layouts.batch import Run
from repeng.activations.layouts.choice import Choice
from repeng.activations.pool_run import ModelFacts, Piece, PieceRead, model_facts
from repeng.activations.store.records import CaptureRecord
from repeng.garbage import look_for_garbage_seldom
from repeng.models.fingerprint import Identity
from repeng.models.load import LanguageModel
from repeng.threads import one_thread, one_torch_thread

if TYPE_CHECKING:
    from loky import ProcessPoolExecutor as Executor

log = logging.getLogger(__name__)

LOST = "a process beside this one was lost (%s), perhaps for want of memory; going on without"
IDLE_SECONDS = 60
"""How long a process waits for more work before it ends."""


def begin(n_processes: int) -> Executor:
    """Processes that take calls; those that are there already, if they are as many.

    They import what they need while this process goes on, and end by themselves when they are asked nothing.
    """
    from loky import get_reusable_executor

    # An interruption is this process's to handle; what is started inherits that it is not theirs.
    mine = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if mine else None
    try:
        executor = get_reusable_executor(
            max_workers=n_processes,
            timeout=IDLE_SECONDS,
            initializer=_alone,
            env={"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        for _ in range(n_processes):
            _submit(executor, _alone)
        return executor
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


def _alone() -> None:
    """In such a process: one thread, no word of its own."""
    from loky import process_executor

    # Loky takes activations that stay in memory for a leak, and would begin the process anew, imports and all.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    look_for_garbage_seldom()
    logging.captureWarnings(True)
    logging.getLogger().handlers = [logging.NullHandler()]


def _submit(executor: Executor, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """A call on its way; where a process was lost, one that says so."""
    try:
        found: Future[Any] = executor.submit(call, *arguments)
    except BrokenProcessPool as error:
        found = Future()
        found.set_exception(error)
    return found


@contextmanager
def _stopped_on_error(executor: Executor) -> Iterator[None]:
    """Ends the processes where the context is left by an error or an interruption."""
    try:
        yield
    except BaseException:
        executor.shutdown(wait=False, kill_workers=True)
        raise


def call_beside(executor: Executor, n_processes: int, calls: Sequence[Callable[[], Any]]) -> Iterator[tuple[int, Any]]:
    """Make calls that do not depend on one another, in this process and in those beside it, the first ones first.

    What is logged elsewhere is said here. Where a process is lost, what it had in hand is done here.

    Args:
        executor: the processes.
        n_processes: how many they are.
        calls: functions that can be pickled, the longest first.

    Yields:
        The number of a call, and what it gave, as they come; an exception that it raised is raised.
    """
    waiting = list(range(len(calls)))
    asked: dict[Future[Any], int] = {}
    with _stopped_on_error(executor):
        while waiting or asked:
            # A second call lies ready, so that nobody waits for us; not near the end, where somebody idle could do it.
            most = n_processes * (2 if len(waiting) > 2 * (n_processes + 1) else 1)
            while waiting and len(asked) < most and n_processes:
                number = waiting.pop(0)
                asked[_submit(executor, _heard, calls[number])] = number
            if waiting:
                number = waiting.pop(0)
                with one_thread(), one_torch_thread():
                    given = calls[number]()
                yield number, given
                done = {future for future in asked if future.done()}
            else:
                done = set(wait(asked, return_when=FIRST_COMPLETED).done)
            for future in done:
                number = asked.pop(future)
                try:
                    given, records = future.result()
                except BrokenProcessPool as error:
                    log.warning(LOST, type(error).__name__)
                    waiting = sorted({number, *asked.values(), *waiting})
                    asked, n_processes = {}, 0
                    break
                for record in records:
                    logging.getLogger(record.name).handle(record)
                yield number, given


def _heard(call: Callable[[], Any]) -> tuple[Any, list[logging.LogRecord]]:
    """In a process beside: what a call gives, and what was logged meanwhile."""
    queue: SimpleQueue[Any] = SimpleQueue()
    listening = QueueHandler(queue)
    listening.setLevel(logging.WARNING)
    root = logging.getLogger()
    root.addHandler(listening)
    try:
        given = call()
    finally:
        root.removeHandler(listening)
    return given, [queue.get() for _ in range(queue.qsize())]


class LocalPool:
    """This process and others of the machine, each with the model, that read blocks: a `Pool`.

    Args:
        executor: the processes beside this one.
        n_processes: how many they are.
        load: loads the model, there and here.
        identity: of that model.
    """

    def __init__(
        self, executor: Executor, n_processes: int, load: Callable[[], LanguageModel], identity: Identity
    ) -> None:
        self._executor, self._n, self._load, self._identity = executor, n_processes, load, identity
        for _ in range(n_processes):
            _submit(executor, _model_of, load, identity)
        self._lm = load()
        self._lm.identity.check_announced(identity)
        self._choice: Choice | None = None

    def facts(self, *, logprob: bool) -> ModelFacts:
        """Of the model."""
        return model_facts(self._lm, logprob=logprob)

    def layout(self, record: CaptureRecord, sample: Callable[[], Run]) -> str:
        """The layout for some texts."""
        self._choice = self._choice or Choice(self._lm, "auto", record.max_length)
        return self._choice.layout(sample)

    def read(self, dispatch: Dispatch[Piece]) -> Iterator[tuple[Piece, PieceRead | Exception]]:
        """Read pieces until none is left; each with what came of it."""
        here, others = "here", list(range(self._n))
        for worker in (here, *others):
            dispatch.join(worker)
        asked: dict[Future[PieceRead], tuple[int, Piece]] = {}
        with _stopped_on_error(self._executor):
            while not dispatch.is_done:
                for worker in others:
                    while (piece := dispatch.give(worker)) is not None:
                        what = self._load, self._identity, piece.group, piece.number, piece.todo
                        asked[_submit(self._executor, _read_beside, *what)] = worker, piece
                own = dispatch.give(here)
                if own is not None:
                    # Beside processes that keep the other cores busy, two threads wait for each other.
                    with one_torch_thread():
                        outcome = _tried(self._lm, own)
                    dispatch.done(here, own)
                    yield own, outcome
                    done = {future for future in asked if future.done()}
                else:
                    done = set(wait(asked, return_when=FIRST_COMPLETED).done)
                for future in done:
                    worker, piece = asked.pop(future)
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        log.warning(LOST, type(error).__name__)
                        for other in others:
                            dispatch.lost(other)
                        asked, others = {}, []
                        break
                    dispatch.done(worker, piece)
                    yield piece, error if isinstance(error, Exception) else future.result()


def _tried(lm: LanguageModel, piece: Piece) -> PieceRead | Exception:
    try:
        return _read(lm, piece.group, piece.number, piece.todo)
    except Exception as error:
        return error


def _read(lm: LanguageModel, group: Group, number: int, todo: tuple[int, ...]) -> PieceRead:
    """Read a block and write its shards."""
    read = read_block(lm, group, number, todo)
    return PieceRead(read.write(), read.facts, read.n_texts, read.n_tokens)


_held: list[LanguageModel] = []
"""In a process beside: the one model that it holds."""


def _model_of(load: Callable[[], LanguageModel], identity: Identity) -> LanguageModel:
    if not _held or _held[0].identity != identity:
        _held[:] = [load()]
    return _held[0]


def _read_beside(
    load: Callable[[], LanguageModel], identity: Identity, group: Group, number: int, todo: tuple[int, ...]
) -> PieceRead:
    return _read(_model_of(load, identity), group, number, todo)
