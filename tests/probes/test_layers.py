from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import fit_probe, planted

from repeng.errors import BadInput, CaptureMismatch, NonFinite
from repeng.maths import sigmoid
from repeng.probes.fitted import NO_HEAD
from repeng.probes.fitting import fit_block
from repeng.probes.mms import MMS
from repeng.probes.selection import RULES, HeldOut, Ranking, check_layers, choose
from repeng.probes.source import SourceData, split_source


def three_layers(strengths: tuple[float, ...] = (0.0, 1.5, 0.0)) -> SourceData:
    parts = [planted(strength=strength, layers=1, seed=seed, n_pairs=120) for seed, strength in enumerate(strengths)]
    # Every layer needs the same labels: planted() draws them from its seed, so turn each row to layer 0's order.
    first = parts[0]
    turned = []
    for part in parts:
        swap = (part.labels != first.labels).reshape(-1, 2).all(dim=1)
        rows = torch.arange(len(part.labels)).reshape(-1, 2)
        rows[swap] = rows[swap].flip(1)
        turned.append(part.activations[:, :, rows.reshape(-1)])
    return first.source(activations=torch.cat(turned), layers=tuple(range(len(parts))))


def plain_fit(data: SourceData, layer: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Direction of one layer and its held-out pair scores, in plain numpy."""
    split = split_source(data.labels, data.examples, data.groups, seed=seed)
    x = data.activations[layer, 0].double().numpy()
    direction = x[split.train[:, 0]].mean(0) - x[split.train[:, 1]].mean(0)
    return direction, (x[split.held_out[:, 0]] - x[split.held_out[:, 1]]) @ direction


def test_the_layer_that_carries_the_direction_is_chosen() -> None:
    assert fit_probe(MMS(), three_layers()).layers == (1,)


def test_accuracies_and_probabilities_equal_a_plain_numpy_fit() -> None:
    data = three_layers()
    fitted = fit_probe(MMS(), data)
    expected = [np.mean(plain_fit(data, layer)[1] > 0) for layer in range(3)]
    np.testing.assert_allclose(fitted.held_out_accuracy, expected)
    direction, _ = plain_fit(data, 1)
    target = planted(layers=3, seed=9)
    x = target.activations[1, 0].double().numpy()
    scores = (x[target.pairs[:, 0]] - x[target.pairs[:, 1]]) @ direction
    assert fitted.temperature is not None
    actual = fitted.pair_probabilities(target.activations, target.pairs)
    np.testing.assert_allclose(actual, sigmoid(scores / fitted.temperature), atol=1e-5)


def test_the_chosen_layer_alone_gives_what_all_layers_give() -> None:
    fitted = fit_probe(MMS(), three_layers())
    target = planted(layers=3, seed=9)
    whole = fitted.pair_probabilities(target.activations, target.pairs)
    np.testing.assert_array_equal(whole, fitted.pair_probabilities(target.activations[1:2], target.pairs))
    np.testing.assert_array_equal(whole, fitted.pair_probabilities(target.activations[1:], target.pairs, layers=(1, 2)))
    by_layer = fitted.pair_scores_at(fitted.layer_units, target.activations, target.pairs)
    np.testing.assert_allclose(whole, sigmoid(by_layer[1] / fitted.layer_temperatures[1]), rtol=1e-6)


def test_an_ensemble_is_the_mean_of_standardised_scores() -> None:
    data = three_layers((1.0, 2.0, 3.0))
    fitted = fit_probe(MMS(), data, layers=(0, 2))
    split = split_source(data.labels, data.examples, data.groups, seed=0)
    target = planted(layers=3, seed=9)
    expected = np.zeros(len(target.pairs))
    for layer in (0, 2):
        direction, _ = plain_fit(data, layer)
        held = data.activations[layer, 0].double().numpy()[np.unique(split.held_out)] @ direction
        x = target.activations[layer, 0].double().numpy() @ direction
        expected += (x[target.pairs[:, 0]] - x[target.pairs[:, 1]]) / held.std() / 2
    np.testing.assert_allclose(fitted.pair_scores(target.activations, target.pairs), expected, atol=1e-5)
    scores = fitted.scores(target.activations)
    np.testing.assert_allclose(scores[target.pairs[:, 0]] - scores[target.pairs[:, 1]], expected, atol=1e-5)


def test_top_k_takes_the_best_layers_in_order_of_accuracy() -> None:
    fitted = fit_probe(MMS(), three_layers((0.0, 2.0, 3.0)), layers="top-k:2")
    assert fitted.units == ((2, -1), (1, -1))
    assert fit_probe(MMS(), three_layers(), layers="all").layers == (0, 1, 2)


def test_ties_go_to_the_lower_log_loss_and_then_to_the_lower_layer_and_head() -> None:
    accuracy = np.array([[0.7, 0.8], [0.8, 0.8]])
    losses = Ranking((0, 1), accuracy, np.array([[0.1, 0.5], [0.4, 0.5]]), 40)
    alike = Ranking((0, 1), accuracy, np.full((2, 2), 0.5), 40)
    assert choose(RULES, losses, "top-k:1", 1) == [(1, 0)]
    assert choose(RULES, alike, "top-k:1", 1) == [(0, 1)]
    assert choose(RULES, alike, "top-k:3", 1) == [(0, 1), (1, 0), (1, 1)]


def ranking(accuracy: list[float], prompts: int) -> Ranking:
    """Layers without heads, the later ones of lower log-loss."""
    column = np.array(accuracy)[:, None]
    return Ranking(tuple(range(len(column))), column, np.linspace(0.6, 0.5, len(column))[:, None], prompts)


def test_the_tied_units_are_those_of_exactly_the_highest_accuracy() -> None:
    assert ranking([0.9, 0.95, 0.95 - 1e-9, 0.95], 40).tied() == [(1, 0), (3, 0)]
    heads = Ranking((0, 1), np.array([[0.7, 0.8], [0.8, 0.8]]), np.zeros((2, 2)), 40)
    assert heads.tied() == [(0, 1), (1, 0), (1, 1)]
    data = three_layers((9.0, 0.0, 9.0))
    split = split_source(data.labels, data.examples, data.groups, seed=0)
    _, curves = fit_block(HeldOut(), MMS(), split, data)
    assert curves.accuracy[:, 0].tolist() == [1.0, curves.accuracy[1, 0], 1.0]
    assert curves.tied() == [(0, 0), (2, 0)]


@pytest.mark.parametrize(
    ("accuracy", "prompts", "chosen"),
    [
        ([0.5, 0.85, 0.9, 0.8], 30, 1),  # sqrt(.875 * .125 / 30) = .06 below .9
        ([0.5, 0.85, 0.9, 0.8], 300, 2),  # .017
        ([0.5, 0.98, 1.0, 1.0], 30, 1),  # all right: sqrt(31/32 * 1/32 / 30) = .032
        ([0.5, 0.98, 1.0, 1.0], 100, 2),  # .0098
        ([0.9, 0.9, 0.9, 0.9], 300, 0),
    ],
)
def test_one_se_takes_the_earliest_layer_within_one_standard_error(
    accuracy: list[float], prompts: int, chosen: int
) -> None:
    held = ranking(accuracy, prompts)
    smoothed = (prompts * max(accuracy) + 1) / (prompts + 2)
    assert held.standard_error() == pytest.approx((smoothed * (1 - smoothed) / prompts) ** 0.5)
    assert choose(RULES, held, "one-se", 1) == [(chosen, 0)]


def test_average_takes_the_best_third_of_the_layers_rounded_up() -> None:
    assert choose(RULES, ranking([0.7, 0.9, 0.5, 0.8, 0.9, 0.6, 0.9], 40), "average", 1) == [(6, 0), (4, 0), (1, 0)]
    assert choose(RULES, ranking([0.7, 0.9], 40), "average", 1) == [(1, 0)]


def test_with_heads_the_rules_over_layers_take_each_layers_best_one() -> None:
    accuracy = np.array([[0.7, 0.88], [0.95, 0.9], [0.9, 0.95], [0.6, 0.93]])
    held = Ranking((0, 1, 2, 3), accuracy, np.full((4, 2), 0.5), 10)
    assert choose(RULES, held, "one-se", 1) == [(0, 1)]
    assert choose(RULES, held, "auto", 1) == [(0, 1), (1, 0), (2, 1), (3, 1)]
    assert choose(RULES, held, "average", 1) == [(1, 0), (2, 1)]


def test_held_out_prompts_are_counted_not_pairs() -> None:
    labels, examples = np.tile([1.0, 0.0, 0.0], 200), np.repeat(np.arange(200), 3)
    data = SourceData(torch.randn(1, 1, 600, 4), labels, examples, examples // 4, (0,))
    split = split_source(labels, examples, data.groups, seed=0)
    _, curves = fit_block(HeldOut(), MMS(), split, data)
    assert len(split.held_out) == 120 and curves.prompts == 15
    one_prompt = replace(data, groups=np.zeros(600, dtype=np.int64))
    _, by_example = fit_block(HeldOut(), MMS(), split, one_prompt)
    assert by_example.prompts == 60


def test_one_se_and_average_are_what_their_layers_give() -> None:
    data, target = three_layers((1.0, 2.0, 3.0)), planted(layers=3, seed=9)
    for rule in ("one-se", "average"):
        fitted = fit_probe(MMS(), data, layers=rule)
        same = fit_probe(MMS(), data, layers=fitted.layers)
        np.testing.assert_array_equal(
            fitted.pair_probabilities(target.activations, target.pairs),
            same.pair_probabilities(target.activations, target.pairs),
        )


def test_auto_takes_every_layer_within_one_standard_error() -> None:
    held = ranking([0.7, 0.9, 0.5, 0.86, 0.9, 0.6, 0.9], 40)  # sqrt(.88 * .12 / 40) = .05
    assert choose(RULES, held, "auto", 1) == [(1, 0), (3, 0), (4, 0), (6, 0)]
    assert choose(RULES, replace(held, prompts=400), "auto", 1) == [(1, 0), (4, 0), (6, 0)]
    assert choose(RULES, ranking([1.0, 0.97, 0.95], 30), "auto", 1) == [(0, 0), (1, 0)]


def test_auto_keeps_the_number_of_a_probe_that_has_one() -> None:
    assert choose(RULES, ranking([0.7, 0.9, 0.5, 0.8, 0.9, 0.6, 0.9], 40), "auto", 2) == [(6, 0), (4, 0)]


def test_the_best_head_of_all_layers_is_chosen() -> None:
    data = three_layers((0.0, 0.0, 0.0, 0.0, 3.0, 0.0))
    heads = data.activations.reshape(3, 2, 1, *data.activations.shape[2:])
    fitted = fit_probe(MMS(), replace(data, activations=heads, layers=(0, 1, 2)), site="hook_z", layers="top-k:1")
    assert fitted.units == ((2, 0),)
    assert fitted.layer_heads[2] == 0
    assert fitted.heads_of(1) == ((1, 0), (1, 1))
    flat = fit_probe(MMS(), data, layers="top-k:1")
    assert flat.heads_of(1) == ((1, NO_HEAD),)
    target = planted(layers=6, seed=9)
    np.testing.assert_allclose(
        fitted.pair_probabilities(target.activations.reshape(3, 2, 1, -1, 8), target.pairs),
        flat.pair_probabilities(target.activations, target.pairs),
        rtol=1e-5,
    )
    assert len(fit_probe(MMS(), replace(data, activations=heads, layers=(0, 1, 2)), layers="all").units) == 3


def test_a_direction_that_is_useless_on_the_target_falls_to_chance() -> None:
    fitted = fit_probe(MMS(), planted(n_pairs=400).source())
    same, other = planted(n_pairs=2000, seed=1), planted(n_pairs=2000, seed=1, axis=3)
    assert np.mean(fitted.pair_probabilities(same.activations, same.pairs) > 0.5) > 0.95
    assert np.mean(fitted.pair_probabilities(other.activations, other.pairs) > 0.5) == pytest.approx(0.5, abs=0.05)


def test_held_out_prompt_groups_are_never_trained_on() -> None:
    labels = np.tile([1.0, 0.0, 0.0], 200)
    examples = np.repeat(np.arange(200), 3)
    groups = examples // 4
    split = split_source(labels, examples, groups, seed=3)
    assert not set(groups[split.train[:, 0]]) & set(groups[split.held_out[:, 0]])
    assert len(set(groups[split.train[:, 0]])) == 35
    assert len(split.train) == 140
    assert len(split.held_out) == 120
    assert len(split.held_out_one) == 60
    assert np.all(labels[split.train] == [1.0, 0.0])
    assert np.all(examples[split.train[:, 0]] == examples[split.train[:, 1]])


def test_another_seed_splits_otherwise_and_the_same_seed_alike() -> None:
    labels, examples = np.tile([1.0, 0.0, 0.0], 100), np.repeat(np.arange(100), 3)
    first, again, other = (split_source(labels, examples, examples, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.train, again.train)
    assert set(first.train[:, 0]) != set(other.train[:, 0])
    shared = np.isin(first.train[:, 0], other.train[:, 0])
    assert set(first.train[shared, 1]) != set(other.train[np.isin(other.train[:, 0], first.train[:, 0]), 1])


def test_a_source_of_one_prompt_is_split_by_example_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    data = planted(n_pairs=40).source(groups=np.zeros(80, dtype=np.int64))
    with caplog.at_level(logging.WARNING):
        fitted = fit_probe(MMS(), data)
    assert "1 prompt group(s)" in caplog.text
    assert fitted.held_out_accuracy.min() > 0.7


def test_skipped_responses_are_in_no_pair() -> None:
    part = planted(n_pairs=60)
    kept = np.ones(120, dtype=bool)
    kept[:20] = False
    blank = part.activations.clone()
    blank[:, :, :20] = float("nan")
    fitted = fit_probe(MMS(), part.source(activations=blank, kept=kept))
    alone = part.source(
        activations=part.activations[:, :, 20:],
        labels=part.labels[20:].double().numpy(),
        examples=part.groups[20:].numpy(),
        groups=part.groups[20:].numpy(),
    )
    np.testing.assert_array_equal(fitted.held_out_accuracy, fit_probe(MMS(), alone).held_out_accuracy)


def test_an_infinite_activation_is_named_by_layer_and_example() -> None:
    part = planted()
    part.activations[1, 0, 7, 2] = float("inf")
    with pytest.raises(NonFinite, match=r"layer 5, example 3 \(response row 7\)"):
        part.source(layers=(4, 5))
    with pytest.raises(NonFinite, match=r"layer 5, example 3 \(response row 7\)"):
        part.source(layers=(4, 5), activations=part.activations[:, None])  # one head
    fitted = fit_probe(MMS(), planted().source(), layers=(1,))
    with pytest.raises(NonFinite, match="layer 1, response 7"):
        fitted.pair_probabilities(part.activations, part.pairs)


@pytest.mark.parametrize("layers", ["best", "top-k:0", "top-k:x", "one-se:2", "average:all", (7,), ()])
def test_a_choice_of_layers_that_cannot_be_met_is_refused(layers: object) -> None:
    with pytest.raises(BadInput, match="layers"):
        fit_probe(MMS(), planted().source(), layers=layers)  # type: ignore[arg-type]


def test_the_last_layer_of_a_choice_must_be_one_of_the_models() -> None:
    for fits in ("auto", "all", "one-se", "average", "3", "0-3", "3,0"):
        check_layers(fits, 4, "tiny")
    for beyond in ("4", "0-4", "4,0"):
        with pytest.raises(BadInput, match="tiny has layers 0 to 3"):
            check_layers(beyond, 4, "tiny")


def test_too_few_examples_or_one_class_are_refused() -> None:
    with pytest.raises(BadInput, match="too few"):
        fit_probe(MMS(), planted(n_pairs=2).source())
    with pytest.raises(BadInput, match="no pair"):
        fit_probe(MMS(), planted().source(labels=np.ones(120) * np.tile([1.0, 2.0], 60)))


def test_activations_of_another_capture_are_refused() -> None:
    fitted = fit_probe(MMS(), planted().source(), provenance={"capture_id": "pythia-1234"})
    fitted.check_capture("pythia-1234")
    with pytest.raises(CaptureMismatch, match="'pythia-9999'"):
        fitted.check_capture("pythia-9999")


def test_a_fitted_probe_names_the_tensors_of_a_store_that_it_reads() -> None:
    fitted = fit_probe(MMS(), three_layers(), site="mlp_out")
    assert fitted.reads(3) == (("mlp_out", 1, 1),)
    assert [reading.layer for reading in fitted.reads(3, chosen=False)] == [0, 1, 2]


def test_activations_that_lack_a_chosen_layer_are_refused() -> None:
    fitted = fit_probe(MMS(), three_layers())
    target = planted(layers=2)
    with pytest.raises(BadInput, match=r"needs layer\(s\) \[1\]"):
        fitted.scores(target.activations, layers=(0, 2))
    with pytest.raises(BadInput, match="are not the layers"):
        fitted.scores(target.activations)


def test_the_probe_that_is_passed_in_stays_unfitted() -> None:
    probe = MMS()
    fit_probe(probe, planted().source())
    with pytest.raises(BadInput, match="not fitted"):
        probe.state()
