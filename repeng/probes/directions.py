"""The directions that a probe's fits read along at every layer, next to those of shuffled labels and to random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from repeng.probes.base import LinearProbe, Probe, projected
from repeng.probes.fitted import to_numpy
from repeng.probes.fitting import ProbeSpec, chosen, judge
from repeng.probes.projection import of_length_one, unit_directions
from repeng.probes.ragged import Ragged
from repeng.probes.repeats import FitPlan
from repeng.probes.selection import Curves
from repeng.probes.source import BLOCK_BYTES, LayerSource, SourceData, layer_blocks, take

FEWEST_OF_A_FIT = 2
"""Shuffled labellings of each fit: fits that are asked alone must have a null whose spread can be told."""


@dataclass(frozen=True, eq=False)
class Directions:
    """Vectors of length 1, each towards what its probe scores higher, at every fitted layer and head.

    A site without heads has one. The order of the draws is that of their seeds, so that the k-th shuffled labelling is
    one and the same for two stimuli of a source of which the same texts were kept.

    Attributes:
        layers: the fitted ones, ascending.
        fits: of each fit.
        chosen: the (layer, head) that each fit chose.
        shuffled: of fits on labels that were exchanged by coin, group by group.
        fit_of_shuffled: the fit whose split each of them has.
        random: evenly distributed, each turned to where it ranks more of the first fit's training pairs rightly; none
            of a probe over tokens.
        spread: the same, distributed as the first fit's training responses are.
    """

    layers: tuple[int, ...]
    fits: Float[np.ndarray, "fit layer head d"]
    chosen: Bool[np.ndarray, "fit layer head"]
    shuffled: Float[np.ndarray, "null layer head d"]
    fit_of_shuffled: Int[np.ndarray, " null"]
    random: Float[np.ndarray, "draw layer head d"]
    spread: Float[np.ndarray, "draw layer head d"]


def fit_directions(
    spec: ProbeSpec,
    source: LayerSource,
    *,
    fits: int = 5,
    draws: int = 20,
    stream: int = 0,
    block_bytes: int = BLOCK_BYTES,
) -> Directions | None:
    """The directions of the fits of `fit_repeatedly`, with draws of each control.

    Args:
        spec: the probe and how it is fitted.
        source: the labelled activations.
        fits: how many fits.
        draws: how many of each control; those of shuffled labels are shared out among the fits, two or more to each.
        stream: of the random directions, which of two streams are independent.
        block_bytes: as in `fit_probe`.

    Returns:
        None where the probe reads along no direction, or learns nothing.

    Raises:
        BadInput, NonFinite: as `fit_probe`.
    """
    if not spec.probe.learns:
        return None
    plan = FitPlan.of(spec, source, fits)
    fit_of_shuffled = np.sort(np.arange(max(draws, FEWEST_OF_A_FIT * len(plan.specs))) % len(plan.specs))
    counts = np.bincount(fit_of_shuffled).tolist()
    tosses = [plan.toss(fit, count, source) for fit, count in enumerate(counts)]
    blocks: list[list[tuple[Probe, Curves]]] = [[] for _ in plan.specs]
    shuffled: list[list[Probe]] = []
    random: list[tuple[np.ndarray, np.ndarray]] = []
    for data in layer_blocks(source, block_bytes):
        made = plan.fit(data)
        if unit_directions(made[0]) is None:
            return None
        for own, fitted, split in zip(blocks, made, plan.splits, strict=True):
            own.append((fitted, judge(plan.rule, fitted, data, split)))
        shuffled.append([toss.block(one, data).probe for toss, one in zip(tosses, made, strict=True)])
        random.append(random_directions(made[0], data, plan.pairs(0).train, count=draws, seed=[spec.seed, stream]))
        del data
    found = [chosen(one, own) for one, own in zip(plan.specs, blocks, strict=True)]
    layers, has_heads = found[0].fitted_layers, found[0].has_heads
    marked = np.zeros((len(found), *found[0].head_accuracy.shape), dtype=bool)
    for row, one in zip(marked, found, strict=True):
        for layer, head in one.units:
            row[layers.index(layer), max(head, 0)] = True
    even, spread = (np.concatenate(of_blocks, axis=1) for of_blocks in zip(*random, strict=True))
    return Directions(
        layers,
        np.stack([_by_head(one.probe, has_heads) for one in found]),
        marked,
        np.concatenate([np.concatenate([_by_head(one, has_heads) for one in block]) for block in shuffled], axis=1),
        fit_of_shuffled,
        even,
        spread,
    )


def random_directions(
    fitted: Probe, data: SourceData, pairs: Int[np.ndarray, "pair 2"], *, count: int, seed: Sequence[int]
) -> tuple[Float[np.ndarray, "draw layer head d"], Float[np.ndarray, "draw layer head d"]]:
    """Random directions at a block of layers, evenly distributed and as the responses of some pairs are.

    Each is turned to where it ranks more of the pairs rightly, as in a probe's own null.

    Args:
        fitted: the probe, fitted at these layers.
        data: the block.
        pairs: rows (best, worse).
        count: of each kind; none of a probe over tokens, or one that reads along no single direction.
        seed: of the draws, which are the same for every layer.
    """
    width = data.activations.shape[-1]
    heads = data.activations.shape[1] if data.has_heads else 1
    nothing = np.empty((0, len(data.layers), heads, width))
    if isinstance(data.activations, Ragged):
        return nothing, nothing
    along = fitted.with_directions(data.activations.new_zeros(*data.activations.shape[:-3], width))
    if not isinstance(along, LinearProbe):
        return nothing, nothing
    features = along.features(take(data.activations, pairs.reshape(-1)))
    gaps = features[..., 0::2, :] - features[..., 1::2, :]
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    # One draw for all layers, since their directions are no more independent than the layers are.
    even = torch.randn(count, width, generator=generator).to(features)
    weights = torch.randn(count, features.shape[-2], generator=generator).to(features)
    # A sum of rows with Gaussian weights has their covariance.
    spread = torch.einsum("kn,...nd->k...d", weights, features - features.mean(dim=-2, keepdim=True))
    turned = []
    for drawn in (even.reshape(count, *[1] * (features.ndim - 2), width).expand_as(spread), spread):
        right = projected(gaps, drawn).sign().sum(dim=-1, keepdim=True)
        turned.append(of_length_one(to_numpy(torch.where(right < 0, -drawn, drawn))).reshape(count, -1, heads, width))
    return turned[0], turned[1]


def _by_head(probe: Probe, has_heads: bool) -> Float[np.ndarray, "*null layer head d"]:
    """A fitted probe's directions, with an axis of heads in any case."""
    found = unit_directions(probe)
    assert found is not None
    return found if has_heads else found[..., None, :]
