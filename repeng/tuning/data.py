"""What a reward model reads: texts as token ids, one pair a prompt in every epoch, and the held-out prompts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from repeng.distributions.chat import chat_renderer
from repeng.distributions.schema import Split
from repeng.errors import BadInput

log = logging.getLogger(__name__)

MIN_GROUPS = 30


@dataclass(frozen=True)
class EncodedSplit:
    """A split's responses as token ids, in file order; None where a text is longer than the model takes."""

    split: Split
    ids: tuple[list[int] | None, ...]

    @property
    def kept(self) -> Bool[np.ndarray, " response"]:
        """Which responses can be scored."""
        return np.array([ids is not None for ids in self.ids], dtype=bool)


def encode_split(split: Split, tokenizer: Any, max_length: int) -> EncodedSplit:
    """Tokenize prompt and response apart, without BOS, with EOS after the response, as the benchmark's trainer does.

    Args:
        split: its prompts may be chats, which the tokenizer's chat template renders.
        tokenizer: of the model.
        max_length: longest text in tokens; longer ones become None.

    Raises:
        BadInput: the tokenizer has no EOS token, or a chat has no template to render it.
    """
    if tokenizer.eos_token_id is None:
        raise BadInput("the tokenizer has no EOS token, at which a reward model is read; name one in its config")
    render = chat_renderer(tokenizer)
    ids: list[list[int] | None] = []
    for example in split.examples:
        text = example.prompt if isinstance(example.prompt, str) else render(example.prompt)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        for response in example.responses:
            tail = tokenizer(response, add_special_tokens=False)["input_ids"] if response else []
            whole = [*prompt, *tail, tokenizer.eos_token_id]
            ids.append(whole if len(whole) <= max_length else None)
    return EncodedSplit(split, tuple(ids))


@dataclass(frozen=True)
class PairStream:
    """The pairs of each step: every epoch takes each example once, in a new order, with one of its worse responses.

    A step's pairs depend on the seed and the step alone, so that a resumed run sees what it would have seen.

    Attributes:
        rows: for each example, its best row and its worse rows among the split's responses.
        batch_size: pairs a step; an epoch's last step may hold fewer.
        seed: of order and choice.
        redraw: choose the worse response anew in every epoch.
    """

    rows: tuple[tuple[int, tuple[int, ...]], ...]
    batch_size: int
    seed: int
    redraw: bool

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each example is seen once."""
        return -(-len(self.rows) // self.batch_size)

    def pairs(self, step: int) -> list[tuple[int, int]]:
        """The (best, worse) rows of a 0-based step."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.rows))
        choose = np.random.default_rng([self.seed, 1, epoch if self.redraw else 0])
        choices = choose.random(len(self.rows))
        taken = order[number * self.batch_size : (number + 1) * self.batch_size]
        return [(self.rows[i][0], self.rows[i][1][int(choices[i] * len(self.rows[i][1]))]) for i in map(int, taken)]


def example_rows(encoded: EncodedSplit, examples: Sequence[int]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Best and worse rows of those examples all of whose responses can be scored."""
    split, kept = encoded.split, encoded.kept
    found = []
    for number in examples:
        start, best = int(split.offsets[number]), split.examples[number].best
        rows = range(start, start + len(split.examples[number].responses))
        if kept[list(rows)].all():
            found.append((start + best, tuple(row for row in rows if row != start + best)))
    if len(found) < len(examples):
        log.warning(
            "%s: %d of %d examples are left out of tuning: they are longer than the model takes",
            split.distribution,
            len(examples) - len(found),
            len(examples),
        )
    return tuple(found)


def hold_out(split: Split, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Example numbers to train on and to hold out, split by prompt group.

    Where a split has under 30 prompt groups, examples are the groups, and a warning says so.

    Args:
        split: the source.
        share: of groups to hold out; 0 holds out nothing. At least one group is held out otherwise.
        seed: of the choice.

    Raises:
        BadInput: there is only one group to divide.
    """
    if share == 0:
        return list(range(len(split.examples))), []
    groups = split.groups
    if len(set(groups.tolist())) < MIN_GROUPS and len(groups) > len(set(groups.tolist())):
        log.warning(
            "%s: %d prompt texts are too few to hold some out; examples are held out instead",
            split.distribution,
            len(set(groups.tolist())),
        )
        groups = np.arange(len(groups))
    names = np.unique(groups)
    if len(names) < 2:
        raise BadInput(f"{split.distribution}: 1 example cannot be divided into training and held-out; give 2 or more")
    number = min(len(names) - 1, max(1, round(share * len(names))))
    chosen = np.random.default_rng([seed, 2]).permutation(names)[:number]
    held = np.isin(groups, chosen)
    return np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()


def length_batches(ids: Sequence[list[int]], batch_tokens: int) -> list[list[int]]:
    """Positions of the texts in batches of like length, none over `batch_tokens` once padded (one text may be)."""
    batches: list[list[int]] = []
    for position in sorted(range(len(ids)), key=lambda place: (len(ids[place]), place)):
        longest = len(ids[position])
        if batches and longest * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches
