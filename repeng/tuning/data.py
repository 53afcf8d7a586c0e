"""What a reward model reads: texts as token ids, one pair a prompt in every epoch, and the held-out prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from repeng.distributions.chat import chat_renderer
from repeng.distributions.schema import Split
from repeng.errors import BadInput
from repeng.maths import independent_groups
from repeng.models.token_width import FewestTokens

log = logging.getLogger(__name__)

Rows = tuple[tuple[int, tuple[int, ...]], ...]
"""For each example its best row and its worse rows among the split's responses."""


@dataclass(frozen=True)
class EncodedSplit:
    """A split's responses as token ids, in file order; None where a text is longer than the model takes."""

    split: Split
    ids: tuple[list[int] | None, ...]

    @property
    def kept(self) -> Bool[np.ndarray, " response"]:
        """Which responses can be scored."""
        return np.array([ids is not None for ids in self.ids], dtype=bool)

    def texts(self, rows: Iterable[int]) -> list[list[int]]:
        """Token ids of some responses that are kept."""
        return [self.ids[row] or [] for row in rows]


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
    render, fewest = chat_renderer(tokenizer), FewestTokens(tokenizer)
    ids: list[list[int] | None] = []
    for example in split.examples:
        text = example.prompt if isinstance(example.prompt, str) else render(example.prompt)
        if fewest.exceed(text, max_length):
            ids += [None] * len(example.responses)
            continue
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        for response in example.responses:
            if fewest.exceed(response, max_length):
                ids.append(None)
                continue
            tail = tokenizer(response, add_special_tokens=False)["input_ids"] if response else []
            whole = [*prompt, *tail, tokenizer.eos_token_id]
            ids.append(whole if len(whole) <= max_length else None)
    return EncodedSplit(split, tuple(ids))


@dataclass
class PairStream:
    """Training pairs, as a dataset: an epoch takes each example once, in a new order, with one of its worse responses.

    An epoch's pairs depend on the seed and the epoch alone, so that a resumed run sees what it would have seen.

    Attributes:
        rows: for each example, its best row and its worse rows among the split's responses.
        seed: of order and choice.
        redraw: choose the worse response anew in every epoch.
        pairs: the (best, worse) rows of the epoch in hand, at first epoch 0.
    """

    rows: Rows
    seed: int
    redraw: bool
    pairs: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to a 0-based epoch."""
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.rows))
        choices = np.random.default_rng([self.seed, 1, epoch if self.redraw else 0]).random(len(self.rows))
        self.pairs = []
        for place in order.tolist():
            best, worse = self.rows[place]
            self.pairs.append((best, worse[int(choices[place] * len(worse))]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[int, int]:
        return self.pairs[number]


def example_rows(encoded: EncodedSplit, examples: Sequence[int]) -> Rows:
    """Each right row with the worse ones, of those examples all of whose responses can be scored."""
    split, kept = encoded.split, encoded.kept
    found, left_out = [], 0
    for number in examples:
        start, right = int(split.offsets[number]), split.examples[number].right
        rows = range(start, start + len(split.examples[number].responses))
        if kept[list(rows)].all():
            worse = tuple(row for row in rows if row - start not in right)
            found += [(start + best, worse) for best in right]
        else:
            left_out += 1
    if left_out:
        log.warning(
            "%s: %d of %d examples are left out of tuning: they are longer than the model takes",
            split.distribution,
            left_out,
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
    groups, by_example = independent_groups(split.groups, np.arange(len(split.examples)))
    if by_example:
        log.warning(
            "%s: %d prompt texts are too few to hold some out; examples are held out instead",
            split.distribution,
            len(np.unique(split.groups)),
        )
    names = np.unique(groups)
    if len(names) < 2:
        raise BadInput(f"{split.distribution}: 1 example cannot be divided into training and held-out; give 2 or more")
    number = min(len(names) - 1, max(1, round(share * len(names))))
    chosen = np.random.default_rng([seed, 2]).permutation(names)[:number]
    held = np.isin(groups, chosen)
    return np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()
