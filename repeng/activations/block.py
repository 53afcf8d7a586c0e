"""One block of a split's examples, taken through the model by itself: from its texts to its shards on disk.

What is computed of a block depends on its `Group` and the model alone, so it may be done by any process on any machine
that sees the store, and gives the same bytes there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from repeng.activations.layouts.batch import Chunk, Run
from repeng.activations.layouts.choice import LAYOUTS
from repeng.activations.shards import NonFiniteRow, Tokenized, answer, ask, n_tokens
from repeng.activations.store.files import ActivationKey, blocks
from repeng.activations.store.records import CaptureRecord, Plan
from repeng.activations.store.reuse import OtherVersions
from repeng.activations.store.writing import ActivationsWriter, ShardFacts
from repeng.activations.token_rules import token_rule
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.models.load import LanguageModel
from repeng.models.tokens import tokenize
from repeng.threads import SMALL_MODEL, few_threads


@dataclass(frozen=True)
class Group:
    """Activations of a split whose texts share rows: a block of examples is read once for all of them.

    Attributes:
        split: the split.
        record: of the capture.
        writers: of the activations, all with one plan but for their layers.
        others: of each stimulus, what other versions of the data hold of its texts.
    """

    split: Split
    record: CaptureRecord
    writers: tuple[ActivationsWriter, ...]
    others: Mapping[str, OtherVersions]

    @property
    def plan(self) -> Plan:
        """How the texts are laid out; its layers are those of the first writer."""
        return self.writers[0].plan

    @cached_property
    def blocks(self) -> tuple[range, ...]:
        """The examples of each block."""
        return tuple(blocks(self.split, self.plan.block_characters))

    def first_row(self, number: int) -> int:
        """The first response of a block."""
        return int(self.split.offsets[self.blocks[number].start])

    def tokenize(self, lm: LanguageModel, number: int) -> Tokenized:
        """The texts of a block, of every stimulus of the plan."""
        keys = [writer.key for writer in self.writers]
        return tokenize_block(
            lm, self.split, self.blocks[number], self.record, self.plan.stimuli, closed=self.plan.closed, keys=keys
        )


@dataclass(frozen=True)
class BlockFacts:
    """What an index says of a block's responses, known from its tokenized texts.

    Attributes:
        first: row of its first response.
        n_rows: responses.
        skipped: of each stimulus the rows whose text is too long.
        counts: of each activations, over how many tokens each response's value is.
        n_tokens: of all texts, each counted alone.
    """

    first: int
    n_rows: int
    skipped: Mapping[str, Sequence[int]]
    counts: Mapping[ActivationKey, Sequence[int]]
    n_tokens: int


def block_facts(group: Group, number: int, tokenized: Tokenized) -> BlockFacts:
    """What the index is to say of a block."""
    first = group.first_row(number)
    return BlockFacts(
        first=first,
        n_rows=len(next(iter(tokenized.values()))),
        skipped={name: [first + row for row, t in enumerate(texts) if t is None] for name, texts in tokenized.items()},
        counts={w.key: [n_tokens(text, w.key.token) for text in tokenized[w.key.stimulus]] for w in group.writers},
        n_tokens=sum(text.length for texts in tokenized.values() for text in texts if text is not None),
    )


def tokenize_block(
    lm: LanguageModel,
    split: Split,
    examples: range,
    record: CaptureRecord,
    stimuli: Sequence[Stimulus],
    *,
    closed: Collection[str],
    keys: Collection[ActivationKey],
) -> Tokenized:
    """The texts of some examples under every one of some stimuli, with what the tokens of some keys need to know."""
    by_turn = {key.stimulus for key in keys if token_rule(key.token).roles}
    return {
        stimulus.name: tokenize(
            split,
            stimulus,
            lm,
            record.max_length,
            record.too_long,
            examples=examples,
            turns=stimulus.name in by_turn,
            closed=stimulus.name in closed,
        )
        for stimulus in stimuli
    }


@dataclass(frozen=True)
class ReadBlock:
    """A block that the model has read.

    Attributes:
        write: writes its shards and gives the facts of each writer's, in the order of `todo`; on any thread.
        facts: what the index says of it.
        n_texts: distinct texts that were read.
        n_tokens: tokens that were computed, padding included.
    """

    write: Callable[[], tuple[ShardFacts, ...]]
    facts: BlockFacts
    n_texts: int
    n_tokens: int


def read_block(
    lm: LanguageModel, group: Group, number: int, todo: Sequence[int], told: Callable[[int], None] = lambda _rows: None
) -> ReadBlock:
    """Take the texts of a block through the model, but for those that other versions of the data hold.

    Args:
        lm: the model.
        group: whose block.
        number: of the block.
        todo: which of the group's writers lack their shard.
        told: called with how many more responses are done, each stimulus counted.

    Raises:
        NonFinite: a value is infinite or not a number.
        torch.OutOfMemoryError: a batch does not fit.
    """
    writers = [group.writers[place] for place in todo]
    whole, plan, first = group.tokenize(lm, number), group.plan, group.first_row(number)
    facts = block_facts(group, number, whole)
    given = {name: group.others[name].among(first, first + facts.n_rows) for name in group.others}
    # What is taken over is to the model what a skipped text is.
    tokenized = {
        name: [None if first + row in given.get(name, ()) else text for row, text in enumerate(texts)]
        for name, texts in whole.items()
    }
    questions = ask(tokenized, [writer.key for writer in writers])
    hooks = tuple(dict.fromkeys((writer.key.site, layer) for writer in writers for layer in writer.plan.layers))
    job = Run(questions.texts, hooks, plan.batch_tokens, getattr(torch, group.record.storage_dtype))
    wanted = {writer.key.stimulus for writer in writers}
    told(sum(text is None for name in wanted for text in tokenized[name]))
    computed = 0

    def count(chunk: Chunk) -> None:
        nonlocal computed
        computed += chunk.n_tokens
        told(sum(name in wanted for text in chunk.texts for name, _ in questions.owners[text]))

    try:
        # One thread gives the same bytes whatever number of cores, and of processes, reads the blocks.
        with few_threads(sum(weight.nbytes for weight in lm.model.parameters()), SMALL_MODEL):
            answers = answer(lm, questions, job, LAYOUTS[plan.layout], count)
    except NonFiniteRow as error:
        raise error.explained(group.split, first) from None

    def write() -> tuple[ShardFacts, ...]:
        written = []
        for writer in writers:
            tensors = answers.tensors(writer.key, writer.plan.layers, tokenized)
            rows = given[writer.key.stimulus]
            if rows:
                taken = group.others[writer.key.stimulus].tensors(writer.key, writer.plan.layers, rows)
                for name, values in taken.items():
                    tensors[name][torch.tensor(rows) - first] = values
            written.append(writer.put_shard(number, tensors))
        return tuple(written)

    return ReadBlock(write, facts, len(questions.texts), computed)
