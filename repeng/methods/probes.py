"""Probes on cached activations as methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.activations.store.cached_split import Activations
from repeng.activations.token_rules import token_rule
from repeng.distributions.schema import ResponseLabels, Split
from repeng.errors import BadInput, NonFinite
from repeng.maths import offsets_of
from repeng.methods.base import (
    Answer,
    Kind,
    LayerScores,
    Method,
    MethodSettings,
    Note,
    NullScores,
    PairProbabilities,
    RequiredActivations,
    ResponseScores,
    Source,
    Target,
    no_note,
)
from repeng.methods.code_hash import code_hash
from repeng.methods.named_probe import NamedProbe
from repeng.models.sites import Hook
from repeng.probes.base import Probe, Reading
from repeng.probes.fitted import NO_HEAD, FittedProbe
from repeng.probes.fitting import RULES, ProbeSpec
from repeng.probes.members import Members, ReadLayer
from repeng.probes.own_file import named_in_errors, try_probe
from repeng.probes.ragged import Ragged
from repeng.probes.registry import CLASSES
from repeng.probes.repeats import ProbeFits, fit_repeatedly


@dataclass(frozen=True, eq=False)
class ProbeMethod(Method):
    """A probe on cached activations."""

    named: NamedProbe
    settings: MethodSettings
    reads_source = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """The probe's, with the parameters that differ from the defaults."""
        return self.named.name

    @property
    def probe(self) -> Probe:
        """Unfitted."""
        return self.named.probe

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """A random choice learns nothing, whatever it is fitted on."""
        return "probe" if self.probe.learns else "chance"

    @property
    def title(self) -> str:  # type: ignore[override]
        """What it is, in words."""
        return self.probe.title

    @property
    def counts_towards_capability(self) -> bool:  # type: ignore[override]
        """Whether it learns anything."""
        return self.probe.learns

    @property
    def takes_texts(self) -> bool:  # type: ignore[override]
        """Whether it scores single responses; a preset's cosine is of a pair."""
        return self.probe.ranks_by_scores

    def check_splits(self, source: Split, target: Split) -> None:
        """Refuse also what a preset's rule cannot go by.

        Raises:
            BadInput: it cannot be fitted on the source, or asked about the target.
        """
        super().check_splits(source, target)
        RULES[self.probe.rule].check(self.probe, source.labels, source.rivals)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The probe's own, the choice of layers, the seed, and how often it is fitted."""
        settings = self.settings
        repeats = {"fits": settings.fits, "nulls": settings.nulls} if self.probe.learns else {}
        named = self.named
        place = {"site": named.site, "token": named.token, "stimuli": [each.fingerprint for each in named.stimuli]}
        reads = {key: value for key, value in place.items() if value}
        return {**self.probe.described(), "layers": settings.layers, "split_seed": settings.seed, **repeats, **reads}

    @property
    def spec(self) -> ProbeSpec:
        """What is fitted, and how."""
        return self.named.spec(self.settings.layers, seed=self.settings.seed)

    def code(self) -> str:
        """Of the probe's class."""
        return code_hash(type(self.probe))

    def trial(self) -> None:
        """Fit a probe of the user's own on a few made-up activations.

        Raises:
            BadInput: it cannot be fitted or does not give one finite score a response.
        """
        if type(self.probe) not in CLASSES:
            try_probe(self.probe)

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """The layers that it reads of each stimulus and site."""
        blocks: dict[str, list[int]] = {}
        for reading in self.probe.reads(self.settings.n_layers, self.named.site or None):
            blocks.setdefault(reading.site, []).append(reading.block)
        return tuple(
            RequiredActivations(stimulus, site, self.spec.token, tuple(layers))
            for stimulus in self.named.reads
            for site, layers in blocks.items()
        )

    def fit(self, source: Source, note: Note = no_note) -> FittedOnCache:  # noqa: ARG002
        """Fit on all layers and choose among them on held-out source prompts, as often as the study asks for."""
        settings = self.settings
        cached = CachedSource.of(self.spec, settings.n_layers, source.activations, source.labels)
        where = {"capture_id": settings.capture_id, "model": settings.model, "source": source.split.distribution}
        with named_in_errors(self.probe):
            made = fit_repeatedly(self.spec, cached, fits=settings.fits, nulls=settings.nulls, provenance=where)
        return FittedOnCache(made, settings.n_layers)


