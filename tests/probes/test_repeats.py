"""Several fits of one probe, and its null: each equals the plain way to it, and a null knows nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import planted

from repeng.probes.base import Probe
from repeng.probes.ccs import CCS
from repeng.probes.cra import CRA
from repeng.probes.fitted import FittedProbe
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.genies import MMSGenies
from repeng.probes.lat import LAT
from repeng.probes.lda import LDA
from repeng.probes.logistic import Logistic
from repeng.probes.members import Members
from repeng.probes.mms import MMS
from repeng.probes.nulls import NullPairs, ShuffledPairs
from repeng.probes.registry import get_probe
from repeng.probes.repeats import fit_repeatedly, fit_seeds, reseeded
from repeng.probes.source import SourceData, split_source

QUICK_CCS = CCS(restarts=2, epochs=20)


def stimuli(probe: Probe) -> int:
    return len(probe.stimuli)


def source_of(probe: Probe, **settings: object) -> SourceData:
    return planted(stimuli=stimuli(probe), layers=3, **settings).source()  # type: ignore[arg-type]


def with_heads(count: int = 2) -> SourceData:
    layers = [planted(layers=count, seed=layer, strength=1.0 + layer) for layer in range(3)]
    activations = torch.stack([layer.activations for layer in layers])
    return replace(layers[0].source(), activations=activations, layers=(0, 1, 2))


def layer_of(data: SourceData):  # noqa: ANN201
    return lambda layer: data.activations[data.layers.index(layer)]


def same(one: FittedProbe, other: FittedProbe) -> bool:
    state, others = one.probe.state(), other.probe.state()
    # What is minimised side by side differs by rounding from what is minimised alone.
    exact = one.name != "ccs"
    close = {name: 0.0 if exact else 0.02 * float(value.abs().max()) for name, value in state.items()}
    alike = all(torch.allclose(value, others[name], rtol=0, atol=close[name]) for name, value in state.items())
    return alike and one.units == other.units and one.seed == other.seed


@pytest.mark.parametrize("probe", [MMS(), LAT(), QUICK_CCS, LDA()], ids=lambda probe: probe.name)
def test_each_fit_is_that_of_its_seed_alone(probe: Probe) -> None:
    data = source_of(probe, strength=1.0)
    made = fit_repeatedly(ProbeSpec(probe, seed=7), data, fits=3).fits
    seeds = fit_seeds(7, 3)
    assert [fitted.seed for fitted in made] == list(seeds) and len(set(seeds)) == 3
    alone = [fit_probe(ProbeSpec(probe, seed=7), data)]
    alone += [fit_probe(ProbeSpec(reseeded(probe, seed), seed=seed), data) for seed in seeds[1:]]
    assert all(same(one, other) for one, other in zip(made, alone, strict=True))
    assert len({fitted.held_out_accuracy.tobytes() for fitted in made}) > 1


def test_seeds_of_one_study_are_no_seeds_of_its_neighbour() -> None:
    drawn = [set(fit_seeds(seed, 6)) for seed in range(20)]
    assert len(set.union(*drawn)) == 120
    assert fit_seeds(3, 5) == fit_seeds(3, 6)[:5] and fit_seeds(3, 1) == (3,)


@pytest.mark.parametrize("layers", ["auto", "top-k:2", "all"])
@pytest.mark.parametrize("probe", [MMS(), CRA(), QUICK_CCS, LDA(), Logistic()], ids=lambda probe: probe.name)
def test_fits_that_are_scored_together_score_as_each_alone(probe: Probe, layers: str) -> None:
    made = fit_repeatedly(ProbeSpec(probe, layers), source_of(probe, strength=1.0), fits=3).fits
    target = source_of(probe, strength=1.0, seed=5)
    pairs = planted(seed=5).pairs
    rows = np.arange(len(target.labels))
    together = Members.chosen(made)
    for fitted, scores, gaps in zip(
        made, together.scores(layer_of(target), rows), together.pair_scores(layer_of(target), pairs), strict=True
    ):
        assert np.allclose(scores, fitted.scores(target.activations, rows=rows), atol=1e-5)
        assert np.allclose(gaps, fitted.pair_scores(target.activations, pairs), atol=1e-5)
    every = Members.every_layer(made).pair_scores(layer_of(target), pairs).reshape(3, 3, -1)
    for fitted, own in zip(made, every, strict=True):
        assert np.allclose(own, fitted.pair_scores_at(fitted.layer_units, target.activations, pairs), atol=1e-5)


@pytest.mark.parametrize("probe", [MMS(), MMSGenies(k=3)], ids=lambda probe: probe.name)
def test_heads_and_cosines_are_scored_together_as_each_alone(probe: Probe) -> None:
    data = with_heads()
    made = fit_repeatedly(ProbeSpec(probe), data, fits=2, nulls=3)
    pairs = planted().pairs
    together = Members.chosen(made.fits).pair_scores(layer_of(data), pairs)
    for fitted, gaps in zip(made.fits, together, strict=True):
        assert np.allclose(gaps, fitted.pair_scores(data.activations, pairs), atol=1e-5)
    assert made.shuffled.n_owners == made.random.n_owners == 3
    assert made.shuffled.pair_scores(layer_of(data), pairs).shape == (3, len(pairs))


@pytest.mark.parametrize("probe", [MMS(), CRA(), LDA(), Logistic()], ids=lambda probe: probe.name)
def test_a_null_is_the_same_search_with_labels_exchanged(probe: Probe) -> None:
    data = source_of(probe, strength=2.0)
    made = fit_repeatedly(ProbeSpec(probe, "top-k:1", seed=3), data, fits=1, nulls=4)
    split = split_source(data.labels, data.examples, data.groups, seed=3)
    pairs = NullPairs(split.train, split.held_out)
    coins = ShuffledPairs.toss(4, 3, data, pairs, split.unpaired)
    asked = planted(seed=9).pairs
    target = source_of(probe, strength=2.0, seed=9)
    found = made.shuffled.pair_scores(layer_of(target), asked)
    for null in range(4):
        plain = plainly_shuffled(probe, data, pairs, coins.train[null], coins.validation[null])
        layer = made.shuffled.units[null][0]
        assert plain[0] == layer
        gaps = plain[1].decision_function(target.activations[layer][..., asked[:, 0], :])
        gaps = gaps - plain[1].decision_function(target.activations[layer][..., asked[:, 1], :])
        scale = float(gaps.abs().max())
        assert np.allclose(found[null], gaps.numpy(), atol=2e-3 * scale)


def plainly_shuffled(
    probe: Probe, data: SourceData, pairs: NullPairs, swapped: np.ndarray, held_swapped: np.ndarray
) -> tuple[int, Probe]:
    """The layer that a null chooses and its estimator there, from exchanged rows, a layer at a time."""
    rows = np.where(swapped[:, None], pairs.train[:, ::-1], pairs.train)
    held = np.where(held_swapped[:, None], pairs.validation[:, ::-1], pairs.validation)
    labels, groups = np.tile([1.0, 0.0], len(rows)), np.repeat(np.arange(len(rows)), 2)
    fits, accuracies = [], []
    for layer in data.layers:
        activations = data.activations[layer]
        fitted = type(probe)(**probe.get_params()).fit(activations[..., rows.reshape(-1), :], labels, groups)
        scores = fitted.decision_function(activations).numpy()
        fits.append(fitted)
        accuracies.append(float(np.mean(scores[held[:, 0]] > scores[held[:, 1]])))
    best = int(np.argmax(accuracies))
    return best, fits[best]


def test_labels_of_one_prompt_are_exchanged_together() -> None:
    examples = np.arange(80).repeat(2)
    groups = examples // 2
    rows = np.arange(160).reshape(-1, 2)
    pairs = NullPairs(rows[:50], rows[50:])
    labels, none = np.tile([1.0, 0.0], 80), np.empty(0, dtype=int)
    data = SourceData(torch.zeros(1, 1, 160, 2), labels, examples, groups, (0,))
    coins = ShuffledPairs.toss(8, 0, data, pairs, none)
    both = np.concatenate([coins.train, coins.validation], axis=1)
    assert np.array_equal(both[:, 0::2], both[:, 1::2]) and len({row.tobytes() for row in both}) == 8
    of_one_prompt = ShuffledPairs.toss(8, 0, replace(data, groups=np.zeros(160, dtype=int)), pairs, none)
    assert not np.array_equal(of_one_prompt.train[:, 0::2], of_one_prompt.train[:, 1::2])


@pytest.mark.parametrize("name", ["mms", "lat", "cra", "ccs", "lda", "logistic"])
def test_where_there_is_nothing_to_learn_a_null_does_as_well_as_the_probe(name: str) -> None:
    probe = get_probe(name, **({"restarts": 2} if name == "ccs" else {}))
    data = source_of(probe, strength=0.0, n_pairs=200)
    made = fit_repeatedly(ProbeSpec(probe), data, fits=1, nulls=30)
    target = source_of(probe, strength=0.0, n_pairs=400, seed=1)
    pairs = planted(n_pairs=400, seed=1).pairs
    for null in (made.shuffled, made.random):
        accuracies = (null.pair_scores(layer_of(target), pairs) > 0).mean(axis=1)
        assert abs(accuracies.mean() - 0.5) < 0.05 and accuracies.std() < 0.1


def test_random_directions_are_turned_by_the_training_pairs() -> None:
    known = planted(layers=2, d=4, n_pairs=100, strength=6.0)
    data = known.source()
    made = fit_repeatedly(ProbeSpec(MMS()), data, fits=1, nulls=40)
    right = (made.random.pair_scores(layer_of(data), known.pairs) > 0).mean(axis=1)
    assert (right >= 0.5).mean() > 0.9


def test_nulls_do_not_depend_on_how_many_layers_are_read_at_a_time() -> None:
    data = source_of(MMS(), strength=1.0)
    whole, parts = (fit_repeatedly(ProbeSpec(MMS()), data, fits=2, nulls=5, block_bytes=size) for size in (1 << 28, 1))
    for name in ("shuffled", "random"):
        one, other = getattr(whole, name), getattr(parts, name)
        assert one.units == other.units
        assert torch.allclose(one.probe.state()["direction_"], other.probe.state()["direction_"], atol=1e-6)


def test_what_learns_nothing_is_fitted_once_and_has_no_null() -> None:
    made = fit_repeatedly(ProbeSpec(get_probe("random")), source_of(MMS()), fits=5, nulls=5)
    assert len(made.fits) == 1 and made.shuffled is None and made.random is None
