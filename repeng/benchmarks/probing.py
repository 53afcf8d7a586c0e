"""Probes straight from a store: fit on one distribution, score on others, and every layer at once for sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import repeng
from repeng.activations.fingerprint import slug
from repeng.activations.store import Store, StoredCapture
from repeng.benchmarks.cached import CachedSplit
from repeng.benchmarks.interventions import parse_layers, score_cached
from repeng.errors import BadInput, UnknownName
from repeng.metrics import Evaluation, accuracy_interval
from repeng.probes.fitted import FittedProbe
from repeng.probes.layers import fit_probe
from repeng.probes.registry import get_probe


def choose_capture(store: Path, model: str | None = None) -> StoredCapture:
    """The store's capture of a model; its only one where no model is named.

    Raises:
        BadInput: the store holds none, or several that the name does not tell apart.
    """
    opened = Store(store)
    found = [info for info in opened.captures() if model in (None, info.model, info.id, slug(info.model))]
    if not found:
        raise BadInput(
            f"{store}: no capture{f' of {model}' if model else ''} here; make one with: "
            f"repeng cache --store {store} --model {model or 'MODEL'}"
        )
    if len(found) > 1:
        listing = ", ".join(f"{info.id} ({info.model}, {info.dtype})" for info in found)
        raise BadInput(f"{store} holds several captures: {listing}; choose one with --model")
    return opened.capture(found[0].id)


def find_split(capture: StoredCapture, distribution: str, split: str) -> CachedSplit:
    """A distribution's cached split; where several versions of its data are cached, the one of most examples.

    Raises:
        UnknownName: the capture holds no such split.
    """
    versions = [key for key in capture.splits() if key[:2] == (distribution, split)]
    if not versions:
        raise UnknownName(f"{split} split in {capture.id}", distribution, {key[0] for key in capture.splits()})
    found = [CachedSplit(capture, *key) for key in versions]
    return max(found, key=lambda cached: (len(np.unique(cached.rows.examples)), cached.data_hash))


def fit_from_store(
    capture: StoredCapture,
    source: str,
    probe_name: str,
    *,
    layers: str = "auto",
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
) -> FittedProbe:
    """Fit a probe on a source's cached train split."""
    probe = get_probe(probe_name)
    cached = find_split(capture, source, "train")
    readings = probe.reads(capture.n_layers, site)
    where = token or probe.token
    return fit_probe(
        probe,
        cached.source_data(probe, readings, where),
        layers=parse_layers(layers),
        seed=seed,
        site=site,
        token=token,
        provenance=provenance_of(cached),
    )


def provenance_of(source: CachedSplit) -> dict[str, Any]:
    """What a probe fitted on a cached split carries of it."""
    return {
        "capture_id": source.capture.id,
        "model": source.capture.info.model,
        "source": source.distribution,
        "data_hash": source.data_hash,
        "repeng_version": repeng.__version__,
    }


def evaluation_provenance(fitted: FittedProbe, target: CachedSplit) -> dict[str, Any]:
    """What an evaluation file says of a fitted probe's answer."""
    return {
        "model": target.capture.info.model,
        "capture": target.capture.id,
        "method": fitted.name,
        "source": fitted.provenance.get("source", ""),
        "target": target.distribution,
        "layers": " ".join(map(str, fitted.layers)),
        "seed": fitted.seed,
        "source_data_hash": fitted.provenance.get("data_hash", ""),
        "target_data_hash": target.data_hash,
        "repeng_version": repeng.__version__,
    }


def score_from_store(capture: StoredCapture, fitted: FittedProbe, target: str) -> tuple[CachedSplit, Evaluation]:
    """Score a fitted probe on a target's cached test split.

    Raises:
        CaptureMismatch: the probe was fitted on another capture.
    """
    fitted.check_capture(capture.id)
    cached = find_split(capture, target, "test")
    return cached, score_cached(fitted, cached)


@dataclass(frozen=True)
class SweepRow:
    """One probe at one layer (its best head, where the site has heads) on one target.

    Attributes:
        held_out_accuracy: of the same layer on held-out prompts of the source.
        chosen: the source alone would have chosen this layer.
        oracle: the target's labels would have; no method may use it.
    """

    probe: str
    source: str
    target: str
    layer: int
    head: int | None
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    held_out_accuracy: float
    chosen: bool
    oracle: bool


