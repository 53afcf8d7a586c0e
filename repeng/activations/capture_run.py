"""A capture as it goes in one process: split after split, block after block, whatever others do at the same time."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import torch

from repeng.activations.block import ReadBlock, read_block
from repeng.activations.budget import budget_of
from repeng.activations.group_capture import GroupCapture, begin_groups
from repeng.activations.layouts.choice import Choice
from repeng.activations.store.background import Background
from repeng.activations.store.files import (
    CAPTURE,
    LOGPROB,
    SHARD_CHARACTERS,
    MissingActivations,
    SplitKey,
    blocks,
    locked,
    n_characters,
    split_folder,
    split_key,
)
from repeng.activations.store.records import CaptureRecord
from repeng.activations.store.request import Request, changed_versions
from repeng.activations.store.store import Store
from repeng.activations.store.writing import Share, note_source
from repeng.atomic import clear_temporaries
from repeng.distributions.schema import Split
from repeng.errors import BadInput, RepengError
from repeng.models.load import LanguageModel
from repeng.places import Place

log = logging.getLogger(__name__)

FEWEST_BATCH_TOKENS = 64
"""Where a batch of this budget does not fit, a smaller one is not tried."""

Progress = Callable[[int, int], None]


class BegunAnew(Exception):
    """Another run, with a share of the same activations, has begun them anew, or they are whole."""


def begin_capture(store: Store, record: CaptureRecord, model_class: str, budget: Callable[[], int]) -> CaptureRecord:
    """The content of capture.json, which is written where the capture is new.

    Args:
        store: where to.
        record: what determines the capture's numbers.
        model_class: of the model that computes.
        budget: gives the token budget of its batches.

    Raises:
        BadInput: the capture was begun with another class.
    """
    file = store.root / record.id / CAPTURE
    with locked(file.parent, wait=True):
        clear_temporaries(file.parent)
        if not file.is_file():
            record.model_copy(update={"batch_tokens": budget(), "model_class": model_class}).write(file)
    begun = CaptureRecord.read(file)
    if begun.model_class not in (None, model_class):
        raise BadInput(
            f"{record.id} was begun with the class {begun.model_class}, and this model is a {model_class}; load "
            "it as before (the same trust_remote_code), or capture into another store"
        )
    if changed := changed_versions(begun):
        then = ", ".join(f"{name} {before}, now {now}" for name, (before, now) in changed.items())
        log.warning("%s was begun with other library versions: %s", record.id, then)
    return begun


def halved(tokens: int) -> int:
    """Half a token budget that did not fit.

    Raises:
        RepengError: it is as small as can be.
    """
    if tokens <= FEWEST_BATCH_TOKENS:
        raise RepengError(
            f"out of memory even with batches of {tokens} tokens; take a smaller dtype, or leave out the longest "
            "texts (a smaller max_length)"
        )
    smaller = max(tokens // 2, FEWEST_BATCH_TOKENS)
    log.warning("out of memory with batches of %s tokens; going on with %s", tokens, smaller)
    return smaller


class CaptureRun:
    """A capture as it goes.

    Args:
        lm: the model.
        splits: what to read; those of which nothing is missing are left out.
        missing: what is to be captured.
        request: what was asked for.
        store: where to.
        record: the content of capture.json, where the capture is new.
        method: "auto", "packed" or "batched".
        batch_tokens: token budget of a batch; None for the capture's own.
        progress: called with the number of responses done, and of all, each stimulus counted; None shows none.
        share: which part of it to do, where other runs do the others; None for all.

    Attributes:
        n_texts: distinct texts that the model has read.
        n_tokens: tokens that it has computed, padding included.
        n_written: stimulus, site and token of a split counted once each: those that were written, or added to.
        n_left: of a share, those that still lack what is the others' to do.
        method: "packed" or "batched", whichever came last; "none" before the model is run.

    Raises:
        UnknownName, BadInput: the model does not have a site or layer, or the capture was begun with another class.
        RepengError: its log-probabilities cannot be captured.
    """

    def __init__(
        self,
        lm: LanguageModel,
        splits: Sequence[Split],
        missing: Sequence[MissingActivations],
        request: Request,
        store: Store,
        record: CaptureRecord,
        *,
        method: str,
        batch_tokens: int | None,
        progress: Progress | None,
        share: Share | None = None,
    ) -> None:
        self._lm, self._request, self._store, self._record, self._progress = lm, request, store, record, progress
        self.n_texts = self.n_tokens = self.n_written = self.n_left = self._done = 0
        self.method = "none"
        self._writing = Background()
        self._share = share
        self._dealt = {} if share is None else dealt_out(splits, share.of)
        stimuli: dict[SplitKey, set[str]] = {}
        for item in missing:
            stimuli.setdefault(item.split, set()).add(item.key.stimulus)
            for layer in item.layers:
                lm.hook_point(item.key.site, layer)
        if any(item.key.site == LOGPROB for item in missing):
            lm.check_logits()
        self._splits = {split_key(split): split for split in splits if split_key(split) in stimuli}
        self._sizes = {key: split.n_responses * len(stimuli[key]) for key, split in self._splits.items()}
        begun = begin_capture(store, record, lm.class_name, lambda: budget_of(lm.config, lm.dtype, lm.device))
        self._choice = Choice(lm, method, record.max_length)
        # A run that goes on where another was stopped, or next to it, lays out the same rows.
        self._batch_tokens = batch_tokens or begun.batch_tokens or budget_of(lm.config, lm.dtype, lm.device)

    def run_all(self) -> None:
        """Every split, first those that no other process holds; or of every split our share."""
        with self._writing:
            if self._share is not None:
                for key in self._splits:
                    self._run_share(key, self._share)
                return
            busy = [key for key in self._splits if not self._try_split(key, wait=False)]
            for key in busy:
                log.info("%s/%s is being captured by another process; waiting for it", key.distribution, key.split)
                self._try_split(key, wait=True)

    def _folder(self, split: SplitKey) -> Place:
        return split_folder(self._store.root / self._record.id, split)

    def _try_split(self, key: SplitKey, *, wait: bool) -> bool:
        """Capture a split, unless another process holds it and `wait` is False.

        What is still to be written of it when this returns is on its way, and the split locked until it is there.
        """
        lock = ExitStack()
        if not lock.enter_context(locked(self._folder(key), wait=wait)):
            return False
        try:
            before = self._done
            note_source(self._folder(key), self._splits[key])
            while failed := self._run_missing(self._splits[key]):
                self._writing.wait()
                self._done = before
                self._give_way(failed)
                failed.forget()
            self._step(before + self._sizes[key] - self._done)
        finally:
            self._writing.at_last(lock.close)
        return True

    def _run_missing(self, split: Split) -> GroupCapture | None:
        """Compute what is missing of a split. The lock is held, so nobody else writes meanwhile.

        Where memory is too small it stops, and returns what was being written.
        """
        for group in self._begin(split, None):
            try:
                for number in range(len(group.group.blocks)):
                    if todo := group.todo(number):
                        read = self._read(group, number, todo)
                        self._writing.submit(partial(self._write, group, number, todo, read))
                    else:
                        group.facts(number)
            except torch.OutOfMemoryError:
                log.debug("a batch did not fit", exc_info=True)
                return group
            self._writing.submit(partial(self._finish, group))
        return None

    def _run_share(self, key: SplitKey, share: Share) -> None:
        """Compute our share of what is missing of a split.

        The lock is held only while something is begun, written or finished: other runs do their shares meanwhile.
        """
        folder, split, before = self._folder(key), self._splits[key], self._done
        groups: list[GroupCapture] = []
        while True:
            with locked(folder, wait=True):
                note_source(folder, split)
                groups = self._begin(split, share)
            try:
                for group in groups:
                    for number in self._own_blocks(group, share):
                        if todo := group.todo(number):
                            self._write_share(group, number, todo, self._read(group, number, todo))
                break
            except BegunAnew:
                self._done = before
            except torch.OutOfMemoryError:
                log.debug("a batch did not fit", exc_info=True)
                self._done = before
                with locked(folder, wait=True):
                    if group.is_current():
                        self._give_way(group)
                        group.forget()
        with locked(folder, wait=True):
            for group in groups:
                if group.is_current():
                    if group.is_whole():
                        self._finish(group)
                    else:
                        self.n_left += len(group.group.writers)
        self._step(before + self._sizes[key] - self._done)

    def _own_blocks(self, group: GroupCapture, share: Share) -> list[int]:
        """The blocks of a group that are ours: of two shares none are alike, and all shares together have all."""
        key, numbers = split_key(group.group.split), range(len(group.group.blocks))
        # What an earlier version of repeng began has other blocks than were dealt out.
        return [n for n in numbers if self._dealt.get((key, n), n % share.of) == share.number]

    def _write_share(self, group: GroupCapture, number: int, todo: Sequence[int], read: ReadBlock) -> None:
        with locked(self._folder(split_key(group.group.split)), wait=True):
            if not group.is_current():
                raise BegunAnew
            self._write(group, number, todo, read)

    def _begin(self, split: Split, share: Share | None) -> list[GroupCapture]:
        return begin_groups(
            self._lm,
            split,
            self._record,
            self._request,
            self._store,
            layout=self._choice.layout,
            batch_tokens=self._batch_tokens,
            share=share,
        )

    def _read(self, group: GroupCapture, number: int, todo: Sequence[int]) -> ReadBlock:
        read = read_block(self._lm, group.group, number, todo, self._step)
        group.learn(number, read.facts)
        self.n_texts += read.n_texts
        self.n_tokens += read.n_tokens
        self.method = "batched" if group.group.plan.layout == "padded" else "packed"
        return read

    @staticmethod
    def _write(group: GroupCapture, number: int, todo: Sequence[int], read: ReadBlock) -> None:
        group.note(number, todo, read.write())

    def _finish(self, group: GroupCapture) -> None:
        self.n_written += group.finish()

    def _give_way(self, failed: GroupCapture) -> None:
        """Go on with half the token budget that did not fit."""
        self._batch_tokens = min(self._batch_tokens, halved(failed.group.plan.batch_tokens))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _step(self, rows: int) -> None:
        self._done += max(rows, 0)
        if rows > 0 and self._progress is not None:
            total = sum(self._sizes.values())
            self._progress(min(self._done, total), total)


def dealt_out(splits: Sequence[Split], of: int) -> dict[tuple[SplitKey, int], int]:
    """Which share each block of some splits belongs to: by the length of its texts, the longest first to whoever has
    the least.

    Every run that is given these splits deals them out alike, whatever of them is done.

    Args:
        splits: all that are wanted.
        of: how many shares there are.

    Returns:
        The share by split and number of the block.
    """
    sizes = [
        (n_characters(split, examples), split_key(split), number)
        for split in dict.fromkeys(splits)
        for number, examples in enumerate(blocks(split, SHARD_CHARACTERS))
    ]
    loads = [(0, share) for share in range(of)]
    dealt = {}
    for size, key, number in sorted(sizes, key=lambda one: (-one[0], *one[1:])):
        load, share = heapq.heappop(loads)
        dealt[key, number] = share
        heapq.heappush(loads, (load + size, share))
    return dealt
