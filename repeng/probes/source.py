"""The source that a probe is fitted on, and its split into what it learns from and what is held out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.errors import BadInput, NonFinite
from repeng.maths import FEWEST_GROUPS, all_pairs, independent_groups
from repeng.prefetch import read_ahead
from repeng.probes.base import Reading
from repeng.probes.inputs import all_finite, finite_rows
from repeng.probes.ragged import Ragged

logger = logging.getLogger(__name__)

TRAIN_SHARE = 0.7
HELD_OUT_PAIRS = 4_000
"""Of a source of labelled texts the most held-out pairs that choose layers and calibrate."""
DRAWS = 100
"""How often a split of labelled texts is drawn until both labels are on either side."""
BLOCK_BYTES = 64 << 20
"""Float32 activations of a block of layers, unless one layer alone has more. A fit works on two or three copies, and
meanwhile the next block is read."""


@runtime_checkable
class LayerSource(Protocol):
    """What a probe is fitted on, a block of layers at a time.

    Attributes:
        labels: 1.0 for a right response, 0.0 for the others.
        examples: what each response competes within: its example, or a small explicit group.
        groups: the prompt group of each response.
        units: what is never parted, where prompt groups are too few to be split by: its example, or an explicit group.
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
    def units(self) -> Int[np.ndarray, " response"]: ...  # noqa: D102

    @property
    def kept(self) -> Bool[np.ndarray, " response"] | None: ...  # noqa: D102

    @property
    def readings(self) -> tuple[Reading, ...]: ...  # noqa: D102

    def read(self, readings: Sequence[Reading]) -> Float[Tensor, "layer *head stimulus response d"] | Ragged:
        """The float32 activations of some of the layers; of all tokens, with one or more a response, a `Ragged`."""
        ...


