"""What every probe in the registry keeps to. A new method is tested the day it is added."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import sklearn.base
import torch
from planted import QUICK, Planted, fit_probe, planted

from repeng.errors import BadInput, NonFinite
from repeng.probes.base import Probe, pair_rows
from repeng.probes.fitting import RULES
from repeng.probes.inputs import all_finite
from repeng.probes.registry import PROBES, get_probe, known_probes

NAMES = sorted(PROBES)
LEARNING = [name for name in NAMES if name != "random"]


def make(name: str) -> Probe:
    return get_probe(name, **QUICK.get(name, {}))


def data(name: str, **options: int | float) -> Planted:
    return planted(stimuli=len(make(name).stimuli), **options)  # type: ignore[arg-type]


def fit(name: str, part: Planted) -> Probe:
    return make(name).fit(part.activations, part.labels, part.groups)


@pytest.mark.parametrize("name", NAMES)
def test_all_layers_at_once_equal_each_layer_alone(name: str) -> None:
    part = data(name, layers=3)
    together = fit(name, part)
    for layer in range(3):
        alone = make(name).fit(part.activations[layer], part.labels, part.groups)
        torch.testing.assert_close(
            together.decision_function(part.activations)[layer],
            alone.decision_function(part.activations[layer]),
            rtol=1e-3,
            atol=1e-4,
        )


@pytest.mark.parametrize("name", NAMES)
def test_heads_are_one_more_batch_axis(name: str) -> None:
    part = data(name, layers=4)
    flat = fit(name, part)
    heads = part.activations.reshape(2, 2, *part.activations.shape[1:])
    shaped = make(name).fit(heads, part.labels, part.groups)
    torch.testing.assert_close(
        shaped.decision_function(heads).reshape(4, -1),
        flat.decision_function(part.activations),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_turned_round_has_the_opposite_score(name: str) -> None:
    part = data(name)
    probe = fit(name, part)
    first, second = (part.activations[:, :, rows] for rows in part.pairs.T)
    torch.testing.assert_close(probe.pair_score(first, second), -probe.pair_score(second, first))


@pytest.mark.parametrize("name", [name for name in NAMES if PROBES[name].ranks_by_scores])
def test_a_pair_scores_the_difference_of_its_responses(name: str) -> None:
    part = data(name)
    probe = fit(name, part)
    first, second = (part.activations[:, :, rows] for rows in part.pairs.T)
    scores = probe.decision_function(part.activations)
    torch.testing.assert_close(
        probe.pair_score(first, second),
        scores[:, part.pairs[:, 0]] - scores[:, part.pairs[:, 1]],
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", LEARNING)
def test_a_planted_direction_is_found_and_carries_over(name: str) -> None:
    fitted = fit_probe(make(name), data(name, n_pairs=200).source())
    target = data(name, n_pairs=500, seed=1)
    assert np.mean(fitted.pair_probabilities(target.activations, target.pairs) > 0.5) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_direction_that_is_useless_on_the_target_falls_to_chance(name: str) -> None:
    fitted = fit_probe(make(name), data(name, n_pairs=600).source(), layers="top-k:1")
    accuracies = []
    for axis in (0, 5):
        target = data(name, n_pairs=3000, seed=1, strength=0.5, axis=axis)
        p = fitted.pair_probabilities(target.activations, target.pairs)
        accuracies.append(np.mean((p > 0.5) + 0.5 * (p == 0.5)))
    assert accuracies[0] > 0.58 or name == "random"
    # What is left is the error of a direction that was fitted on some hundreds of noisy pairs.
    assert accuracies[1] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("name", [name for name in LEARNING if not name.endswith("-genies")] + ["ccs-genies"])
def test_calibration_never_changes_who_wins(name: str) -> None:
    fitted = fit_probe(make(name), data(name, strength=0.5).source())
    target = data(name, strength=0.5, seed=1)
    scores = fitted.pair_scores(target.activations, target.pairs)
    p = fitted.pair_probabilities(target.activations, target.pairs)
    np.testing.assert_array_equal(np.sign(p - 0.5), np.sign(scores))
    np.testing.assert_allclose(
        fitted.pair_probabilities(target.activations, target.pairs[:, ::-1].copy()), 1 - p, atol=1e-9
    )


@pytest.mark.parametrize("name", LEARNING)
def test_the_order_of_the_responses_of_a_split_does_not_matter(name: str) -> None:
    """Labels are bound to rows, not to places: a probe that learns 'the second is best' would fail here."""
    part = data(name, n_pairs=100)
    fitted = fit(name, part)
    flipped = torch.arange(200).reshape(-1, 2).flip(1).reshape(-1)
    other = make(name).fit(part.activations[..., flipped, :], part.labels[flipped], part.groups)
    one = fitted.decision_function(part.activations)
    two = other.decision_function(part.activations)
    pairs = part.pairs
    agree = ((one[:, pairs[:, 0]] > one[:, pairs[:, 1]]) == (two[:, pairs[:, 0]] > two[:, pairs[:, 1]])).float()
    assert agree.mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_activations_are_read_in_float32(name: str) -> None:
    part = data(name)
    stored = part.activations.bfloat16()
    torch.testing.assert_close(
        make(name).fit(stored, part.labels, part.groups).decision_function(stored),
        make(name).fit(stored.float(), part.labels, part.groups).decision_function(stored.float()),
    )


@pytest.mark.parametrize(("name", "bad"), list(product(NAMES, [float("nan"), float("inf")])))
def test_activations_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    part = data(name)
    part.activations[1, 0, 9, 2] = bad
    with pytest.raises(NonFinite, match=r"batch element \(1,\), response row 9"):
        fit(name, part)


def test_finite_activations_whose_sum_overflows_are_finite() -> None:
    huge = torch.full((2, 3), 3e38)
    assert not huge.sum().isfinite()
    assert all_finite(huge)
    assert all_finite(torch.full((1000,), 60000.0).half())
    assert not all_finite(torch.tensor([float("inf"), float("-inf")]))


@pytest.mark.parametrize("name", NAMES)
def test_one_class_is_refused(name: str) -> None:
    part = data(name)
    for label, kind in ((1.0, "worse"), (0.0, "best")):
        with pytest.raises(BadInput, match=kind):
            make(name).fit(part.activations, torch.full_like(part.labels, label), part.groups)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_pair_is_refused(name: str) -> None:
    part = data(name)
    with pytest.raises(BadInput, match="1 pair"):
        make(name).fit(part.activations[:, :, :2], part.labels[:2], part.groups[:2])


@pytest.mark.parametrize("name", NAMES)
def test_of_two_right_responses_each_is_a_pair_with_every_wrong_one_and_only_a_preset_refuses_them(name: str) -> None:
    part = data(name)
    probe, two_right = make(name), part.groups // 2
    examples = two_right.numpy()
    fitted = probe.fit(part.activations, part.labels, two_right)
    labels = part.labels.numpy()
    assert len(pair_rows(labels, examples)) == 2 * len(pair_rows(labels, part.groups))
    assert all(bool(torch.isfinite(value).all()) for value in fitted.state().values())
    if probe.rule == "genies":
        with pytest.raises(BadInput, match="example 0 has 2 right of 4: take"):
            RULES[probe.rule].check(probe, labels, examples)
    else:
        RULES[probe.rule].check(probe, labels, examples)


@pytest.mark.parametrize("name", NAMES)
def test_activations_of_the_wrong_number_of_stimuli_are_refused(name: str) -> None:
    part = planted(stimuli=3 - len(make(name).stimuli))
    with pytest.raises(BadInput, match="reads"):
        fit(name, part)


@pytest.mark.parametrize("name", NAMES)
def test_scoring_before_fitting_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="not fitted"):
        make(name).decision_function(data(name).activations)


@pytest.mark.parametrize("name", NAMES)
def test_a_clone_has_the_parameters_and_nothing_learned(name: str) -> None:
    probe = fit(name, data(name))
    copy = sklearn.base.clone(probe)
    assert copy is not probe
    assert copy.get_params() == probe.get_params()
    with pytest.raises(BadInput, match="not fitted"):
        copy.state()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned_has_the_batch_axes_in_front(name: str) -> None:
    probe = fit(name, data(name, layers=3))
    assert all(value.shape[0] == 3 for value in probe.state().values())
    picked = probe.select(torch.tensor([2, 0]))
    part = data(name, layers=3)
    torch.testing.assert_close(
        picked.decision_function(part.activations[[2, 0]]), probe.decision_function(part.activations)[[2, 0]]
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_fit_is_the_same_every_time_and_leaves_the_global_generator_alone(name: str) -> None:
    part = data(name)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = fit(name, part)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    second = fit(name, part)
    assert all(torch.equal(value, second.state()[key]) for key, value in first.state().items())


@pytest.mark.parametrize("name", NAMES)
def test_its_name_stimuli_and_reads_are_declared(name: str) -> None:
    probe = make(name)
    assert probe.name == name
    assert name in known_probes()
    reads = probe.reads(6)
    assert [reading.layer for reading in reads] == sorted({reading.layer for reading in reads})
    assert {reading.site for reading in reads} == set(probe.sites())
