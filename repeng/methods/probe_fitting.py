"""Fitting a probe on a cached source in blocks of layers, so that memory does not grow with the model.

What a probe learns at one layer does not depend on the others, so a fit in blocks is the fit of all layers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from repeng.activations.store.cached_split import Activations
from repeng.distributions.schema import ResponseLabels
from repeng.errors import BadInput
from repeng.probes.base import Probe, Reading
from repeng.probes.fitted import FittedProbe
from repeng.probes.fitting import fit_probe
from repeng.probes.genies import MMSGenies, rank_by_regression
from repeng.probes.selection import LayerChoice, top_k
from repeng.probes.source import SourceData, split_source


@runtime_checkable
class LabelledActivations(Protocol):
    """Cached activations with the labels of their responses; `methods.base.Source` has both."""

    @property
    def activations(self) -> Activations: ...  # noqa: D102

    @property
    def labels(self) -> ResponseLabels: ...  # noqa: D102


def hooks_of(readings: Sequence[Reading]) -> list[tuple[str, int]]:
    """Where a store keeps what a probe reads."""
    return [(reading.site, reading.block) for reading in readings]


def source_data(source: LabelledActivations, probe: Probe, readings: Sequence[Reading], token: str) -> SourceData:
    """Everything that fitting a probe on these responses needs."""
    hooks, labels = hooks_of(readings), source.labels
    return SourceData(
        activations=source.activations.stack(probe.stimuli, hooks, token),
        labels=labels.labels,
        examples=labels.examples,
        groups=labels.groups,
        layers=tuple(reading.layer for reading in readings),
        kept=source.activations.kept(probe.stimuli, hooks, token),
    )


BLOCK_BYTES = 256 << 20
"""Float32 activations of a block of layers, unless one layer alone has more. A fit works on two or three copies."""


@dataclass(frozen=True)
class LayerFits:
    """One probe fitted on every layer of a source, in blocks of layers.

    Attributes:
        blocks: a fitted probe for each block, lowest layers first.
        chosen: each (layer, head) that the source alone chooses, ascending; head -1 where the site has none.
    """

    blocks: tuple[FittedProbe, ...]
    chosen: tuple[tuple[int, int], ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """Every fitted layer, ascending."""
        return tuple(layer for block in self.blocks for layer in block.fitted_layers)

    @property
    def held_out_accuracy(self) -> Float[np.ndarray, " layer"]:
        """Pair accuracy of each layer (its best head) on held-out prompts of the source."""
        return np.concatenate([block.held_out_accuracy for block in self.blocks])

    def holding(self, count: int) -> set[int]:
        """The layers that hold one of the so many best heads on held-out prompts of the source, ties among them."""
        accuracy = np.concatenate([block.head_accuracy for block in self.blocks])
        least = np.sort(accuracy, axis=None)[::-1][:count][-1]
        return {layer for layer, heads in zip(self.layers, accuracy, strict=True) if heads.max() >= least}

    def of(self, layer: int) -> FittedProbe:
        """The block that holds a layer."""
        return next(block for block in self.blocks if layer in block.fitted_layers)

    def head(self, layer: int) -> int | None:
        """The best head of a layer; None where the site has none."""
        block = self.of(layer)
        return block.layer_heads[block.fitted_layers.index(layer)] if block.has_heads else None


@dataclass(frozen=True)
class SourceFit:
    """A probe fitted on a source.

    Attributes:
        fitted: with its choice of layers: what answers.
        by_layer: every layer that was fitted to make that choice.
    """

    fitted: FittedProbe
    by_layer: LayerFits


def layer_blocks(
    source: LabelledActivations, probe: Probe, readings: Sequence[Reading], token: str, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[Reading, ...]]:
    """The readings, as many at a time as the bound allows, and one at the least."""
    layer_bytes = (
        source.activations.tensor(probe.stimuli[0], hooks_of(readings)[0], token).numel() * 4 * len(probe.stimuli)
    )
    count = max(1, block_bytes // max(1, layer_bytes))
    for first in range(0, len(readings), count):
        yield tuple(readings[first : first + count])


def fit_layers(
    probe: Probe,
    source: LabelledActivations,
    readings: Sequence[Reading],
    *,
    seed: int = 0,
    site: str | None = None,
    token: str | None = None,
    provenance: dict[str, Any] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> LayerFits:
    """Fit on every layer, holding the activations of one block at a time; choose as `layers="auto"` does."""
    where = token or probe.token
    fits, ranked = [], []
    for block in layer_blocks(source, probe, readings, where, block_bytes):
        data = source_data(source, probe, block, where)
        fitted = fit_probe(probe, data, seed=seed, site=site, token=token, provenance=provenance)
        fits.append(fitted)
        if probe.rule == "genies" and len(block) < len(readings):
            ranked += _ranked_units(probe, data, fitted, seed)
    if len(fits) == 1:
        chosen = sorted(fits[0].units)
    elif probe.rule == "genies":
        best = sorted(ranked, reverse=True)[: probe.get_params()["k"]]
        chosen = sorted((layer, head) for _, layer, head in best)
    else:
        accuracy = np.concatenate([block.held_out_accuracy for block in fits])
        log_loss = np.concatenate([block.held_out_log_loss for block in fits])
        layer = readings[place := int(np.lexsort((log_loss, -accuracy))[0])].layer
        chosen = [(layer, [head for block in fits for head in block.layer_heads][place])]
    return LayerFits(tuple(fits), tuple(chosen))


def fit_on_source(
    probe: Probe,
    source: LabelledActivations,
    readings: Sequence[Reading],
    *,
    layers: LayerChoice = "auto",
    seed: int = 0,
    site: str | None = None,
    token: str | None = None,
    provenance: dict[str, Any] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> SourceFit:
    """Fit a probe, reading no more layers than its choice of layers asks for.

    Where the source is larger than a block, the layers that `auto` or `top-k:N` chooses are found block by block, and
    the probe is then fitted on those alone: the layers of an ensemble, or of a preset, are calibrated together.

    Raises:
        BadInput: a layer that the probe does not read.
    """
    by_layer, where = None, token or probe.token
    common: dict[str, Any] = {"seed": seed, "site": site, "token": token, "provenance": provenance}
    if isinstance(layers, tuple):
        known = {reading.layer for reading in readings}
        if not set(layers) <= known:
            raise BadInput(
                f"{probe.name} has no layer {min(set(layers) - known)}; it reads {', '.join(map(str, sorted(known)))}"
            )
        readings = [reading for reading in readings if reading.layer in layers]
    elif layers == "auto" or (layers != "all" and probe.rule != "genies"):
        first = next(layer_blocks(source, probe, readings, where, block_bytes))
        if len(first) < len(readings):
            by_layer = fit_layers(probe, source, readings, block_bytes=block_bytes, **common)
            chosen = {layer for layer, _ in by_layer.chosen} if layers == "auto" else by_layer.holding(top_k(layers))
            readings = [reading for reading in readings if reading.layer in chosen]
    data = source_data(source, probe, readings, where)
    fitted = fit_probe(probe, data, layers=layers, **common)
    return SourceFit(fitted, by_layer or LayerFits((fitted,), tuple(sorted(fitted.units))))


def _ranked_units(probe: Probe, data: SourceData, fitted: FittedProbe, seed: int) -> list[tuple[float, int, int]]:
    """(validation accuracy, layer, head) of a block's kept units, by which a preset ranks those of all blocks."""
    if not isinstance(probe, MMSGenies):
        raise BadInput(f"probe {probe.name!r} follows the genies rule, but is no preset of repeng.probes.genies")
    split = split_source(data.labels, data.examples, data.groups, seed=seed, usable=data.usable)
    places = [data.layers.index(layer) for layer, _ in fitted.units]
    heads = [head for _, head in fitted.units]
    units = data.activations[places, heads] if data.has_heads else data.activations[places]
    alone = SourceData(units, data.labels, data.examples, data.groups, tuple(range(len(places))), data.kept)
    accuracy = rank_by_regression(probe, alone, split).tolist()
    return [(value, layer, head) for value, (layer, head) in zip(accuracy, fitted.units, strict=True)]
