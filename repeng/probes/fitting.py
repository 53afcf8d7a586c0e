"""Fit one probe on one source: every layer in one call, then layers, heads and calibration from held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repeng.probes.base import Probe
from repeng.probes.calibration import Temperature, fit_temperature
from repeng.probes.fitted import FittedProbe, to_numpy
from repeng.probes.genies import fit_genies
from repeng.probes.selection import Common, LayerChoice, assemble, check_choice, choose, fit_on_pairs, measure
from repeng.probes.source import SourceData, SourceSplit, split_source

__all__ = ["FittedProbe", "SourceData", "fit_probe"]


def fit_probe(
    probe: Probe,
    data: SourceData,
    *,
    layers: LayerChoice = "auto",
    seed: int = 0,
    site: str | None = None,
    token: str | None = None,
    stimuli: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> FittedProbe:
    """Fit a probe on every layer of a source and choose among them with held-out source pairs.

    Args:
        probe: an unfitted probe; it is not changed.
        data: the source's activations.
        layers: "auto" takes the layer (and head) of highest held-out pair accuracy, ties by log-loss, then the lower;
            "top-k:K" the mean of the K best (layer, head) by the same order; "all" the mean of every layer, and a tuple
            the mean of those layers (with heads: each layer's best one). A preset ranks by its own rule: "auto" takes
            its own K, and a tuple restricts it to those layers.
        seed: of the split and of the random pair of each training example.
        site: what the activations are of, where it is not the probe's own site; `token` and `stimuli` alike.
        provenance: kept with the fitted probe.

    Raises:
        BadInput: `layers` is none of those, or the source is too small or of one class.
        NonFinite: an activation is infinite or not a number.
    """
    check_choice(layers, data.layers)
    split = split_source(data.labels, data.examples, data.groups, seed=seed, usable=data.usable)
    common = Common(
        seed=seed,
        stimuli=tuple(stimuli or probe.stimuli),
        site=site or probe.site,
        token=token or probe.token,
        provenance=dict(provenance or {}),
    )
    rule = fit_genies if probe.rule == "genies" else fit_held_out
    return rule(probe, data, split, layers, common)


def fit_held_out(
    probe: Probe, data: SourceData, split: SourceSplit, layers: LayerChoice, common: Common
) -> FittedProbe:
    """Fit on the training pairs; let the held-out ones choose and calibrate."""
    fitted = fit_on_pairs(probe, data, split.train)
    curves = measure(fitted, data, split)
    units = choose(curves.accuracy, curves.log_loss, data.layers, layers)
    centre, scale = np.zeros(len(units)), np.ones(len(units))
    if len(units) > 1:
        held_rows = np.unique(split.held_out)
        responses = to_numpy(fitted.decision_function(data.rows(held_rows)))
        responses = responses.reshape(*curves.accuracy.shape, -1)[tuple(np.transpose(units))]
        centre, spread = responses.mean(axis=1), responses.std(axis=1)
        scale = np.where(spread > 0, spread, 1.0)
    ensemble = np.mean(curves.scores[tuple(np.transpose(units))] / scale[:, None], axis=0)
    calibration = Temperature(float(fit_temperature(ensemble)))
    return assemble(fitted, data, curves, units, centre, scale, calibration, common)