def sweep_probes(
    capture: StoredCapture,
    source: str,
    targets: Sequence[str],
    probes: Sequence[str],
    *,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
) -> Iterator[SweepRow]:
    """Every probe at every layer on every target.

    Layers are fitted and scored in blocks of a bounded size, so that memory does not grow with the store.
    """
    for name in probes:
        probe = get_probe(name)
        fitted = fit_from_store(capture, source, name, site=site, token=token, seed=seed)
        readings = fitted.reads(capture.n_layers, chosen=False)
        for target in targets:
            cached = find_split(capture, target, "test")
            pairs = cached.rows.pairs(cached.kept(probe, readings, fitted.token))
            curves = []
            for reading in readings:
                activations = cached.activations(probe, (reading,), fitted.token)
                curves.append(fitted.pair_probabilities_by_layer(activations, pairs, (reading.layer,))[0])
                cached.forget()
            evaluations = [cached.rows.evaluation(pairs, curve) for curve in curves]
            best = max(range(len(curves)), key=lambda position: (evaluations[position].accuracy, -position))
            for position, reading in enumerate(readings):
                low, high = accuracy_interval(evaluations[position], seed=seed) or (None, None)
                head = fitted.layer_heads[position]
                yield SweepRow(
                    probe=name,
                    source=source,
                    target=target,
                    layer=reading.layer,
                    head=head if head >= 0 else None,
                    accuracy=evaluations[position].accuracy,
                    accuracy_low=low,
                    accuracy_high=high,
                    held_out_accuracy=float(fitted.held_out_accuracy[position]),
                    chosen=reading.layer in fitted.layers,
                    oracle=position == best,
                )


@dataclass(frozen=True)
class Transfer:
    """One probe fitted on each of some distributions and tested on each.

    Attributes:
        accuracy: `[source][target]`.
        cosine: `[source][source]`, of the directions at one layer that all sources share; None where the probe has
            no direction.
        layer: that layer: the one of highest mean held-out accuracy over the sources.
    """

    probe: str
    names: tuple[str, ...]
    accuracy: list[list[float]]
    cosine: list[list[float]] | None
    layer: int


def transfer_matrix(
    capture: StoredCapture,
    names: Sequence[str],
    probe_name: str,
    *,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
) -> Transfer:
    """Fit on each distribution's train split, test on each one's test split, all at one shared layer."""
    probe = get_probe(probe_name)
    if len(names) < 2:
        raise BadInput(f"a transfer matrix needs 2 distributions or more; given {len(names)}")
    fits = [fit_from_store(capture, name, probe_name, site=site, token=token, seed=seed) for name in names]
    layer_position = int(np.mean([fitted.held_out_accuracy for fitted in fits], axis=0).argmax())
    reading = fits[0].reads(capture.n_layers, chosen=False)[layer_position]
    accuracy: list[list[float]] = [[] for _ in names]
    for target in names:
        cached = find_split(capture, target, "test")
        pairs = cached.rows.pairs(cached.kept(probe, (reading,), fits[0].token))
        activations = cached.activations(probe, (reading,), fits[0].token)
        for row, fitted in zip(accuracy, fits, strict=True):
            probabilities = fitted.pair_probabilities_by_layer(activations, pairs, (reading.layer,))[0]
            row.append(cached.rows.evaluation(pairs, probabilities).accuracy)
    directions = [fitted.probe.state().get("direction_") for fitted in fits]
    cosine = None
    if all(direction is not None for direction in directions):
        units = []
        for direction, fitted in zip(directions, fits, strict=True):
            vector = direction[layer_position] if direction is not None else None
            if vector is not None and fitted.has_heads:
                vector = vector[fitted.layer_heads[layer_position]]
            values = np.asarray(vector.double().numpy()) if vector is not None else np.zeros(1)
            units.append(values / max(float(np.linalg.norm(values)), 1e-12))
        cosine = (np.stack(units) @ np.stack(units).T).tolist()
    return Transfer(probe_name, tuple(names), accuracy, cosine, reading.layer)
