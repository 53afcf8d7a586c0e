"""A capture whose blocks are read by models elsewhere: this process alone plans, keeps the journals and the indexes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import torch

from repeng.activations.block import BlockFacts, Group, tokenize_block
from repeng.activations.budget import budget_of
from repeng.activations.capture_run import Progress, begin_capture, halved
from repeng.activations.dispatch import Dispatch
from repeng.activations.group_capture import GroupCapture, begin_groups
from repeng.activations.layouts.batch import Run
from repeng.activations.store.files import (
    LOGPROB,
    MissingActivations,
    SplitKey,
    locked,
    n_characters,
    split_folder,
    split_key,
)
from repeng.activations.store.records import CaptureRecord
from repeng.activations.store.request import Request
from repeng.activations.store.store import Store
from repeng.activations.store.writing import ShardFacts, note_source
from repeng.distributions.schema import Split
from repeng.models.load import LanguageModel
from repeng.places import Place

log = logging.getLogger(__name__)

SAMPLE_EXAMPLES = 8
"""Examples of a split whose tokens are counted to tell how long its blocks are."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A block to be read.

    Attributes:
        group: of activations.
        number: of the block.
        todo: which of the group's writers lack its shard.
        n_tokens: of its texts, each counted alone: estimated from their characters and some examples' tokens.
        n_rows: responses, each stimulus that is wanted counted.
    """

    group: Group
    number: int
    todo: tuple[int, ...]
    n_tokens: int
    n_rows: int

    def __str__(self) -> str:
        split = self.group.split
        return f"{split.distribution}/{split.name}, block {self.number} ({self.n_tokens} tokens)"


@dataclass(frozen=True)
class PieceRead:
    """What a worker says of a piece that it has read and whose shards it has written.

    Attributes:
        written: the facts of each shard, in the order of `todo`.
        facts: what the index says of the block.
        n_texts: distinct texts that it read.
        n_tokens: tokens that it computed, padding included.
    """

    written: tuple[ShardFacts, ...]
    facts: BlockFacts
    n_texts: int
    n_tokens: int


@dataclass(frozen=True)
class ModelFacts:
    """What a worker says of its model.

    Attributes:
        class_name: the class that computes.
        batch_tokens: the token budget that suits its device.
    """

    class_name: str
    batch_tokens: int


def model_facts(lm: LanguageModel, *, logprob: bool) -> ModelFacts:
    """What a worker says of its model; see `Pool.facts`."""
    if logprob:
        lm.check_logits()
    return ModelFacts(lm.class_name, budget_of(lm.config, lm.dtype, lm.device))


@runtime_checkable
class Pool(Protocol):
    """Workers, each with the model, that read blocks."""

    def facts(self, *, logprob: bool) -> ModelFacts:
        """Of the model; where log-probabilities are wanted it is seen that they are right."""
        ...

    def layout(self, record: CaptureRecord, sample: Callable[[], Run]) -> str:
        """The layout that is right for some texts, which it need not ask for where it knows."""
        ...

    def read(self, dispatch: Dispatch[Piece]) -> Iterator[tuple[Piece, PieceRead | Exception]]:
        """Have pieces read until none is left; each with what came of it. More may be added meanwhile."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What is wanted of some splits, and missing."""

    splits: tuple[Split, ...]
    request: Request
    missing: tuple[MissingActivations, ...]


@dataclass(eq=False)
class _Held:
    """A split whose lock is held, and what of it is being captured.

    Attributes:
        lock: lets go of it.
        n_rows: responses that are to be read, each stimulus counted.
        done: of these, those that were.
        left: the groups that are not whole, each with the blocks that are not read.
        failed: a group whose batches do not fit; nothing more of the split is handed out until it is begun anew.
    """

    split: Split
    request: Request
    n_rows: int
    lock: ExitStack
    done: int = 0
    left: dict[GroupCapture, int] = field(default_factory=dict)
    failed: GroupCapture | None = None


