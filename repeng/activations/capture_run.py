"""A capture as it goes: split after split, shard after shard, whatever was stopped or is being done elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cache

import torch

from repeng.activations.budget import budget_of
from repeng.activations.layouts.batch import Chunk, Run
from repeng.activations.layouts.choice import LAYOUTS, Choice, usable_layouts
from repeng.activations.shards import NonFiniteRow, Tokenized, answer, ask, n_tokens
from repeng.activations.store.background import Background
from repeng.activations.store.files import (
    CAPTURE,
    LOGPROB,
    RAGGED_CHARACTERS,
    ActivationKey,
    MissingActivations,
    SplitKey,
    blocks,
    locked,
    split_folder,
    split_key,
)
from repeng.activations.store.records import FORMAT, CaptureRecord, Plan
from repeng.activations.store.request import Request, changed_versions, needed
from repeng.activations.store.reuse import OtherVersions
from repeng.activations.store.store import Store
from repeng.activations.store.writing import ActivationsWriter, begin, forget_plan, note_source, text_hash
from repeng.activations.token_rules import token_rule
from repeng.atomic import clear_temporaries
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput, RepengError
from repeng.models.load import LanguageModel
from repeng.models.tokens import stimulus_texts, tokenize
from repeng.places import Place

log = logging.getLogger(__name__)

FEWEST_BATCH_TOKENS = 64
"""Where a batch of this budget does not fit, a smaller one is not tried."""

Progress = Callable[[int, int], None]


class _KernelFailed(Exception):
    """One kernel for a row could not be compiled or run, or did not fit."""


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

    Attributes:
        n_texts: distinct texts that the model has read.
        n_tokens: tokens that it has computed, padding included.
        n_written: stimulus, site and token of a split counted once each: those that were written, or added to.
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
    ) -> None:
        self._lm, self._request, self._store, self._record, self._progress = lm, request, store, record, progress
        self.n_texts = self.n_tokens = self.n_written = self._done = 0
        self.method = "none"
        self._writing = Background()
        stimuli: dict[SplitKey, set[str]] = {}
        for item in missing:
            stimuli.setdefault(item.split, set()).add(item.key.stimulus)
            for layer in item.layers:
                lm.hook_point(item.key.site, layer)
        if any(item.key.site == LOGPROB for item in missing):
            lm.check_logits()
        self._splits = {split_key(split): split for split in splits if split_key(split) in stimuli}
        self._shares = {key: split.n_responses * len(stimuli[key]) for key, split in self._splits.items()}
        file = store.root / record.id / CAPTURE
        with locked(file.parent, wait=True):
            clear_temporaries(file.parent)
            if not file.is_file():
                budget = budget_of(lm.config, lm.dtype, lm.device)
                record.model_copy(update={"batch_tokens": budget, "model_class": lm.class_name}).write(file)
        self._choice = Choice(lm, file, method, record.max_length)
        begun = CaptureRecord.read(file)
        if begun.model_class not in (None, lm.class_name):
            raise BadInput(
                f"{record.id} was begun with the class {begun.model_class}, and this model is a {lm.class_name}; load "
                "it as before (the same trust_remote_code), or capture into another store"
            )
        if changed := changed_versions(begun):
            then = ", ".join(f"{name} {before}, now {now}" for name, (before, now) in changed.items())
            log.warning("%s was begun with other library versions: %s", record.id, then)
        # A run that goes on where another was stopped, or next to it, lays out the same rows.
        self._batch_tokens = batch_tokens or begun.batch_tokens or budget_of(lm.config, lm.dtype, lm.device)

    def run_all(self) -> None:
        """Every split, first those that no other process holds."""
        with self._writing:
            busy = [key for key in self._splits if not self._try_split(key, wait=False)]
            for key in busy:
                log.info("%s/%s is being captured by another process; waiting for it", key.distribution, key.split)
                self._try_split(key, wait=True)

    def _folder(self, split: Split | SplitKey) -> Place:
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
            self._run_split(self._splits[key])
            self._step(before + self._shares[key] - self._done)
        finally:
            self._writing.at_last(lock.close)
        return True

    def _run_split(self, split: Split) -> None:
        """Compute all that is missing of a split. The lock is held, so nobody else writes meanwhile."""
        before = self._done
        while failed := self._run_missing(split):
            self._writing.wait()
            self._done = before
            if failed[0].plan.layout == "flex":
                self._choice.give_up_flex()
            else:
                self._halve(failed[0].plan.batch_tokens)
            for writer in failed:
                forget_plan(writer.folder)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _run_missing(self, split: Split) -> Sequence[ActivationsWriter]:
        """Compute what is missing of a split.

        Where memory is too small, or one kernel for a row fails, it stops, and returns what was being written.
        """
        missing = needed(self._record.id, self._lm.n_layers, [split], self._request, self._store)
        names = {item.key.stimulus for item in missing}
        together = {stimulus.name: stimulus for stimulus in self._request.stimuli if stimulus.name in names}
        stimuli = tuple(together[name] for name in sorted(together))
        folder = self._folder(split)
        for item in missing:
            clear_temporaries(folder / item.key.folder)

        rules = [(item.key.stimulus, token_rule(item.key.token)) for item in missing]
        closed = tuple(sorted({stimulus for stimulus, rule in rules if rule.is_closed}))
        characters = RAGGED_CHARACTERS if any(rule.is_ragged for _, rule in rules) else None

        @cache
        def layout() -> str:
            return self._choice.layout(lambda: self._sample(split, stimuli, closed, characters), self._to_do)

        def fresh(layers: tuple[int, ...], first_file: int) -> Plan:
            tokens = self._batch_tokens
            return Plan(
                format=FORMAT,
                layout=layout(),
                batch_tokens=tokens,
                stimuli=stimuli,
                layers=layers,
                first_file=first_file,
                closed=closed,
                block_characters=characters,
            )

        writers = begin(folder, missing, fresh, usable_layouts(self._lm))
        for rows in dict.fromkeys(writer.plan.rows for writer in writers):
            group = [writer for writer in writers if writer.plan.rows == rows]
            try:
                self._run_plan(split, group)
            except (torch.OutOfMemoryError, _KernelFailed):
                log.debug("a batch failed", exc_info=True)
                return group
        return ()

    def _halve(self, tokens: int) -> None:
        """Go on with half the token budget that did not fit.

        Raises:
            RepengError: the budget is as small as can be.
        """
        if tokens <= FEWEST_BATCH_TOKENS:
            raise RepengError(
                f"out of memory even with batches of {tokens} tokens; take a smaller dtype, or leave out the longest "
                "texts (a smaller max_length)"
            )
        self._batch_tokens = max(min(self._batch_tokens, tokens // 2), FEWEST_BATCH_TOKENS)
        log.warning("out of memory with batches of %s tokens; going on with %s", tokens, self._batch_tokens)

    def _run_plan(self, split: Split, writers: Sequence[ActivationsWriter]) -> None:
        """Write activations whose texts are laid out together, block by block, and then their indexes."""
        plan = writers[0].plan
        skipped: dict[str, list[int]] = {stimulus.name: [] for stimulus in plan.stimuli}
        counts: dict[ActivationKey, list[int]] = {writer.key: [] for writer in writers}
        edges = []
        hashes = {
            stimulus.name: [
                text_hash(text)
                for text in stimulus_texts(split, range(len(split.examples)), stimulus, self._lm.tokenizer)
            ]
            for stimulus in plan.stimuli
        }
        others = {
            stimulus.name: OtherVersions(self._folder(split), stimulus, wanted, hashes[stimulus.name])
            for stimulus in plan.stimuli
            if (wanted := {each.key: each.plan.layers for each in writers if each.key.stimulus == stimulus.name})
        }
        for number, examples in enumerate(blocks(split, plan.block_characters)):
            tokenized = self._tokenize(split, examples, plan.stimuli, plan.closed, counts)
            first = int(split.offsets[examples.start])
            edges.append((first, len(tokenized[plan.stimuli[0].name])))
            for stimulus in plan.stimuli:
                skipped[stimulus.name] += [first + row for row, t in enumerate(tokenized[stimulus.name]) if t is None]
            for key, found in counts.items():
                found += [n_tokens(text, key.token) for text in tokenized[key.stimulus]]
            todo = [writer for writer in writers if not writer.has(number)]
            if todo:
                self._run_block(split, first, tokenized, todo, number, others)

        def write_indexes() -> None:
            for writer in writers:
                left_out, found = set(skipped[writer.key.stimulus]), counts[writer.key]
                nothing = [row for row, count in enumerate(found) if not count and row not in left_out]
                writer.finish(
                    split,
                    hashes=hashes[writer.key.stimulus],
                    skipped=skipped[writer.key.stimulus],
                    # An empty response has a log-probability, of nothing.
                    blank=nothing if writer.key.token else (),
                    blocks=edges,
                    dtype="float64" if writer.key.site == LOGPROB else self._record.storage_dtype,
                    taken_over=others[writer.key.stimulus].counts,
                    token_counts=found if token_rule(writer.key.token).is_ragged else (),
                )
                self.n_written += 1

        self._writing.submit(write_indexes)

    def _tokenize(
        self,
        split: Split,
        examples: range,
        stimuli: Sequence[Stimulus],
        closed: Collection[str],
        keys: Collection[ActivationKey],
    ) -> Tokenized:
        by_turn = {key.stimulus for key in keys if token_rule(key.token).roles}
        return {
            stimulus.name: tokenize(
                split,
                stimulus,
                self._lm,
                self._record.max_length,
                self._record.too_long,
                examples=examples,
                turns=stimulus.name in by_turn,
                closed=stimulus.name in closed,
            )
            for stimulus in stimuli
        }

    def _run_block(
        self,
        split: Split,
        first: int,
        whole: Tokenized,
        todo: Sequence[ActivationsWriter],
        number: int,
        others: Mapping[str, OtherVersions],
    ) -> None:
        """Take the texts of some examples through the model, but for those in other versions; write their shards."""
        plan = todo[0].plan
        given = {name: others[name].among(first, first + len(whole[name])) for name in others}
        # What is taken over is to the model what a skipped text is.
        tokenized = {
            name: [None if first + row in given.get(name, ()) else text for row, text in enumerate(texts)]
            for name, texts in whole.items()
        }
        questions = ask(tokenized, [writer.key for writer in todo])
        hooks = tuple(dict.fromkeys((writer.key.site, layer) for writer in todo for layer in writer.plan.layers))
        job = Run(questions.texts, hooks, plan.batch_tokens, getattr(torch, self._record.storage_dtype))
        wanted = {writer.key.stimulus for writer in todo}
        self._step(sum(text is None for name in wanted for text in tokenized[name]))

        def count(chunk: Chunk) -> None:
            self.n_tokens += chunk.n_tokens
            self._step(sum(name in wanted for text in chunk.texts for name, _ in questions.owners[text]))

        try:
            answers = answer(self._lm, questions, job, LAYOUTS[plan.layout], count)
        except NonFiniteRow as error:
            raise error.explained(split, first) from None
        except RuntimeError as error:
            if plan.layout == "flex":
                raise _KernelFailed from error
            raise
        self.n_texts += len(questions.texts)
        self.method = "batched" if plan.layout == "padded" else "packed"

        def write_shards() -> None:
            for writer in todo:
                tensors = answers.tensors(writer.key, writer.plan.layers, tokenized)
                rows = given[writer.key.stimulus]
                if rows:
                    taken = others[writer.key.stimulus].tensors(writer.key, writer.plan.layers, rows)
                    for name, values in taken.items():
                        tensors[name][torch.tensor(rows) - first] = values
                writer.write_shard(number, tensors)

        self._writing.submit(write_shards)

    def _sample(
        self, split: Split, stimuli: tuple[Stimulus, ...], closed: Collection[str], characters: int | None
    ) -> Run:
        """The texts of a split's first shard, and what is asked of them: what a layout is chosen by."""
        names = {stimulus.name for stimulus in stimuli}
        wanted = self._request.layers_by_key(self._lm.n_layers)
        asked = {key: layers for key, layers in wanted.items() if key.stimulus in names}
        tokenized = self._tokenize(split, blocks(split, characters)[0], stimuli, closed, asked)
        hooks = tuple(dict.fromkeys((key.site, layer) for key, layers in asked.items() for layer in layers))
        return Run(ask(tokenized, asked).texts, hooks, self._batch_tokens, torch.float32)

    @property
    def _to_do(self) -> int:
        """Texts that are still to be read, each stimulus counted."""
        return max(0, sum(self._shares.values()) - self._done)

    def _step(self, rows: int) -> None:
        self._done += max(rows, 0)
        if rows > 0 and self._progress is not None:
            total = sum(self._shares.values())
            self._progress(min(self._done, total), total)
