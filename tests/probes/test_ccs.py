from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import planted
from sklearn.base import clone
from torch import Tensor

from repeng.errors import BadInput
from repeng.probes.ccs import CCS, CCSGenies, fit_contrast, initial, optimise


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
    batched, bias, loss = optimise(
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
    direction, bias, _ = fit_contrast(x, restarts=6, epochs=30, learning_rate=1e-3, weight_decay=0.01, seed=0)
    torch.testing.assert_close(torch.cat([direction[0], bias]), best, rtol=1e-4, atol=1e-5)


def test_where_both_sides_agree_the_gradient_is_autograds() -> None:
    x = torch.randn(1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([x, x], dim=1)  # p0 equals p1 at every row
    weight, bias = (value.double() for value in initial(2, 4, 0))
    actual, _, _ = optimise(
        rows, weight[None].clone(), bias[None].clone(), epochs=5, learning_rate=1e-3, weight_decay=0.01
    )
    expected = torch.stack([result[:4] for result, _ in loop_over_starts(x[0], x[0], weight, bias, 5)])
    torch.testing.assert_close(actual[0], expected)


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
    direction, _, _ = fit_contrast(centred, restarts=10, epochs=5, learning_rate=1e-3, weight_decay=0.01, seed=0)
    torch.testing.assert_close(fitted.direction_, direction)


def test_confident_responses_do_not_tie() -> None:
    part = planted(stimuli=2, layers=1)
    probe = CCS(epochs=5).fit(part.activations, part.labels, part.groups)
    probe.direction_ = probe.direction_ * 0 + 4.0 * part.direction
    scores = probe.decision_function(part.activations)
    assert len(scores[0].unique()) == len(scores[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"statistics": "both"}, "source or target"), ({"epochs": 0}, "1 or more"), ({"restarts": 0}, "1 or more")],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    part = planted(stimuli=2)
    with pytest.raises(BadInput, match=message):
        CCS(**options).fit(part.activations, part.labels, part.groups)  # type: ignore[arg-type]
