"""Probes straight from a store: fit on one distribution, score on others, and every layer at once for sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.store import Store, StoredCapture
from repeng.errors import BadInput, CaptureMismatch, UnknownName
from repeng.methods.base import check_layers, parse_layers, score_cached
from repeng.methods.layer_curves import figures_of
from repeng.methods.probe_fitting import BLOCK_BYTES, LayerFits, SourceFit, fit_layers, fit_on_source
from repeng.metrics import Evaluation
from repeng.models.fingerprint import slug
from repeng.probes.base import Probe, Reading
from repeng.probes.calibration import pair_accuracy
from repeng.probes.fitted import NO_HEAD, FittedProbe
from repeng.probes.registry import get_probe
from repeng.results import LayerFigure, LayerRow, layer_rows
from repeng.version import __version__


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
        raise BadInput(f"{store} holds several captures: {listing}; choose one with --model, by its id")
    return opened.capture(found[0].id)


def capture_of(store: Path, fitted: FittedProbe, model: str | None = None) -> StoredCapture:
    """The capture that a probe was fitted on.

    Raises:
        BadInput: the store holds no capture, or none of the model that was asked for.
        CaptureMismatch: it holds others alone, or another was asked for.
    """
    own = fitted.provenance.get("capture_id")
    held = [info.id for info in Store(store).captures()]
    if model is None and own in held:
        return Store(store).capture(str(own))
    if model is None and own is not None and held:
        raise CaptureMismatch(
            f"probe {fitted.name!r} was fitted on capture {own!r}, which is not in {store}; there are {', '.join(held)}"
        )
    chosen = choose_capture(store, model)
    fitted.check_capture(chosen.id)
    return chosen


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
    block_bytes: int = BLOCK_BYTES,
) -> SourceFit:
    """Fit a probe on every layer of a source's cached train split, `block_bytes` at a time, and choose among them.

    Raises:
        UnknownName: no such probe or source.
        BadInput: no such layer.
    """
    probe = get_probe(probe_name)
    check_layers(layers, capture.n_layers, capture.model)
    cached = find_split(capture, source, "train")
    return fit_on_source(
        probe,
        cached,
        probe.reads(capture.n_layers, site),
        layers=parse_layers(layers),
        seed=seed,
        site=site,
        token=token,
        provenance=provenance_of(cached),
        block_bytes=block_bytes,
    )


def provenance_of(source: CachedSplit) -> dict[str, Any]:
    """What a probe fitted on a cached split carries of it."""
    return {
        "capture_id": source.capture.id,
        "model": source.capture.model,
        "source": source.distribution,
        "data_hash": source.data_hash,
        "repeng_version": __version__,
    }


def evaluation_provenance(fitted: FittedProbe, target: CachedSplit) -> dict[str, Any]:
    """What an evaluation file says of a fitted probe's answer."""
    return {
        "model": target.capture.model,
        "capture": target.capture.id,
        "method": fitted.name,
        "source": fitted.provenance.get("source", ""),
        "target": target.distribution,
        "layers": " ".join(map(str, fitted.layers)),
        "seed": fitted.seed,
        "source_data_hash": fitted.provenance.get("data_hash", ""),
        "target_data_hash": target.data_hash,
        "repeng_version": __version__,
    }


def score_from_store(capture: StoredCapture, fitted: FittedProbe, target: str) -> tuple[CachedSplit, Evaluation]:
    """Score a fitted probe on a target's cached test split."""
    cached = find_split(capture, target, "test")
    return cached, score_cached(fitted, cached)


