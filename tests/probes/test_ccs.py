from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from planted import planted
from scipy.optimize import minimize
from sklearn.base import clone
from torch import Tensor

from repeng.errors import BadInput
from repeng.probes.ccs import CCS, CCSGenies
from repeng.probes.contrast import SIFTED, adamw, fit_contrast, initial, lbfgs, loss_and_gradient, probabilities

RELEASED = {"learning_rate": 1e-3, "weight_decay": 0.01}


def loop_over_starts(
    x0: Tensor, x1: Tensor, weights: Tensor, biases: Tensor, epochs: int
) -> list[tuple[Tensor, float]]:
    """The released training: one start after another, autograd, torch's AdamW."""
    results = []
    for weight, bias in zip(weights, biases, strict=True):
        linear = torch.nn.Linear(x0.shape[1], 1, dtype=x0.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight[None])
            linear.bias.copy_(bias[None])
        optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-3, weight_decay=0.01)
        for _ in range(epochs):
            p0, p1 = torch.sigmoid(linear(x0)), torch.sigmoid(linear(x1))
            loss = (torch.min(p0, p1) ** 2).mean(0) + ((p0 - (1 - p1)) ** 2).mean(0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        results.append((torch.cat([linear.weight[0], linear.bias]).detach(), loss.item()))
    return results


def test_all_layers_and_starts_at_once_equal_a_loop_over_them() -> None:
    part = planted(stimuli=2, layers=3, d=12)
    x = part.activations.double()
    x = x - x.mean(dim=-2, keepdim=True)
    weights, biases = (value.double() for value in initial(2, 12, 7))
    batched, bias, loss = adamw(
        x.reshape(3, -1, 12),
        weights.expand(3, -1, -1).clone(),
        biases.expand(3, -1).clone(),
        epochs=100,
        learning_rate=1e-3,
        weight_decay=0.01,
    )
    for layer in range(3):
        for start, (expected, expected_loss) in enumerate(loop_over_starts(*x[layer], weights, biases, 100)):
            actual = torch.cat([batched[layer, start], bias[layer, start, None]])
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)
            assert float(loss[layer, start]) == pytest.approx(expected_loss, rel=1e-6)


def test_the_start_of_least_loss_is_kept() -> None:
    part = planted(stimuli=2, layers=1, strength=1.0, d=16)
    x = part.activations - part.activations.mean(dim=-2, keepdim=True)
    results = loop_over_starts(x[0, 0], x[0, 1], *initial(6, 16, 0), epochs=30)
    best = min(results, key=lambda result: result[1])[0]
    direction, bias, _ = fit_contrast(x, partial(adamw, epochs=30, **RELEASED), restarts=6, seeds=(0,))
    torch.testing.assert_close(torch.cat([direction[0], bias]), best, rtol=1e-4, atol=1e-5)


def test_where_both_sides_agree_the_gradient_is_autograds() -> None:
    x = torch.randn(1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([x, x], dim=1)  # p0 equals p1 at every row
    weight, bias = (value.double() for value in initial(2, 4, 0))
    actual, _, _ = adamw(
        rows, weight[None].clone(), bias[None].clone(), epochs=5, learning_rate=1e-3, weight_decay=0.01
    )
    expected = torch.stack([result[:4] for result, _ in loop_over_starts(x[0], x[0], weight, bias, 5)])
    torch.testing.assert_close(actual[0], expected)


def test_of_rows_far_from_the_border_no_number_is_below_the_normal_ones() -> None:
    """A CPU computes with those a hundred times as slowly. Loss and gradient are those of float64 all the same."""
    logits = torch.linspace(-120, 120, 121)
    both = torch.cat([logits.repeat(121), logits.repeat_interleave(121)])  # every two of them
    p = probabilities(torch.ones(1, 1, 1), both[None, None])
    loss, gradient = loss_and_gradient(p.clone())
    exact = both.double().requires_grad_()
    p0, p1 = exact.sigmoid().chunk(2)
    wanted = torch.minimum(p0, p1).square().mean() + (p0 + p1 - 1).square().mean()
    wanted.backward()
    assert float(loss) == pytest.approx(wanted.item(), rel=1e-6)
    torch.testing.assert_close(gradient[0, 0].double(), exact.grad, rtol=1e-5, atol=1e-10)
    smallest = torch.finfo(torch.float32).tiny
    assert not ((gradient != 0) & (gradient.abs() < smallest)).any()
    unbounded = loss_and_gradient(torch.sigmoid(both)[None, None])[1]
    assert ((unbounded != 0) & (unbounded.abs() < smallest)).any()


def test_lbfgs_ends_at_a_minimum_of_the_penalised_loss_from_every_start() -> None:
    """From there scipy's finds nothing that is worth a step."""
    part = planted(stimuli=2, layers=2, strength=1.0, d=12)
    x = part.activations.double()
    x = (x - x.mean(dim=-2, keepdim=True)).reshape(2, -1, 12)
    weights, biases = (value.double() for value in initial(SIFTED, 12, 7))
    found, bias, value = lbfgs(x, weights.expand(2, -1, -1), biases.expand(2, -1), weight_decay=0.01)

    def penalised(point: np.ndarray, rows: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-(rows @ point[:-1] + point[-1])))
        p0, p1 = np.split(p, 2)
        return float(np.mean(np.minimum(p0, p1) ** 2) + np.mean((p0 + p1 - 1) ** 2) + 0.005 * point @ point)

    for layer in range(2):
        for start in range(SIFTED):
            own = np.append(found[layer, start].numpy(), bias[layer, start].numpy())
            assert float(value[layer, start]) == pytest.approx(penalised(own, x[layer].numpy()))
            further = minimize(penalised, own, args=(x[layer].numpy(),))
            assert further.fun > float(value[layer, start]) - 3e-3
            begun = np.append(weights[start].numpy(), biases[start].numpy())
            assert float(value[layer, start]) < penalised(begun, x[layer].numpy()) - 0.05


