"""What is asked of one forward pass, and what it gives: the seam between laying texts out and everything else.

A *layout* turns distinct texts into batches: `padded.padded_batches` gives each text a row of its own, padded;
`packed.PackedLayout` lets texts with a common prefix share its tokens under a tree mask. Both yield `Batch`, which
says where each token of each text stands, and `forward.run` does the rest for either: hooks, gathering, means,
log-probabilities. So the two paths differ in the layout alone.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repeng.models.load import LanguageModel
from repeng.models.sites import Hook
from repeng.models.turns import Span


@dataclass(frozen=True)
class TextRequest:
    """One distinct text and what is wanted of it.

    Attributes:
        ids: token ids, special tokens included, without padding. No two requests of one run have equal ids.
        positions: where a vector is wanted, of every hook; ascending, without repeats.
        means: for each mean vector that is wanted, of every hook, the spans that it is over; never empty.
        logprobs: spans of which the total log-probability is wanted. A token at position 0 has none and adds nothing.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...] = ()
    means: tuple[tuple[Span, ...], ...] = ()
    logprobs: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Rows for one forward pass.

    Attributes:
        input_ids: token ids; cells that belong to no text hold any valid id.
        position_ids: position of each token within its own text (any number in cells of no text).
        attention_mask: as the model takes it: None (plain causal), [row, 1, pos, pos] of 0 and the dtype's minimum or a
            dict of such by layer type, or a compact mask (`tree_attention`).
        texts: number of each text that stands here, counted over all texts given to the layout.
        rows: row of each of these texts.
        columns: for each of these texts, the column of each of its tokens. Texts may share columns.
    """

    input_ids: Int[Tensor, "row pos"]
    position_ids: Int[Tensor, "row pos"]
    attention_mask: Tensor | Mapping[str, Tensor] | None
    texts: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[Int[np.ndarray, " _"], ...]


Batches = Generator[Batch, None, None]


@runtime_checkable
class Layout(Protocol):
    """Cuts texts into batches, each text into exactly one.

    What it yields depends on the texts, their order and `batch_tokens` alone (and on the architecture, for the kind of
    mask): never on the hooks, on the device, or on what was computed before.
    """

    def __call__(self, lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Batches:
        """Yield batches of at most `batch_tokens` cells (more only where one text, or one tree, alone is longer)."""
        ...


@dataclass(frozen=True)
class Chunk:
    """What one batch gave. Everything is on the CPU.

    Attributes:
        texts: the batch's texts.
        vectors: of each hook, in the storage dtype: one after the other, each text's each of `positions`.
        means: of each hook, in the storage dtype: one after the other, each text's each of `means`, taken in float32.
        logprobs: total log-probability (natural logarithm): one after the other, each text's each of `logprobs`.
        n_tokens: cells of the batch, padding included.
    """

    texts: tuple[int, ...]
    vectors: dict[Hook, Float[Tensor, "slot ..."]]
    means: dict[Hook, Float[Tensor, "span ..."]]
    logprobs: Float[np.ndarray, " scored"]
    n_tokens: int


@dataclass(frozen=True)
class Run:
    """One run over distinct texts: what `forward.run` needs besides the model.

    Attributes:
        texts: distinct by their ids, in a fixed order.
        hooks: every (site, layer) wanted.
        batch_tokens: upper bound on the cells of a batch.
        storage_dtype: what vectors are rounded to.
    """

    texts: tuple[TextRequest, ...]
    hooks: tuple[Hook, ...]
    batch_tokens: int
    storage_dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True)
class Pass:
    """One forward pass, as the processes that hold a model together are told of it.

    Attributes:
        kind: how the model attends: a packed layout's `kind`, or "padded".
        batch: whose texts are numbered among `run`'s; its masks are on the CPU.
        run: the batch's texts alone, and the hooks.
    """

    kind: str
    batch: Batch
    run: Run

    @classmethod
    def of(cls, layout: Layout, batch: Batch, run: Run) -> Pass:
        """The pass over a batch that a layout made of a run's texts."""
        mask = batch.attention_mask
        mask = mask.cpu() if isinstance(mask, Tensor) else mask and {name: each.cpu() for name, each in mask.items()}
        texts = tuple(run.texts[text] for text in batch.texts)
        return cls(
            getattr(layout, "kind", "padded"),
            replace(batch, attention_mask=mask, texts=tuple(range(len(texts)))),
            replace(run, texts=texts),
        )
