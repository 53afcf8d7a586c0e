"""A group of activations while it is being captured: which shards are there, and at last the indexes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial

import torch

from repeng.activations.block import BlockFacts, Group, block_facts, tokenize_block
from repeng.activations.layouts.batch import Run
from repeng.activations.layouts.choice import LAYOUTS
from repeng.activations.shards import ask
from repeng.activations.store.files import (
    LOGPROB,
    SHARD_CHARACTERS,
    blocks,
    split_folder,
)
from repeng.activations.store.records import FORMAT, CaptureRecord, Plan, read_index
from repeng.activations.store.request import Request, needed
from repeng.activations.store.reuse import OtherVersions
from repeng.activations.store.store import Store
from repeng.activations.store.writing import (
    ActivationsWriter,
    ShardFacts,
    Share,
    begin,
    believed,
    forget_plan,
    is_current,
    noted,
    remove_unnamed,
    text_hash,
)
from repeng.activations.token_rules import token_rule
from repeng.atomic import clear_temporaries
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.models.load import LanguageModel
from repeng.models.tokens import stimulus_texts
from repeng.places import Place

ChosenLayout = Callable[[Callable[[], Run]], str]
"""Which layout is right for texts such as those that it is given."""


class GroupCapture:
    """A group of activations while it is being captured. Whoever writes holds the split's lock.

    Args:
        group: the group.
        hashes: `text_hash` of each response's text, of each stimulus.
        lm: the model, or its outline: for its tokenizer.

    Attributes:
        group: the group.
    """

    def __init__(self, group: Group, hashes: Mapping[str, Sequence[str]], lm: LanguageModel) -> None:
        self.group, self._hashes, self._lm = group, hashes, lm
        self._facts: dict[int, BlockFacts] = {}

    def todo(self, number: int) -> tuple[int, ...]:
        """Which of the group's writers lack the shard of a block."""
        return tuple(place for place, writer in enumerate(self.group.writers) if not writer.has(number))

    def facts(self, number: int) -> BlockFacts:
        """What the index says of a block; its texts are tokenized unless it was learned."""
        if number not in self._facts:
            self._facts[number] = block_facts(self.group, number, self.group.tokenize(self._lm, number))
        return self._facts[number]

    def learn(self, number: int, facts: BlockFacts) -> None:
        """What the index says of a block that was read."""
        self._facts[number] = facts

    def note(self, number: int, todo: Sequence[int], written: Sequence[ShardFacts]) -> None:
        """Note the shards of a block that were written, of some writers."""
        for place, facts in zip(todo, written, strict=True):
            self.group.writers[place].note(number, facts)

    @cached_property
    def _names(self) -> tuple[frozenset[str], ...]:
        """The shards of each writer."""
        numbers = range(len(self.group.blocks))
        return tuple(frozenset(writer.shard(number).name for number in numbers) for writer in self.group.writers)

    def is_whole(self) -> bool:
        """Whether every shard is there, whoever wrote it; those of others are looked up in their journals."""
        for writer, names in zip(self.group.writers, self._names, strict=True):
            if not names <= writer.written.keys():
                # What is noted is read again, whole, only where nothing is lacking.
                if not names <= noted(writer.folder):
                    return False
                writer.written.update(believed(writer.folder))
                if not names <= writer.written.keys():
                    return False
        return True

    def is_current(self) -> bool:
        """Whether the activations are still written by this plan, and by nobody whole."""
        return all(is_current(writer) for writer in self.group.writers)

    def forget(self) -> None:
        """Have all of it begun anew."""
        for writer in self.group.writers:
            forget_plan(writer.folder)

    def finish(self) -> int:
        """Write the indexes: from now on these activations are whole. Every shard must be there.

        Returns:
            How many.
        """
        of_block = [self.facts(number) for number in range(len(self.group.blocks))]
        for writer, names in zip(self.group.writers, self._names, strict=True):
            key = writer.key
            skipped = [row for facts in of_block for row in facts.skipped[key.stimulus]]
            counts = [count for facts in of_block for count in facts.counts[key]]
            left_out = set(skipped)
            nothing = [row for row, count in enumerate(counts) if not count and row not in left_out]
            added = writer.plan.first_file > 0
            named = {shard.file for shard in read_index(writer.folder).shards} if added else set()
            remove_unnamed(writer.folder, names | named)
            writer.finish(
                self.group.split,
                hashes=self._hashes[key.stimulus],
                skipped=skipped,
                # An empty response has a log-probability, of nothing.
                blank=nothing if key.token else (),
                blocks=[(facts.first, facts.n_rows) for facts in of_block],
                dtype="float64" if key.site == LOGPROB else self.group.record.storage_dtype,
                taken_over=self.group.others[key.stimulus].counts,
                token_counts=counts if token_rule(key.token).is_ragged else (),
            )
        return len(self.group.writers)


