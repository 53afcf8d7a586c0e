"""Directions of several fits, of shuffled labels, and random ones: against the fits themselves and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import planted

from repeng.probes.base import Probe
from repeng.probes.ccs import CCS
from repeng.probes.cra import CRA
from repeng.probes.directions import Directions, fit_directions
from repeng.probes.fitting import ProbeSpec
from repeng.probes.lat import LAT
from repeng.probes.lda import LDA
from repeng.probes.logistic import Logistic
from repeng.probes.mlp import MLP
from repeng.probes.mms import MMS
from repeng.probes.projection import unit_directions
from repeng.probes.random import Random
from repeng.probes.repeats import FitPlan, fit_repeatedly
from repeng.probes.source import SourceData


def directions(probe: Probe, source: SourceData, **settings: int) -> Directions:
    found = fit_directions(ProbeSpec(probe), source, **settings)
    assert found is not None
    return found


def plain_unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows)


@pytest.mark.parametrize("probe", [MMS(), LAT(), LDA(), Logistic(), CCS(), CRA()], ids=lambda probe: probe.name)
def test_directions_and_choices_are_those_of_the_fits_themselves(probe: Probe) -> None:
    source = planted(stimuli=len(probe.stimuli), strength=1.0, layers=3).source()
    found = directions(probe, source, fits=3)
    fits = fit_repeatedly(ProbeSpec(probe), source, fits=3).fits
    for own, chosen, fitted in zip(found.fits, found.chosen, fits, strict=True):
        expected = unit_directions(fitted.probe)
        assert expected is not None
        np.testing.assert_allclose(own[:, 0], expected, atol=1e-6)
        assert [layer for layer, there in enumerate(chosen[:, 0]) if there] == list(fitted.layers)
        # They lie towards what the probe scores higher.
        step = source.activations[..., :1, :].double()
        if len(probe.stimuli) == 1:
            moved = step + torch.from_numpy(expected)[:, None, None]
            rises = fitted.probe.decision_function(moved) - fitted.probe.decision_function(step)
            assert bool((rises > 0).all())


def test_shuffled_directions_are_those_of_a_plain_loop_over_the_same_coins() -> None:
    source = planted(layers=2, strength=1.0).source()
    found = directions(MMS(), source, fits=2, draws=7)
    assert found.fit_of_shuffled.tolist() == [0, 0, 0, 0, 1, 1, 1]
    plan = FitPlan.of(ProbeSpec(MMS()), source, 2)
    rows = source.activations[:, 0].double().numpy()
    expected = []
    for fit, count in ((0, 4), (1, 3)):
        pairs, swaps = plan.pairs(fit).train, plan.toss(fit, count, source).train
        for swap in swaps:
            gaps = [
                rows[:, worse] - rows[:, best] if turned else rows[:, best] - rows[:, worse]
                for (best, worse), turned in zip(pairs, swap, strict=True)
            ]
            expected.append([plain_unit(layer) for layer in np.mean(gaps, axis=0)])
    np.testing.assert_allclose(found.shuffled[:, :, 0], np.array(expected), atol=1e-5)


def test_two_stimuli_learn_from_one_and_the_same_shuffled_labels() -> None:
    made = planted(layers=2, strength=1.0)
    one = directions(MMS(), made.source(), draws=20, stream=1)
    twice = directions(MMS(), made.source(activations=made.activations * 2 + 3), draws=20, stream=2)
    np.testing.assert_allclose((one.shuffled * twice.shuffled).sum(axis=-1), 1.0, atol=1e-5)
    assert np.abs((one.random * twice.random).sum(axis=-1)).max() < 1


def test_only_the_sign_of_lat_and_ccs_follows_shuffled_labels() -> None:
    for probe in (LAT(), CCS(restarts=2)):
        found = directions(probe, planted(stimuli=len(probe.stimuli)).source(), fits=2)
        turned = (found.shuffled * found.fits[found.fit_of_shuffled]).sum(axis=-1)
        np.testing.assert_allclose(np.abs(turned), 1.0, atol=1e-5)
        assert turned.min() < 0 < turned.max()


def test_cosines_of_random_directions_vary_as_theory_has_it() -> None:
    source = planted(d=50, strength=0.0, layers=1).source()
    one, other = (directions(MMS(), source, fits=1, draws=4000, stream=stream) for stream in (1, 2))
    cosines = (one.random * other.random).sum(axis=-1)[:, 0, 0]
    assert np.sqrt(np.mean(cosines**2)) == pytest.approx(50**-0.5, rel=0.05)


def test_random_directions_like_the_activations_lie_where_those_spread() -> None:
    made = planted(d=10, strength=0.0, layers=2)
    stretched = made.activations.clone()
    stretched[..., 3] *= 20
    found = directions(MMS(), made.source(activations=stretched), fits=1, draws=200)
    assert np.median(np.abs(found.spread[:, :, 0, 3])) > 0.95
    assert np.median(np.abs(found.random[:, :, 0, 3])) < 0.5


def test_random_directions_are_turned_to_where_they_rank_more_training_pairs_rightly() -> None:
    source = planted(layers=2, strength=1.0).source()
    found = directions(MMS(), source, fits=1)
    pairs = FitPlan.of(ProbeSpec(MMS()), source, 1).pairs(0).train
    rows = source.activations[:, 0].double().numpy()
    for drawn in (found.random, found.spread):
        for layer in range(2):
            right = np.sign((rows[layer, pairs[:, 0]] - rows[layer, pairs[:, 1]]) @ drawn[:, layer, 0].T).sum(axis=0)
            assert (right >= 0).all()


def test_blocks_of_layers_change_nothing() -> None:
    source = planted(layers=4, strength=1.0).source()
    whole, split = (directions(Logistic(), source, fits=2, block_bytes=size) for size in (1 << 30, 1))
    for name in ("fits", "shuffled", "random", "spread"):
        np.testing.assert_allclose(getattr(whole, name), getattr(split, name), atol=1e-5)
    np.testing.assert_array_equal(whole.chosen, split.chosen)


def test_every_head_has_a_direction_of_its_own() -> None:
    made = planted(layers=2, strength=3.0)
    heads = torch.stack([torch.randn(made.activations.shape), made.activations], dim=1)
    found = directions(MMS(), made.source(activations=heads), fits=2)
    alone = directions(MMS(), made.source(), fits=2)
    assert found.fits.shape == (2, 2, 2, 8)
    np.testing.assert_allclose(found.fits[:, :, 1], alone.fits[:, :, 0], atol=1e-6)
    assert not found.chosen[:, :, 0].any()
    assert found.random.shape == found.spread.shape == found.shuffled.shape == (20, 2, 2, 8)


def test_labelled_texts_have_directions_too() -> None:
    made = planted(layers=2, strength=4.0)
    texts = made.source(examples=np.arange(120), groups=np.arange(120))
    found = directions(MMS(), texts, fits=2)
    assert (found.fits @ made.direction.numpy()).min() > 0.9
    assert np.abs((found.shuffled @ made.direction.numpy()).mean()) < 0.5


@pytest.mark.parametrize("probe", [MLP(), Random()], ids=lambda probe: probe.name)
def test_a_probe_without_a_direction_has_none(probe: Probe) -> None:
    assert fit_directions(ProbeSpec(probe), planted().source(), fits=1) is None


@pytest.mark.parametrize(("fits", "draws"), [(1, 20), (3, 20), (12, 20), (25, 20), (4, 1)])
def test_every_fit_has_shuffled_labellings_of_its_own_however_many_fits_there_are(fits: int, draws: int) -> None:
    found = directions(MMS(), planted(layers=1).source(), fits=fits, draws=draws)
    counts = np.bincount(found.fit_of_shuffled, minlength=fits)
    assert counts.min() >= 2 and counts.max() - counts.min() <= 1
    assert len(found.shuffled) == counts.sum() >= draws
