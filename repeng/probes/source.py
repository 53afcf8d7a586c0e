"""The source that a probe is fitted on, and its split into what it learns from and what is held out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.errors import BadInput, NonFinite
from repeng.maths import FEWEST_GROUPS, all_pairs, independent_groups
from repeng.probes.base import Reading
from repeng.probes.inputs import all_finite, finite_rows
from repeng.probes.ragged import Ragged

logger = logging.getLogger(__name__)

TRAIN_SHARE = 0.7
BLOCK_BYTES = 256 << 20
"""Float32 activations of a block of layers, unless one layer alone has more. A fit works on two or three copies."""


@runtime_checkable
class LayerSource(Protocol):
    """What a probe is fitted on, a block of layers at a time.

    Attributes:
        labels: 1.0 for an example's best response, 0.0 for the others.
        examples: the example of each response.
        groups: the prompt group of each response.
        kept: False where a text was skipped, so that its row holds nothing.
        readings: the layers to be fitted, lowest first.
    """

    @property
    def labels(self) -> Float[np.ndarray, " response"]: ...  # noqa: D102

    @property
    def examples(self) -> Int[np.ndarray, " response"]: ...  # noqa: D102

    @property
    def groups(self) -> Int[np.ndarray, " response"]: ...  # noqa: D102

    @property
    def kept(self) -> Bool[np.ndarray, " response"] | None: ...  # noqa: D102

    @property
    def readings(self) -> tuple[Reading, ...]: ...  # noqa: D102

    def read(self, readings: Sequence[Reading]) -> Float[Tensor, "layer *head stimulus response d"] | Ragged:
        """The float32 activations of some of the layers; of all tokens, with one or more a response, a `Ragged`."""
        ...


def layer_blocks(source: LayerSource, block_bytes: int = BLOCK_BYTES) -> Iterator[SourceData]:
    """A source, as many layers at a time as the bound allows, and one at the least."""
    readings = source.readings
    count = max(1, block_bytes // max(1, source.read(readings[:1]).nbytes)) if len(readings) > 1 else 1
    for first in range(0, len(readings), count):
        block = readings[first : first + count]
        layers = tuple(reading.layer for reading in block)
        yield SourceData(source.read(block), source.labels, source.examples, source.groups, layers, source.kept)


@dataclass(frozen=True)
class SourceData:
    """The activations of one source split, all its layers or a block of them, in memory: a `LayerSource`.

    Attributes:
        activations: `[layer, stimulus, response, d_model]`, or `[layer, head, stimulus, response, d_head]`.
        labels: 1.0 for an example's best response, 0.0 for the others.
        examples: the example of each response.
        groups: the prompt group of each response.
        layers: the number of each layer in `activations`, ascending.
        kept: False where a text was skipped, so that its row holds nothing; None where all were kept.

    Raises:
        BadInput: the parts do not fit each other.
        NonFinite: an activation is infinite or not a number; the message names the layer and the example.
    """

    activations: Float[Tensor, "layer *head stimulus response d"] | Ragged
    labels: Float[np.ndarray, " response"]
    examples: Int[np.ndarray, " response"]
    groups: Int[np.ndarray, " response"]
    layers: tuple[int, ...]
    kept: Bool[np.ndarray, " response"] | None = None

    def __post_init__(self) -> None:
        if self.activations.ndim not in (4, 5):
            raise BadInput(f"activations of shape {tuple(self.activations.shape)} need 4 axes, or 5 with heads")
        if len(self.layers) != self.activations.shape[0] or list(self.layers) != sorted(set(self.layers)):
            raise BadInput(f"layers {self.layers} must be {self.activations.shape[0]} ascending numbers")
        lengths = {len(self.labels), len(self.examples), len(self.groups), self.activations.shape[-2]}
        if len(lengths) > 1:
            raise BadInput(f"activations, labels, examples and groups differ in length: {sorted(lengths)} responses")
        check_finite_layers(self.activations, self.layers, self.usable.nonzero()[0], self.examples)

    @property
    def usable(self) -> Bool[np.ndarray, " response"]:
        """Which responses have activations."""
        return np.ones(len(self.labels), dtype=bool) if self.kept is None else self.kept

    @property
    def has_heads(self) -> bool:
        """Whether the activations have an axis of heads."""
        return self.activations.ndim == 5

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The layers that are here."""
        return tuple(Reading("", layer, layer) for layer in self.layers)

    def read(self, readings: Sequence[Reading]) -> Float[Tensor, "layer *head stimulus response d"] | Ragged:
        """Some of the layers, which lie side by side."""
        first = self.layers.index(readings[0].layer)
        return self.activations[first : first + len(readings)]