class PoolRun:
    """A capture whose blocks are read by a pool of models.

    Args:
        pool: the workers.
        lm: the model's outline.
        wanted: what is missing, of splits with different needs.
        store: where to; the workers see it under the same name.
        record: the content of capture.json, where the capture is new.
        progress: called with the number of responses done, and of all, each stimulus counted; None shows none.

    Attributes:
        n_texts, n_tokens, n_written, method: as of `CaptureRun`.
    """

    def __init__(
        self,
        pool: Pool,
        lm: LanguageModel,
        wanted: Sequence[Wanted],
        store: Store,
        record: CaptureRecord,
        *,
        progress: Progress | None,
    ) -> None:
        self._pool, self._lm, self._store, self._record, self._progress = pool, lm, store, record, progress
        self.n_texts = self.n_tokens = self.n_written = 0
        self.method = "none"
        lacking = [item for each in wanted for item in each.missing]
        for item in lacking:
            for layer in item.layers:
                lm.hook_point(item.key.site, layer)
        self._todo: list[tuple[Split, Request, int]] = []
        for each in wanted:
            stimuli: dict[SplitKey, set[str]] = {}
            for item in each.missing:
                stimuli.setdefault(item.split, set()).add(item.key.stimulus)
            for split in each.splits:
                if names := stimuli.get(split_key(split)):
                    self._todo.append((split, each.request, split.n_responses * len(names)))
        self._total = sum(n_rows for _, _, n_rows in self._todo)
        self._done = 0
        facts = pool.facts(logprob=any(item.key.site == LOGPROB for item in lacking))
        begun = begin_capture(store, record, facts.class_name, lambda: facts.batch_tokens)
        self._batch_tokens = begun.batch_tokens or facts.batch_tokens

    def run_all(self) -> None:
        """Every split: all that no other process holds at once, and then those that one held."""
        while self._todo:
            held = self._take(wait=False) or self._take(wait=True)
            try:
                self._run(held)
            finally:
                for one in held:
                    one.lock.close()

    def _take(self, *, wait: bool) -> list[_Held]:
        """The splits whose locks are free; the first alone, once it is, where they are waited for."""
        held: list[_Held] = []
        busy: list[tuple[Split, Request, int]] = []
        for split, request, n_rows in self._todo:
            lock = ExitStack()
            if (held and wait) or not lock.enter_context(locked(self._folder(split), wait=wait)):
                busy.append((split, request, n_rows))
            else:
                held.append(_Held(split, request, n_rows, lock))
        self._todo = busy
        if not held:
            log.info("every split is being captured by another process; waiting for the first")
        return held

    def _run(self, held: Sequence[_Held]) -> None:
        """Have the splits read, whose locks are held; raise the first error when what is in hand is written."""
        dispatch: Dispatch[Piece] = Dispatch()
        owners: dict[int, tuple[_Held, GroupCapture]] = {}
        error: Exception | None = None

        def begin(one: _Held) -> None:
            for group, pieces in self._begin(one):
                owners[id(group.group)] = one, group
                dispatch.add(pieces)

        for one in held:
            note_source(self._folder(one.split), one.split)
            begin(one)
        for piece, outcome in self._pool.read(dispatch):
            one, group = owners[id(piece.group)]
            if isinstance(outcome, PieceRead):
                self._keep(one, group, piece, outcome)
            elif isinstance(outcome, torch.OutOfMemoryError):
                one.failed = group
                dispatch.drop(partial(_is_of, one.split))
            else:
                error = error or outcome
                dispatch.drop(lambda _: True)
            # What others have in hand of the split is written before it is begun anew.
            if one.failed and error is None and not any(_is_of(one.split, other) for other in dispatch.in_hand):
                self._batch_tokens = min(self._batch_tokens, halved(group.group.plan.batch_tokens))
                one.failed.forget()
                self._count(one, -one.done)
                one.failed, one.left = None, {}
                begin(one)
        if error is not None:
            raise error

    def _begin(self, one: _Held) -> Iterator[tuple[GroupCapture, list[Piece]]]:
        """Begin what is missing of a split, or take it up; what is to be read of it, group by group."""
        groups = begin_groups(
            self._lm,
            one.split,
            self._record,
            one.request,
            self._store,
            layout=lambda sample: self._pool.layout(self._record, sample),
            batch_tokens=self._batch_tokens,
        )
        for group in groups:
            per_character = self._tokens_per_character(group.group)
            pieces = []
            for number, examples in enumerate(group.group.blocks):
                if todo := group.todo(number):
                    n_responses = sum(len(one.split.examples[example].responses) for example in examples)
                    stimuli = {group.group.writers[place].key.stimulus for place in todo}
                    tokens = max(1, round(n_characters(one.split, examples) * per_character))
                    pieces.append(Piece(group.group, number, todo, tokens, n_responses * len(stimuli)))
            one.left[group] = len(pieces)
            yield group, pieces
        self._finish(one)

    def _tokens_per_character(self, group: Group) -> float:
        """Tokens that the model reads of a character of a group's split, all stimuli together, by a few examples."""
        few = range(min(SAMPLE_EXAMPLES, len(group.split.examples)))
        keys = [writer.key for writer in group.writers]
        texts = tokenize_block(
            self._lm, group.split, few, group.record, group.plan.stimuli, closed=group.plan.closed, keys=keys
        )
        n_tokens = sum(text.length for found in texts.values() for text in found if text is not None)
        return n_tokens / max(1, n_characters(group.split, few))

    def _keep(self, one: _Held, group: GroupCapture, piece: Piece, read: PieceRead) -> None:
        group.learn(piece.number, read.facts)
        group.note(piece.number, piece.todo, read.written)
        self.n_texts += read.n_texts
        self.n_tokens += read.n_tokens
        self.method = "batched" if group.group.plan.layout == "padded" else "packed"
        self._count(one, piece.n_rows)
        one.left[group] -= 1
        self._finish(one)

    def _finish(self, one: _Held) -> None:
        """Write the indexes of what is whole; let go of a split of which all is."""
        for group in [group for group, left in one.left.items() if not left and group is not one.failed]:
            self.n_written += group.finish()
            del one.left[group]
        if not one.left:
            self._count(one, one.n_rows - one.done)
            one.lock.close()

    def _count(self, one: _Held, rows: int) -> None:
        one.done += rows
        self._done += rows
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)

    def _folder(self, split: Split) -> Place:
        return split_folder(self._store.root / self._record.id, split)


def _is_of(split: Split, piece: Piece) -> bool:
    return piece.group.split is split
