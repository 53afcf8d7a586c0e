"""Fit one probe several times on one source, with other splits, draws and starts, and its null beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from repeng.probes.base import Probe
from repeng.probes.fitted import FittedProbe
from repeng.probes.fitting import RULES, ProbeSpec, check_source, chosen, fit_on_pairs, judge
from repeng.probes.members import Members
from repeng.probes.nulls import NullBlock, NullPairs, ShuffledPairs, ShuffledTexts, choose_members, random_block
from repeng.probes.selection import Curves, HeldOut
from repeng.probes.source import BLOCK_BYTES, LayerSource, SourceData, SourceSplit, layer_blocks, split_of
from repeng.threads import SMALL_LAYER, few_threads


@dataclass(frozen=True)
class ProbeFits:
    """A probe's fits on one source.

    Attributes:
        fits: each with its own split, draws and starts; the first is that of the seed itself.
        shuffled: fits on shuffled labels; None where no null was asked for.
        random: random directions; None where none was asked for, or the probe reads along no direction.
    """

    fits: tuple[FittedProbe, ...]
    shuffled: Members | None = None
    random: Members | None = None


def fit_seeds(seed: int, count: int) -> tuple[int, ...]:
    """The seeds of so many fits: the given one, then numbers that follow from it and meet no neighbour's."""
    others = np.random.SeedSequence([seed, 5]).generate_state(count - 1).tolist() if count > 1 else []
    return (seed, *others)


@dataclass(frozen=True)
class FitPlan:
    """Several fits of a probe on one source: what each is fitted with, and its split.

    Attributes:
        specs: of each fit; the first has the seed itself.
        splits: of the source, one a fit.
        rule: which pairs a fit learns from, and which choose its layers.
    """

    specs: tuple[ProbeSpec, ...]
    splits: tuple[SourceSplit, ...]
    rule: HeldOut

    @classmethod
    def of(cls, spec: ProbeSpec, source: LayerSource, fits: int) -> FitPlan:
        """As many fits as are asked for; 1 of a probe that learns nothing.

        Raises:
            BadInput: the source is too small, of one class, or lacks a layer that was asked for.
        """
        check_source(spec, source)
        rule = RULES[spec.probe.rule]
        seeds = fit_seeds(spec.seed, fits if spec.probe.learns else 1)
        specs = [
            replace(spec, probe=reseeded(spec.probe, seed) if place else spec.probe, seed=seed)
            for place, seed in enumerate(seeds)
        ]
        rule.check(spec.probe, source.labels, source.examples)
        return cls(tuple(specs), tuple(split_of(source, seed=seed) for seed in seeds), rule)

    def pairs(self, fit: int) -> NullPairs:
        """The pairs of a fit, and those that choose its layers."""
        return NullPairs(self.rule.fitted_on(self.splits[fit]), self.rule.validation(self.splits[fit]))

    def toss(self, fit: int, count: int, source: LayerSource) -> ShuffledPairs | ShuffledTexts:
        """So many labellings by coin of what a fit learns from."""
        split = self.splits[fit]
        toss = ShuffledTexts.toss if split.as_texts else ShuffledPairs.toss
        return toss(count, self.specs[fit].seed, source, self.pairs(fit), split.unpaired)

    def fit(self, data: SourceData) -> list[Probe]:
        """Every fit on a block of layers."""
        return fit_on_pairs(
            [one.probe for one in self.specs],
            data,
            [self.rule.fitted_on(split) for split in self.splits],
            [split.unpaired for split in self.splits],
        )


def fit_repeatedly(
    spec: ProbeSpec,
    source: LayerSource,
    *,
    fits: int = 5,
    nulls: int = 0,
    provenance: Mapping[str, Any] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> ProbeFits:
    """Fit a probe several times; each fit is that of `fit_probe` with its own seed.

    A probe that has a parameter `seed` (its starts, or turns) is given the fit's one from the second fit on. The nulls
    go with the first fit: the same split and the same search, with the labels of prompt groups exchanged by coin, or
    with random directions whose sign the training pairs decide.

    Args:
        spec: the probe and how it is fitted.
        source: the labelled activations, which are read once.
        fits: how many; 1 of a probe that learns nothing.
        nulls: how many of each kind.
        provenance: kept with each fitted probe.
        block_bytes: as in `fit_probe`.

    Raises:
        BadInput, NonFinite: as `fit_probe`.
    """
    plan = FitPlan.of(spec, source, fits)
    rule, learns = plan.rule, spec.probe.learns
    null = plan.toss(0, nulls, source)
    blocks: list[list[tuple[Probe, Curves]]] = [[] for _ in plan.specs]
    shuffled: list[NullBlock] = []
    random: list[NullBlock] = []
    for data in layer_blocks(source, block_bytes):
        with few_threads(data.activations.nbytes // len(data.layers), SMALL_LAYER):
            made = plan.fit(data)
            for own, fitted, split in zip(blocks, made, plan.splits, strict=True):
                own.append((fitted, judge(rule, fitted, data, split)))
            if nulls and learns:
                shuffled.append(null.block(made[0], data))
                along = random_block(made[0], data, plan.pairs(0), count=nulls, seed=spec.seed)
                random += [along] if along is not None else []
        # Before the next block is asked for, so that of large ones there is one.
        del data
    how = (rule, spec.layers, spec.probe.keeps)
    return ProbeFits(
        fits=tuple(chosen(one, own, provenance) for one, own in zip(plan.specs, blocks, strict=True)),
        shuffled=choose_members(shuffled, *how) if shuffled else None,
        random=choose_members(random, *how) if random else None,
    )


def reseeded(probe: Probe, seed: int) -> Probe:
    """The probe with its parameter `seed`, if it has one, set."""
    if "seed" not in probe.get_params():
        return probe
    found: Probe = clone(probe).set_params(seed=seed)
    return found
