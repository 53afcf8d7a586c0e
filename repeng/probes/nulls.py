"""A probe's null: what the same search finds with labels shuffled by prompt group, and along random directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from repeng.maths import independent_groups, pair_accuracy
from repeng.probes.base import Probe
from repeng.probes.fitted import NO_HEAD, to_numpy
from repeng.probes.fitting import fit_on_pairs, standardisation
from repeng.probes.members import Members
from repeng.probes.selection import HeldOut, LayerChoice, Ranking, choose, count_prompts
from repeng.probes.source import LayerSource, SourceData, side_by_side, take


@dataclass(frozen=True)
class NullPairs:
    """Rows (best, worse) that a probe learns from, and those that choose its layers."""

    train: Int[np.ndarray, "pair 2"]
    validation: Int[np.ndarray, "_pair 2"]


@dataclass(frozen=True)
class ShuffledPairs:
    """Whose labels are exchanged in each null of a source of pairs: whole prompt groups, by coin.

    Attributes:
        pairs: those that a probe learns from, and those that choose its layers.
        train: of the training pairs.
        validation: of the pairs that choose layers.
    """

    pairs: NullPairs
    train: Bool[np.ndarray, "null pair"]
    validation: Bool[np.ndarray, "null _pair"]

    @classmethod
    def toss(
        cls,
        count: int,
        seed: int,
        source: LayerSource,
        pairs: NullPairs,
        unpaired: Int[np.ndarray, " row"],  # noqa: ARG003  (there is none of a source of pairs)
    ) -> ShuffledPairs:
        """One coin a null and prompt group; an example's, where prompt groups are too few to be split by.

        Args:
            count: how many nulls.
            seed: of the coins.
            source: whose labels are exchanged.
            pairs: of the source.
            unpaired: training rows beyond them.
        """
        train, validation = pairs.train, pairs.validation
        rows = np.concatenate([train[:, 0], validation[:, 0]])
        coins = _coins(count, seed, source, rows)
        return cls(pairs, coins[:, : len(train)], coins[:, len(train) :])

    def block(self, fitted: Probe, data: SourceData) -> NullBlock:
        """The probe fitted on a block of layers with the labels of each null, and judged by them.

        Args:
            fitted: the probe, fitted on the same rows with the labels as they are.
            data: the block.
        """
        swaps = torch.from_numpy(self.train).to(data.activations.device)
        probe = fitted.fit_swapped(take(data.activations, self.pairs.train.reshape(-1)), swaps)
        return _judged(probe, data, self.pairs.validation, np.where(self.validation, -1.0, 1.0))


@dataclass(frozen=True)
class ShuffledTexts:
    """The labels of each null of a source of labelled texts: those of whole groups turned round, by coin.

    Attributes:
        labels: of every response.
        train: of each null, its training rows in pairs (of label 1, of label 0), and what is left of one class.
        validation: the pairs that choose layers, by the labels as they are.
        turn: of each of those 1.0 where the null's labels have it the same way round, -1.0 where the other way, NaN
            where they are equal.
    """

    labels: Float[np.ndarray, "null response"]
    train: tuple[tuple[Int[np.ndarray, "_pair 2"], Int[np.ndarray, " _left"]], ...]
    validation: Int[np.ndarray, "pair 2"]
    turn: Float[np.ndarray, "null pair"]

    @classmethod
    def toss(
        cls,
        count: int,
        seed: int,
        source: LayerSource,
        pairs: NullPairs,
        unpaired: Int[np.ndarray, " row"],
    ) -> ShuffledTexts:
        """One coin a null and group, until both labels are among its training texts and among its held-out ones.

        Args:
            count: how many nulls.
            seed: of the coins.
            source: whose labels are turned round.
            pairs: of the source.
            unpaired: training rows beyond them.
        """
        learned = np.concatenate([pairs.train.reshape(-1), unpaired])
        every, held = np.arange(len(source.labels)), np.unique(pairs.validation)
        found: list[np.ndarray] = []
        for attempt in range(100):
            turned = np.where(_coins(count, [seed, attempt], source, every), 1 - source.labels, source.labels)
            found += [one for one in turned if 1 < one[learned].sum() < len(learned) - 1 and np.ptp(one[held]) > 0]
            if len(found) >= count:
                break
        labels = np.array(found[:count]).reshape(-1, len(every))
        rng = np.random.default_rng([seed, 3])
        train = tuple(side_by_side(learned, one, rng) for one in labels)
        best, worse = labels[:, pairs.validation[:, 0]], labels[:, pairs.validation[:, 1]]
        turn = np.where(best == worse, np.nan, np.where(best > worse, 1.0, -1.0))
        return cls(labels, train, pairs.validation, turn)

    def block(self, fitted: Probe, data: SourceData) -> NullBlock:
        """The probe fitted on a block of layers with the labels of each null, and judged by them."""
        pairs, unpaired = zip(*self.train, strict=True)
        # Each null learns from the same texts; only their labels differ.
        rows = np.concatenate([pairs[0].reshape(-1), unpaired[0]])
        units, _ = independent_groups(data.groups, data.units)
        together = fitted.fit_relabelled(take(data.activations, rows), self.labels[:, rows], units[rows])
        if together is not None:
            return _judged(together, data, self.validation, self.turn)
        made = fit_on_pairs([fitted] * len(self.train), data, pairs, unpaired, list(self.labels))
        states = [one.state() for one in made]
        probe = made[0].with_state({name: torch.stack([state[name] for state in states]) for name in states[0]})
        return _judged(probe, data, self.validation, self.turn)


def _coins(
    count: int, seed: int | list[int], source: LayerSource, rows: Int[np.ndarray, " row"]
) -> Bool[np.ndarray, "null row"]:
    """One coin a null and group of some rows."""
    units, _ = independent_groups(source.groups[rows], source.units[rows])
    names, place = np.unique(units, return_inverse=True)
    entropy = [seed, 1] if isinstance(seed, int) else [*seed, 1]
    coins: np.ndarray = np.random.default_rng(entropy).random((count, len(names))) < 0.5
    return coins[:, place]


@dataclass(frozen=True)
class NullBlock:
    """Every null's estimators at a block of layers, and how they do on the pairs that choose.

    Attributes:
        probe: fitted; its state is `[null, layer, *head, ...]`.
        layers: the block's.
        has_heads: whether the site has heads.
        scores: of each of those pairs, `[null, layer, head, pair]`; NaN where the null's labels do not part the two.
        responses: of each response of those pairs; zeros where pairs alone are scored.
        prompts: how many prompt groups those pairs are of.
    """

    probe: Probe
    layers: tuple[int, ...]
    has_heads: bool
    scores: Float[np.ndarray, "null layer head pair"]
    responses: Float[np.ndarray, "null layer head row"]
    prompts: int


def random_block(fitted: Probe, data: SourceData, pairs: NullPairs, *, count: int, seed: int) -> NullBlock | None:
    """Random directions at a block of layers, each turned to where it ranks more training pairs rightly.

    None where the probe reads along no direction.
    """
    *batch, _, _, d = data.activations.shape
    draws = [
        torch.randn(count, *batch[1:], d, generator=torch.Generator().manual_seed(_seed_of(seed, layer)))
        for layer in data.layers
    ]
    directions = torch.stack(draws, dim=1).to(data.activations.device)
    along = fitted.with_directions(directions)
    if along is None:
        return None
    right = np.sign(_scored(along, data, pairs.train)[0]).sum(axis=-1)
    turn = torch.from_numpy(np.where(right < 0, -1.0, 1.0)).reshape(directions.shape[:-1]).to(directions)
    turned = fitted.with_directions(directions * turn[..., None])
    assert turned is not None
    return _judged(turned, data, pairs.validation, np.ones((count, len(pairs.validation))))


def choose_members(blocks: Sequence[NullBlock], rule: HeldOut, choice: LayerChoice, keeps: int) -> Members:
    """What each null chooses among the layers of all blocks, by the rule that the probe itself goes by.

    Ties in accuracy go to the lower layer: log-losses would take a temperature for each null and layer.
    """
    states = [block.probe.state() for block in blocks]
    probe = blocks[0].probe.with_state({name: torch.cat([own[name] for own in states], dim=1) for name in states[0]})
    layers = tuple(layer for block in blocks for layer in block.layers)
    has_heads = blocks[0].has_heads
    scores = np.concatenate([block.scores for block in blocks], axis=1)
    responses = np.concatenate([block.responses for block in blocks], axis=1)
    accuracy = np.stack([pair_accuracy(own[..., np.isfinite(own[0, 0])]) for own in scores])
    places, centres, scales = [], [], []
    for null, own in enumerate(accuracy):
        units = choose(rule.rules, Ranking(layers, own, np.zeros_like(own), blocks[0].prompts), choice, keeps)
        centre, scale = standardisation(rule, responses[null], units)
        places += [(null, *unit) for unit in units]
        centres.append(centre)
        scales.append(scale)
    index = [torch.tensor(column) for column in zip(*places, strict=True)]
    return Members(
        probe=probe.select(*(index if has_heads else index[:2])),
        units=tuple((layers[layer], head if has_heads else NO_HEAD) for _, layer, head in places),
        owner=np.array([null for null, _, _ in places]),
        centre=np.concatenate(centres),
        scale=np.concatenate(scales),
    )


def _judged(
    probe: Probe, data: SourceData, validation: Int[np.ndarray, "pair 2"], turn: Float[np.ndarray, "null pair"]
) -> NullBlock:
    scores, responses = _scored(probe, data, validation)
    scores = scores * turn[:, None, None, :]
    return NullBlock(probe, data.layers, data.has_heads, scores, responses, count_prompts(data, validation))


def _scored(
    probe: Probe, data: SourceData, pairs: Int[np.ndarray, "pair 2"]
) -> tuple[Float[np.ndarray, "null layer head pair"], Float[np.ndarray, "null layer head row"]]:
    """Every null's score of every pair of rows (best, worse), and of every response in them."""
    rows, place = np.unique(pairs, return_inverse=True)
    best, worse = place.reshape(pairs.shape).T
    taken = take(data.activations, rows)
    if probe.ranks_by_scores:
        found = to_numpy(probe.scores_of_each(taken))
        scores = found.reshape(len(found), len(data.layers), -1, len(rows))
        return scores[..., best] - scores[..., worse], scores
    found = to_numpy(probe.pair_scores_of_each(take(taken, best), take(taken, worse)))
    scores = found.reshape(len(found), len(data.layers), -1, len(pairs))
    return scores, np.zeros((*scores.shape[:-1], len(rows)))


def _seed_of(seed: int, layer: int) -> int:
    """Of a layer's directions, so that they are the same in whatever blocks layers are read."""
    return int(np.random.SeedSequence([seed, 2, layer + 1]).generate_state(1)[0])
