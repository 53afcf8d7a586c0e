"""The seam: every method is fitted on one source, then answers targets with an evaluation.

What fits sees the source's train split alone. What evaluates is given a target and says, for each of its pairs, the
probability that the best response is preferred; nothing behind this file knows where a number came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from repeng.activations.store.cached_split import Activations, CachedSplit, MixedSplit
from repeng.activations.store.store import Store, StoredCapture
from repeng.distributions.schema import Distribution, Split
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput
from repeng.methods.layer_curves import layer_curve
from repeng.methods.probe_fitting import SourceFit, fit_on_source
from repeng.metrics import Evaluation
from repeng.models.fingerprint import slug
from repeng.probes.base import Probe
from repeng.probes.fitting import FittedProbe
from repeng.probes.registry import get_probe
from repeng.results import LayerFigure


@dataclass(frozen=True)
class RequiredActivations:
    """One part that a method reads from the store. `site` and `token` are empty for log-probabilities.

    `layers` are the blocks that are read; None for all.
    """

    stimulus: Stimulus
    site: str = ""
    token: str = ""
    layers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Context:
    """What methods work with, beside the source and the targets.

    Attributes:
        model: hub id, folder or `mini`.
        n_layers: blocks of the model.
        folder: where plug-ins keep their work.
        tuned: where tuned models lie, for every study to find again.
        distributions: by name, for methods that are given whole distributions.
        mixtures: splits that were mixed from others, and these.
        layers: `auto`, `all`, `top-k:N` or layers, as the user gave it.
        note: told what a long fit is at.
    """

    store: Store
    capture_id: str
    model: str
    n_layers: int
    folder: Path
    tuned: Path
    distributions: Mapping[str, Distribution]
    mixtures: Mapping[Split, tuple[Split, ...]] = field(default_factory=dict)
    seed: int = 0
    layers: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    tune_preset: str = "default"
    note: Callable[[str], None] = lambda _line: None
    _splits: dict[Split, CachedSplit] = field(default_factory=dict, repr=False, compare=False)

    @property
    def model_slug(self) -> str:
        """The model's name as it stands in file names."""
        return slug(self.model)

    @cached_property
    def capture(self) -> StoredCapture:
        """The model's capture."""
        return self.store.capture(self.capture_id)

    def source(self, split: Split) -> Activations:
        """The cached activations of a source, which may be a mixture."""
        if split not in self.mixtures:
            return self.cached(split)
        return MixedSplit.of(split, [(member, self.cached(member)) for member in self.mixtures[split]])

    def cached(self, split: Split) -> CachedSplit:
        """The cached activations of a split; what was read of it stays in memory until `forget`."""
        if split not in self._splits:
            self._splits[split] = CachedSplit.of(self.capture, split)
        return self._splits[split]

    def forget(self) -> None:
        """Let go of everything that was read."""
        self._splits.clear()


@runtime_checkable
class Fitted(Protocol):
    """A method fitted on a source.

    Attributes:
        layers: the layers it reads, as text for the results; empty where it reads none.
        held_out_accuracy: pair accuracy on held-out prompts of the source; None where nothing was held out.
    """

    @property
    def layers(self) -> str: ...  # noqa: D102

    @property
    def held_out_accuracy(self) -> float | None: ...  # noqa: D102

    def evaluate(self, target: Split) -> Evaluation:
        """p(best) for each pair of a target split."""
        ...


@runtime_checkable
class Method(Protocol):
    """Anything that can be fitted on a source.

    Attributes:
        name: what users type.
        tuned: True where fitting on a target says what the model is capable of there, so that it counts towards the
            target-tuned capability.
        learns: False where it is the same whatever it is fitted on.
        fits_on_cache: True where `fit` reads what `needs` names for the source's train split too.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def tuned(self) -> bool: ...  # noqa: D102

    @property
    def learns(self) -> bool: ...  # noqa: D102

    @property
    def fits_on_cache(self) -> bool: ...  # noqa: D102

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:
        """The parts of the store it reads for this source and its targets; empty for none.

        `n_layers` is the number of the model's blocks.
        """
        ...

    def settings(self, context: Context) -> dict[str, Any]:
        """What its answers follow from beside the model, the data and the texts that it needs, as plain values.

        An evaluation on disk is taken for its own only where these are the same.
        """
        ...

    def fit(self, source: Split, context: Context) -> Fitted:
        """Fit on a source's train split."""
        ...


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


@dataclass(frozen=True)
class ProbeMethod:
    """A probe on cached activations."""

    name: str
    learns: bool = True
    fits_on_cache: bool = True

    @property
    def tuned(self) -> bool:
        """A random direction learns nothing, whatever it is fitted on."""
        return self.name != "random"

    @cached_property
    def probe(self) -> Probe:
        """An unfitted probe of that name."""
        return get_probe(self.name)

    def needs(self, source: Split, n_layers: int) -> tuple[RequiredActivations, ...]:  # noqa: ARG002
        """The layers that it reads of each stimulus and site."""
        blocks: dict[str, list[int]] = {}
        for reading in self.probe.reads(n_layers):
            blocks.setdefault(reading.site, []).append(reading.block)
        return tuple(
            RequiredActivations(get_stimulus(stimulus), site, self.probe.token, tuple(layers))
            for stimulus in self.probe.stimuli
            for site, layers in blocks.items()
        )

    def settings(self, context: Context) -> dict[str, Any]:
        """The choice of layers, and the seed."""
        return {"layers": context.layers, "seed": context.seed}

    def fit(self, source: Split, context: Context) -> FittedOnCache:
        """Fit on all layers and choose among them on held-out source prompts."""
        found = fit_on_source(
            self.probe,
            context.source(source),
            self.probe.reads(context.n_layers),
            layers=parse_layers(context.layers),
            seed=context.seed,
            provenance={"capture_id": context.capture_id, "model": context.model, "source": source.distribution},
        )
        return FittedOnCache(found, context)


@dataclass(frozen=True)
class FittedOnCache:
    """A fitted probe that reads its targets from the store."""

    found: SourceFit
    context: Context

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

    def evaluate(self, target: Split) -> Evaluation:
        """Score the target's pairs at the chosen layers."""
        return score_cached(self.fitted, self.context.cached(target))

    def by_layer(self, target: Split) -> list[LayerFigure]:
        """How each layer that was fitted to choose among them does alone; none where there was no choice."""
        fits = self.found.by_layer
        return layer_curve(fits, self.context.cached(target)) if len(fits.layers) > 1 else []


def score_cached(fitted: FittedProbe, target: CachedSplit) -> Evaluation:
    """Score every kept pair of a cached split with a fitted probe, reading its layers alone.

    Raises:
        RepengError: every pair has a text that was skipped.
    """
    readings = fitted.reads(target.capture.n_layers)
    pairs = target.pairs(fitted.probe, readings, fitted.token)
    activations = target.activations(fitted.probe, readings, fitted.token)
    probabilities = fitted.pair_probabilities(activations, pairs)
    # A preset that judges a pair by a cosine has no score of a response.
    scores = fitted.scores(activations) if fitted.ranks_by_scores else None
    return target.rows.evaluation(pairs, probabilities, scores)
