"""Probes on cached activations as methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
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
from repeng.methods.probe_fitting import SourceFit, fit_on_source
from repeng.probes.base import Probe
from repeng.probes.fitted import FittedProbe


def parse_layers(text: str) -> str | tuple[int, ...]:
    """`auto`, `all` and `top-k:N` as they are; `3`, `4-8` and `1,3,5` as layers.

    Raises:
        BadInput: it is none of these.
    """
    if text in ("auto", "all") or (text.startswith("top-k:") and text[6:].isdigit() and int(text[6:]) > 0):
        return text
    try:
        found: list[int] = []
        for piece in text.split(","):
            first, _, last = piece.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise BadInput(f"layers is {text!r}; give auto, all, top-k:N, a layer as 3, or a range as 4-8") from error
    if not found:
        raise BadInput(f"layers is {text!r}, which names no layer; the first of a range is its lowest")
    return tuple(sorted(set(found)))


def check_layers(text: str, n_layers: int, model: str) -> None:
    """Refuse a choice of layers that a model cannot have.

    Raises:
        BadInput: it is no choice of layers, or a layer is not there.
    """
    layers = parse_layers(text)
    if isinstance(layers, tuple) and layers[-1] >= n_layers:
        raise BadInput(f"layers is {text!r}, but {model} has layers 0 to {n_layers - 1}")


@dataclass(frozen=True, eq=False)
class ProbeMethod(Method):
    """A probe on cached activations."""

    name: str
    probe: Probe
    settings: MethodSettings
    reads_source = True

    @property
    def kind(self) -> Kind:  # type: ignore[override]
        """A random direction learns nothing, whatever it is fitted on."""
        return "chance" if self.probe.name == "random" else "probe"

    @property
    def title(self) -> str:  # type: ignore[override]
        """What it is, in words."""
        return (type(self.probe).__doc__ or self.name).strip().splitlines()[0]

    @property
    def counts_towards_capability(self) -> bool:  # type: ignore[override]
        """Whether it learns anything."""
        return self.kind == "probe"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The probe's own, the choice of layers, and the seed."""
        return {**self.probe.get_params(), "layers": self.settings.layers, "split_seed": self.settings.seed}

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
        found = fit_on_source(
            self.probe,
            source,
            self.probe.reads(settings.n_layers),
            layers=parse_layers(settings.layers),
            seed=settings.seed,
            provenance={
                "capture_id": settings.capture_id,
                "model": settings.model,
                "source": source.split.distribution,
            },
        )
        return FittedOnCache(found, settings.n_layers)


@dataclass(frozen=True)
class FittedOnCache:
    """A fitted probe that reads its targets from the store."""

    found: SourceFit
    n_layers: int

    @property
    def fitted(self) -> FittedProbe:
        """The probe at its chosen layers."""
        return self.found.fitted

    @property
    def layers(self) -> str:
        """Chosen layers, as `3` or `2 3 5`."""
        return " ".join(str(layer) for layer in self.fitted.layers)

    @property
    def held_out_accuracy(self) -> float | None:
        """Held-out pair accuracy on the source; of an ensemble, the mean of its layers'."""
        fitted = self.fitted
        chosen = [fitted.fitted_layers.index(layer) for layer in fitted.layers]
        return float(fitted.held_out_accuracy[chosen].mean())

    def answer(self, target: Target) -> Answer:
        """Scores at the chosen layers; a preset that judges a pair by a cosine answers by pairs."""
        return answer_of(self.fitted, target, self.n_layers)

    def layer_scores(self, target: Target) -> LayerScores | None:
        """How each layer that was fitted to choose among them does alone; None where there was no choice."""
        fits = self.found.by_layer
        if len(fits.layers) < 2:
            return None
        scores = []
        for block in fits.blocks:
            hooks = [(reading.site, reading.block) for reading in block.reads(self.n_layers, chosen=False)]
            kept = target.activations.kept(block.probe.stimuli, hooks, block.token)
            asked = kept[target.pairs].all(axis=1)
            found = np.full((len(block.fitted_layers), len(target.pairs)), np.nan)
            if asked.any():
                activations = target.activations.stack(block.probe.stimuli, hooks, block.token)
                found[:, asked] = block.pair_probabilities_by_layer(activations, target.pairs[asked]) - 0.5
            scores.append(found)
        units = tuple((layer, fits.head(layer)) for layer in fits.layers)
        return LayerScores(units, np.concatenate(scores), fits.held_out_accuracy)


def answer_of(fitted: FittedProbe, target: Target, n_layers: int) -> Answer:
    """What a fitted probe says of a target, of which its chosen layers alone are read."""
    hooks = [(reading.site, reading.block) for reading in fitted.reads(n_layers)]
    stimuli = fitted.probe.stimuli
    kept = target.activations.kept(stimuli, hooks, fitted.token)
    asked = target.pairs[kept[target.pairs].all(axis=1)]
    scores = np.full(len(kept), np.nan)
    if len(asked) == 0:
        return ResponseScores(scores)
    activations = target.activations.stack(stimuli, hooks, fitted.token)
    if fitted.ranks_by_scores and fitted.temperature is not None:
        rows = np.unique(asked)
        scores[rows] = fitted.scores_of(activations, rows)
        return ResponseScores(scores, fitted.temperature)
    probabilities = np.full(len(target.pairs), np.nan)
    probabilities[kept[target.pairs].all(axis=1)] = fitted.pair_probabilities(activations, asked)
    return PairProbabilities(probabilities)