@dataclass(frozen=True)
class FittedOnCache:
    """A probe's fits on a source, which read their targets from the store, of a model of `n_layers` blocks."""

    made: ProbeFits
    n_layers: int

    @classmethod
    def alone(cls, fitted: FittedProbe, n_layers: int) -> FittedOnCache:
        """One fit, without a null."""
        return cls(ProbeFits((fitted,)), n_layers)

    @property
    def layers(self) -> str:
        """Chosen layers, as `3` or `2 3 5`; where fits differ, as `4 (3/5), 1 (2/5)`, the most frequent first."""
        counted = Counter(" ".join(map(str, fitted.layers)) for fitted in self.made.fits)
        if len(counted) == 1:
            return next(iter(counted))
        return ", ".join(f"{layers} ({count}/{len(self.made.fits)})" for layers, count in counted.most_common())

    @property
    def held_out_accuracy(self) -> float | None:
        """Held-out pair accuracy on the source; of an ensemble the mean of its layers', of several fits their mean."""
        return float(np.mean([_held_out_accuracy(fitted) for fitted in self.made.fits]))

    def answer(self, target: Target) -> Answer:
        """Scores at the chosen layers, which alone are read; by pairs where a pair's score is no difference of two."""
        if target.as_texts:
            return self._answer_texts(target)
        fits = self.made.fits
        read = self._reader(target)
        asked = self._asked(target)
        pairs = target.pairs[asked]
        if len(pairs) == 0:
            return ResponseScores(np.full(target.n_responses, np.nan))
        null = self._null(target)
        temperatures = [fitted.temperature for fitted in fits]
        if fits[0].ranks_by_scores and None not in temperatures:
            rows = np.unique(pairs)
            scores = np.full((len(fits), target.n_responses), np.nan)
            scores[:, rows] = self._chosen.scores(read, rows)
            return ResponseScores(scores, np.array(temperatures), null)
        probabilities = np.full((len(fits), len(target.pairs)), np.nan)
        for row, fitted, own in zip(probabilities, fits, self._chosen.pair_scores(read, pairs), strict=True):
            row[asked] = fitted.calibration(own)
        return PairProbabilities(probabilities, null=null)

    def _answer_texts(self, target: Target) -> ResponseScores:
        """A score of each text that was not skipped, with what the source chose for single texts.

        Raises:
            BadInput: the probe ranks pairs alone.
        """
        fits = self.made.fits
        if not fits[0].ranks_by_scores:
            raise BadInput(
                f"{fits[0].name} ranks the two responses of a pair, and {target.distribution} holds labelled texts: "
                f"take {fits[0].name.removesuffix('-genies')} there"
            )
        kept = self._kept(target)
        scores = np.full((len(fits), target.n_responses), np.nan)
        if not kept.any():
            return ResponseScores(scores)
        scores[:, kept] = self._chosen.scores(self._reader(target), np.flatnonzero(kept))
        chosen = tuple(fitted.texts for fitted in fits if fitted.texts is not None)
        temperatures = np.array([fitted.temperature or 1.0 for fitted in fits])
        return ResponseScores(scores, temperatures, self._null(target), chosen if len(chosen) == len(fits) else None)

    def layer_scores(self, target: Target) -> LayerScores | None:
        """How each fitted layer does alone, with heads its best one; None where there was no choice."""
        first = self.made.fits[0]
        if len(first.fitted_layers) < 2:
            return None
        heads = [{fitted.layer_heads[place] for fitted in self.made.fits} for place in range(len(first.fitted_layers))]
        named = tuple(
            (layer, None if NO_HEAD in own or len(own) > 1 else min(own))
            for layer, own in zip(first.fitted_layers, heads, strict=True)
        )
        chosen = [[layer in fitted.layers for layer in fitted.fitted_layers] for fitted in self.made.fits]
        held_out = np.array([fitted.held_out_accuracy for fitted in self.made.fits])
        scores = self._of_units(self._every_layer, target)
        return LayerScores(named, scores.reshape(*held_out.shape, -1), held_out, np.array(chosen))

    def unit_scores(self, target: Target, units: Sequence[tuple[int, int]]) -> LayerScores:
        """How some (layer, head) of the first fit do, each alone. One layer of the target is in memory at a time."""
        fitted = self.made.fits[0]
        scores = self._of_units(Members.apart(fitted, units), target)
        held_out = [fitted.head_accuracy[fitted.fitted_layers.index(layer), max(head, 0)] for layer, head in units]
        named = tuple((layer, None if head == NO_HEAD else head) for layer, head in units)
        chosen = [unit in fitted.units for unit in units]
        return LayerScores(named, scores[None], np.array([held_out]), np.array([chosen]))

    @cached_property
    def _chosen(self) -> Members:
        return Members.chosen(self.made.fits)

    @cached_property
    def _every_layer(self) -> Members:
        return Members.every_layer(self.made.fits)

    def _null(self, target: Target) -> NullScores | None:
        shuffled, random = self.made.shuffled, self.made.random
        if shuffled is None:
            return None
        try:
            along = None if random is None else self._of_units(random, target)
            return NullScores(self._of_units(shuffled, target), along)
        except NonFinite:
            # At a layer that no fit chose; what is said by layer names it.
            return None

    def _of_units(self, members: Members, target: Target) -> Float[np.ndarray, "owner asked"]:
        """What members say of the target's pairs, or its texts, NaN of those that cannot be asked about."""
        asked = self._kept(target) if target.as_texts else self._asked(target)
        scores = np.full((members.n_owners, len(asked)), np.nan)
        if not asked.any():
            return scores
        if target.as_texts:
            scores[:, asked] = members.scores(self._reader(target), np.flatnonzero(asked))
        else:
            scores[:, asked] = members.pair_scores(self._reader(target), target.pairs[asked])
        return scores

    def _asked(self, target: Target) -> Bool[np.ndarray, " pair"]:
        """Which of the target's pairs have two texts that were kept."""
        return self._kept(target)[target.pairs].all(axis=1)

    def _kept(self, target: Target) -> Bool[np.ndarray, " response"]:
        """Which of the target's texts were kept."""
        first = self.made.fits[0]
        return target.activations.kept(first.stimuli, _hooks(first.reads(self.n_layers, chosen=False)), first.token)

    def _reader(self, target: Target) -> ReadLayer:
        """Gives one layer of the target's activations."""
        first = self.made.fits[0]
        readings = {reading.layer: reading for reading in first.reads(self.n_layers, chosen=False)}

        def read(layer: int) -> Float[Tensor, "*head stimulus response d"] | Ragged:
            return stacked(target.activations, first.stimuli, _hooks([readings[layer]]), first.token)[0]

        return read


