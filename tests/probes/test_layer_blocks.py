"""A fit reads a source in blocks of layers: what is in memory of it, and that nothing else changes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from planted import planted
from torch import Tensor

from repeng.probes.base import Reading
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.members import Members
from repeng.probes.mms import MMS
from repeng.probes.registry import get_probe
from repeng.probes.repeats import fit_repeatedly
from repeng.probes.source import SourceData

LAYERS = 6


class CountedSource:
    """A source that knows how many of the blocks that were read of it are still in memory."""

    def __init__(self, data: SourceData) -> None:
        self.data, self.alive, self.most = data, 0, 0
        self.labels, self.examples, self.groups, self.units = data.labels, data.examples, data.groups, data.units
        self.kept = data.kept
        self.readings = data.readings

    def read(self, readings: Sequence[Reading]) -> Tensor:
        block: Tensor = self.data.read(readings).clone()
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(block, self.gone)
        return block

    def gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("room", [True, False])
def test_a_fit_holds_a_block_and_the_next_one_and_of_large_ones_a_single_one(room: bool) -> None:
    data = planted(layers=LAYERS).source()
    layer_bytes = data.activations[:1].nbytes
    spec = ProbeSpec(MMS())
    for fit in (fit_probe, partial(fit_repeatedly, fits=2, nulls=2)):
        source = CountedSource(data)
        fit(spec, source, block_bytes=layer_bytes if room else layer_bytes - 1)
        # A third one has begun when the consumer lets go of the first.
        assert 1 <= source.most <= (3 if room else 1)
        assert source.alive == 0


@pytest.mark.parametrize("name", ["mms", "lat", "logistic"])
def test_a_fit_in_blocks_is_the_fit_of_all_layers_at_once(name: str) -> None:
    data, spec = planted(layers=LAYERS, d=16).source(), ProbeSpec(get_probe(name))
    whole, parts = (fit_repeatedly(spec, data, fits=3, nulls=4, block_bytes=size) for size in (1 << 30, 1))
    assert whole.shuffled is not None and parts.shuffled is not None
    for one, other in (*zip(whole.fits, parts.fits, strict=True), (whole.shuffled, parts.shuffled)):
        assert one.units == other.units
        for key, value in one.probe.state().items():
            # So narrow a layer's products are rounded otherwise alone than beside other layers' in one call.
            torch.testing.assert_close(value, other.probe.state()[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mms", "lat", "logistic"])
def test_scores_read_ahead_are_those_of_one_layer_after_the_other(name: str) -> None:
    data, target = planted(layers=LAYERS).source(), planted(layers=LAYERS, seed=1)
    fitted = fit_probe(ProbeSpec(get_probe(name), layers="all"), data)
    found = Members.every_layer([fitted]).pair_scores(lambda layer: target.activations[layer], target.pairs)
    for layer, unit in enumerate(fitted.layer_units):
        alone = fitted.select((unit,)).decision_function(target.activations[layer : layer + 1])[0].double().numpy()
        gaps = alone[target.pairs[:, 0]] - alone[target.pairs[:, 1]]
        np.testing.assert_allclose(found[layer], gaps, rtol=1e-5, atol=1e-5)
