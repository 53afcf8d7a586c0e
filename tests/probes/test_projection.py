"""How far along a probe's direction its source lies: against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted

from repeng.probes.base import Probe
from repeng.probes.cra import CRA
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.lat import LAT
from repeng.probes.mlp import MLP
from repeng.probes.mms import MMS
from repeng.probes.source import split_of


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("probe", [MMS(), LAT(), CRA()], ids=lambda probe: probe.name)
def test_mean_and_spread_are_those_of_the_training_responses(probe: Probe, heads: int) -> None:
    data = planted(stimuli=len(probe.stimuli), strength=1.0, layers=2 * heads)
    of_heads = data.activations.unflatten(0, (2, heads)) if heads > 1 else data.activations
    source = data.source(activations=of_heads, layers=(0, 1))
    found = fit_probe(ProbeSpec(probe), source)
    split = split_of(source, seed=0)
    rows = np.unique(split.train)
    directions = found.probe.state()["direction_"].numpy().reshape(2, heads, -1)
    values = source.activations.numpy()[..., 0, :, :].reshape(2, heads, -1, directions.shape[-1])
    for layer in range(2):
        for head in range(heads):
            unit = directions[layer, head] / np.linalg.norm(directions[layer, head])
            along = values[layer, head, rows] @ unit
            assert found.projection_mean[layer, head] == pytest.approx(along.mean(), abs=1e-4)
            assert found.projection_spread[layer, head] == pytest.approx(along.std(), rel=1e-4)


def test_a_probe_without_a_direction_has_none() -> None:
    found = fit_probe(ProbeSpec(MLP()), planted(strength=1.0, layers=2).source())
    assert np.isnan(found.projection_spread).all() and np.isnan(found.projection_mean).all()