def layer_blocks(source: LayerSource, block_bytes: int = BLOCK_BYTES) -> Iterator[SourceData]:
    """A source, as many layers at a time as the bound allows, and one at the least.

    While a block is in use the next one is read, unless one layer alone has more than the bound.
    """
    readings = source.readings
    count = max(1, block_bytes // max(1, source.read(readings[:1]).nbytes)) if len(readings) > 1 else 1
    blocks = [readings[first : first + count] for first in range(0, len(readings), count)]
    known = (source.labels, source.examples, source.groups)
    read = read_ahead([partial(source.read, block) for block in blocks], block_bytes)
    for block in blocks:
        layers = tuple(reading.layer for reading in block)
        # In no variable and no zip, either of which would hold the block while the one after it is read.
        yield SourceData(next(read), *known, layers, source.kept, source.units)


@dataclass(frozen=True)
class SourceData:
    """The activations of one source split, all its layers or a block of them, in memory: a `LayerSource`.

    Attributes:
        activations: `[layer, stimulus, response, d_model]`, or `[layer, head, stimulus, response, d_head]`.
        labels: 1.0 for a right response, 0.0 for the others.
        examples: the example of each response: what it competes within.
        groups: the prompt group of each response.
        layers: the number of each layer in `activations`, ascending.
        kept: False where a text was skipped, so that its row holds nothing; None where all were kept.
        given_units: `LayerSource.units`; None where they are the examples.

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
    given_units: Int[np.ndarray, " response"] | None = None

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
    def units(self) -> Int[np.ndarray, " response"]:
        """What is never parted."""
        return self.examples if self.given_units is None else self.given_units

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

    Of labelled texts that have no rivals, each class of the training texts is shuffled and the two are set side by
    side; held-out pairs are of a positive and a negative text.

    Attributes:
        train: one random pair of each training example.
        held_out: every pair of each held-out example; of labelled texts every pair, or as many as `HELD_OUT_PAIRS`.
        held_out_one: one random pair of each held-out example.
        unpaired: training texts beyond those pairs, of the class that has more; none of a source of pairs.
        as_texts: whether the source is of labelled texts.
    """

    train: Int[np.ndarray, "example 2"]
    held_out: Int[np.ndarray, "held_out_pair 2"]
    held_out_one: Int[np.ndarray, "held_out_example 2"]
    unpaired: Int[np.ndarray, " row"]
    as_texts: bool = False


def split_of(source: LayerSource, *, seed: int) -> SourceSplit:
    """`split_source` of what a probe is fitted on."""
    return split_source(
        source.labels, source.examples, source.groups, seed=seed, usable=source.kept, units=source.units
    )


def split_source(
    labels: Float[np.ndarray, " response"],
    examples: Int[np.ndarray, " response"],
    groups: Int[np.ndarray, " response"],
    *,
    seed: int,
    usable: Bool[np.ndarray, " response"] | None = None,
    units: Int[np.ndarray, " response"] | None = None,
) -> SourceSplit:
    """70 % of the prompt groups to learn from, the rest held out. Under 30 groups, examples are the groups.

    A source whose every example holds a best and a worse response is one of pairs; else its texts are learned from one
    by one.

    Args:
        labels: 1.0 for a right response, 0.0 for the others.
        examples: what each response competes within.
        groups: the prompt group of each response.
        seed: of the split, and of which pair is drawn.
        usable: which responses have activations; None for all.
        units: what is never parted; None for the examples.

    Raises:
        BadInput: one class only, or too few pairs or texts to split.
    """
    units = examples if units is None else units
    if _has_lone_texts(labels, examples):
        return _split_texts(labels, groups, units, seed, np.ones(len(labels), bool) if usable is None else usable)
    pairs = all_pairs(labels, examples, usable)
    if len(pairs) == 0:
        raise BadInput("the source has no pair of a best (1.0) and a worse (0.0) response to fit on")
    pair_example, pair_group = examples[pairs[:, 0]], groups[pairs[:, 0]]
    pair_group, by_example = independent_groups(pair_group, units[pairs[:, 0]])
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
    return SourceSplit(
        train=pairs[in_train & one],
        held_out=pairs[~in_train],
        held_out_one=pairs[~in_train & one],
        unpaired=np.empty(0, dtype=np.int64),
    )


def _has_lone_texts(labels: Float[np.ndarray, " response"], examples: Int[np.ndarray, " response"]) -> bool:
    """Whether some example holds one label alone."""
    _, place = np.unique(examples, return_inverse=True)
    right, count = np.bincount(place, labels == 1), np.bincount(place)
    return bool(((right == 0) | (right == count)).any())


def _split_texts(
    labels: Float[np.ndarray, " response"],
    groups: Int[np.ndarray, " response"],
    units: Int[np.ndarray, " response"],
    seed: int,
    usable: Bool[np.ndarray, " response"],
) -> SourceSplit:
    """The split of a source of labelled texts, which has both labels on either side."""
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise BadInput("no text of the source has what the probe reads: each is too long, or has no such token")
    if len(np.unique(labels[rows])) < 2:
        raise BadInput("the source's texts are all of one label; a fit needs texts of both")
    independent, parted = independent_groups(groups[rows], units[rows])
    if parted:
        logger.warning(
            "the source has %d group(s), under %d: splitting it by example instead",
            len(np.unique(groups[rows])),
            FEWEST_GROUPS,
        )
    rng = np.random.default_rng(seed)
    names = np.unique(independent)
    n_train = int(len(names) * TRAIN_SHARE)
    for _ in range(DRAWS):
        in_train = np.isin(independent, rng.permutation(names)[:n_train])
        train, held_out = rows[in_train], rows[~in_train]
        fewest = [min(np.sum(labels[side] == label) for label in (0.0, 1.0)) for side in (train, held_out)]
        if fewest[0] > 1 and fewest[1] > 0:
            break
    else:
        raise BadInput(
            f"{len(rows)} texts in {len(names)} group(s), {int(labels[rows].sum())} of label 1, cannot be split into "
            "training texts with two or more of each label and held-out ones with both; give more groups of each label"
        )
    pairs, unpaired = side_by_side(train, labels, rng)
    return SourceSplit(
        train=pairs,
        held_out=_across(held_out, labels, rng),
        held_out_one=np.empty((0, 2), dtype=np.int64),
        unpaired=unpaired,
        as_texts=True,
    )


def side_by_side(
    rows: Int[np.ndarray, " row"], labels: Float[np.ndarray, " response"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, "pair 2"], Int[np.ndarray, " left"]]:
    """Rows of label 1 and of label 0, shuffled, in pairs; and what is left of the class that has more."""
    best, worse = (rng.permutation(rows[labels[rows] == label]) for label in (1.0, 0.0))
    count = min(len(best), len(worse))
    return np.stack([best[:count], worse[:count]], axis=1), np.concatenate([best[count:], worse[count:]])


def _across(
    rows: Int[np.ndarray, " row"], labels: Float[np.ndarray, " response"], rng: np.random.Generator
) -> Int[np.ndarray, "pair 2"]:
    """Pairs of a row of label 1 and one of label 0: all, or `HELD_OUT_PAIRS` in which each row stands as often as any
    other of its class."""
    best, worse = (rng.permutation(rows[labels[rows] == label]) for label in (1.0, 0.0))
    if len(best) * len(worse) <= HELD_OUT_PAIRS:
        return np.stack([np.repeat(best, len(worse)), np.tile(worse, len(best))], axis=1)
    # Of p and q rows the k-th pair is (k mod p, k mod q), moved on by one row whenever all that gives is used up.
    place = np.arange(HELD_OUT_PAIRS)
    moved = place + place // np.lcm(len(best), len(worse))
    return np.stack([best[place % len(best)], worse[moved % len(worse)]], axis=1)


def check_finite_layers(
    activations: Float[Tensor, "layer *rest response d"] | Ragged,
    layers: tuple[int, ...],
    rows: Int[np.ndarray, " row"],
    examples: Int[np.ndarray, " response"] | None = None,
) -> None:
    """Raise NonFinite, naming the first layer and example at fault among `rows`."""
    for number, values in zip(layers, activations, strict=True):
        if all_finite(values):
            continue
        asked = np.zeros(activations.shape[-2], dtype=bool)
        asked[rows] = True
        faulty = ~finite_rows(values).cpu().numpy() & asked
        if faulty.any():
            row = int(faulty.nonzero()[-1][0])
            place = f"response {row}" if examples is None else f"example {int(examples[row])} (response row {row})"
            raise NonFinite(
                f"layer {number}, {place}: the activation is infinite or not a number; capture in bfloat16 or float32"
            )


def take(activations: Float[Tensor, "*unit stimulus response d"] | Ragged, rows: Int[np.ndarray, " row"]) -> Any:
    """Some responses' activations, of the kind that was given."""
    if isinstance(activations, Ragged):
        return activations.take(rows)
    return activations.index_select(-2, torch.from_numpy(np.ascontiguousarray(rows)).to(activations.device))
