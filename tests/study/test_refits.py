"""Probes fitted again, held against plain loops and against data in which the answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from repeng.errors import BadInput
from repeng.maths import pair_accuracy
from repeng.probes.registry import get_probe
from repeng.steering.eraser import AffineMaps, erased, leace
from repeng.study import refits
from repeng.study.refits import (
    Learned,
    alone,
    concept_maps,
    fresh_scores,
    halves,
    random_maps,
    same_scores,
    scored,
    variance_removed,
)


def learned(*, pairs: int = 60, d: int = 6, units: int = 3, strength: float = 2.0, seed: int = 0) -> Learned:
    """Pairs (best, worse), two to a prompt group, with a signal along the first axis."""
    x = torch.randn(units, 2 * pairs, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x[:, 0::2, 0] += strength
    example = np.arange(2 * pairs) // 2
    return Learned(x, np.tile([1.0, 0.0], pairs), example, example // 2, example)


def accuracy(scores: np.ndarray) -> np.ndarray:
    return pair_accuracy(scores[..., 0::2] - scores[..., 1::2])


def test_halves_part_no_prompt_and_each_is_the_erasers_once() -> None:
    own = learned(pairs=80)
    parts = halves(own, fits=4, seed=1)
    for eraser, probe in parts:
        assert not (eraser & probe).any() and (eraser | probe).all()
        assert not {*own.groups[eraser]} & {*own.groups[probe]}
    for (one, other), (turned, back) in (parts[:2], parts[2:]):
        assert np.array_equal(one, back) and np.array_equal(other, turned)
    assert not np.array_equal(parts[0][0], parts[2][0])
    # The same seed halves alike, whatever layers are looked at.
    assert np.array_equal(halves(replace(own, x=own.x[:1]), fits=4, seed=1)[2][0], parts[2][0])


def test_too_few_prompts_to_halve_are_refused() -> None:
    with pytest.raises(BadInput, match="cannot be halved"):
        halves(learned(pairs=2), fits=2, seed=0)


@pytest.mark.parametrize("name", ["mms", "logistic", "lda", "mlp"])
@pytest.mark.parametrize("block_bytes", [1, 8 << 20])
def test_all_units_and_variants_at_once_are_a_plain_loop(
    name: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "BLOCK_BYTES", block_bytes)
    own, test = learned(), learned(seed=5, pairs=20).x
    probe = get_probe(name, **({"epochs": 5} if name == "mlp" else {}))
    maps = alone(leace(own.x, own.labels)).joined(random_maps(own.x, draws=2, seed=0))
    (found,) = scored(probe, own, [test], maps)
    assert found.shape == (3, 4, 40)
    groups = own.groups if name == "mlp" else own.examples
    for unit in range(3):
        first = None
        for variant in range(4):
            x, y = own.x[unit], test[unit]
            if variant:
                one = maps.each(lambda part, at=(unit, variant - 1): part[at])
                x, y = erased(x, one), erased(y, one)
            if name == "mlp":
                x, y = x.float(), y.float()
            scores = get_probe(name, **probe.get_params()).fit(x[None], own.labels, groups).decision_function(y[None])
            plain = scores.double().numpy()
            first = plain.std() if first is None else first
            np.testing.assert_allclose(found[unit, variant], plain / first, atol=5e-3 if name == "logistic" else 2e-5)


def test_after_leace_a_linear_probe_on_the_same_rows_says_nothing_at_all() -> None:
    own, test = learned(), learned(seed=5).x
    maps = leace(own.x, own.labels)
    for name in ("mms", "logistic", "lda"):
        (found,) = same_scores(get_probe(name), own, [test], maps, fits=3, seed=0)
        assert found.shape == (1, 3, 2, 120)
        assert (accuracy(found[0, :, 0]) > 0.8).all()
        # Exactly a half: rounding decides no pair.
        assert (accuracy(found[0, :, 1]) == 0.5).all()


def test_what_is_not_linear_is_left_for_a_network_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    sign = torch.randint(0, 2, (800,), generator=generator).double() * 2 - 1

    def world(seed: int) -> Tensor:
        x = 0.3 * torch.randn(1, 800, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        label = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(400)
        # The label along axis 0, and as the product of axes 1 and 2.
        x[0, :, 0] += label
        x[0, :, 1] += sign
        x[0, :, 2] += sign * label
        return x

    own = replace(learned(pairs=400), x=world(1))
    parts = halves(own, fits=2, seed=0)
    maps = [concept_maps(None, own.take(one)) for one, _ in parts]
    linear, network = (
        accuracy(fresh_scores(probe, own, [world(2)], parts, maps, seed=0)[0])
        for probe in (get_probe("logistic"), get_probe("mlp", learning_rate=1e-2))
    )
    assert (linear[..., 0] > 0.95).all() and (linear[..., 1] < 0.7).all()
    assert (network > 0.9).all()


def test_a_network_is_fitted_from_several_starts_and_a_linear_probe_once() -> None:
    own, test = learned(units=1), learned(seed=5, units=1).x
    maps = leace(own.x, own.labels)
    (network,) = same_scores(get_probe("mlp", epochs=3), own, [test], maps, fits=3, seed=0)
    assert network.shape[0] == 3 and not np.array_equal(network[0], network[1])
    assert same_scores(get_probe("mms"), own, [test], maps, fits=3, seed=0)[0].shape[0] == 1


def test_random_maps_set_their_direction_to_the_mean_and_take_what_data_vary_along() -> None:
    own = learned()
    x = own.x * torch.tensor([10.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    maps = random_maps(x, draws=200, seed=3)
    one = maps.each(lambda part: part[1, 7])
    after = erased(x[1], one)
    torch.testing.assert_close(after @ one.right[0], (x[1] @ one.right[0]).mean().expand(len(after)))
    assert torch.equal(random_maps(x[:1], draws=200, seed=3).left, maps.left[:1])
    # Most of the variance lies along the first axis, and so do most directions.
    assert float(maps.left[1, :, 0, 0].abs().median()) > 0.9


def test_the_share_of_variance_is_that_of_the_traces() -> None:
    own = learned()
    maps = alone(leace(own.x, own.labels)).joined(random_maps(own.x, draws=3, seed=0))
    other = learned(seed=8, pairs=30).x
    found = variance_removed(other, maps)
    for unit in range(3):
        for variant in range(4):
            after = erased(other[unit], maps.each(lambda part, at=(unit, variant): part[at]))
            traces = [np.trace(np.cov(rows.numpy().T)) for rows in (other[unit], after)]
            assert found[unit, variant] == pytest.approx(1 - traces[1] / traces[0])


def test_the_direction_of_a_probe_is_erased_to_its_mean() -> None:
    own = learned(units=2)
    maps = concept_maps(get_probe("mms"), own)
    assert isinstance(maps, AffineMaps) and maps.left.shape == (2, 6, 1)
    best, worse = own.x[1, 0::2].mean(dim=0), own.x[1, 1::2].mean(dim=0)
    direction = (best - worse) / (best - worse).norm()
    after = erased(own.x, maps)[1] @ direction
    torch.testing.assert_close(after, (own.x[1] @ direction).mean().expand(120), atol=1e-6, rtol=0)
    with pytest.raises(BadInput, match="reads along no direction"):
        concept_maps(get_probe("mlp", epochs=1), own)


def test_labelled_texts_without_rivals_are_learned_from_too() -> None:
    own = replace(learned(), examples=np.arange(120), units=np.arange(120), groups=np.arange(120))
    for name in ("mms", "logistic", "mlp"):
        probe = get_probe(name, **({"epochs": 3} if name == "mlp" else {}))
        (found,) = scored(probe, own, [own.x], alone(leace(own.x, own.labels)))
        assert np.isfinite(found).all()
