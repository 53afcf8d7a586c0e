"""Models on a Ray cluster that read the blocks of a capture: one actor a GPU, or a CPU."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from ray import exceptions

from repeng.activations.block import Group, read_block
from repeng.activations.dispatch import MOST_LOSSES, Dispatch
from repeng.activations.layouts.batch import Run
from repeng.activations.layouts.choice import Choice
from repeng.activations.pool_run import ModelFacts, Piece, PieceRead, model_facts
from repeng.activations.store.records import CaptureRecord
from repeng.activations.store.store import Store
from repeng.cluster.ray_cluster import RayCluster, WorkerNeeds
from repeng.errors import BadInput, RepengError, first_line
from repeng.models.fingerprint import Identity
from repeng.models.load import LanguageModel
from repeng.places import is_remote
from repeng.version import __version__

log = logging.getLogger(__name__)

MOST_CHARACTERS = 200
"""Of what Ray says of a lost worker, how much is told."""
SECONDS_BETWEEN_LOOKS = 5.0
"""How often the machines of the cluster are counted, and waiting is told of."""


class ModelActor:
    """A model in a process of its own. Two calls at a time: one reads while another writes what it has read."""

    def __init__(self, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self._lm: LanguageModel | None = None
        self._choice: Choice | None = None
        self._reading = threading.Lock()

    def load(self, load: Callable[[], LanguageModel], identity: Identity, version: str, store: str) -> str:
        """Load the model; gives Ray's name of the machine.

        Raises:
            BadInput: this machine has another version of repeng, finds another model under the name, or does not see
                the store.
        """
        here = socket.gethostname()
        if version != __version__:
            raise BadInput(f"{here} has repeng {__version__}, and {version} runs the command; install the same")
        root = Store(store).root
        if not is_remote(root) and not root.is_dir():
            raise BadInput(
                f"{here} does not see the store {store}; the workers write it, so put it where every machine of the "
                "cluster sees it under that name: a shared folder, or s3://"
            )
        lm = load()
        if lm.identity != identity:
            raise BadInput(f"{here} has another model of this name: {lm.identity}, and {identity} was asked for")
        self._lm = lm
        machine: str = ray.get_runtime_context().get_node_id()
        return machine

    @property
    def lm(self) -> LanguageModel:
        """The model that was loaded."""
        assert self._lm is not None
        return self._lm

    def facts(self, logprob: bool) -> ModelFacts:
        """Of the model."""
        return model_facts(self.lm, logprob=logprob)

    def layout(self, record: CaptureRecord, sample: Run) -> str:
        """The layout for some texts."""
        with self._reading:
            self._choice = self._choice or Choice(self.lm, "auto", record.max_length)
            return self._choice.layout(lambda: sample)

    def read(self, group: Group, number: int, todo: tuple[int, ...]) -> PieceRead:
        """Read a block and write its shards."""
        with self._reading:
            try:
                read = read_block(self.lm, group, number, todo)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                raise
        return PieceRead(read.write(), read.facts, read.n_texts, read.n_tokens)


@dataclass(eq=False)
class _Worker:
    """An actor, and what it was asked."""

    actor: Any
    machine: str = ""
    asked: dict[Any, Piece] = field(default_factory=dict)


class RayPool:
    """Models on a cluster that read blocks: a `Pool`.

    Workers are started on every machine that has room, on those that join later too. One that is lost costs what it
    had in hand.

    Args:
        cluster: that is connected to.
        needs: what a worker takes.
        load: loads the model, on a worker.
        identity: of that model.
        store: the folder that workers write to.
        note: told what is waited for.
    """

    def __init__(
        self,
        cluster: RayCluster,
        needs: WorkerNeeds,
        load: Callable[[], LanguageModel],
        identity: Identity,
        store: Store,
        note: Callable[[str], None] = log.info,
    ) -> None:
        self._cluster, self._needs, self._note = cluster, needs, note
        self._arguments = (ray.put(load), identity, __version__, str(store.root))
        self._groups: dict[int, tuple[Group, Any]] = {}
        self._loading: dict[Any, _Worker] = {}
        self._ready: list[_Worker] = []
        self._looked = 0.0
        self._failures = 0
        self._told = False
        if cluster.n_local is not None and not cluster.n_workers(needs):
            raise RepengError(f"{cluster.address}: this machine has no room for a worker, which takes {needs}")

    def close(self) -> None:
        """Let the workers go."""
        for worker in (*self._loading.values(), *self._ready):
            ray.kill(worker.actor)
        self._loading, self._ready = {}, []

    def facts(self, *, logprob: bool) -> ModelFacts:
        """Of the model, when the first worker has it."""
        facts: ModelFacts = self._ask_first("facts", logprob)
        return facts

    def layout(self, record: CaptureRecord, sample: Callable[[], Run]) -> str:
        """The layout for some texts, as the first worker finds it."""
        found: str = self._ask_first("layout", record, sample())
        return found

    def read(self, dispatch: Dispatch[Piece]) -> Iterator[tuple[Piece, PieceRead | Exception]]:
        """Have pieces read until none is left; each with what came of it."""
        for worker in self._ready:
            dispatch.join(worker, worker.machine)
        while not dispatch.is_done:
            self._look(dispatch)
            for worker in self._ready:
                while (piece := dispatch.give(worker)) is not None:
                    worker.asked[worker.actor.read.remote(self._sent(piece.group), piece.number, piece.todo)] = piece
            asked = {ref: worker for worker in self._ready for ref in worker.asked}
            done, _ = ray.wait([*asked, *self._loading], timeout=SECONDS_BETWEEN_LOOKS)
            for ref in done:
                if ref in self._loading:
                    self._take_on(ref, dispatch)
                elif ref in (worker := asked[ref]).asked:
                    yield from self._received(ref, worker, dispatch)
        self._groups.clear()

    def _received(
        self, ref: Any, worker: _Worker, dispatch: Dispatch[Piece]
    ) -> Iterator[tuple[Piece, PieceRead | Exception]]:
        """What came of a piece; of a worker that is lost nothing."""
        piece = worker.asked[ref]
        try:
            outcome = result_of(ref)
        except Lost as error:
            self._ready.remove(worker)
            worker.asked.clear()
            again = dispatch.lost(worker)
            self._note(f"a worker was lost ({error}); {len(again)} of its blocks are done again elsewhere")
            ray.kill(worker.actor)
            return
        del worker.asked[ref]
        dispatch.done(worker, piece)
        yield piece, outcome

    def _sent(self, group: Group) -> Any:
        """A group where workers find it; each machine fetches it once."""
        if id(group) not in self._groups:
            self._groups[id(group)] = group, ray.put(group)
        return self._groups[id(group)][1]

    def _ask_first(self, method: str, *arguments: Any) -> Any:
        """Ask the first worker that is there; another one if it is lost."""
        while True:
            self._look(None)
            if not self._ready:
                self.wait_for_one_more()
            worker = self._ready[0]
            try:
                found = result_of(getattr(worker.actor, method).remote(*arguments))
            except Lost as error:
                self._note(f"a worker was lost ({error})")
                self._ready.remove(worker)
                continue
            if isinstance(found, Exception):
                raise found
            return found

    @property
    def n_ready(self) -> int:
        """Workers whose model is loaded."""
        return len(self._ready)

    def wait_for_one_more(self) -> None:
        """Wait until another worker has loaded the model."""
        before = len(self._ready)
        while len(self._ready) == before:
            self._look(None)
            if not self._loading:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            for ref in ray.wait([*self._loading], timeout=SECONDS_BETWEEN_LOOKS)[0]:
                self._take_on(ref, None)

    def _look(self, dispatch: Dispatch[Piece] | None) -> None:
        """Start workers where there is room, now and then."""
        if time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS and (self._ready or self._loading):
            return
        self._looked = time.monotonic()
        room = self._cluster.n_asked_for(self._needs) - len(self._ready) - len(self._loading)
        wanted = room if dispatch is None else min(room, dispatch.n_waiting)
        for _ in range(wanted):
            remote = ray.remote(ModelActor).options(max_concurrency=2, **self._needs.options)
            actor = remote.remote(self._needs.cpus)
            self._loading[actor.load.remote(*self._arguments)] = _Worker(actor)
        if not self._ready and not self._told and not self._cluster.n_workers(self._needs):
            self._told = True
            self._note(f"no machine of the cluster has room for a worker, which takes {self._needs}; waiting for one")

    def _take_on(self, ref: Any, dispatch: Dispatch[Piece] | None) -> None:
        """A worker whose model is loaded."""
        worker = self._loading.pop(ref)
        try:
            found = result_of(ref)
        except Lost as error:
            # What befell the machine says nothing of the model.
            self._failures += not error.with_machine
            if self._failures >= MOST_LOSSES:
                raise RepengError(
                    f"{self._failures} workers were lost while they loaded the model; the last one said: {error}"
                ) from error
            self._note(f"a worker was lost while it loaded the model ({error})")
            return
        if isinstance(found, Exception):
            raise found
        self._failures = 0
        worker.machine = found
        self._ready.append(worker)
        if dispatch is not None:
            dispatch.join(worker, worker.machine)


class Lost(Exception):
    """A worker, or its machine, is gone; with what Ray says of it.

    Attributes:
        with_machine: whether the whole machine is gone.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said[:MOST_CHARACTERS])
        self.with_machine = "node has died" in said


def result_of(ref: Any) -> Any:
    """What a worker answered, or the error that it raised.

    Raises:
        Lost: it is gone.
    """
    try:
        return ray.get(ref)
    except exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else RepengError(first_line(error))
    except exceptions.RayError as error:
        raise Lost(" ".join(str(error).split())) from error
