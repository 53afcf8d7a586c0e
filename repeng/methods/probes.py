"""Probes on cached activations as methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repeng.activations.store.cached_split import Activations
from repeng.distributions.schema import ResponseLabels, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.methods.base import (
    Answer,
    Kind,
    LayerScores,
    Method,
    MethodSettings,
    Note,
    PairProbabilities,
    RequiredActivations,
    ResponseScores,
    Source,
    Target,
    no_note,
)
from repeng.methods.code_hash import code_hash
from repeng.probes.base import Probe, Reading
from repeng.probes.fitted import NO_HEAD, FittedProbe
from repeng.probes.fitting import ProbeSpec, fit_probe


@dataclass(frozen=True, eq=False)
class ProbeMethod(Method):
    """A probe on cached activations."""

    name: str
    probe: Probe
    settings: MethodSettings
    reads_source = True

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
    def parameters(self) -> Mapping[str, Any]:
        """The probe's own, the choice of layers, and the seed."""
        return {**self.probe.get_params(), "layers": self.settings.layers, "split_seed": self.settings.seed}

    @property
    def spec(self) -> ProbeSpec:
        """What is fitted, and how."""
        return ProbeSpec(self.probe, self.settings.layers, seed=self.settings.seed)

    def code(self) -> str:
        """Of the probe's class."""
        return code_hash(type(self.probe))

    def requires(self, source: Split) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """The layers that it reads of each stimulus and site."""
        blocks: dict[str, list[int]] = {}
        for reading in self.probe.reads(self.settings.n_layers):
            blocks.setdefault(reading.site, []).append(reading.block)
        return tuple(
            RequiredActivations(get_stimulus(stimulus), site, self.probe.token, tuple(layers))
            for stimulus in self.probe.stimuli
            for site, layers in blocks.items()
        )

    def fit(self, source: Source, note: Note = no_note) -> FittedOnCache:  # noqa: ARG002
        """Fit on all layers and choose among them on held-out source prompts."""
        settings = self.settings
        cached = CachedSource.of(self.spec, settings.n_layers, source.activations, source.labels)
        where = {"capture_id": settings.capture_id, "model": settings.model, "source": source.split.distribution}
        return FittedOnCache(fit_probe(self.spec, cached, provenance=where), settings.n_layers)


@dataclass(frozen=True)
class FittedOnCache:
    """A fitted probe that reads its targets from the store, of a model of `n_layers` blocks."""

    fitted: FittedProbe
    n_layers: int

    @property
    def layers(self) -> str:
        """Chosen layers, as `3` or `2 3 5`."""
        return " ".join(map(str, self.fitted.layers))

    @property
    def held_out_accuracy(self) -> float | None:
        """Held-out pair accuracy on the source; of an ensemble, the mean of its layers'."""
        chosen = [self.fitted.fitted_layers.index(layer) for layer in self.fitted.layers]
        return float(self.fitted.held_out_accuracy[chosen].mean())

    def answer(self, target: Target) -> Answer:
        """Scores at the chosen layers, which alone are read; by pairs where a pair's score is no difference of two."""
        fitted = self.fitted
        readings = fitted.reads(self.n_layers)
        asked = _asked(fitted, target, readings)
        pairs, scores = target.pairs[asked], np.full(len(target.examples), np.nan)
        if len(pairs) == 0:
            return ResponseScores(scores)
        activations = target.activations.stack(fitted.stimuli, _hooks(readings), fitted.token)
        if fitted.ranks_by_scores and fitted.temperature is not None:
            rows = np.unique(pairs)
            scores[rows] = fitted.scores(activations, rows=rows)
            return ResponseScores(scores, fitted.temperature)
        probabilities = np.full(len(target.pairs), np.nan)
        probabilities[asked] = fitted.pair_probabilities(activations, pairs)
        return PairProbabilities(probabilities)

    def layer_scores(self, target: Target) -> LayerScores | None:
        """How each fitted layer does alone, with heads its best one; None where there was no choice."""
        return self.unit_scores(target, self.fitted.layer_units) if len(self.fitted.fitted_layers) > 1 else None

    def unit_scores(self, target: Target, units: Sequence[tuple[int, int]]) -> LayerScores:
        """How some (layer, head) do, each alone. One layer of the target is in memory at a time."""
        fitted = self.fitted
        readings = {reading.layer: reading for reading in fitted.reads(self.n_layers, chosen=False)}
        asked = _asked(fitted, target, list(readings.values()))
        scores = np.full((len(units), len(target.pairs)), np.nan)
        for layer in dict.fromkeys(layer for layer, _ in units) if asked.any() else ():
            places = [place for place, unit in enumerate(units) if unit[0] == layer]
            activations = target.activations.stack(fitted.stimuli, _hooks([readings[layer]]), fitted.token)
            here = [units[place] for place in places]
            found = fitted.pair_scores_at(here, activations, target.pairs[asked], (layer,))
            scores[np.ix_(np.array(places), asked)] = found
        held_out = [fitted.head_accuracy[fitted.fitted_layers.index(layer), max(head, 0)] for layer, head in units]
        named = tuple((layer, None if head == NO_HEAD else head) for layer, head in units)
        return LayerScores(named, scores, np.array(held_out))


@dataclass(frozen=True, eq=False)
class CachedSource:
    """A split's cached activations with its labels, as `repeng.probes` fits on them: a `LayerSource`."""

    labels: Float[np.ndarray, " response"]
    examples: Int[np.ndarray, " response"]
    groups: Int[np.ndarray, " response"]
    kept: Bool[np.ndarray, " response"]
    readings: tuple[Reading, ...]
    spec: ProbeSpec = field(repr=False)
    activations: Activations = field(repr=False)

    @classmethod
    def of(cls, spec: ProbeSpec, n_layers: int, activations: Activations, known: ResponseLabels) -> CachedSource:
        """What a probe reads of a split, of a model of `n_layers` blocks."""
        readings = spec.readings(n_layers)
        kept = activations.kept(spec.probe.stimuli, _hooks(readings), spec.token)
        return cls(known.labels, known.examples, known.groups, kept, readings, spec, activations)

    def read(self, readings: Sequence[Reading]) -> Float[Tensor, "layer *head stimulus response d"]:
        """The float32 activations of some layers."""
        return self.activations.stack(self.spec.probe.stimuli, _hooks(readings), self.spec.token)


def _hooks(readings: Sequence[Reading]) -> list[tuple[str, int]]:
    """Where a store keeps what a probe reads."""
    return [(reading.site, reading.block) for reading in readings]


def _asked(fitted: FittedProbe, target: Target, readings: Sequence[Reading]) -> Bool[np.ndarray, " pair"]:
    """Which of the target's pairs have two texts that were kept."""
    kept = target.activations.kept(fitted.stimuli, _hooks(readings), fitted.token)
    return kept[target.pairs].all(axis=1)