def _held_out_accuracy(fitted: FittedProbe) -> float:
    chosen = [fitted.fitted_layers.index(layer) for layer in fitted.layers]
    return float(fitted.held_out_accuracy[chosen].mean())


@dataclass(frozen=True, eq=False)
class CachedSource:
    """A split's cached activations with its labels, as `repeng.probes` fits on them: a `LayerSource`."""

    labels: Float[np.ndarray, " response"]
    examples: Int[np.ndarray, " response"]
    groups: Int[np.ndarray, " response"]
    units: Int[np.ndarray, " response"]
    kept: Bool[np.ndarray, " response"]
    readings: tuple[Reading, ...]
    spec: ProbeSpec = field(repr=False)
    activations: Activations = field(repr=False)

    @classmethod
    def of(cls, spec: ProbeSpec, n_layers: int, activations: Activations, known: ResponseLabels) -> CachedSource:
        """What a probe reads of a split, of a model of `n_layers` blocks."""
        readings = spec.readings(n_layers)
        kept = activations.kept(spec.stimuli, _hooks(readings), spec.token)
        return cls(known.labels, known.rivals, known.groups, known.units, kept, readings, spec, activations)

    def read(self, readings: Sequence[Reading]) -> Float[Tensor, "layer *head stimulus response d"] | Ragged:
        """The float32 activations of some layers."""
        return stacked(self.activations, self.spec.stimuli, _hooks(readings), self.spec.token)


def stacked(
    activations: Activations, stimuli: Sequence[str], hooks: Sequence[Hook], token: str
) -> Float[Tensor, "layer *head stimulus response d"] | Ragged:
    """Float32 activations of some layers under every one of some stimuli; every token's where the token says so.

    A response without a token, which is none of those that are kept, stands there with one of zeros.
    """
    if token_rule(token).kind != "tokens":
        return activations.stack(stimuli, hooks, token)
    counts = activations.token_counts(stimuli[0], hooks[0][0], token)
    filled = np.maximum(counts, 1)
    place = torch.from_numpy(np.repeat(counts > 0, filled))
    values: Tensor | None = None
    for number, hook in enumerate(hooks):
        own, _ = activations.tokens(stimuli[0], hook, token)
        # [token, d], or [token, head, d_head]: heads are a leading batch axis, as `stack` has them.
        own = own.float() if own.ndim == 2 else own.float().transpose(0, 1)
        if values is None:
            values = torch.zeros(len(hooks), *own.shape[:-2], 1, int(filled.sum()), own.shape[-1])
        values[number].select(-3, 0)[..., place, :] = own
    assert values is not None
    return Ragged(values, offsets_of(filled))


def _hooks(readings: Sequence[Reading]) -> list[tuple[str, int]]:
    """Where a store keeps what a probe reads."""
    return [(reading.site, reading.block) for reading in readings]
