"""A capture as it goes: split after split, shard after shard, whatever was stopped or is being done elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

from repeng.activations.budget import budget_of
from repeng.activations.forward import run
from repeng.activations.layouts.batch import Layout, Run, TextRequest
from repeng.activations.layouts.choice import Choice, on_gpu
from repeng.activations.layouts.packed import FLEX, MASKS, TREES
from repeng.activations.layouts.padded import padded_batches
from repeng.activations.shards import NonFiniteRow, Questions, ShardTensors, ask, is_blank
from repeng.activations.store.background import Background
from repeng.activations.store.files import (
    CAPTURE,
    LOGPROB,
    PLAN,
    SplitKey,
    blocks,
    clear_temporaries,
    locked,
    read_json,
    split_folder,
    split_key,
    to_json,
)
from repeng.activations.store.request import MissingActivations, Request, needed
from repeng.activations.store.store import Store
from repeng.activations.store.writing import ActivationsWriter, LayoutPlan, begin, finish, text_hash
from repeng.atomic import write_atomically
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import RepengError
from repeng.models.load import LanguageModel
from repeng.models.tokens import TokenizedText, stimulus_texts, tokenize_examples

log = logging.getLogger(__name__)

LAYOUTS: dict[str, Layout] = {"padded": padded_batches, "trees": TREES, "flex": FLEX, "masks": MASKS}
FEWEST_BATCH_TOKENS = 64
"""Where a batch of this budget does not fit, a smaller one is not tried."""

Progress = Callable[[int, int], None]


class _KernelFailed(Exception):
    """One kernel for a row could not be compiled or run, or did not fit."""


@dataclass
class CaptureRun:
    """A capture as it goes."""

    store: Store
    record: dict[str, Any]
    request: Request
    progress: Progress
    n_texts: int = 0
    n_tokens: int = 0
    parts_written: int = 0
    method: str = "none"
    _lm: LanguageModel = field(init=False)
    _splits: dict[SplitKey, Split] = field(init=False)
    _choice: Choice = field(init=False)
    _batch_tokens: int = field(init=False)
    _writer: Background = field(default_factory=Background)
    _shares: dict[SplitKey, int] = field(default_factory=dict)
    _done: int = 0

    def prepare(
        self,
        lm: LanguageModel,
        splits: Sequence[Split],
        missing: Sequence[MissingActivations],
        method: str,
        batch_tokens: int | None,
    ) -> None:
        """See what there is to do, and that the model has what is asked for, before anything is computed."""
        self._lm = lm
        for item in missing:
            for layer in item.layers:
                lm.hook_point(item.part.site, layer)
        if any(item.part.site == LOGPROB for item in missing):
            lm.check_logits()
        stimuli: dict[SplitKey, set[str]] = {}
        for item in missing:
            stimuli.setdefault(item.split, set()).add(item.part.stimulus)
        self._splits = {split_key(split): split for split in splits if split_key(split) in stimuli}
        self._shares = {key: split.n_responses * len(stimuli[key]) for key, split in self._splits.items()}
        file = self.store.root / self.record["id"] / CAPTURE
        if not file.is_file():
            write_atomically(file, to_json({**self.record, "batch_tokens": budget_of(lm.config, lm.dtype, lm.device)}))
        self._choice = Choice(lm, file, method, self.record["max_length"])
        before = read_json(file)
        if before["versions"] != self.record["versions"]:
            log.warning("%s was begun with other library versions: %s", self.record["id"], before["versions"])
        # A run that goes on where another was stopped, or beside it, lays out the same rows.
        self._batch_tokens = batch_tokens or before.get("batch_tokens") or budget_of(lm.config, lm.dtype, lm.device)

    def run_all(self) -> None:
        """Every split, first those that no other process holds."""
        with self._writer:
            busy = [key for key in self._splits if not self._try_split(key, wait=False)]
            for key in busy:
                log.info("%s is being captured by another process; waiting for it", "/".join(key[:2]))
                self._try_split(key, wait=True)

    def _try_split(self, key: SplitKey, *, wait: bool) -> bool:
        """Capture a split, unless another process is at it and that is not to be waited for.

        What is still to be written of it when this returns is on its way, and the split locked until it is there.
        """
        folder = split_folder(self.store.root / self.record["id"], key)
        lock = ExitStack()
        if not lock.enter_context(locked(folder, wait=wait)):
            return False
        try:
            before = self._done
            self._run_split(self._splits[key])
            self._step(before + self._shares[key] - self._done)
        finally:
            self._writer.at_last(lock.close)
        return True

    def _run_split(self, split: Split) -> None:
        """Compute every missing part of a split. The lock is held, so nobody else writes meanwhile."""
        before = self._done
        while failed := self._run_missing(split):
            self._writer.wait()
            self._done = before
            if failed[0].plan.layout == FLEX.kind:
                self._choice.give_up_flex()
            else:
                self._halve(failed[0].plan.batch_tokens)
            for part in failed:
                (part.folder / PLAN).unlink()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _run_missing(self, split: Split) -> Sequence[ActivationsWriter]:
        """Compute missing parts. Where memory is too small, or one kernel for a row fails, stop, and return those that
        were being written."""
        missing = needed(self.record["id"], self._lm.n_layers, [split], self.request, self.store)
        names = {item.part.stimulus for item in missing}
        together = {stimulus.name: stimulus for stimulus in self.request.stimuli if stimulus.name in names}
        folder = split_folder(self.store.root / self.record["id"], split_key(split))
        stimuli = tuple(together[name] for name in sorted(together))
        for item in missing:
            clear_temporaries(folder / str(item.part))

        @cache
        def fresh() -> LayoutPlan:
            layout = self._choice.layout(lambda: self._sample(split, stimuli), self._to_do)
            return LayoutPlan(stimuli, layout, self._batch_tokens)

        # What a GPU began and a CPU takes up is begun anew.
        usable = LAYOUTS.keys() - (set() if on_gpu(self._lm) else {FLEX.kind})
        parts = begin(folder, missing, fresh, usable)
        for plan in dict.fromkeys(part.plan for part in parts):
            some = [part for part in parts if part.plan == plan]
            try:
                self._run_plan(split, plan, some)
            except (torch.OutOfMemoryError, _KernelFailed):
                log.debug("a batch failed", exc_info=True)
                return some
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

    def _run_plan(self, split: Split, plan: LayoutPlan, parts: Sequence[ActivationsWriter]) -> None:
        """Write parts whose texts are laid out together, block by block, and then their indexes."""
        skipped: dict[str, list[int]] = {stimulus.name: [] for stimulus in plan.stimuli}
        blank: dict[ActivationsWriter, list[int]] = {part: [] for part in parts}
        hashes: dict[str, list[str]] = {stimulus.name: [] for stimulus in plan.stimuli}
        edges = []
        for number, examples in enumerate(blocks(split)):
            tokenized = self._tokenize(split, examples, plan)
            first = int(split.offsets[examples.start])
            n_rows = sum(len(split.examples[example].responses) for example in examples)
            edges.append((first, n_rows))
            for stimulus in plan.stimuli:
                texts = stimulus_texts(split, examples, stimulus, self._lm.tokenizer)
                hashes[stimulus.name] += [text_hash(text.prefix, text.response, text.suffix) for text in texts]
                skipped[stimulus.name] += [first + row for row, t in enumerate(tokenized[stimulus.name]) if t is None]
            for part in parts:
                texts_of = tokenized[part.name.stimulus]
                blank[part] += [first + row for row, text in enumerate(texts_of) if is_blank(text, part.name)]
            todo = [part for part in parts if not part.shard(number).is_file()]
            if todo:
                self._run_block(split, first, tokenized, plan, todo, number)

        def write_indexes() -> None:
            for part in parts:
                finish(
                    part,
                    split,
                    hashes=hashes[part.name.stimulus],
                    skipped=skipped[part.name.stimulus],
                    blank=blank[part],
                    blocks=edges,
                    dtype="float64" if part.name.site == LOGPROB else self.record["storage_dtype"],
                )
                self.parts_written += 1

        self._writer.submit(write_indexes)

    def _tokenize(self, split: Split, examples: range, plan: LayoutPlan) -> dict[str, list[TokenizedText | None]]:
        return {
            stimulus.name: tokenize_examples(
                split, examples, stimulus, self._lm, self.record["max_length"], self.record["too_long"]
            )
            for stimulus in plan.stimuli
        }

    def _run_block(
        self,
        split: Split,
        first: int,
        tokenized: dict[str, list[TokenizedText | None]],
        plan: LayoutPlan,
        todo: Sequence[ActivationsWriter],
        number: int,
    ) -> None:
        """Take the texts of some examples through the model and write their shards."""
        questions = ask(tokenized, [part.name for part in todo])
        answers = ShardTensors(questions)
        hooks = tuple(dict.fromkeys((part.name.site, layer) for part in todo for layer in part.layers))
        job = Run(questions.texts, hooks, plan.batch_tokens, getattr(torch, self.record["storage_dtype"]))
        wanted = {part.name.stimulus for part in todo}
        self._step(sum(text is None for name in wanted for text in tokenized[name]))
        try:
            for chunk in run(self._lm, job, LAYOUTS[plan.layout]):
                try:
                    answers.add(chunk)
                except NonFiniteRow:
                    self._find_culprit(job, questions, chunk.texts)
                    raise
                self.n_tokens += chunk.n_tokens
                self._step(sum(name in wanted for text in chunk.texts for name, _ in questions.owners[text]))
        except NonFiniteRow as error:
            raise error.explained(split, first) from None
        except RuntimeError as error:
            if plan.layout == FLEX.kind:
                raise _KernelFailed from error
            raise
        if not questions.texts and hooks:
            sample = TextRequest((self._lm.pad_id,), positions=(0,))
            answers.learn_shapes(next(run(self._lm, replace(job, texts=(sample,)), padded_batches)))
        self.n_texts += len(questions.texts)
        self.method = "batched" if plan.layout == "padded" else "packed"

        def write_shards() -> None:
            for part in todo:
                part.write_shard(number, answers.tensors(part.name, part.layers, tokenized))

        self._writer.submit(write_shards)

    def _find_culprit(self, job: Run, questions: Questions, texts: Sequence[int]) -> None:
        """Read texts of one batch each alone: in a packed row one that is not finite spoils the others.

        Raises:
            NonFiniteRow: of the first that is not finite alone.
        """
        answers = ShardTensors(questions)
        for number in sorted(texts):
            for chunk in run(self._lm, replace(job, texts=(questions.texts[number],)), padded_batches):
                answers.add(replace(chunk, texts=(number,)))

    def _sample(self, split: Split, stimuli: tuple[Stimulus, ...]) -> Run:
        """The texts of a split's first shard, and what is asked of them: what a layout is chosen by."""
        asked = {
            part: layers
            for part, layers in self.request.parts(self._lm.n_layers).items()
            if part.stimulus in {stimulus.name for stimulus in stimuli}
        }
        tokenized = self._tokenize(split, blocks(split)[0], LayoutPlan(stimuli, "padded", self._batch_tokens))
        hooks = tuple(dict.fromkeys((part.site, layer) for part, layers in asked.items() for layer in layers))
        return Run(ask(tokenized, list(asked)).texts, hooks, self._batch_tokens, torch.float32)

    @property
    def _to_do(self) -> int:
        """Texts that are still to be read, each stimulus counted."""
        return max(0, sum(self._shares.values()) - self._done)

    def _step(self, rows: int) -> None:
        if rows > 0:
            self._done += rows
            self.progress(min(self._done, sum(self._shares.values())), sum(self._shares.values()))