def test_the_starts_that_are_left_out_early_cost_little() -> None:
    part = planted(stimuli=2, layers=3, strength=1.0, d=16)
    x = (part.activations - part.activations.mean(dim=-2, keepdim=True)).reshape(3, -1, 16)
    weight, bias = initial(10, 16, 0)
    ends = [
        lbfgs(x, weight[start, None].expand(3, -1, -1), bias[start, None].expand(3, -1), weight_decay=0.01)[2]
        for start in range(10)
    ]
    _, _, sifted = lbfgs(x, weight.expand(3, -1, -1), bias.expand(3, -1), weight_decay=0.01)
    assert sifted.shape == (3, SIFTED)
    assert (sifted.amin(dim=1) <= torch.cat(ends, dim=1).amin(dim=1) * 1.02).all()


def test_both_optimizers_find_the_same_direction() -> None:
    part = planted(stimuli=2, n_pairs=200, d=16, layers=2)
    ours = CCS().fit(part.activations, part.labels, part.groups)
    released = CCS(optimizer="adamw", learning_rate=0.01).fit(part.activations, part.labels, part.groups)
    assert (torch.cosine_similarity(ours.direction_, released.direction_, dim=-1).abs() > 0.9).all()
    assert torch.equal(
        ours.predict_proba(part.activations).argmax(-1), released.predict_proba(part.activations).argmax(-1)
    )


def test_divided_by_the_standard_deviation_the_scale_of_a_dimension_does_not_matter() -> None:
    part = planted(stimuli=2, n_pairs=100, layers=2)
    stretched = part.activations * torch.logspace(-1, 1, 8)
    stretched[..., 3] = 1.0
    flat = part.activations.clone()
    flat[..., 3] = 0.0
    one, two = (CCS(normalize="mean-std").fit(x, part.labels, part.groups) for x in (flat, stretched))
    torch.testing.assert_close(one.decision_function(flat), two.decision_function(stretched), rtol=1e-3, atol=1e-3)
    used = (flat - flat.mean(dim=-2, keepdim=True)) / torch.where(one.scale_ > 0, one.scale_, 1.0)[..., None, :]
    assert used.std(dim=-2, correction=0)[..., :3].sub(1).abs().max() < 1e-5
    logits = (used @ one.direction_[:, None, :, None])[..., 0] + one.bias_[:, None, None]
    yes, no = logits.double().sigmoid().unbind(dim=1)
    torch.testing.assert_close(one.decision_function(flat), one.sign_[:, None] * (yes - no) / 2, rtol=1e-4, atol=1e-5)


def test_the_preset_trains_as_released() -> None:
    part = planted(stimuli=2, n_pairs=50)
    assert CCSGenies().optimizer == "adamw"
    assert CCSGenies().normalize == "mean"
    probe = CCSGenies(n_examples=50, epochs=30, restarts=3).fit(part.activations, part.labels, part.groups)
    drawn = probe.draw(torch.from_numpy(part.pairs))
    x = part.activations[0][:, drawn]
    x = x - x.mean(dim=-2, keepdim=True)
    best = min(loop_over_starts(x[0], x[1], *initial(3, 8, 0), epochs=30), key=lambda result: result[1])[0]
    torch.testing.assert_close(torch.cat([probe.direction_[0], probe.bias_[:1]]), best, rtol=1e-4, atol=1e-5)


