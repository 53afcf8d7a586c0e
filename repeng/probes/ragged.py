"""The activations of all tokens of texts of unequal length, end to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.errors import BadArray
from repeng.maths import offsets_of


@dataclass(frozen=True, eq=False)
class Ragged:
    """Every token's activation of several examples (texts), one example after the other.

    To what takes a tensor `[*batch, example, d]` it looks like one: `shape`, `ndim`, `len` and indices are those of
    that tensor, an example's tokens being one entry. So `ragged[3]` is batch element 3, or, where there are no batch
    axes, the tokens of example 3, and `ragged[rows]` those of several.

    Attributes:
        values: the tokens' activations.
        offsets: example `i` has the tokens from `offsets[i]` up to, not including, `offsets[i + 1]`.

    Raises:
        BadArray: the offsets do not divide the tokens, or an example has none.
    """

    values: Float[Tensor, "*batch token d"]
    offsets: Int[np.ndarray, " boundary"]

    def __post_init__(self) -> None:
        offsets, tokens = self.offsets, self.values.shape[-2]
        if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != tokens:
            ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "nothing"
            raise BadArray(f"offsets must run from 0 to the number of tokens, {tokens}; these run from {ends}")
        if (short := np.flatnonzero(np.diff(offsets) < 1)).size:
            raise BadArray(
                f"example {short[0]} has no token (offsets {offsets[short[0]]} and {offsets[short[0] + 1]}): leave it "
                "out, or give it one"
            )

    @classmethod
    def of_texts(cls, texts: Sequence[Float[Tensor, "_ d"]]) -> Ragged:
        """Texts of `[token, d]` each.

        Raises:
            BadArray: there are none, or they differ in width.
        """
        widths = sorted({int(text.shape[-1]) for text in texts})
        if len(widths) != 1:
            raise BadArray(f"texts must be one or more, all of one width; these are {len(texts)} of widths {widths}")
        return cls(torch.cat(list(texts)), offsets_of([len(text) for text in texts]))

    @classmethod
    def of_rows(cls, rows: Float[Tensor, "*batch example d"]) -> Ragged:
        """One token an example."""
        return cls(rows, np.arange(rows.shape[-2] + 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor that it stands for: the batch axes, examples, width."""
        return (*self.values.shape[:-2], len(self.offsets) - 1, self.values.shape[-1])

    @property
    def ndim(self) -> int:
        """How many axes that tensor has."""
        return self.values.ndim

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return int(self.values.nbytes)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    @property
    def lengths(self) -> Int[np.ndarray, " example"]:
        """How many tokens each example has."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        if self.ndim > 2:
            return Ragged(self.values[index], self.offsets)
        # scikit-learn writes X[rows, ...].
        if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:
            index = index[0]
        if index is None:
            return Ragged(self.values[None], self.offsets)
        rows = np.arange(len(self))[index.numpy() if isinstance(index, Tensor) else index]
        if rows.ndim == 0:
            return self.values[self.offsets[rows] : self.offsets[rows + 1]]
        return self.take(rows)

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))

    def take(self, rows: Int[np.ndarray, " row"]) -> Ragged:
        """Some examples, in the order asked for."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        tokens = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values.index_select(-2, torch.from_numpy(tokens).to(self.device)), offsets)

    def means(self) -> Float[Tensor, "*batch example d"]:
        """Each example's mean over its tokens, in float32 (float64 stays)."""
        dtype = torch.float64 if self.values.dtype == torch.float64 else torch.float32
        example = torch.from_numpy(np.repeat(np.arange(len(self.offsets) - 1), self.lengths)).to(self.device)
        sums = torch.zeros(self.shape, dtype=dtype, device=self.device)
        sums.index_add_(-2, example, self.values.to(dtype))
        return sums / torch.from_numpy(self.lengths).to(sums)[:, None]

    def blocks(self, most: int) -> Iterator[slice]:
        """Runs of examples that take at most `most` places when padded to the run's longest; one at the least."""
        first, longest = 0, 0
        for example, length in enumerate(self.lengths.tolist()):
            longest = max(longest, length)
            if example > first and (example + 1 - first) * longest > most:
                yield slice(first, example)
                first, longest = example, length
        if first < len(self.offsets) - 1:
            yield slice(first, len(self.offsets) - 1)

    def finite(self) -> Bool[Tensor, "*batch example"]:
        """Whether each example's values are all finite numbers."""
        tokens = torch.isfinite(self.values).all(dim=-1).cpu().numpy()
        return torch.from_numpy(np.logical_and.reduceat(tokens, self.offsets[:-1], axis=-1))


def places_of(
    lengths: Int[np.ndarray, " example"],
) -> tuple[Int[Tensor, "example place"], Bool[Tensor, "example place"]]:
    """For a rectangle of examples padded at their ends: which token stands at each place, and whether one does."""
    place = np.arange(lengths.max())
    there = place < lengths[:, None]
    return torch.from_numpy(np.where(there, offsets_of(lengths)[:-1, None] + place, 0)), torch.from_numpy(there)