def begin_groups(
    lm: LanguageModel,
    split: Split,
    record: CaptureRecord,
    request: Request,
    store: Store,
    *,
    layout: ChosenLayout,
    batch_tokens: int,
    share: Share | None = None,
) -> list[GroupCapture]:
    """Begin what is missing of a split, or take it up as it was begun. The caller holds the split's lock.

    Args:
        lm: the model, or its outline.
        split: the split.
        record: of the capture.
        request: what is wanted.
        store: where to.
        layout: chooses among layouts, for what is begun.
        batch_tokens: token budget of a batch, for what is begun.
        share: where other runs write the same activations, which part of them is ours.
    """
    missing = needed(record.id, lm.n_layers, [split], request, store)
    names = {item.key.stimulus for item in missing}
    together = {stimulus.name: stimulus for stimulus in request.stimuli if stimulus.name in names}
    stimuli = tuple(together[name] for name in sorted(together))
    folder = split_folder(store.root / record.id, split)
    if share is None:
        for item in missing:
            clear_temporaries(folder / item.key.folder)
    rules = [(item.key.stimulus, token_rule(item.key.token)) for item in missing]
    closed = tuple(sorted({stimulus for stimulus, rule in rules if rule.is_closed}))
    chosen: list[str] = []

    def fresh(layers: tuple[int, ...], first_file: int) -> Plan:
        if not chosen:
            sample = partial(_sample, lm, split, record, request, stimuli, closed, batch_tokens)
            chosen.append(layout(sample))
        return Plan(
            format=FORMAT,
            layout=chosen[0],
            batch_tokens=batch_tokens,
            stimuli=stimuli,
            layers=layers,
            first_file=first_file,
            closed=closed,
            block_characters=SHARD_CHARACTERS,
        )

    writers = begin(folder, missing, fresh, LAYOUTS, share=share)
    by_rows = {rows: [w for w in writers if w.plan.rows == rows] for rows in (w.plan.rows for w in writers)}
    return [_group_capture(lm, split, record, folder, group) for group in by_rows.values()]


def _group_capture(
    lm: LanguageModel, split: Split, record: CaptureRecord, folder: Place, writers: Sequence[ActivationsWriter]
) -> GroupCapture:
    stimuli = writers[0].plan.stimuli
    numbers = range(len(split.examples))
    hashes = {s.name: [text_hash(text) for text in stimulus_texts(split, numbers, s, lm.tokenizer)] for s in stimuli}
    others = {
        stimulus.name: OtherVersions(folder, stimulus, wanted, hashes[stimulus.name])
        for stimulus in stimuli
        if (wanted := {each.key: each.plan.layers for each in writers if each.key.stimulus == stimulus.name})
    }
    return GroupCapture(Group(split, record, tuple(writers), others), hashes, lm)


def _sample(
    lm: LanguageModel,
    split: Split,
    record: CaptureRecord,
    request: Request,
    stimuli: Sequence[Stimulus],
    closed: Collection[str],
    batch_tokens: int,
) -> Run:
    """The texts of a split's first block, and what is asked of them: what a layout is chosen by."""
    names = {stimulus.name for stimulus in stimuli}
    asked = {key: layers for key, layers in request.layers_by_key(lm.n_layers).items() if key.stimulus in names}
    examples = blocks(split, SHARD_CHARACTERS)[0]
    tokenized = tokenize_block(lm, split, examples, record, stimuli, closed=closed, keys=asked)
    hooks = tuple(dict.fromkeys((key.site, layer) for key, layers in asked.items() for layer in layers))
    return Run(ask(tokenized, asked).texts, hooks, batch_tokens, torch.float32)