@dataclass(frozen=True)
class SourceSplit:
    """Pairs as rows (best, worse) of the source's responses, in the order of its examples.

    Attributes:
        train: one random pair of each training example.
        held_out: every pair of each held-out example.
        held_out_one: one random pair of each held-out example.
    """

    train: Int[np.ndarray, "example 2"]
    held_out: Int[np.ndarray, "held_out_pair 2"]
    held_out_one: Int[np.ndarray, "held_out_example 2"]


def split_source(
    labels: Float[np.ndarray, " response"],
    examples: Int[np.ndarray, " response"],
    groups: Int[np.ndarray, " response"],
    *,
    seed: int,
    usable: Bool[np.ndarray, " response"] | None = None,
) -> SourceSplit:
    """70 % of the prompt groups to learn from, the rest held out. Under 30 groups, examples are the groups.

    Raises:
        BadInput: one class only, an example with two best responses, or too few pairs to split.
    """
    pairs = all_pairs(labels, examples, usable)
    if len(pairs) == 0:
        raise BadInput("the source has no pair of a best (1.0) and a worse (0.0) response to fit on")
    pair_example, pair_group = examples[pairs[:, 0]], groups[pairs[:, 0]]
    pair_group, by_example = independent_groups(pair_group, pair_example)
    if by_example:
        logger.warning(
            "the source has %d prompt group(s), under %d: splitting it by example instead",
            len(np.unique(groups[pairs[:, 0]])),
            FEWEST_GROUPS,
        )
    rng = np.random.default_rng(seed)
    names = np.unique(pair_group)
    n_train = int(len(names) * TRAIN_SHARE)
    if n_train < 2 or len(names) - n_train < 1:
        raise BadInput(f"{len(names)} example(s) are too few to split into training and held-out ones; give 4 or more")
    in_train = np.isin(pair_group, rng.permutation(names)[:n_train])
    # One draw a pair; the first of an example's pairs in a shuffled order is its random pair.
    order = rng.permutation(len(pairs))
    _, first = np.unique(pair_example[order], return_index=True)
    one = np.zeros(len(pairs), dtype=bool)
    one[order[first]] = True
    return SourceSplit(train=pairs[in_train & one], held_out=pairs[~in_train], held_out_one=pairs[~in_train & one])


def check_finite_layers(
    activations: Float[Tensor, "layer *rest response d"] | Ragged,
    layers: tuple[int, ...],
    rows: Int[np.ndarray, " row"],
    examples: Int[np.ndarray, " response"] | None = None,
) -> None:
    """Raise NonFinite, naming the first layer and example at fault among `rows`."""
    wanted = torch.zeros(activations.shape[-2], dtype=torch.bool, device=activations.device)
    wanted[torch.from_numpy(rows).to(activations.device)] = True
    for number, values in zip(layers, activations, strict=True):
        if all_finite(values):
            continue
        finite = finite_rows(values).to(wanted.device) | ~wanted
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0, -1])
            place = f"response {row}" if examples is None else f"example {int(examples[row])} (response row {row})"
            raise NonFinite(
                f"layer {number}, {place}: the activation is infinite or not a number; capture in bfloat16 or float32"
            )


def take(activations: Float[Tensor, "*unit stimulus response d"] | Ragged, rows: Int[np.ndarray, " row"]) -> Any:
    """Some responses' activations, of the kind that was given."""
    if isinstance(activations, Ragged):
        return activations.take(rows)
    return activations.index_select(-2, torch.from_numpy(np.ascontiguousarray(rows)).to(activations.device))