def test_it_finds_a_planted_direction_that_labels_never_named() -> None:
    part = planted(stimuli=2, n_pairs=200, d=16, layers=1)
    noise = torch.rand(200, generator=torch.Generator().manual_seed(5)) < 0.5
    shuffled = torch.where(noise.repeat_interleave(2), part.labels, 1 - part.labels)
    one = CCS(learning_rate=0.01).fit(part.activations, part.labels, part.groups)
    two = CCS(learning_rate=0.01).fit(part.activations, shuffled, part.groups)
    assert torch.equal(one.direction_, two.direction_)
    along = torch.cosine_similarity(one.direction_[0], part.direction, dim=0).abs()
    assert along > 0.9


def test_labels_set_nothing_but_the_sign() -> None:
    part = planted(stimuli=2, n_pairs=100, layers=1)
    probe = CCS(epochs=300, learning_rate=0.01)
    right = clone(probe).fit(part.activations, part.labels, part.groups)
    wrong = clone(probe).fit(part.activations, 1 - part.labels, part.groups)
    assert torch.equal(right.sign_, -wrong.sign_)
    torch.testing.assert_close(right.decision_function(part.activations), -wrong.decision_function(part.activations))
    best, worse = (part.activations[:, :, rows] for rows in part.pairs.T)
    assert (right.pair_score(best, worse) > 0).float().mean() > 0.9


def test_a_score_is_half_of_the_two_probabilities_difference() -> None:
    part = planted(stimuli=2, layers=1)
    probe = CCS(epochs=50).fit(part.activations, part.labels, part.groups)
    x = part.activations[0].double().numpy()
    centred = x - x.mean(axis=1, keepdims=True)
    logits = centred @ probe.direction_[0].double().numpy() + float(probe.bias_[0])
    p = 1 / (1 + np.exp(-logits))
    expected = float(probe.sign_[0]) * (p[0] - p[1]) / 2
    np.testing.assert_allclose(probe.decision_function(part.activations)[0].numpy(), expected, atol=1e-6)


def test_statistics_of_the_target_undo_a_shift_of_one_side() -> None:
    part = planted(stimuli=2, n_pairs=100, layers=1)
    shifted = part.activations.clone()
    shifted[:, 0] += 30.0
    options = {"epochs": 300, "learning_rate": 0.01}
    own = CCS(statistics="target", **options).fit(part.activations, part.labels, part.groups)
    torch.testing.assert_close(
        own.decision_function(shifted), own.decision_function(part.activations), rtol=1e-3, atol=1e-3
    )
    source = CCS(**options).fit(part.activations, part.labels, part.groups)
    moved = source.decision_function(shifted) - source.decision_function(part.activations)
    assert moved.abs().mean() > 0.1


def test_the_preset_learns_from_the_first_examples_alone_drawn_with_replacement() -> None:
    part = planted(stimuli=2, n_pairs=50)
    probe = CCSGenies(n_examples=10, epochs=5)
    drawn = probe.draw(torch.from_numpy(part.pairs))
    assert drawn is not None
    assert len(drawn) == 20
    assert set(drawn.tolist()) < set(range(20))
    fitted = clone(probe).fit(part.activations, part.labels, part.groups)
    torch.testing.assert_close(fitted.mean_, part.activations[:, :, drawn].mean(dim=-2))
    centred = part.activations[:, :, drawn] - fitted.mean_[..., None, :]
    direction, _, _ = fit_contrast(centred, partial(adamw, epochs=5, **RELEASED), restarts=10, seeds=(0,))
    torch.testing.assert_close(fitted.direction_, direction)


def test_confident_responses_do_not_tie() -> None:
    part = planted(stimuli=2, layers=1)
    probe = CCS(epochs=5).fit(part.activations, part.labels, part.groups)
    probe.direction_ = probe.direction_ * 0 + 4.0 * part.direction
    scores = probe.decision_function(part.activations)
    assert len(scores[0].unique()) == len(scores[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistics": "both"}, "source or target"),
        ({"optimizer": "adam"}, "lbfgs or adamw"),
        ({"normalize": "std"}, "mean or mean-std"),
        ({"epochs": 0}, "1 or more"),
        ({"restarts": 0}, "1 or more"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    part = planted(stimuli=2)
    with pytest.raises(BadInput, match=message):
        CCS(**options).fit(part.activations, part.labels, part.groups)  # type: ignore[arg-type]