def sweep_probes(
    capture: StoredCapture,
    source: str,
    targets: Sequence[str],
    probes: Sequence[str],
    *,
    site: str | None = None,
    token: str | None = None,
    seed: int = 0,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[LayerRow]:
    """Every probe at every layer, and every head where the site has heads, on every target.

    Memory does not grow with the store: fitting holds `block_bytes` of one source's float32 activations (one layer, if
    that has more) and two or three copies of them, scoring one layer of one target.

    Raises:
        UnknownName: no such probe, source or target.
    """
    cached_targets = [find_split(capture, target, "test") for target in targets]
    known = {name: get_probe(name) for name in probes}
    for name, probe in known.items():
        fits = layer_fits(capture, source, probe, site=site, token=token, seed=seed, block_bytes=block_bytes)
        for target, cached in zip(targets, cached_targets, strict=True):
            figures = every_head(fits, cached, site=site, token=token, seed=seed)
            units = [(figure.layer, NO_HEAD if figure.head is None else figure.head) for figure in figures]
            chosen = [unit in fits.chosen for unit in units]
            names = {"model": capture.model, "probe": name, "source": source, "target": target}
            yield from layer_rows(figures, chosen, **names)


def every_head(
    fits: LayerFits, target: CachedSplit, *, site: str | None, token: str | None, seed: int
) -> list[LayerFigure]:
    """Every head of every layer (every layer, where the site has no heads) on a target."""
    probe = fits.blocks[0].probe
    readings, where = probe.reads(target.capture.n_layers, site), token or probe.token
    pairs = target.pairs(probe, readings, where)
    figures = []
    for reading in readings:
        scores = scores_at(fits, target, reading, pairs, where)
        fitted = fits.of(reading.layer)
        held_out = fitted.head_accuracy[fitted.fitted_layers.index(reading.layer)]
        heads = range(len(scores)) if fitted.has_heads else (None,)
        figures += figures_of(scores, target, pairs, [(reading.layer, head) for head in heads], held_out, seed=seed)
    return figures


def layer_fits(
    capture: StoredCapture,
    source: str,
    probe: Probe,
    *,
    site: str | None,
    token: str | None,
    seed: int,
    block_bytes: int = BLOCK_BYTES,
) -> LayerFits:
    """A probe fitted on every layer of a source's cached train split, block by block."""
    cached = find_split(capture, source, "train")
    readings = probe.reads(capture.n_layers, site)
    return fit_layers(
        probe,
        cached,
        readings,
        seed=seed,
        site=site,
        token=token,
        provenance=provenance_of(cached),
        block_bytes=block_bytes,
    )


def scores_at(
    fits: LayerFits, target: CachedSplit, reading: Reading, pairs: Int[np.ndarray, "pair 2"], token: str
) -> Float[np.ndarray, "head pair"]:
    """The scores of a target's pairs by every head of one layer, which alone is read and forgotten again."""
    fitted = fits.of(reading.layer)
    activations = target.activations(fitted.probe, (reading,), token)
    target.forget()
    return fitted.head_pair_scores(activations, pairs, reading.layer)


@dataclass(frozen=True)
class Transfer:
    """One probe fitted on each of some distributions and tested on each.

    Attributes:
        accuracy: `[source][target]`.
        cosine: `[source][source]`, of the directions at one layer that all sources share; None where the probe has
            no direction, and where sources chose different heads.
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
    """Fit on each distribution's train split, test on each one's test split, all at one shared layer.

    Raises:
        BadInput: fewer than two distributions.
        UnknownName: no such probe or distribution.
    """
    probe = get_probe(probe_name)
    if len(names) < 2:
        raise BadInput(f"a transfer matrix needs 2 distributions or more; given {', '.join(names) or 'none'}")
    targets = [find_split(capture, name, "test") for name in names]
    readings, where = probe.reads(capture.n_layers, site), token or probe.token
    fits = [layer_fits(capture, name, probe, site=site, token=token, seed=seed) for name in names]
    shared = readings[int(np.mean([fit.held_out_accuracy for fit in fits], axis=0).argmax())]
    accuracy: list[list[float]] = [[] for _ in names]
    for target in targets:
        pairs = target.pairs(probe, (shared,), where)
        for row, fit in zip(accuracy, fits, strict=True):
            scores = scores_at(fit, target, shared, pairs, where)
            row.append(float(pair_accuracy(scores[fit.head(shared.layer) or 0])))
    cosine = None
    units = [_unit_direction(fit, shared.layer) for fit in fits]
    if len({fit.head(shared.layer) for fit in fits}) == 1 and all(unit is not None for unit in units):
        stacked = np.stack([unit for unit in units if unit is not None])
        cosine = (stacked @ stacked.T).tolist()
    return Transfer(probe_name, tuple(names), accuracy, cosine, shared.layer)


def _unit_direction(fits: LayerFits, layer: int) -> Float[np.ndarray, " d"] | None:
    """The direction at a layer (and its best head), of length 1, towards what scores higher; None if there is none."""
    fitted = fits.of(layer)
    state = fitted.probe.state()
    if "direction_" not in state:
        return None
    place = fitted.fitted_layers.index(layer)
    index = (place, fitted.layer_heads[place]) if fitted.has_heads else (place,)
    # CCS keeps the sign that labels gave it beside a direction that knew none.
    direction = state["direction_"][index] * (state["sign_"][index] if "sign_" in state else 1)
    values: Float[np.ndarray, " d"] = direction.double().numpy()
    return values / max(float(np.linalg.norm(values)), 1e-12)
